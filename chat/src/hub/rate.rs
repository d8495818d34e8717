//! How much somebody may do: so many at once, and so many in the long run. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// When a bucket of tokens will be full again (the generic cell rate algorithm, ITU-T I.371, annex A).
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket(Instant);

impl Bucket {
    /// Makes a full one.
    pub(super) fn full(now: Instant) -> Self {
        Self(now)
    }

    /// Takes a token out of a bucket that holds `burst`, and gets that many in the time `per`.
    ///
    /// # Errors
    /// How long it is until there is one.
    pub(super) fn take(&mut self, burst: u32, per: Duration, now: Instant) -> Result<(), Duration> {
        let interval = per / burst.max(1);
        let missing = self.0.saturating_duration_since(now);
        let wait = missing.saturating_sub(per.saturating_sub(interval));
        match wait.is_zero() {
            true => {
                self.0 = now + missing + interval;
                Ok(())
            }
            false => Err(wait),
        }
    }

    /// Returns whether it is as good as new.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_so_many_in_the_long_run() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let mut take = |ms| bucket.take(5, Duration::from_secs(1), start + Duration::from_millis(ms));
        assert_eq!((0..9).filter(|_| take(0).is_ok()).count(), 5);
        assert_eq!(take(0), Err(Duration::from_millis(200)));
        assert!(take(199).is_err() && take(200).is_ok() && take(201).is_err());
        // In 10.8 s there are 5 and 54 more, of which 6 are gone.
        assert_eq!((0..99).filter(|n| take(1_000 + n * 100).is_ok()).count(), 53);
    }
}
