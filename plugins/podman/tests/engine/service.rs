//! A service of the plugin's own.

use std::path::Path;
use std::sync::Arc;

use gx_core::plugin::*;
use gx_plugin_podman::{Config, Podman, ServiceMode};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Made, connect, podman, shell, until};

async fn plugin(state: &Path) -> Arc<Podman> {
    let config = Config { service: ServiceMode::Always, service_idle_s: 2, ..Config::default() };
    Arc::new(connect(config, state.to_path_buf()).await)
}

/// Returns the processes that serve a socket in this folder.
fn services(state: &Path) -> Vec<i32> {
    let socket = format!("unix://{}/podman.sock", state.display());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        line.split(|&b| b == 0).any(|word| word == socket.as_bytes()).then_some(number)
    });
    processes.collect()
}

#[tokio::test]
async fn it_is_started_once_ends_by_itself_and_is_started_anew() {
    podman!();
    let state = tempfile::tempdir().unwrap();
    let plugins = [plugin(state.path()).await, plugin(state.path()).await, plugin(state.path()).await];
    let healths = plugins.iter().map(|podman| {
        let podman = podman.clone();
        tokio::spawn(async move { podman.health().await.unwrap() })
    });
    for health in healths.collect::<Vec<_>>() {
        assert_eq!(health.await.unwrap().status, HealthStatus::Healthy);
    }
    let first = services(state.path());
    assert_eq!(first.len(), 1, "three wanted one");
    for descriptor in 0..2 {
        let target = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", first[0])).unwrap();
        assert_eq!(target, Path::new("/dev/null"), "it has none of our streams");
    }
    let [podman, ..] = plugins;
    let info = podman.info().await.unwrap();
    assert_eq!(info.endpoint, format!("unix://{}/podman.sock", state.path().display()));
    assert!(info.notes[0].contains("started by gx"), "{:?}", info.notes);
    let made = Made::started(&podman, shell("echo kept; sleep 1000")).await;

    until("it ends by itself", || async { services(state.path()).is_empty() }).await;
    assert_eq!(made.inspect().await.state, ContainerState::Running, "and the container does not");
    let second = services(state.path());
    assert_eq!(second.len(), 1);
    assert_ne!(second, first);

    kill_process(Pid::from_raw(second[0]).unwrap(), Signal::KILL).unwrap();
    until("it is dead", || async { services(state.path()).is_empty() }).await;
    assert_eq!(made.inspect().await.state, ContainerState::Running, "its socket left behind is no obstacle");
    until("the log is there", || async { made.logs(LogOptions::default()).await.0 == "kept\n" }).await;
}

#[tokio::test]
async fn requests_that_last_keep_it() {
    podman!();
    let state = tempfile::tempdir().unwrap();
    let podman = plugin(state.path()).await;
    let made = Made::started(&podman, shell("sleep 4; exit 3")).await;
    assert_eq!(podman.wait(made.id.clone()).await.unwrap().code, 3, "longer than the service stays idle");
}
