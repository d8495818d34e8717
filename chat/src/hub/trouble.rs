//! What the store cannot do is told when that begins and when it is over: not each time, which would fill a disk that is full.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is told again, where it comes and goes.
const QUIET: Duration = Duration::from_secs(60);

/// Something that does not work at times.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What was told last, and when.
    told: Option<(String, Instant)>,
    /// While it lasts: since when, and how often it was so.
    lasting: Option<(Instant, u64)>,
    /// Whether that it lasts was told.
    is_known: bool,
}

/// What is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// How long it was.
    pub(super) lasted: Duration,
    /// How often it did not work.
    pub(super) failures: u64,
}

impl Trouble {
    /// Notes that it did not work; returns whether that is to be told.
    pub(super) fn failed(&self, error: &str, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, failures) = state.lasting.unwrap_or((now, 0));
        state.lasting = Some((since, failures + 1));
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < QUIET;
        let is_new = match &state.told {
            // One that was told and is over may come back at once, and last.
            Some((told, at)) => told != error || (!state.is_known && !is_fresh(*at)),
            None => true,
        };
        if is_new {
            (state.told, state.is_known) = (Some((error.to_owned(), now)), true);
        }
        is_new
    }

    /// Notes that it worked; returns what is over, where that is to be told.
    pub(super) fn worked(&self, now: Instant) -> Option<Past> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, failures) = state.lasting.take()?;
        let past = Past { lasted: now.saturating_duration_since(since), failures };
        std::mem::take(&mut state.is_known).then_some(past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_when_it_begins_and_when_it_is_over() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(trouble.worked(at(0)), None);
        assert!(trouble.failed("full", at(1)));
        assert!((2..200).all(|s| !trouble.failed("full", at(s))));
        assert!(trouble.failed("locked", at(200)), "another one");
        assert_eq!(trouble.worked(at(201)), Some(Past { lasted: Duration::from_secs(200), failures: 200 }));
        assert_eq!(trouble.worked(at(202)), None);
        assert!(trouble.failed("locked", at(300)));
    }

    #[test]
    fn what_comes_back_at_once_and_lasts_is_told_too() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!(trouble.failed("full", at(0)) && trouble.worked(at(10)).is_some());
        let told: Vec<u64> = (30..200).filter(|s| trouble.failed("full", at(*s))).collect();
        assert_eq!(told, [60]);
        assert_eq!(trouble.worked(at(200)), Some(Past { lasted: Duration::from_secs(170), failures: 170 }));
    }

    #[test]
    fn what_comes_and_goes_is_not_told_each_time() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let told = (0..600).filter(|number| {
            let now = start + Duration::from_millis(number * 100);
            let told = trouble.failed("full", now);
            told | trouble.worked(now).is_some()
        });
        assert_eq!(told.count(), 1);
    }
}
