//! The measuring of a peer: the trait every measurement plugin implements, and units as types.
//!
//! A plugin owns its sockets: payload never crosses the plugin boundary, only reports and progress do.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{ParseIdError, Timestamp};
use crate::runtime::{Health, Result, RuntimeError};
use crate::secret::Secret;
use crate::stream::Output;

mod peer;

pub use peer::{Direction, LoadedRoundTrips, PeerReport, RoundTrips, Scope, Step, measure_peer};

/// A way of measuring a peer from the client's side.
#[async_trait]
pub trait Measurement: Send + Sync + 'static {
    /// Returns what this plugin can measure and how.
    async fn capabilities(&self) -> Result<MeasurementCapabilities>;

    /// Returns whether it can measure now.
    async fn health(&self) -> Result<Health>;

    /// Measures the idle latency.
    ///
    /// # Errors
    /// `Unavailable` when the peer does not answer, `DeadlineExceeded`.
    async fn latency(&self, target: Target) -> Result<Latency>;

    /// Measures how fast bytes come from the peer, writing [`Sample`]s as events.
    ///
    /// # Errors
    /// As for [`latency`](Measurement::latency); `ResourceExhausted` when the peer is busy.
    async fn download(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        let _ = (target, budget, out);
        Err(RuntimeError::unsupported("download"))
    }

    /// Measures how fast bytes reach the peer, writing [`Sample`]s as events.
    ///
    /// # Errors
    /// As for [`download`](Measurement::download).
    async fn upload(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        let _ = (target, budget, out);
        Err(RuntimeError::unsupported("upload"))
    }

    /// Lets go of everything.
    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}

/// What a measurement plugin can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeasurementCapabilities {
    /// The protocols it speaks, with versions: `gx-speedtest/1`.
    pub protocols: BTreeSet<String>,
    /// `latency`, `download`, `upload`, `loaded_latency`, `loss`.
    pub quantities: BTreeSet<String>,
}

/// Whom to measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// The peer's address, `host:port`.
    pub address: String,
    /// The peer's [`NodeId`](crate::NodeId), which its certificate must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<crate::NodeId>,
    /// Speaks without TLS.
    #[serde(default)]
    pub plain: bool,
    /// The peer's own word for whom it is measured, so that their budget pays. It is good for a short time and nothing
    /// else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

/// How much a measurement of throughput may take, and how closely it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Budget {
    /// At most so many bytes.
    pub bytes: u64,
    /// At most so long, in milliseconds.
    pub time_ms: u32,
    /// At least so long, in milliseconds, where the bytes last.
    pub least_ms: u32,
    /// How long one reading is, in milliseconds; four round trips where those are longer.
    pub window_ms: u32,
    /// Connections at a time; 0 leaves it to the plugin.
    pub streams: u16,
}

impl Default for Budget {
    fn default() -> Self {
        Thoroughness::Quick.budget()
    }
}

/// The budgets people choose from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Thoroughness {
    /// For many peers: about a second each way, at most 100 MB.
    #[default]
    Quick,
    /// For a figure to rely on: two to eight seconds each way, at most 250 MB.
    Full,
    /// Where bytes are paid for: at most 25 MB each way.
    Metered,
}

impl Thoroughness {
    /// Returns what a measurement of one direction may take.
    pub const fn budget(self) -> Budget {
        let quick = Budget { bytes: 100_000_000, time_ms: 5_000, least_ms: 500, window_ms: 100, streams: 0 };
        match self {
            Self::Quick => quick,
            Self::Full => {
                Budget { bytes: 250_000_000, time_ms: 8_000, least_ms: 1_000, window_ms: 250, streams: 0 }
            }
            Self::Metered => Budget { bytes: 25_000_000, ..quick },
        }
    }
}

impl std::str::FromStr for Thoroughness {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text {
            "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            "metered" => Ok(Self::Metered),
            _ => Err(ParseIdError {
                noun: "way of measuring",
                value: text.chars().take(80).collect(),
                rule: "it is quick, full or metered",
            }),
        }
    }
}

impl fmt::Display for Thoroughness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Metered => "metered",
        })
    }
}

/// A time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millis(pub f64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} ms", self.0))
    }
}

/// A rate of payload (goodput, RFC 2647 §3.17), in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BitsPerSecond(pub f64);

impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} Mbit/s", self.0 / 1e6))
    }
}

