//! Ctrl-C and `kill`: the step's child ends, then the step ends what it started.
//!
//! Without this a signal would end this program at once and leave the engines behind.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The process group of the child that runs now; 0 where there is none or it shares the terminal's.
static CHILD_GROUP: AtomicI32 = AtomicI32::new(0);

/// Starts to watch for SIGINT, SIGTERM and SIGHUP.
pub(crate) fn watch() {
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime for signals needs a pipe only");
        runtime.block_on(async {
            let watch = |kind| signal(kind).expect("these signals can be caught");
            let mut interrupt = watch(SignalKind::interrupt());
            let mut terminate = watch(SignalKind::terminate());
            let mut hangup = watch(SignalKind::hangup());
            let _ = ready.send(());
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::INT,
                    _ = terminate.recv() => Signal::TERM,
                    _ = hangup.recv() => Signal::HUP,
                };
                INTERRUPTED.store(true, Ordering::SeqCst);
                if let Some(group) = Pid::from_raw(CHILD_GROUP.load(Ordering::SeqCst)) {
                    // It may have ended this moment.
                    let _ = kill_process_group(group, signal);
                }
            }
        });
    });
    let _ = wait.recv();
}

/// Returns whether a signal came.
pub(crate) fn came() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Names the process group that a signal is passed to; `None` when its child has ended.
pub(crate) fn pass_to(group: Option<u32>) {
    let raw = group.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    CHILD_GROUP.store(raw, Ordering::SeqCst);
}
