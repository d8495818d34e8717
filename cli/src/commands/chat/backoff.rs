//! Pauses before another try: twice as long each time, and not as long as everybody else's.

use std::time::Duration;

/// The first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long to wait before the next try.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(PAUSES.0)
    }

    /// Returns the next pause: between half of it and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + 0.5 * random());
        self.0 = (self.0 * 2).min(PAUSES.1);
        pause
    }
}

/// Returns a number from 0 to 1.
fn random() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without randomness everybody comes at once, which is no fault.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_get_longer_up_to_a_bound_and_differ() {
        let pauses = || {
            let mut backoff = Backoff::new();
            std::array::from_fn::<Duration, 12, _>(|_| backoff.next())
        };
        let (one, other) = (pauses(), pauses());
        assert_ne!(one, other);
        for pauses in [one, other] {
            assert!((PAUSES.0 / 2..=PAUSES.0).contains(&pauses[0]));
            assert!((PAUSES.1 / 2..=PAUSES.1).contains(&pauses[11]));
            assert!(pauses[4] > pauses[0]);
        }
    }
}
