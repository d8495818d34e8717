//! A peer measured as a whole: round trips, then one way after the other; and the report of it.

use std::collections::BTreeSet;
use std::pin::pin;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BitsPerSecond, Budget, Confidence, Doubt, Latency, Measurement, Millis, Sample, Stop, Target, Throughput,
};
use crate::id::Timestamp;
use crate::runtime::{Result, RuntimeError};
use crate::stream::{Items, Kind, Output, pipe};

/// How much of what a plugin tells may wait for its reader, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// Which way bytes go, as whoever measures sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the peer.
    Down,
    /// To the peer.
    Up,
}

/// How much of a peer is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// What each direction may take.
    pub budget: Budget,
    /// Which ways; none leaves it at the latency.
    pub directions: BTreeSet<Direction>,
}

/// What is known on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Round trips were measured.
    Latency(Latency),
    /// A direction has begun.
    Begun(Direction),
    /// So much has moved.
    Reading(Direction, Sample),
    /// A direction is done with, or could not be measured.
    Ended(Direction),
}

/// What was measured of a peer. A direction that was not measured has no figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerReport {
    /// How long a connection took, TLS included; no part of any latency.
    pub connect_ms: Millis,
    /// Round trips of an idle link.
    pub latency_ms: RoundTrips,
    /// The mean difference between one round trip and the next.
    pub jitter_ms: Millis,
    /// The part of round trips that was never answered, 0 to 1.
    pub loss: f64,
    /// How fast bytes came, in payload.
    pub download_bps: Option<BitsPerSecond>,
    /// How fast bytes reached the peer, as it received them.
    pub upload_bps: Option<BitsPerSecond>,
    /// Round trips while bytes came.
    pub latency_down_ms: Option<LoadedRoundTrips>,
    /// Round trips while bytes went.
    pub latency_up_ms: Option<LoadedRoundTrips>,
    /// Round trips a minute while bytes came.
    pub rpm_down: Option<f64>,
    /// Round trips a minute while bytes went.
    pub rpm_up: Option<f64>,
    /// Payload that came.
    pub bytes_down: Option<u64>,
    /// Payload that reached the peer.
    pub bytes_up: Option<u64>,
    /// How long it came.
    pub secs_down: Option<f64>,
    /// How long it went.
    pub secs_up: Option<f64>,
    /// How many connections carried each direction.
    pub streams: u16,
    /// What ended the download.
    pub stop_down: Option<Stop>,
    /// What ended the upload.
    pub stop_up: Option<Stop>,
    /// How much the download's figure is worth.
    pub confidence_down: Option<Confidence>,
    /// How much the upload's figure is worth.
    pub confidence_up: Option<Confidence>,
    /// What speaks against the download's figure.
    pub doubts_down: BTreeSet<Doubt>,
    /// What speaks against the upload's figure.
    pub doubts_up: BTreeSet<Doubt>,
    /// What went wrong with the download, or kept it from being measured.
    pub error_down: Option<RuntimeError>,
    /// What went wrong with the upload, or kept it from being measured.
    pub error_up: Option<RuntimeError>,
    /// Segments of the upload that were sent again, in hundredths of all.
    pub retransmit_pct: Option<f64>,
    /// Whether the bytes went through TLS; `None` where no direction was measured.
    pub tls: Option<bool>,
    /// This end's congestion control.
    pub congestion_control: Option<String>,
    /// When it ended.
    pub measured_at: Option<Timestamp>,
}

/// Round trips of an idle link.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RoundTrips {
    /// The shortest.
    pub min: Millis,
    /// The one in the middle.
    pub median: Millis,
    /// 95 of 100 are no longer.
    pub p95: Millis,
}

/// Round trips of a busy link.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadedRoundTrips {
    /// The one in the middle.
    pub p50: Millis,
    /// 95 of 100 are no longer.
    pub p95: Millis,
}

/// Measures a peer, telling each step as it comes. What keeps one direction from being measured is in the report, and the
/// other goes on; dropping the future ends everything.
///
/// # Errors
/// As [`Measurement::latency`]: a peer that does not even answer that is not measured further.
pub async fn measure_peer(
    measurement: &dyn Measurement,
    target: &Target,
    scope: &Scope,
    mut told: impl FnMut(Step),
) -> Result<PeerReport> {
    let latency = measurement.latency(target.clone()).await?;
    told(Step::Latency(latency));
    let mut report = PeerReport::of(latency);
    for direction in &scope.directions {
        told(Step::Begun(*direction));
        let moved = throughput(measurement, target, scope.budget, *direction, &mut told).await;
        report.note(*direction, moved);
        told(Step::Ended(*direction));
    }
    Ok(report)
}

