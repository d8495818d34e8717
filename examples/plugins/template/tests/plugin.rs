//! The plugin as a plain library: nothing is loaded, the methods are called. What every runtime promises is checked
//! by `gx plugin test`.

use gx_core::plugin::*;
use gx_plugin_template::{Config, TemplateRuntime};

async fn connect(program: &str) -> Result<TemplateRuntime, Vec<ConfigIssue>> {
    let context = PluginContext {
        name: "template".parse().expect("a name"),
        state_dir: std::env::temp_dir(),
        host_version: "test".to_owned(),
    };
    TemplateRuntime::connect(Config { program: program.to_owned(), at_a_time: 4 }, context).await
}

#[test]
fn the_manifest_is_in_order() {
    let manifest = Manifest::from_text(include_str!("../gx-plugin.toml")).unwrap();
    assert_eq!(manifest.name.as_str(), "template");
    assert_eq!(manifest.common_api().unwrap(), "runtime/1");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_with_what_to_do() {
    let runtime = connect("/nowhere/engine").await.unwrap();
    let health = runtime.health().await.unwrap();
    assert_eq!(health.status, HealthStatus::Undetected);
    assert_eq!(health.hint.as_deref(), Some("install the engine, or set `program` to its path"));
    let error = runtime.inspect("0123".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_program_relative_to_nothing_is_refused() {
    let issues = connect("bin/engine").await.unwrap_err();
    assert_eq!(issues[0].to_string(), "program: must be a name on the PATH or begin with /");
}
