//! A plugin tested as a plain library: nothing is loaded, the methods are called. What every runtime promises is
//! checked by `gx plugin test`; here is what only this one has.

use gx_core::plugin::*;
use gx_core::stream::{input, pipe};
use gx_plugin_mock::{Config, Mock};

async fn mock(config: Config) -> Mock {
    connect(config).await.expect("a good configuration")
}

async fn connect(config: Config) -> Result<Mock, Vec<ConfigIssue>> {
    let context = PluginContext {
        name: "mock".parse().expect("a name"),
        state_dir: std::env::temp_dir(),
        host_version: "test".into(),
    };
    Mock::connect(config, context).await
}

fn spec(name: &str, script: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name.parse().expect("a name"), "gx-busybox".parse().expect("an image"));
    spec.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec
}

#[tokio::test]
async fn a_container_is_played_to_its_end() {
    let mock = mock(Config::default()).await;
    let id = mock.create(spec("a", "echo out; echo err >&2; yes | head -c 4; exit 3")).await.unwrap();
    mock.start(id.clone()).await.unwrap();
    assert_eq!(mock.wait(id.clone()).await.unwrap().code, 3);
    let (out, mut items) = pipe(0);
    mock.logs(id, LogOptions::default(), out).await.unwrap();
    let mut said = Vec::new();
    while let Some(item) = items.next().await {
        said.push((item.kind, String::from_utf8(item.bytes.to_vec()).unwrap()));
    }
    let expected = [(Kind::Stdout, "out\n"), (Kind::Stderr, "err\n"), (Kind::Stdout, "y\ny\n")];
    assert_eq!(said, expected.map(|(kind, text)| (kind, text.to_owned())));
}

#[tokio::test]
async fn a_bad_image_in_the_configuration_is_named() {
    let config = Config { images: vec!["good".into(), "-bad".into()], ..Config::default() };
    assert_eq!(connect(config).await.unwrap_err()[0].path, "images.1");
}

#[tokio::test]
async fn the_engine_is_down_while_its_switch_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let switch = folder.path().join("up");
    let mock = mock(Config { switch: Some(switch.clone()), ..Config::default() }).await;
    assert_eq!(mock.health().await.unwrap().status, HealthStatus::Undetected);
    let error = mock.info().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.hint.unwrap().starts_with("start it with"));
    std::fs::write(&switch, "").unwrap();
    assert_eq!(mock.health().await.unwrap().status, HealthStatus::Healthy);
}

#[tokio::test]
async fn there_are_only_so_many_containers() {
    let mock = mock(Config { containers: 1, ..Config::default() }).await;
    mock.create(spec("a", "true")).await.unwrap();
    assert_eq!(mock.create(spec("b", "true")).await.unwrap_err().code, ErrorCode::ResourceExhausted);
}

#[tokio::test]
async fn the_registry_asks_for_a_login() {
    let request = |image: &str| PullRequest { image: image.parse().unwrap(), platform: None, auth: None };
    let pull =
        |mock: Mock, image: &'static str| async move { mock.pull(request(image), Output::null()).await };
    let refused = pull(mock(Config::default()).await, "a/private").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    let refused = pull(mock(Config::default()).await, "a/missing").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    let with_token = mock(Config { token: Some("x".into()), ..Config::default() }).await;
    assert_eq!(pull(with_token, "a/private").await.unwrap().tags, ["a/private:latest"]);
}

#[tokio::test]
async fn a_terminal_is_resized_while_a_command_runs() {
    let mock = mock(Config::default()).await;
    let id = mock.create(spec("a", "sleep 60")).await.unwrap();
    mock.start(id.clone()).await.unwrap();
    let argv = ["sh", "-c", "stty size; cat; stty size"].map(str::to_owned).to_vec();
    let exec = ExecSpec { argv, tty: true, stdin: true, size: Some((100, 30)), ..ExecSpec::default() };
    let (sender, typed) = input();
    let (out, mut items) = pipe(0);
    let resized = async {
        assert_eq!(items.next().await.unwrap().bytes, "30 100\r\n");
        sender.send(InputChunk::Resize { columns: 90, rows: 20 }).await.unwrap();
        drop(sender);
        assert_eq!(items.next().await.unwrap().bytes, "20 90\r\n");
    };
    let (exit, ()) = tokio::join!(mock.exec(id, exec, typed, out), resized);
    assert_eq!(exit.unwrap().code, 0);
}

#[test]
fn the_manifest_describes_every_key() {
    let manifest = gx_core::plugin::Manifest::from_text(include_str!("../gx-plugin.toml")).unwrap();
    let keys: Vec<_> = manifest.config.keys().map(String::as_str).collect();
    assert_eq!(keys, ["containers", "images", "latency_ms", "switch", "token"]);
    assert!(manifest.config.values().all(|key| !key.doc.is_empty()));
}
