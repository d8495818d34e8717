//! The children: every process that ends in the container is reaped, and who waits for one is told.
//!
//! One place reaps, because in the first process of a container an orphan may end at any moment, and whoever waits
//! for "any child" takes the end away from him who waits for one.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(u8),
    Signal(i32),
}

impl End {
    /// Returns the code a shell gives for it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    fn of(status: WaitStatus) -> Option<Self> {
        let code = status.exit_status().map(|code| Self::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
        code.or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

/// A process of ours that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// Also the number of its group, which each has to itself.
    pub(crate) pid: i32,
    /// Told when it has ended.
    pub(crate) ended: oneshot::Receiver<End>,
}

/// Who waits for whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<HashMap<i32, oneshot::Sender<End>>>>,
}

impl Reaper {
    /// Starts a process.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub(crate) fn spawn(&self, command: &mut Command) -> std::io::Result<Running> {
        // Held over the start: were a child reaped before it is known, nobody would hear of its end.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = i32::try_from(command.spawn()?.id()).unwrap_or(i32::MAX);
        let (tell, ended) = oneshot::channel();
        waiting.insert(pid, tell);
        Ok(Running { pid, ended })
    }

    /// Reaps whoever has ended, and tells who waits.
    pub(crate) fn reap(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(end) = End::of(status) else { continue };
            if let Some(tell) = waiting.remove(&pid.as_raw_nonzero().get()) {
                let _ = tell.send(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_has_the_code_a_shell_gives() {
        assert_eq!(End::Signal(9).code(), 137);
        assert_eq!(End::Signal(15).code(), 143);
        assert_eq!(End::Code(3).code(), 3);
    }
}
