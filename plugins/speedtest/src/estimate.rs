//! From readings to a figure: when to stop, what the rate is, and how much that is worth. Pure: times are given.

use std::collections::BTreeSet;
use std::time::Duration;

use gx_core::measurement::{Budget, Confidence, Doubt, Millis, Sample, Stop};

/// So many windows are compared with as many before them.
const COMPARED: usize = 4;
/// So many readings are taken in a window: a test ends between windows, too.
pub(crate) const READINGS: usize = 4;
/// How far apart their rates may be.
const SETTLED: f64 = 0.05;
/// How far the readings of a steady rate spread: standard deviation over mean.
const STEADY: f64 = 0.10;
/// How far those of one that can still be told spread.
const MOVING: f64 = 0.30;
/// The part of segments sent again, or come out of order, above which a path loses enough to make any figure an accident.
const LOSSY_SENT: f64 = 0.005;
const LOSSY_RECEIVED: f64 = 0.05;
/// The longest test, whatever the budget says: a peer ends a request after 12 s.
const LONGEST: Duration = Duration::from_secs(10);

/// Bytes moved so far, at a time since the beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) at: Duration,
    pub(crate) bytes: u64,
}

impl From<Reading> for Sample {
    fn from(reading: Reading) -> Self {
        Self { at_ms: Millis(reading.at.as_secs_f64() * 1e3), bytes: reading.bytes }
    }
}

/// When a test ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) window: Duration,
    pub(crate) least: Duration,
    pub(crate) longest: Duration,
    pub(crate) bytes: u64,
}

impl Rule {
    /// Returns the rule for a budget and a round trip: a window is as long as the budget says, and at least four round
    /// trips, as TCP moves its bytes in bursts of one.
    pub(crate) fn new(budget: &Budget, rtt: Duration) -> Self {
        let longest = Duration::from_millis(budget.time_ms.into()).min(LONGEST);
        let window = Duration::from_millis(budget.window_ms.max(10).into()).max(rtt.saturating_mul(4));
        Self {
            window: window.min(longest),
            least: Duration::from_millis(budget.least_ms.into()),
            longest,
            bytes: budget.bytes,
        }
    }

    /// Returns how far readings are apart: [`READINGS`] are a window.
    pub(crate) fn step(&self) -> Duration {
        self.window / READINGS as u32
    }

    /// Returns why a test with these readings, one a [`step`](Rule::step), ends now.
    pub(crate) fn stop(&self, readings: &[Reading]) -> Option<Stop> {
        let last = readings.last()?;
        if last.bytes >= self.bytes {
            return Some(Stop::Bytes);
        }
        if last.at >= self.least && settled(readings) {
            return Some(Stop::Stable);
        }
        (last.at >= self.longest).then_some(Stop::Time)
    }
}

/// Returns whether the last windows were as fast as those before. The first reading is where the first window begins.
fn settled(readings: &[Reading]) -> bool {
    const SPAN: usize = COMPARED * READINGS;
    let Some(first) = readings.len().checked_sub(2 * SPAN + 1) else { return false };
    let edges = [readings[first], readings[first + SPAN], readings[first + 2 * SPAN]];
    match (rate(edges[0], edges[1]), rate(edges[1], edges[2])) {
        (Some(before), Some(now)) => now > 0.0 && (now - before).abs() <= SETTLED * before.max(now),
        _ => false,
    }
}

/// Returns the rate between two readings, in bits per second.
pub(crate) fn rate(from: Reading, to: Reading) -> Option<f64> {
    let span = to.at.checked_sub(from.at)?.as_secs_f64();
    (span > 0.0).then(|| to.bytes.saturating_sub(from.bytes) as f64 * 8.0 / span)
}

/// Returns what had moved at a time, as if it had moved evenly between readings.
pub(crate) fn at(readings: &[Reading], time: Duration) -> Reading {
    let after = readings.partition_point(|reading| reading.at <= time);
    let bytes = match (after.checked_sub(1).map(|before| readings[before]), readings.get(after)) {
        (Some(before), Some(next)) => {
            let part = (time - before.at).as_secs_f64() / (next.at - before.at).as_secs_f64();
            before.bytes + (next.bytes.saturating_sub(before.bytes) as f64 * part) as u64
        }
        (Some(last), None) => last.bytes,
        (None, _) => 0,
    };
    Reading { at: time, bytes }
}

/// Returns the rate of the second half of the time, in bits per second: the first half is TCP finding the rate.
pub(crate) fn second_half(readings: &[Reading]) -> Option<f64> {
    let (first, last) = (*readings.first()?, *readings.last()?);
    let middle = first.at + last.at.checked_sub(first.at)? / 2;
    rate(at(readings, middle), last)
}