/// The round-trip times of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Latency {
    /// How long the connection took, TLS included.
    pub connect_ms: Millis,
    /// The shortest.
    pub min_ms: Millis,
    /// The one in the middle.
    pub median_ms: Millis,
    /// 95 of 100 are no longer.
    pub p95_ms: Millis,
    /// 99 of 100 are no longer.
    pub p99_ms: Millis,
    /// The mean difference between one and the next (RFC 3550 §6.4.1, not smoothed).
    pub jitter_ms: Millis,
    /// The part that was never answered, 0 to 1.
    pub loss: f64,
}

/// How fast bytes went one way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Throughput {
    /// Payload moved, in bytes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: Millis,
    /// The estimate.
    pub goodput_bps: BitsPerSecond,
    /// The readings it rests on.
    pub samples: Vec<Sample>,
    /// How many connections carried it.
    pub streams: u16,
    /// What ended it.
    pub stop: Stop,
    /// How much the estimate is worth.
    pub confidence: Confidence,
    /// What speaks against the estimate.
    pub doubts: BTreeSet<Doubt>,
    /// What went wrong on the way: a lower-case fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Round trips meanwhile, on a connection of their own; `None` where no probe came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<LoadedLatency>,
    /// Segments that were sent again, in hundredths of all; only the sender's kernel knows, so not for a download.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmit_pct: Option<f64>,
    /// The congestion control of the connections at this end, as the kernel calls it: `cubic`, `bbr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
    /// Whether the bytes went through TLS.
    pub tls: bool,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Timestamp>,
}

/// What ended a measurement of throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The rate had settled.
    Stable,
    /// The bytes it might take were used up: the estimate is a lower bound.
    Bytes,
    /// Its time was over.
    Time,
    /// The peer would not go on: it is being measured by others.
    Busy,
    /// The peer went away or did not keep to the protocol.
    #[default]
    #[serde(other)]
    Error,
}

/// How much an estimate is worth; the highest comes first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The rate was steady.
    High,
    /// The rate moved about.
    Medium,
    /// An order of magnitude, or a lower bound.
    #[default]
    #[serde(other)]
    Low,
}

/// What speaks against an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// What came could be compressed: a link may have moved less than arrived.
    Compressible,
    /// A cache answered.
    Cached,
    /// The peer's account of what it received and this end's of what it acknowledged are more than a tenth apart.
    Disagreement,
    /// The peer gave no account of what it received; the estimate is this end's alone.
    Unconfirmed,
    /// Something this version does not know.
    #[serde(other)]
    Other,
}

/// Round trips while bytes go one way.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadedLatency {
    /// The one in the middle.
    pub p50_ms: Millis,
    /// 95 of 100 are no longer.
    pub p95_ms: Millis,
    /// Round trips a minute: 60,000 over the median (draft-ietf-ippm-responsiveness).
    pub rpm: f64,
    /// How many came back.
    pub probes: u32,
}

/// One reading of a running measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sample {
    /// When, in milliseconds since the measurement began.
    pub at_ms: Millis,
    /// Bytes moved so far.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways() {
        for way in [Thoroughness::Quick, Thoroughness::Full, Thoroughness::Metered] {
            assert_eq!(way.to_string().parse(), Ok(way));
            assert_eq!(serde_json::to_value(way).unwrap(), way.to_string());
        }
        assert!("fast".parse::<Thoroughness>().is_err());
        assert_eq!(Budget::default(), Thoroughness::Quick.budget());
    }

    #[test]
    fn a_report_of_another_version_can_be_read() {
        let old: Throughput = serde_json::from_str(r#"{"bytes":7,"goodput_bps":8.0,"new":1}"#).unwrap();
        assert_eq!((old.bytes, old.stop, old.confidence), (7, Stop::Error, Confidence::Low));
        let text = r#"{"stop":"tired","confidence":"total","doubts":["moon","cached"]}"#;
        let newer: Throughput = serde_json::from_str(text).unwrap();
        assert_eq!((newer.stop, newer.confidence), (Stop::Error, Confidence::Low));
        assert_eq!(newer.doubts, [Doubt::Cached, Doubt::Other].into());
        let budget: Budget = serde_json::from_str(r#"{"bytes":5}"#).unwrap();
        assert_eq!(budget, Budget { bytes: 5, ..Budget::default() });
    }
}
