//! What a peer says it received of an upload: checked against what was sent, and made one timeline of all connections.
//!
//! A sender cannot tell: its bytes are in buffers long before they are anywhere else, which reads up to 70 % too much.
//! The peer may lie, and something between may hold bytes back to pass them on at once; both show against this end's count.

use std::time::Duration;

use gx_core::api::speedtest::Received;

use crate::estimate::{Reading, at, rate, second_half};

/// The first part of an upload is left out: TCP is finding the rate.
const SETTLING: Duration = Duration::from_millis(500);
/// Less than this is too short to be measured from, and the second half is taken instead.
const SHORTEST: Duration = Duration::from_millis(200);
/// A test as long as this has a rate at both ends that can be compared.
const COMPARABLE: Duration = Duration::from_millis(1_500);
/// How far a peer's account and this end's may be apart.
const AGREEING: f64 = 0.10;
/// Readings of a short test are further apart than a tenth of it.
const SLACK: Duration = Duration::from_millis(100);
/// How far apart the readings of the one timeline are.
const STEP: Duration = Duration::from_millis(20);
/// A longer timeline is no timeline of a request of at most 12 s.
const MAX_SAMPLES: usize = 4_096;
/// The longest a request takes, and what is on its way then.
const LONGEST_MS: f64 = 60_000.0;

/// What a peer says of one request.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    received: Received,
    /// Whether the request was the last one of its connection.
    last: bool,
}

/// Why a receipt is not worth reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReceipt {
    #[error("the peer says it received more than was sent")]
    TooMuch,
    #[error("the peer's account of what it received makes no sense")]
    Nonsense,
}

impl Receipt {
    /// Checks what a peer says of a request of so many bytes.
    ///
    /// # Errors
    /// [`BadReceipt`].
    pub(crate) fn check(received: Received, sent: u64, last: bool) -> Result<Self, BadReceipt> {
        let timeline = &received.timeline;
        let times = timeline.iter().all(|sample| sample.at_ms.0.is_finite() && sample.at_ms.0 >= 0.0);
        let ordered = timeline.is_sorted_by(|a, b| a.at_ms <= b.at_ms && a.bytes <= b.bytes);
        let (Some(first), Some(end)) = (timeline.first(), timeline.last()) else {
            return Err(BadReceipt::Nonsense);
        };
        let bounded = timeline.len() <= MAX_SAMPLES && end.at_ms.0 - first.at_ms.0 <= LONGEST_MS;
        if !times || !ordered || !bounded || end.bytes > received.bytes {
            return Err(BadReceipt::Nonsense);
        }
        if received.bytes > sent {
            return Err(BadReceipt::TooMuch);
        }
        Ok(Self { received, last })
    }

    fn began(&self) -> f64 {
        self.received.timeline.first().map_or(0.0, |sample| sample.at_ms.0)
    }

    fn ended(&self) -> f64 {
        self.received.timeline.last().map_or(0.0, |sample| sample.at_ms.0)
    }
}

/// What arrived of all requests, by the peer's one clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrival {
    /// From the first request on, until the first connection was done; what came later came alone.
    pub(crate) readings: Vec<Reading>,
    /// All bytes.
    pub(crate) bytes: u64,
    /// How long all of it took.
    pub(crate) span: Duration,
}

impl Arrival {
    /// Joins receipts; `None` where there is nothing in them.
    pub(crate) fn of(receipts: &[Receipt]) -> Option<Self> {
        let began = receipts.iter().map(Receipt::began).min_by(f64::total_cmp)?;
        let ended = receipts.iter().map(Receipt::ended).max_by(f64::total_cmp)?;
        let done = receipts.iter().filter(|receipt| receipt.last).map(Receipt::ended).min_by(f64::total_cmp);
        let since = |ms: f64| Duration::from_secs_f64(((ms - began) / 1e3).clamp(0.0, LONGEST_MS));
        let timelines: Vec<Vec<Reading>> = receipts
            .iter()
            .map(|receipt| {
                let samples = receipt.received.timeline.iter();
                samples.map(|sample| Reading { at: since(sample.at_ms.0), bytes: sample.bytes }).collect()
            })
            .collect();
        let done = since(done.unwrap_or(ended));
        let total =
            |time| Reading { at: time, bytes: timelines.iter().map(|line| at(line, time).bytes).sum() };
        let steps = (done.as_millis() / STEP.as_millis()) as u32;
        let mut readings: Vec<Reading> = (0..=steps).map(|step| total(STEP * step)).collect();
        if readings.last().is_some_and(|last| last.at < done) {
            readings.push(total(done));
        }
        let bytes = receipts.iter().map(|receipt| receipt.received.bytes).sum();
        (bytes > 0).then(|| Self { readings, bytes, span: since(ended) })
    }

    /// Returns the rate at which bytes arrived, in bits per second.
    pub(crate) fn rate(&self) -> Option<f64> {
        let last = *self.readings.last()?;
        if last.at >= SETTLING + SHORTEST {
            rate(at(&self.readings, SETTLING), last)
        } else {
            second_half(&self.readings)
        }
    }

    /// Returns whether this is what this end saw: so many bytes in such a time, acknowledged as fast as these readings
    /// tell.
    pub(crate) fn agrees(&self, sent: u64, span: Duration, acknowledged: &[Reading]) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= AGREEING * a.max(b);
        let same_bytes = near(self.bytes as f64, sent as f64);
        // Bytes that somebody held back arrive in less time than they were sent in.
        let same_time = self.span + SLACK >= span.mul_f64(1.0 - AGREEING);
        let last = acknowledged.last().filter(|last| last.at >= COMPARABLE);
        let own = last.and_then(|last| rate(at(acknowledged, SETTLING), *last));
        let same_rate = own.zip(self.rate()).is_none_or(|(own, peers)| near(own, peers));
        same_bytes && same_time && same_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::measurement::{Millis, Sample};
    use proptest::prelude::*;