/// Returns the readings where windows begin and end, up to the last reading.
pub(crate) fn windows(readings: &[Reading]) -> Vec<Reading> {
    let first = readings.len().saturating_sub(1) % READINGS;
    readings.iter().skip(first).step_by(READINGS).copied().collect()
}

/// Returns how far the rates of the windows of the second half spread: their standard deviation over their mean.
pub(crate) fn spread(readings: &[Reading]) -> Option<f64> {
    let half = windows(&readings[readings.len() / 2..]);
    let rates: Vec<f64> = half.windows(2).filter_map(|pair| rate(pair[0], pair[1])).collect();
    if rates.len() < 3 {
        return None;
    }
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

/// What the kernel says of a test's segments, in parts of all; `None` where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Path {
    pub(crate) sent_again: Option<f64>,
    pub(crate) out_of_order: Option<f64>,
}

/// Returns how much an estimate is worth.
pub(crate) fn confidence(
    stop: Stop,
    readings: &[Reading],
    doubts: &BTreeSet<Doubt>,
    path: Path,
) -> Confidence {
    let lossy = path.sent_again.is_some_and(|part| part > LOSSY_SENT)
        || path.out_of_order.is_some_and(|part| part > LOSSY_RECEIVED);
    let spread = spread(readings).unwrap_or(f64::INFINITY);
    match stop {
        _ if !doubts.is_empty() => Confidence::Low,
        Stop::Bytes | Stop::Busy | Stop::Error => Confidence::Low,
        Stop::Stable if spread <= STEADY && !lossy => Confidence::High,
        Stop::Stable => Confidence::Medium,
        Stop::Time if spread <= MOVING => Confidence::Medium,
        Stop::Time => Confidence::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::measurement::Thoroughness;
    use proptest::prelude::*;

    /// Makes readings, one each `step_ms`, of a rate that may change with time, in bytes a millisecond.
    fn readings(step_ms: u64, until_ms: u64, rate: impl Fn(u64) -> f64) -> Vec<Reading> {
        let mut bytes = 0.0;
        let mut all = vec![Reading { at: Duration::ZERO, bytes: 0 }];
        for ms in 1..=until_ms {
            bytes += rate(ms);
            if ms % step_ms == 0 {
                all.push(Reading { at: Duration::from_millis(ms), bytes: bytes as u64 });
            }
        }
        all
    }

    /// Plays readings to a rule, and returns why it ended, and with how many.
    fn play(rule: &Rule, readings: &[Reading]) -> Option<(Stop, usize)> {
        (1..=readings.len()).find_map(|n| rule.stop(&readings[..n]).map(|stop| (stop, n)))
    }

    fn rule(way: Thoroughness, rtt_ms: u64) -> Rule {
        Rule::new(&way.budget(), Duration::from_millis(rtt_ms))
    }

    #[test]
    fn windows_are_as_long_as_four_round_trips() {
        assert_eq!(rule(Thoroughness::Full, 1).window.as_millis(), 250);
        assert_eq!(rule(Thoroughness::Full, 100).window.as_millis(), 400);
        assert_eq!(rule(Thoroughness::Quick, 1).window.as_millis(), 100);
        let endless = Budget { time_ms: u32::MAX, window_ms: 0, ..Budget::default() };
        let endless = Rule::new(&endless, Duration::from_secs(3_600));
        assert_eq!((endless.longest, endless.window), (LONGEST, LONGEST));
    }

    #[test]
    fn a_steady_rate_ends_as_soon_as_eight_windows_are_there() {
        let steady = readings(25, 5_000, |_| 1_000.0);
        assert_eq!(play(&rule(Thoroughness::Quick, 1), &steady), Some((Stop::Stable, 33)));
        let later = readings(25, 5_000, |ms| if ms <= 50 { 0.0 } else { 1_000.0 });
        let (_, n) = play(&rule(Thoroughness::Quick, 1), &later).unwrap();
        assert!((34..=35).contains(&n), "and not a whole window later for a slow beginning: {n}");
    }

    #[test]
    fn slow_start_is_waited_for_and_left_out_of_the_estimate() {
        let slow = readings(25, 8_000, |ms| if ms < 800 { ms as f64 * 15.0 } else { 12_500.0 });
        let (stop, n) = play(&rule(Thoroughness::Full, 1), &slow).unwrap();
        assert_eq!(stop, Stop::Stable);
        let estimate = second_half(&slow[..n]).unwrap();
        assert!((estimate / 100e6 - 1.0).abs() < 0.01, "{estimate}");
    }

    #[test]
    fn bytes_and_time_end_what_does_not_settle() {
        let growing = |ms: u64| ms as f64;
        let metered = rule(Thoroughness::Metered, 1);
        assert_eq!(play(&metered, &readings(25, 9_000, |ms| growing(ms) * 40.0)).unwrap().0, Stop::Bytes);
        let swelling = readings(25, 9_000, |ms| 10.0 * 1.0005_f64.powi(ms as i32));
        let (stop, n) = play(&rule(Thoroughness::Quick, 1), &swelling).unwrap();
        assert_eq!((stop, n), (Stop::Time, 201));
    }

    #[test]
    fn a_peer_that_stalls_is_not_steady() {
        let stalled = readings(25, 6_000, |ms| if ms < 300 { 1_000.0 } else { 0.0 });
        assert_eq!(play(&rule(Thoroughness::Quick, 1), &stalled).unwrap().0, Stop::Time);
    }

    #[test]
    fn confidence_is_earned() {
        let steady = readings(25, 2_000, |_| 1_000.0);
        let none = BTreeSet::new();
        let path = Path::default();
        assert_eq!(confidence(Stop::Stable, &steady, &none, path), Confidence::High);
        assert_eq!(confidence(Stop::Bytes, &steady, &none, path), Confidence::Low);
        assert_eq!(confidence(Stop::Stable, &steady[..2], &none, path), Confidence::Medium);
        assert_eq!(confidence(Stop::Time, &steady, &none, path), Confidence::Medium);
        let cached = [Doubt::Cached].into();
        assert_eq!(confidence(Stop::Stable, &steady, &cached, path), Confidence::Low);
        for lossy in [Path { sent_again: Some(0.01), ..path }, Path { out_of_order: Some(0.1), ..path }] {
            assert_eq!(confidence(Stop::Stable, &steady, &none, lossy), Confidence::Medium);
        }
        let shaken = readings(25, 2_000, |ms| if (ms / 100) % 2 == 0 { 10.0 } else { 1_000.0 });
        assert_eq!(confidence(Stop::Time, &shaken, &none, path), Confidence::Low);
    }

    #[test]
    fn between_readings_bytes_move_evenly() {
        let readings = readings(100, 200, |_| 10.0);
        let bytes = |ms| at(&readings, Duration::from_millis(ms)).bytes;
        assert_eq!([bytes(0), bytes(50), bytes(150), bytes(900)], [0, 500, 1_500, 2_000]);
        assert_eq!(at(&[], Duration::ZERO).bytes, 0);
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_the_slowest_and_the_fastest_window(
            steps in prop::collection::vec((1_u64..500, 0_u64..10_000_000), 4..60)
        ) {
            let mut reading = Reading { at: Duration::ZERO, bytes: 0 };
            let mut all = vec![reading];
            for (ms, bytes) in steps {
                reading = Reading { at: reading.at + Duration::from_millis(ms), bytes: reading.bytes + bytes };
                all.push(reading);
            }
            let rates: Vec<f64> = all.windows(2).filter_map(|pair| rate(pair[0], pair[1])).collect();
            let (low, high) = (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
            let estimate = second_half(&all).unwrap();
            prop_assert!(estimate >= low * 0.99 - 10_000.0 && estimate <= high * 1.01 + 10_000.0, "{low} {estimate} {high}");
        }

        #[test]
        fn every_test_ends(rates in prop::collection::vec(0_u64..2_000_000, 1..200), rtt_ms in 0_u64..5_000) {
            let rule = rule(Thoroughness::Full, rtt_ms);
            let mut reading = Reading { at: Duration::ZERO, bytes: 0 };
            let mut all = vec![reading];
            let mut stop = None;
            for rate in rates.iter().cycle().take(2_000) {
                reading = Reading { at: reading.at + rule.step(), bytes: reading.bytes + rate };
                all.push(reading);
                stop = rule.stop(&all);
                if stop.is_some() { break; }
            }
            prop_assert!(stop.is_some());
            prop_assert!(reading.at <= rule.longest + rule.window);
        }

        #[test]
        fn confidence_never_panics_and_is_low_for_whatever_is_doubted(
            steps in prop::collection::vec((0_u64..500, 0_u64..10_000_000), 0..60)
        ) {
            let mut reading = Reading { at: Duration::ZERO, bytes: 0 };
            let all: Vec<Reading> = steps.into_iter().map(|(ms, bytes)| {
                reading = Reading { at: reading.at + Duration::from_millis(ms), bytes: reading.bytes + bytes };
                reading
            }).collect();
            let doubts = [Doubt::Compressible].into();
            prop_assert_eq!(confidence(Stop::Stable, &all, &doubts, Path::default()), Confidence::Low);
            let _ = (second_half(&all), confidence(Stop::Stable, &all, &BTreeSet::new(), Path::default()));
        }
    }
}
