//! The measuring of a peer: the trait every measurement plugin implements, and units as types.
//!
//! A plugin owns its sockets: payload never crosses the plugin boundary, only reports and progress do.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::runtime::{Health, Result, RuntimeError};
use crate::stream::Output;

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
}

/// How much a measurement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Budget {
    /// At most so many bytes.
    pub bytes: u64,
    /// At most so long, in milliseconds.
    pub time_ms: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: 100_000_000, time_ms: 5_000 }
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