    fn received(samples: &[(f64, u64)]) -> Received {
        let timeline: Vec<Sample> =
            samples.iter().map(|&(ms, bytes)| Sample { at_ms: Millis(ms), bytes }).collect();
        Received { bytes: timeline.last().map_or(0, |sample| sample.bytes), timeline }
    }

    /// Makes the receipt of a steady rate, in bytes a millisecond, on a clock that began long ago.
    fn steady(from_ms: u64, to_ms: u64, rate: u64) -> Receipt {
        let samples: Vec<_> = (0..=(to_ms - from_ms) / 20)
            .map(|n| ((5_000_000 + from_ms + n * 20) as f64, n * 20 * rate))
            .collect();
        Receipt::check(received(&samples), u64::MAX, true).unwrap()
    }

    #[test]
    fn connections_add_up_on_one_clock_and_tails_are_left_out() {
        let receipts = [steady(0, 2_000, 1_000), steady(0, 2_000, 1_000), steady(20, 3_000, 500)];
        let arrival = Arrival::of(&receipts).unwrap();
        assert_eq!(arrival.readings.last().unwrap().at, Duration::from_millis(2_000));
        assert_eq!((arrival.span.as_millis(), arrival.bytes), (3_000, 4_000_000 + 1_490_000));
        let rate = arrival.rate().unwrap();
        assert!((rate / (2_500.0 * 8e3) - 1.0).abs() < 0.01, "{rate}");
    }

    #[test]
    fn what_is_sent_after_a_request_on_the_same_connection_counts_on() {
        let mut first = steady(0, 1_000, 1_000);
        first.last = false;
        let arrival = Arrival::of(&[first, steady(1_000, 2_000, 1_000)]).unwrap();
        assert_eq!(arrival.readings.last().unwrap().bytes, 2_000_000);
        assert!((arrival.rate().unwrap() / 8e6 - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_peer_that_claims_too_much_or_nonsense_is_not_believed() {
        let check = |samples: &[(f64, u64)], sent| Receipt::check(received(samples), sent, true).map(|_| ());
        assert_eq!(check(&[(0.0, 0), (10.0, 100)], 100), Ok(()));
        assert_eq!(check(&[(0.0, 0), (10.0, 101)], 100), Err(BadReceipt::TooMuch));
        for nonsense in [
            &[][..],
            &[(10.0, 0), (5.0, 10)],
            &[(0.0, 10), (5.0, 5)],
            &[(f64::NAN, 0), (5.0, 5)],
            &[(0.0, 0), (f64::INFINITY, 5)],
            &[(-5.0, 0), (5.0, 5)],
            &[(0.0, 0), (1e9, 5)],
        ] {
            assert_eq!(check(nonsense, 1_000), Err(BadReceipt::Nonsense), "{nonsense:?}");
        }
        let many: Vec<_> = (0..5_000_u32).map(|n| (f64::from(n), 1)).collect();
        assert_eq!(check(&many, 1_000), Err(BadReceipt::Nonsense));
    }

    #[test]
    fn a_proxy_that_holds_an_upload_back_shows() {
        // Sent over two seconds, and all arrived within 50 ms.
        let held = Arrival::of(&[steady(0, 60, 100_000)]).unwrap();
        assert!(!held.agrees(held.bytes, Duration::from_secs(2), &[]));
        let honest = Arrival::of(&[steady(0, 2_000, 1_000)]).unwrap();
        let agrees = |sent| honest.agrees(sent, Duration::from_millis(2_010), &[]);
        assert!(agrees(honest.bytes) && !agrees(honest.bytes * 5 / 4) && !agrees(honest.bytes * 3 / 4));
    }

    #[test]
    fn a_peer_that_lies_about_when_bytes_arrived_shows() {
        let acknowledged: Vec<_> = (0..=20_u64)
            .map(|n| Reading { at: Duration::from_millis(n * 100), bytes: n * 100_000 })
            .collect();
        let told = |late: u64| {
            let samples = [
                (0.0, 0),
                (490.0, 490_000 * (1 - late)),
                (500.0, 500_000 * (1 - late)),
                (2_000.0, 2_000_000),
            ];
            Arrival::of(&[Receipt::check(received(&samples), 2_000_000, true).unwrap()]).unwrap()
        };
        let agrees = |arrival: Arrival| arrival.agrees(2_000_000, Duration::from_secs(2), &acknowledged);
        assert!(agrees(told(0)));
        assert!(!agrees(told(1)), "all of it after the first half second would be a third faster");
    }

    proptest! {
        #[test]
        fn whatever_passes_the_check_gives_a_rate_that_bytes_and_time_allow(
            lines in prop::collection::vec(prop::collection::vec((0_u32..200, 0_u32..1_000_000), 1..80), 1..6)
        ) {
            let mut receipts = Vec::new();
            for line in lines {
                let (mut at, mut bytes) = (1e6, 0);
                let samples: Vec<_> = line.into_iter().map(|(ms, more)| {
                    at += f64::from(ms);
                    bytes += u64::from(more);
                    (at, bytes)
                }).collect();
                receipts.extend(Receipt::check(received(&samples), u64::MAX, true));
            }
            if let Some(arrival) = Arrival::of(&receipts) {
                prop_assert!(arrival.readings.is_sorted_by(|a, b| a.at <= b.at && a.bytes <= b.bytes));
                prop_assert!(arrival.readings.last().unwrap().bytes <= arrival.bytes);
                if let Some(rate) = arrival.rate() {
                    prop_assert!(rate.is_finite() && rate >= 0.0);
                }
            }
        }
    }
}
