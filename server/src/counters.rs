//! What a server counts of itself, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gx_core::ErrorCode;
use gx_core::audit::CallerKind;

/// The upper bounds of the histogram of durations, in milliseconds.
pub(crate) const DURATIONS_MS: [u64; 9] = [1, 5, 10, 50, 100, 500, 1_000, 5_000, 30_000];

/// Every code an answer may have.
pub(crate) const CODES: [ErrorCode; 12] = [
    ErrorCode::InvalidArgument,
    ErrorCode::Unauthenticated,
    ErrorCode::PermissionDenied,
    ErrorCode::NotFound,
    ErrorCode::AlreadyExists,
    ErrorCode::FailedPrecondition,
    ErrorCode::Unavailable,
    ErrorCode::ResourceExhausted,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Cancelled,
    ErrorCode::Unsupported,
    ErrorCode::Internal,
];

/// The figures of one server.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// By caller, and by the first digit of the status.
    answers: [[AtomicU64; 6]; CallerKind::ALL.len()],
    limited: [AtomicU64; CallerKind::ALL.len()],
    refusals: [AtomicU64; CODES.len()],
    /// Each bucket for itself, and the rest.
    durations: [AtomicU64; DURATIONS_MS.len() + 1],
    duration_sum_us: AtomicU64,
    open: AtomicU64,
    connections: AtomicU64,
    turned_away: AtomicU64,
    /// Bytes of speed tests that were sent, and that came.
    measured: [AtomicU64; 2],
}

impl Counters {
    /// Counts an answer.
    pub(crate) fn answered(&self, caller: CallerKind, status: u16, took: Duration) {
        let classes = &self.answers[place(caller)];
        add(&classes[usize::from(status / 100).min(classes.len() - 1)]);
        let ms = took.as_millis();
        let bucket = DURATIONS_MS.iter().position(|bound| ms <= u128::from(*bound));
        add(&self.durations[bucket.unwrap_or(DURATIONS_MS.len())]);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.duration_sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Counts a request that failed or was refused.
    pub(crate) fn refused(&self, code: ErrorCode) {
        let known = CODES.iter().position(|known| *known == code);
        add(&self.refusals[known.unwrap_or(CODES.len() - 1)]);
    }

    /// Counts a request that was one too many.
    pub(crate) fn limited(&self, caller: CallerKind) {
        add(&self.limited[place(caller)]);
    }

    /// Counts a connection, which is open until what is returned is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Open {
        add(&self.connections);
        add(&self.open);
        Open(self.clone())
    }

    /// Counts a connection that came to nothing.
    pub(crate) fn turned_away(&self) {
        add(&self.turned_away);
    }

    /// Counts bytes that a speed test has sent.
    pub(crate) fn measured_down(&self, bytes: u64) {
        self.measured[0].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that came for a speed test.
    pub(crate) fn measured_up(&self, bytes: u64) {
        self.measured[1].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes that speed tests have sent, and those that came.
    pub(crate) fn measured(&self) -> [u64; 2] {
        [&self.measured[0], &self.measured[1]].map(get)
    }

    pub(crate) fn answers(&self, caller: CallerKind, class: usize) -> u64 {
        self.answers[place(caller)].get(class).map_or(0, get)
    }

    pub(crate) fn limits(&self, caller: CallerKind) -> u64 {
        get(&self.limited[place(caller)])
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        CODES.into_iter().zip(self.refusals.iter().map(get))
    }

    /// Returns how many took at most as long as each bound, then all of them, and the sum in seconds.
    pub(crate) fn durations(&self) -> (Vec<u64>, f64) {
        let sums = self.durations.iter().scan(0, |sum, bucket| {
            *sum += get(bucket);
            Some(*sum)
        });
        (sums.collect(), get(&self.duration_sum_us) as f64 / 1e6)
    }

    /// Returns how many connections are open, how many there were, and how many came to nothing.
    pub(crate) fn connections(&self) -> [u64; 3] {
        [&self.open, &self.connections, &self.turned_away].map(get)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn place(caller: CallerKind) -> usize {
    CallerKind::ALL.iter().position(|kind| *kind == caller).unwrap_or_default()
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
