//! What I measured of a server myself. It never comes from a peer.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::measurement::{BitsPerSecond, Millis};

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE_S: i64 = 30;
const LONGEST_PAUSE_S: i64 = 3_600;

/// What I know of a server by having tried it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Observation {
    /// The median round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Millis>,
    /// How fast bytes come from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_bps: Option<BitsPerSecond>,
    /// How fast bytes reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bps: Option<BitsPerSecond>,
    /// When a throughput was last measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Timestamp>,
    /// Tries in a row that it did not answer.
    pub failures: u32,
    /// When it last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// When it was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_tried: Option<Timestamp>,
    /// The first of the failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
}

/// How much an entry is to be trusted to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It answered when last tried.
    Live,
    /// It was never tried.
    Untested,
    /// It did not answer when last tried.
    Stale,
    /// It has not answered for so long that lists leave it out.
    Hidden,
    /// It has not answered for so long that it is to go.
    Dropped,
}

impl Observation {
    /// Notes that it answered.
    pub fn answered(&mut self, latency: Option<Millis>, now: Timestamp) {
        self.latency_ms = latency.filter(|ms| ms.0.is_finite() && ms.0 >= 0.0).or(self.latency_ms);
        self.failures = 0;
        self.failing_since = None;
        self.last_seen = Some(now);
        self.last_tried = Some(now);
    }

    /// Notes that it did not answer.
    pub fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.last_tried = Some(now);
    }

    /// Notes how fast bytes went; `None` is a direction that was not measured.
    pub fn measured(&mut self, down: Option<BitsPerSecond>, up: Option<BitsPerSecond>, now: Timestamp) {
        let real = |bps: &BitsPerSecond| bps.0.is_finite() && bps.0 >= 0.0;
        self.download_bps = down.filter(real).or(self.download_bps);
        self.upload_bps = up.filter(real).or(self.upload_bps);
        self.measured_at = Some(now);
    }

    /// Returns how much it is to be trusted to be there.
    pub fn freshness(&self, stale_after: Duration, drop_after: Duration, now: Timestamp) -> Freshness {
        if self.failures == 0 {
            return if self.last_seen.is_some() { Freshness::Live } else { Freshness::Untested };
        }
        // A clock that was set back makes a span negative, which is no reason to drop anybody.
        let since = self.failing_since.map_or(0, |at| now.unix().saturating_sub(at.unix()).max(0)) as u64;
        match Duration::from_secs(since) {
            span if span >= drop_after => Freshness::Dropped,
            span if span >= stale_after => Freshness::Hidden,
            _ => Freshness::Stale,
        }
    }

    /// Returns when it may be tried again; `None` is at once.
    pub fn next_try(&self) -> Option<Timestamp> {
        let doublings = self.failures.checked_sub(1)?.min(16);
        let pause = (FIRST_PAUSE_S << doublings).min(LONGEST_PAUSE_S);
        self.last_tried.map(|at| Timestamp::from_unix(at.unix().saturating_add(pause)))
    }

    /// Returns whether it may be tried now. A clock that was set back does not keep anybody waiting.
    pub fn may_try(&self, now: Timestamp) -> bool {
        self.last_tried.is_none_or(|tried| now < tried) || self.next_try().is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_000_000 + seconds)
    }

    #[test]
    fn one_failure_is_no_death() {
        let mut seen = Observation::default();
        assert_eq!(seen.freshness(HOUR, WEEK, at(0)), Freshness::Untested);
        seen.answered(Some(Millis(3.0)), at(0));
        assert_eq!(seen.freshness(HOUR, WEEK, at(9_999_999)), Freshness::Live);
        seen.failed(at(10));
        assert_eq!(seen.freshness(HOUR, WEEK, at(11)), Freshness::Stale);
        assert_eq!(seen.freshness(HOUR, WEEK, at(10 + 3_600)), Freshness::Hidden);
        assert_eq!(seen.freshness(HOUR, WEEK, at(10 + 7 * 86_400)), Freshness::Dropped);
        assert_eq!(seen.freshness(HOUR, WEEK, at(-500)), Freshness::Stale, "the clock was set back");
        seen.answered(None, at(20));
        assert_eq!(
            (seen.freshness(HOUR, WEEK, at(20)), seen.latency_ms),
            (Freshness::Live, Some(Millis(3.0)))
        );
    }

    #[test]
    fn each_failure_doubles_the_pause_up_to_an_hour() {
        let mut seen = Observation::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            seen.failed(at(0));
            pauses.push(seen.next_try().unwrap().unix() - at(0).unix());
        }
        assert_eq!(pauses[..8], [30, 60, 120, 240, 480, 960, 1_920, 3_600]);
        assert_eq!(pauses[39], 3_600);
        assert!(!seen.may_try(at(3_599)) && seen.may_try(at(3_600)) && seen.may_try(at(-1)));
    }

    #[test]
    fn figures_that_are_no_figures_are_not_taken() {
        let mut seen = Observation::default();
        seen.answered(Some(Millis(f64::NAN)), at(0));
        seen.measured(Some(BitsPerSecond(f64::INFINITY)), Some(BitsPerSecond(-1.0)), at(0));
        assert_eq!((seen.latency_ms, seen.download_bps, seen.upload_bps), (None, None, None));
    }
}
