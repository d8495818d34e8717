//! A plugin's thread that has just been called stays awake for a moment: waking it costs more than a short call.
//!
//! Measured with `cargo xtask bench plugin`: an idle virtual CPU takes 4 µs and more to wake a thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long the thread stays awake for the next call.
const AWAKE: Duration = Duration::from_micros(30);
/// Calls that follow one another faster than this are a burst, and only in one does it stay awake.
const BURST: Duration = Duration::from_micros(200);

/// What is known of the calls: how many came, and whether they come in a burst.
pub(super) struct Linger {
    came: AtomicU64,
    seen: AtomicU64,
    burst: AtomicBool,
    last: Mutex<Option<Instant>>,
    alone: bool,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self {
            came: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            burst: AtomicBool::new(false),
            last: Mutex::new(None),
            // With one CPU whoever calls could not run meanwhile.
            alone: available_parallelism().map_or(1, usize::from) == 1,
        }
    }

    /// Notes a call, after it was given to the thread.
    pub(super) fn called(&self) {
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        self.burst.store(last.is_some_and(|last| now - last < BURST), Ordering::Relaxed);
        self.came.fetch_add(1, Ordering::Release);
    }

    /// Waits a moment for the next call; once for each, as the thread has other things to wait for too.
    pub(super) fn before_sleep(&self) {
        let came = self.came.load(Ordering::Acquire);
        if self.alone
            || self.seen.swap(came, Ordering::Relaxed) == came
            || !self.burst.load(Ordering::Relaxed)
        {
            return;
        }
        let begun = Instant::now();
        while self.came.load(Ordering::Acquire) == came && begun.elapsed() < AWAKE {
            std::thread::yield_now(); // whoever is to call may be waiting for this very CPU
        }
    }
}
