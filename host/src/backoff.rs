//! When a plugin that crashed is started again, and when no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many crashes within [`WINDOW`] are too many.
const TOO_MANY: usize = 5;
/// Over how long crashes are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// The crashes of late.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    crashes: VecDeque<Instant>,
}

impl Backoff {
    /// Notes a crash and returns how long to wait before the next start: nothing after the first, then 1 s, doubled
    /// each time up to 60 s. `None` after the fifth in ten minutes.
    pub(crate) fn crashed(&mut self, now: Instant) -> Option<Duration> {
        self.crashes.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.crashes.push_back(now);
        match self.crashes.len() {
            1 => Some(Duration::ZERO),
            crashes if crashes < TOO_MANY => Some(Duration::from_secs(1 << (crashes - 2)).min(LONGEST)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_and_the_fifth_crash_is_the_last() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let pauses: Vec<_> =
            (0..5).map(|minute| backoff.crashed(start + Duration::from_secs(60 * minute))).collect();
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(pauses, [seconds(0), seconds(1), seconds(2), seconds(4), None]);
    }

    #[test]
    fn crashes_long_ago_do_not_count() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        for hour in 0..20 {
            assert_eq!(backoff.crashed(start + Duration::from_secs(3_600 * hour)), Some(Duration::ZERO));
        }
    }
}
