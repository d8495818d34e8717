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
        self.called_at(Instant::now());
    }

    fn called_at(&self, now: Instant) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        let burst = last.is_some_and(|last| now.saturating_duration_since(last) < BURST);
        self.burst.store(burst, Ordering::Relaxed);
        self.came.fetch_add(1, Ordering::Release);
    }

    /// Waits a moment for the next call, where one may follow.
    pub(super) fn before_sleep(&self) {
        let Some(came) = self.is_worth_it() else { return };
        let begun = Instant::now();
        while self.came.load(Ordering::Acquire) == came && begun.elapsed() < AWAKE {
            std::thread::yield_now(); // whoever is to call may be waiting for this very CPU
        }
    }

    /// Returns how many calls came, where it is worth waiting for the next: in a burst, and once for each call, as the
    /// thread has other things to wait for too.
    fn is_worth_it(&self) -> Option<u64> {
        let came = self.came.load(Ordering::Acquire);
        let fresh = self.seen.swap(came, Ordering::Relaxed) != came;
        (fresh && !self.alone && self.burst.load(Ordering::Relaxed)).then_some(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linger() -> Linger {
        Linger { alone: false, ..Linger::new() }
    }

    #[test]
    fn a_thread_stays_awake_in_a_burst_once_for_each_call() {
        let (linger, now) = (linger(), Instant::now());
        assert_eq!(linger.is_worth_it(), None);
        linger.called_at(now);
        assert_eq!(linger.is_worth_it(), None, "a call alone is no burst");
        linger.called_at(now + BURST / 2);
        assert_eq!(linger.is_worth_it(), Some(2));
        assert_eq!(linger.is_worth_it(), None, "it has waited for the next one already");
        linger.called_at(now + 2 * BURST);
        assert_eq!(linger.is_worth_it(), None, "the burst is over");
    }

    #[test]
    fn with_one_cpu_it_sleeps_at_once() {
        let (linger, now) = (Linger { alone: true, ..Linger::new() }, Instant::now());
        linger.called_at(now);
        linger.called_at(now);
        assert_eq!(linger.is_worth_it(), None);
    }
}