async fn throughput(
    measurement: &dyn Measurement,
    target: &Target,
    budget: Budget,
    direction: Direction,
    told: &mut impl FnMut(Step),
) -> Result<Throughput> {
    let (out, items) = pipe(WINDOW_BYTES);
    let call = async |out: Output| match direction {
        Direction::Down => measurement.download(target.clone(), budget, out).await,
        Direction::Up => measurement.upload(target.clone(), budget, out).await,
    };
    let moved = {
        let mut reading = pin!(readings(items, direction, &mut *told));
        let mut call = pin!(call(out));
        tokio::select! {
            moved = &mut call => moved,
            () = &mut reading => call.await,
        }
    };
    // On a fast link the bytes are used up before there is a reading.
    if let Some(last) = moved.as_ref().ok().and_then(|moved| moved.samples.last()) {
        told(Step::Reading(direction, *last));
    }
    moved
}

/// Tells the readings of a stream until it ends.
async fn readings(mut items: Items, direction: Direction, told: &mut impl FnMut(Step)) {
    while let Some(item) = items.next().await {
        if item.kind == Kind::Event
            && let Ok(sample) = serde_json::from_slice(&item.bytes)
        {
            told(Step::Reading(direction, sample));
        }
    }
}

impl PeerReport {
    fn of(latency: Latency) -> Self {
        let Latency { connect_ms, min_ms, median_ms, p95_ms, p99_ms: _, jitter_ms, loss } = latency;
        let latency_ms = RoundTrips { min: min_ms, median: median_ms, p95: p95_ms };
        Self { connect_ms, latency_ms, jitter_ms, loss, ..Self::default() }
    }

    /// Returns the lower of the confidences there are.
    pub fn confidence(&self) -> Option<Confidence> {
        self.confidence_down.into_iter().chain(self.confidence_up).max()
    }

    /// Returns why a direction has no figure, the first first.
    pub fn missing(&self) -> Option<(Direction, &RuntimeError)> {
        let down = self.error_down.as_ref().filter(|_| self.download_bps.is_none());
        let up = self.error_up.as_ref().filter(|_| self.upload_bps.is_none());
        down.map(|error| (Direction::Down, error)).or(up.map(|error| (Direction::Up, error)))
    }

