//! One clock and one count for all connections of a test.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gx_core::measurement::Doubt;
use tokio::sync::Notify;

use crate::estimate::Reading;

/// How far apart readings are kept. A test of 10 s keeps 2,000.
const APART: Duration = Duration::from_millis(5);

/// Counts what has moved.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    bytes: AtomicU64,
    most: u64,
    /// What may still move and nobody has reserved.
    free: AtomicU64,
    freed: Notify,
    full: Notify,
    readings: Mutex<Vec<Reading>>,
    doubts: Mutex<BTreeSet<Doubt>>,
}

impl Meter {
    /// Starts the clock of a test of at most so many bytes.
    pub(crate) fn begin(most: u64) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            most: most.max(1),
            free: AtomicU64::new(most.max(1)),
            freed: Notify::new(),
            full: Notify::new(),
            readings: Mutex::new(vec![Reading { at: Duration::ZERO, bytes: 0 }]),
            doubts: Mutex::default(),
        })
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Reserves at most so many bytes, and at least one, for a connection that is about to move them; waits while others
    /// have reserved all there is.
    pub(crate) async fn reserve(&self, want: u64) -> u64 {
        loop {
            let freed = self.freed.notified();
            let take = |free: u64| (free > 0).then(|| free.saturating_sub(want));
            if let Ok(free) = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                return free.min(want);
            }
            freed.await;
        }
    }

    /// Counts bytes that have moved of those that were reserved, and gives back the others.
    pub(crate) fn moved(&self, bytes: u64, reserved: u64) {
        self.add(bytes);
        if reserved > bytes {
            self.free.fetch_add(reserved - bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }

    /// Counts bytes that have moved.
    fn add(&self, bytes: u64) {
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let at = self.began.elapsed();
        let mut readings = lock(&self.readings);
        if readings.last().is_none_or(|last| at.saturating_sub(last.at) >= APART) {
            readings.push(Reading { at, bytes: total });
        }
        if total >= self.most {
            self.full.notify_one();
        }
    }

    /// Returns how many bytes may still move.
    pub(crate) fn left(&self) -> u64 {
        self.most.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// Waits until all bytes have moved that may.
    pub(crate) async fn full(&self) {
        self.full.notified().await;
    }

    /// Returns what has moved by now.
    pub(crate) fn reading(&self) -> Reading {
        Reading { at: self.began.elapsed(), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Returns all readings, with one of now.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let mut readings = lock(&self.readings).clone();
        readings.push(self.reading());
        readings
    }

    /// Notes what speaks against the figure.
    pub(crate) fn doubt(&self, doubt: Doubt) {
        lock(&self.doubts).insert(doubt);
    }

    pub(crate) fn doubts(&self) -> BTreeSet<Doubt> {
        lock(&self.doubts).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn together_no_more_is_reserved_than_may_move() {
        let meter = Meter::begin(100);
        let take = |want| meter.reserve(want).now_or_never();
        assert_eq!([take(60), take(60), take(60)], [Some(60), Some(40), None]);
        meter.moved(10, 60);
        assert_eq!((meter.left(), take(60), take(1)), (90, Some(50), None));
    }

    #[tokio::test]
    async fn what_is_given_back_is_taken_by_who_waits() {
        let meter = Meter::begin(100);
        let all = meter.reserve(1_000).await;
        let waiting = meter.reserve(1_000);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        meter.moved(30, all);
        assert_eq!((waiting.await, meter.reading().bytes), (70, 30));
    }
}
