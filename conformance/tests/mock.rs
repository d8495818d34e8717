//! The suite over the mock: every promise holds.

use std::sync::Arc;

use gx_conformance::{Options, Outcome};
use gx_core::plugin::PluginContext;
use gx_core::runtime::Runtime;
use gx_plugin_mock::{Config, Mock};

async fn mock(config: Config) -> Arc<dyn Runtime> {
    let context = PluginContext {
        name: "mock".parse().expect("a name"),
        state_dir: std::env::temp_dir(),
        host_version: "test".into(),
    };
    Arc::new(Mock::connect(config, context).await.expect("a good configuration"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_keeps_every_promise() {
    let mut options = Options::new("gx-busybox".parse().expect("an image"));
    options.parallelism = 16;
    let mut order = Vec::new();
    let report = gx_conformance::run(mock(Config::default()).await, options, &mut |case| {
        println!("{}", case.to_string().trim_end());
        order.push(case.name);
    })
    .await;
    println!("{}", report.summary());
    assert_eq!(report.failures().count(), 0, "{}", report.summary());
    assert!(report.passed > 90 && report.is_ok());
    assert_eq!(order, gx_conformance::cases().iter().map(|case| case.name).collect::<Vec<_>>());
    let skipped = report.cases.iter().filter(|case| matches!(case.outcome, Outcome::Skip { .. }));
    assert!(skipped.clone().all(|case| case.why().is_some()));
}