    fn note(&mut self, direction: Direction, moved: Result<Throughput>) {
        let moved = match (moved, direction) {
            (Ok(moved), _) => moved,
            (Err(error), Direction::Down) => return self.error_down = Some(error),
            (Err(error), Direction::Up) => return self.error_up = Some(error),
        };
        let real = Some(moved.goodput_bps).filter(|rate| rate.0.is_finite() && rate.0 >= 0.0);
        let loaded = moved.loaded.map(|loaded| LoadedRoundTrips { p50: loaded.p50_ms, p95: loaded.p95_ms });
        let (rpm, secs) = (moved.loaded.map(|loaded| loaded.rpm), Some(moved.duration_ms.0 / 1e3));
        let error = moved.fault.map(|fault| RuntimeError::new(crate::ErrorCode::Unavailable, fault));
        self.streams = self.streams.max(moved.streams);
        self.tls = Some(moved.tls);
        self.congestion_control = moved.congestion_control.or(self.congestion_control.take());
        self.measured_at = moved.measured_at.or(self.measured_at);
        match direction {
            Direction::Down => {
                (self.download_bps, self.bytes_down, self.secs_down) = (real, Some(moved.bytes), secs);
                (self.latency_down_ms, self.rpm_down) = (loaded, rpm);
                (self.stop_down, self.confidence_down) = (Some(moved.stop), Some(moved.confidence));
                (self.doubts_down, self.error_down) = (moved.doubts, error);
            }
            Direction::Up => {
                (self.upload_bps, self.bytes_up, self.secs_up) = (real, Some(moved.bytes), secs);
                (self.latency_up_ms, self.rpm_up) = (loaded, rpm);
                (self.stop_up, self.confidence_up) = (Some(moved.stop), Some(moved.confidence));
                (self.doubts_up, self.error_up) = (moved.doubts, error);
                self.retransmit_pct = moved.retransmit_pct;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;
    use crate::measurement::{LoadedLatency, MeasurementCapabilities, Thoroughness};
    use crate::runtime::Health;
    use async_trait::async_trait;

    /// Measures nothing and says what it is told to.
    struct Fake {
        latency: Result<Latency>,
        up: Result<Throughput>,
    }

    #[async_trait]
    impl Measurement for Fake {
        async fn capabilities(&self) -> Result<MeasurementCapabilities> {
            unreachable!("nobody asks")
        }

        async fn health(&self) -> Result<Health> {
            unreachable!("nobody asks")
        }

        async fn latency(&self, _: Target) -> Result<Latency> {
            self.latency.clone()
        }

        async fn download(&self, _: Target, budget: Budget, out: Output) -> Result<Throughput> {
            for n in 0..20_000_u32 {
                let sample = Sample { at_ms: Millis(f64::from(n)), bytes: n.into() };
                out.event(&sample).await.expect("somebody reads");
            }
            let loaded = LoadedLatency { p50_ms: Millis(30.0), rpm: 2_000.0, ..LoadedLatency::default() };
            Ok(Throughput {
                bytes: budget.bytes,
                goodput_bps: BitsPerSecond(1e6),
                streams: 4,
                stop: Stop::Stable,
                confidence: Confidence::High,
                loaded: Some(loaded),
                tls: true,
                samples: vec![LAST],
                ..Throughput::default()
            })
        }

        async fn upload(&self, _: Target, _: Budget, _: Output) -> Result<Throughput> {
            self.up.clone()
        }
    }

    /// The last reading of a download, which no event has told.
    const LAST: Sample = Sample { at_ms: Millis(20_000.0), bytes: 20_000 };

    fn target() -> Target {
        Target { address: "box:1".to_owned(), node_id: None, plain: false, token: None }
    }

    fn scope(directions: &[Direction]) -> Scope {
        Scope { budget: Thoroughness::Quick.budget(), directions: directions.iter().copied().collect() }
    }

    fn busy() -> RuntimeError {
        RuntimeError::new(ErrorCode::ResourceExhausted, "busy")
    }

    #[tokio::test]
    async fn one_way_that_fails_leaves_the_other() {
        let latency = Latency { median_ms: Millis(7.0), ..Latency::default() };
        let fake = Fake { latency: Ok(latency), up: Err(busy()) };
        let mut steps = Vec::new();
        let both = scope(&[Direction::Up, Direction::Down]);
        let report = measure_peer(&fake, &target(), &both, |step| steps.push(step)).await.unwrap();
        assert_eq!((report.latency_ms.median, report.download_bps), (Millis(7.0), Some(BitsPerSecond(1e6))));
        assert_eq!(
            (report.bytes_down, report.rpm_down, report.tls),
            (Some(100_000_000), Some(2_000.0), Some(true))
        );
        assert_eq!(report.missing(), Some((Direction::Up, &busy())));
        assert_eq!(report.confidence(), Some(Confidence::High));
        let readings = steps.iter().filter(|step| matches!(step, Step::Reading(Direction::Down, _))).count();
        assert!(readings > 10_000, "more than the window has room for: {readings}");
        let last = steps.iter().rfind(|step| matches!(step, Step::Reading(..)));
        assert_eq!(last, Some(&Step::Reading(Direction::Down, LAST)), "the last is told in any case");
        assert_eq!(steps[..2], [Step::Latency(latency), Step::Begun(Direction::Down)]);
        assert_eq!(steps.last(), Some(&Step::Ended(Direction::Up)));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_measured_further() {
        let fake = Fake { latency: Err(busy()), up: Ok(Throughput::default()) };
        let failed = measure_peer(&fake, &target(), &scope(&[Direction::Up]), |_| panic!("no step")).await;
        assert_eq!(failed.unwrap_err(), busy());
    }

    #[tokio::test]
    async fn a_figure_that_is_none_and_a_fault_on_the_way_are_told() {
        let up = Throughput {
            goodput_bps: BitsPerSecond(f64::NAN),
            fault: Some("it broke".to_owned()),
            retransmit_pct: Some(1.5),
            ..Throughput::default()
        };
        let fake = Fake { latency: Ok(Latency::default()), up: Ok(up) };
        let report = measure_peer(&fake, &target(), &scope(&[Direction::Up]), |_| ()).await.unwrap();
        assert_eq!((report.upload_bps, report.retransmit_pct), (None, Some(1.5)));
        assert_eq!((report.confidence(), report.bytes_down), (Some(Confidence::Low), None));
        assert_eq!(report.missing().unwrap().1.message, "it broke");
    }
}
