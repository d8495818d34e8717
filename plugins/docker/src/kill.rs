//! Killing a command that runs in a container, which the engine's API cannot.
//!
//! The engine tells the process's id as its own machine counts. Where this program sees the same processes, that is
//! enough, and as root it holds for every image: then [`holds`] says so. As another user a signal to root's
//! process is not allowed, so the container's own shell is asked to send it, which takes an image with a shell.
//! With an engine on another machine, or out of a container, nothing is killed.

use std::fs;
use std::time::Duration;

use bollard::exec::StartExecOptions;
use bollard::models::ExecConfig;
use rustix::process::{Pid, PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use crate::config::Endpoint;
use crate::engine::Engine;
use crate::wire;

/// How long a command may take to begin before it is given up.
const BEGINNING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// The exit code of a command that never began, and of one that the engine lost sight of while it runs.
const LOST: i64 = 126;

/// Returns whether every command can be killed here.
pub(crate) async fn holds(engine: &Engine) -> bool {
    let Endpoint::Unix(paths) = &engine.endpoint else { return false };
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The kernel gives 0 for a peer that this PID namespace cannot see (pid_namespaces(7)).
    match wire::connect(paths).await {
        Ok(stream) => stream.peer_cred().is_ok_and(|peer| peer.pid().is_some_and(|pid| pid > 0)),
        Err(_) => true, // down: where it runs is seen when it is up
    }
}

/// Kills the command of an exec and what it started in its process group. One that is over is left alone.
pub(crate) async fn kill(engine: &Engine, exec: &str) {
    let Some((pid, container)) = process(engine, exec).await else { return };
    if is_of_container(pid, &container) && !kill_here(pid) {
        kill_inside(engine, pid, &container).await;
    }
}

/// Waits until the command has begun or is over.
async fn process(engine: &Engine, exec: &str) -> Option<(Pid, String)> {
    let deadline = Instant::now() + BEGINNING;
    loop {
        let answer = engine.docker.inspect_exec(exec).await.ok()?;
        if answer.exit_code.is_some_and(|code| code != LOST) {
            return None;
        }
        let pid = answer.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            return Some((pid, answer.container_id?));
        }
        if answer.exit_code.is_some() || Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether this process is in the container's control group: the id may be of another machine, or used again.
fn is_of_container(pid: Pid, container: &str) -> bool {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
    !container.is_empty() && groups.contains(container)
}

/// Returns whether it is killed, or was gone.
///
/// runc makes each command the leader of a session (`setsid` in nsexec.c), so its group is its own. It is
/// stopped first: then it cannot end between the look at its group and the signal to that.
fn kill_here(pid: Pid) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    match pidfd_send_signal(&process, Signal::STOP) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return true,
        Err(_) => return false,
    }
    if getpgid(Some(pid)) == Ok(pid) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    true
}

async fn kill_inside(engine: &Engine, pid: Pid, container: &str) {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let Some(inside) = innermost_pid(&status) else { return };
    let command = format!("kill -9 -{inside} || kill -9 {inside}");
    let config = ExecConfig {
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), command]),
        user: Some("0".to_owned()),
        ..Default::default()
    };
    if let Ok(killer) = engine.docker.create_exec(container, config).await {
        let detached = StartExecOptions { detach: true, ..Default::default() };
        let _ = engine.docker.start_exec(&killer.id, Some(detached)).await;
    }
}

/// Returns the id a process has in its own PID namespace (proc_pid_status(5), `NSpid`).
fn innermost_pid(status: &str) -> Option<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let ids: Vec<i32> = line.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    ids.last().copied().filter(|id| ids.len() > 1 && *id > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_id_is_the_containers() {
        assert_eq!(innermost_pid("Name:\tsh\nNSpid:\t4242\t17\n"), Some(17));
        assert_eq!(innermost_pid("NSpid:\t4242\n"), None);
        assert_eq!(innermost_pid(""), None);
    }

    #[test]
    fn a_process_outside_is_not_of_the_container() {
        let own = Pid::from_raw(std::process::id() as i32).unwrap();
        assert!(!is_of_container(own, "0123456789abcdef"));
        assert!(!is_of_container(own, ""));
    }

    #[test]
    fn a_process_dies_with_its_group() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let mut child = std::process::Command::new("sleep").arg("100").process_group(0).spawn().unwrap();
        assert!(kill_here(Pid::from_child(&child)));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
