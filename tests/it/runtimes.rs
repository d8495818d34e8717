//! The conformance suite over the mock, Docker and Podman, each loaded into this process and into a child.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gx_conformance::{Hook, Hosted, Options};
use gx_core::config::{Isolation, PluginConfig};
use gx_host::{HostOptions, PluginHost};
use serde_json::{Value, json};

use crate::engine_proxy::EngineProxy;
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_in_this_process() {
    mock(Isolation::Inline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_in_a_child() {
    mock(Isolation::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_in_this_process() {
    engine("docker", "/run/docker.sock", "host", Isolation::Inline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_in_a_child() {
    engine("docker", "/run/docker.sock", "host", Isolation::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_in_this_process() {
    engine("podman", "/run/podman/podman.sock", "socket", Isolation::Inline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_in_a_child() {
    engine("podman", "/run/podman/podman.sock", "socket", Isolation::Process).await;
}

/// The mock pulls whatever is asked for, and is down while its switch is missing.
async fn mock(isolation: Isolation) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let switch = folder.path().join("switch");
    std::fs::write(&switch, "").expect("the folder takes files");
    let mut subject = Subject::new("mock", folder.path(), isolation, json!({ "switch": switch }));
    subject.options.hooks.pull_image = Some("gx-conformance/pulled:1".parse().expect("a reference"));
    let (off, on) = (switch.clone(), switch);
    subject.options.hooks.engine_down = Some(hook(move || std::fs::remove_file(&off)));
    subject.options.hooks.engine_up = Some(hook(move || std::fs::write(&on, "")));
    subject.passes().await;
}

/// A real engine, through a socket that can be taken away.
async fn engine(name: &str, socket: &'static str, key: &str, isolation: Isolation) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let proxy = Arc::new(EngineProxy::start(folder.path().join("engine.sock"), Path::new(socket)));
    let config = json!({ key: format!("unix://{}", proxy.socket().display()) });
    let mut subject = Subject::new(name, folder.path(), isolation, config);
    let (down, up) = (proxy.clone(), proxy);
    subject.options.hooks.engine_down = Some(hook(move || {
        down.cut();
        Ok(())
    }));
    subject.options.hooks.engine_up = Some(hook(move || {
        up.restore(Path::new(socket));
        Ok(())
    }));
    // Podman takes a tenth of a second to make a container and longer to remove it.
    subject.options.list_size = if name == "podman" { 100 } else { 500 };
    if isolation == Isolation::Process {
        // What an engine does with many and much is seen without a child; here it is the way that differs.
        (subject.options.list_size, subject.options.log_bytes) = (50, 20_000_000);
    }
    subject.passes().await;
}

fn hook(act: impl Fn() -> std::io::Result<()> + Send + Sync + 'static) -> Hook {
    Arc::new(move || Box::pin(std::future::ready(act().map_err(|error| error.to_string()))))
}

/// A plugin and how it is tested.
struct Subject {
    name: String,
    host: HostOptions,
    options: Options,
}

impl Subject {
    fn new(name: &str, folder: &Path, isolation: Isolation, config: Value) -> Self {
        let library = support::plugin_file(name);
        let sha256 = PluginHost::inspect(&library).expect("a plugin").sha256;
        let config = toml::Table::try_from(config).expect("a table");
        let plugin = PluginConfig {
            path: Some(library),
            sha256: Some(sha256),
            isolation: Some(isolation),
            config,
            ..PluginConfig::default()
        };
        let host = HostOptions {
            config: [(name.parse().expect("a name"), plugin)].into(),
            config_origin: folder.join("config.toml").display().to_string(),
            config_text: String::new(),
            bundled_dirs: Vec::new(),
            store: folder.join("plugins"),
            state: folder.join("state"),
            child_program: PathBuf::from(env!("CARGO_BIN_EXE_gx")),
            child_env: BTreeMap::new(),
            host_version: "test".into(),
        };
        let mut options = Options::new(support::IMAGE.parse().expect("a reference"));
        if let Ok(focus) = std::env::var("GX_TEST_FOCUS") {
            options.focus = focus.split(',').map(str::to_owned).collect();
        }
        Self { name: name.to_owned(), host, options }
    }

    #[expect(clippy::print_stdout, reason = "the test harness shows it where a case fails")]
    async fn passes(mut self) {
        let name = self.name.parse().expect("a name");
        let (hosted, runtime) = Hosted::load(self.host, name).await.expect("it loads");
        let lent = hosted.hooks();
        let hooks = &mut self.options.hooks;
        (hooks.memory, hooks.crash, hooks.loader) = (lent.memory, lent.crash, lent.loader);
        let report = gx_conformance::run(runtime, self.options, &mut |case| {
            print!("{case}");
        })
        .await;
        hosted.shutdown().await;
        println!("{}: {}", self.name, report.summary());
        let failed: Vec<String> = report.failures().map(ToString::to_string).collect();
        assert!(report.is_ok(), "{}: {}\n{}", self.name, report.summary(), failed.concat());
    }
}
