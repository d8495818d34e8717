//! The process that keeps a container beside the engine's service: what it does is seen by no request.

use std::path::Path;
use std::time::{Duration, Instant};

use gx_core::plugin::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long is waited for what is taken down: a tenth of a second is usual, and a busy machine takes some.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until nobody keeps a container that did not start.
///
/// Podman answers that it did not, and then takes down what it began, in a process of its own. Whoever initialises the
/// container meanwhile has that taken down, with all that was fed to it: the next start makes it anew, and without.
pub(crate) async fn gone(id: &ContainerId) {
    let id = id.clone();
    // The container did not start, and that is what the caller is to hear, however this ends.
    let _ = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + LIMIT;
        for keeper in keepers(&id) {
            let left = until.saturating_duration_since(Instant::now());
            let _ = poll(&mut [PollFd::new(&keeper, PollFlags::IN)], Timespec::try_from(left).ok().as_ref());
        }
    })
    .await;
}

/// Returns the processes that keep a container; none where the engine runs behind a wall.
fn keepers(id: &ContainerId) -> Vec<OwnedFd> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let keepers = processes.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let keeps = || Some(is_keeper(&std::fs::read(entry.path().join("cmdline")).ok()?, id));
        if !keeps()? {
            return None;
        }
        let keeper = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Before it was held, the number may have gone to another process.
        keeps()?.then_some(keeper)
    });
    keepers.collect()
}

/// Returns whether a command line, each word ended by a zero, is that of a container's keeper.
fn is_keeper(line: &[u8], id: &ContainerId) -> bool {
    let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    let program = words.first().and_then(|word| std::str::from_utf8(word).ok()).map(Path::new);
    program.and_then(Path::file_name).is_some_and(|name| name == "conmon")
        && words.windows(2).any(|pair| pair[0] == b"-c" && pair[1] == id.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_known_by_its_program_and_its_container() {
        let is = |line: &str| is_keeper(line.replace(' ', "\0").as_bytes(), &"c0ffee".parse().unwrap());
        assert!(is("/usr/bin/conmon --api-version 1 -c c0ffee -u c0ffee "));
        assert!(is("conmon -c c0ffee"));
        assert!(!is("/usr/bin/conmon --api-version 1 -c c0ffee1 -u c0ffee "));
        assert!(!is("/usr/bin/podman container cleanup c0ffee "));
        assert!(!is("vi -c c0ffee conmon"));
        assert!(!is(""), "one that has ended has no command line");
    }
}
