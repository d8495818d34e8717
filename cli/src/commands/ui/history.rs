//! What was measured of a peer while the dashboard runs, as its charts show it: a bounded number of points.

use std::collections::VecDeque;

use gx_core::Timestamp;
use gx_core::measurement::Millis;
use gx_core::peers::Observation;
use serde::Serialize;

/// Latencies that are kept: twenty minutes of them, one each ten seconds.
const LATENCIES: usize = 120;
/// Measurements of throughput that are kept.
const THROUGHPUTS: usize = 24;

/// The points of one peer, the oldest first. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct History {
    /// When it was asked, and the median round trip in milliseconds; `None` is no answer.
    latency: VecDeque<(i64, Option<f64>)>,
    /// When throughput was measured, and what came and went in bits per second.
    throughput: VecDeque<(i64, Option<f64>, Option<f64>)>,
}

impl History {
    /// Adds a latency that was measured now.
    pub(super) fn pinged(&mut self, latency: Option<Millis>, now: Timestamp) {
        let ms = latency.map(|ms| (ms.0 * 1e3).round() / 1e3);
        push(&mut self.latency, (now.unix(), ms), LATENCIES);
    }

    /// Adds the throughput that a table has, where that is a new one.
    pub(super) fn seen(&mut self, seen: &Observation) {
        let Some(at) = seen.measured_at.map(Timestamp::unix) else { return };
        if self.throughput.back().is_none_or(|(last, ..)| *last != at) {
            let bps = |bps: Option<gx_core::measurement::BitsPerSecond>| bps.map(|bps| bps.0.round());
            push(&mut self.throughput, (at, bps(seen.download_bps), bps(seen.upload_bps)), THROUGHPUTS);
        }
    }
}

fn push<T>(points: &mut VecDeque<T>, point: T, most: usize) {
    if points.len() == most {
        points.pop_front();
    }
    points.push_back(point);
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::measurement::BitsPerSecond;

    #[test]
    fn only_so_many_points_are_kept_the_last_ones() {
        let mut history = History::default();
        for second in 0..1_000 {
            let latency = (second % 2 == 0).then_some(Millis(1.234_567));
            history.pinged(latency, Timestamp::from_unix(second));
        }
        assert_eq!(history.latency.len(), LATENCIES);
        assert_eq!(history.latency.front(), Some(&(880, Some(1.235))));
        assert_eq!(history.latency.back(), Some(&(999, None)));
    }

    #[test]
    fn a_throughput_is_one_point_however_often_it_is_seen() {
        let (mut history, mut seen) = (History::default(), Observation::default());
        history.seen(&seen);
        assert_eq!(history, History::default());
        for second in [1, 1, 2] {
            seen.measured(Some(BitsPerSecond(1e6)), None, Timestamp::from_unix(second));
            history.seen(&seen);
        }
        assert_eq!(history.throughput, [(1, Some(1e6), None), (2, Some(1e6), None)]);
    }
}
