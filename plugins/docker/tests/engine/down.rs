//! An engine that is down is an answer, and comes back.

use std::os::unix::net::UnixListener;

use gx_core::runtime::HealthStatus;
use gx_core::{ErrorCode, Runtime};
use gx_plugin_docker::{Config, DockerRuntime};

use crate::support::*;

fn at(host: String) -> DockerRuntime {
    with(Config { host: Some(host), ..Config::default() })
}

#[tokio::test]
async fn where_there_is_no_engine_it_is_said_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let runtime = at(format!("unix://{}", socket.display()));
    let health = runtime.health().await.unwrap();
    assert_eq!(health.status, HealthStatus::Undetected);
    assert!(health.hint.unwrap().contains("systemctl start docker"));
    let error = assert_error(runtime.info().await, ErrorCode::Unavailable, None);
    assert!(error.retryable && error.hint.unwrap().contains("systemctl start docker"));
    assert!(!runtime.capabilities().await.unwrap().features.is_empty());

    drop(UnixListener::bind(&socket).unwrap()); // the file stays, and nobody listens
    let health = runtime.health().await.unwrap();
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert!(health.why.contains("does not answer"), "{}", health.why);
    let listed = gx_core::runtime::list_all(&runtime, Default::default()).await;
    assert_error(listed, ErrorCode::Unavailable, None);
    let network = at("tcp://127.0.0.1:1".to_owned()).health().await.unwrap();
    assert_eq!(network.status, HealthStatus::Unhealthy);
}

#[tokio::test]
async fn an_engine_that_breaks_off_comes_back() {
    let Some(real) = runtime().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let runtime = at(format!("unix://{}", socket.display()));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let hang_up = async move {
        drop(listener.accept().await.unwrap());
        drop(listener);
    };
    let (answer, ()) = within(async { tokio::join!(runtime.info(), hang_up) }).await;
    let error = assert_error(answer, ErrorCode::Unavailable, None);
    assert!(error.backend.is_some());
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    assert_eq!(runtime.info().await.unwrap().version, real.info().await.unwrap().version);
}
