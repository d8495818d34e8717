//! The speed test, as `gx-speedtest/1`: paths, queries and answers. What a figure means is in `docs/speedtest.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measurement::Sample;
use crate::secret::Secret;

/// The name of the protocol, with its version.
pub const PROTOCOL: &str = "gx-speedtest/1";
/// The most bytes of one request.
pub const MAX_BYTES: u64 = 1 << 30;
/// The longest time of one request, in seconds.
pub const MAX_SECONDS: u32 = 12;
/// How many connections of one test run at a time.
pub const MAX_STREAMS: usize = 8;

/// `GET`: a [`SpeedtestConfig`].
pub const CONFIG: &str = "/speedtest/config";
/// `GET ?n=`: a [`Pong`].
pub const PING: &str = "/speedtest/ping";
/// `GET` with a [`DownQuery`]: random bytes.
pub const DOWN: &str = "/speedtest/down";
/// `POST ?test=` any bytes: [`Received`].
pub const UP: &str = "/speedtest/up";
/// `GET`: an [`Address`].
pub const GET_IP: &str = "/speedtest/getIP";

/// `POST`: a [`SpeedtestToken`]. `GET` [`DOWN`] and `POST` [`UP`] take it as `authorization: Bearer TOKEN`.
pub const TOKEN: &str = "/speedtest/token";

/// By which a program without the caller's key may measure a host for the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpeedtestToken {
    /// The token.
    pub token: Secret,
    /// How long it is good, in seconds.
    pub seconds: u32,
}

/// What a host lets itself be measured with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpeedtestConfig {
    /// The protocols it speaks: [`PROTOCOL`].
    pub protocols: Vec<String>,
    /// The most bytes of one request.
    pub max_bytes: u64,
    /// The longest time of one request, in seconds.
    pub max_seconds: u32,
    /// How many connections of one test may run at a time.
    pub max_streams: u16,
    /// How many tests of throughput run at a time; pings are not counted.
    pub tests: u16,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// What was asked with, so that no cache can answer.
    pub n: String,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DownQuery {
    /// How many bytes; 4 MiB without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Which test this is part of: the same for all its connections, up to 32 letters, digits and `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Anything: makes the address new, so that no cache can answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
}

/// What a host has received of one upload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Received {
    /// All of it.
    pub bytes: u64,
    /// What had arrived when, about 50 times a second, by the host's clock: one origin for all connections, at no time
    /// that means anything.
    pub timeline: Vec<Sample>,
}

/// Where a request came from, in the words of LibreSpeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// The address.
    #[serde(rename = "processedString")]
    pub address: String,
    /// Always empty: nobody else is asked about the address.
    #[serde(rename = "rawIspInfo")]
    pub provider: String,
}
