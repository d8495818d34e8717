//! What the main process reads at its start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use gx_core::plugin::*;
use gx_plugin_podman::{Config, Podman, ServiceMode};

use crate::support::{LIMIT, Made, connect, fails, input_of, podman, shell, tar_of, until};

/// What Podman runs at the end of a container, and after a start that failed: late, and it leaves a mark when it is done.
const LATE: &str = "#!/bin/sh\nsleep 1\npodman \"$@\"\necho >> \"$0.done\"\n";

/// Returns a runtime whose Podman is slow to take down what it began.
async fn slow_to_take_down(state: &Path) -> Arc<Podman> {
    let path = std::env::var_os("PATH").unwrap();
    let installed =
        std::env::split_paths(&path).map(|folder| folder.join("podman")).find(|file| file.exists());
    let program = state.join("engine");
    std::fs::copy(installed.unwrap(), &program).unwrap();
    let config = Config { service: ServiceMode::Always, program: program.clone(), ..Config::default() };
    let podman = connect(config, state.to_path_buf()).await;
    podman.health().await.unwrap();
    // The service names the file it was started from to those who take down.
    let late = state.join("late");
    std::fs::write(&late, LATE).unwrap();
    std::fs::set_permissions(&late, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(late, program).unwrap();
    Arc::new(podman)
}

#[tokio::test]
async fn nothing_fed_is_lost_to_a_start_that_failed_before() {
    podman!();
    let state = tempfile::tempdir().unwrap();
    let podman = slow_to_take_down(state.path()).await;
    let done = state.path().join("engine.done");
    let mut spec = shell("read line; echo \"got $line\"");
    spec.entrypoint = Some(vec!["/program".into()]);
    spec.fed = true;
    let made = Made::created(&podman, spec).await;
    let feed = |line: &str| podman.feed(made.id.clone(), input_of(line.into()));
    for times in 1..=2 {
        let refused = if times == 1 { feed("early\n").await } else { podman.start(made.id.clone()).await };
        fails(refused, ErrorCode::InvalidArgument, Some("command"));
        until("it is taken down", || async { std::fs::read(&done).is_ok_and(|marks| marks.len() >= times) })
            .await;
    }
    fails(feed("early\n").await, ErrorCode::InvalidArgument, Some("command"));
    let program = tar_of(&[("program", b"#!/bin/sh\nexec \"$@\"\n")]);
    podman.copy_in(made.id.clone(), "/".into(), input_of(program)).await.unwrap();
    feed("now\n").await.unwrap();
    until("it is taken down", || async { std::fs::read(&done).is_ok_and(|marks| marks.len() >= 3) }).await;
    podman.start(made.id.clone()).await.unwrap();
    let exit = tokio::time::timeout(LIMIT / 4, podman.wait(made.id.clone())).await;
    assert_eq!(exit.expect("it read its line").unwrap().code, 0);
    until("what it says", || async { made.logs(LogOptions::default()).await.0 == "got now\n" }).await;
}
