//! `[server.measure]`: how much of a host's bandwidth others may use to measure it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Size;

/// How much of a host's bandwidth others may use to measure it. Pings are not counted; the host itself has no bound in
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureConfig {
    /// Tests of throughput at a time; 0 for none.
    pub tests: u16,
    /// What one member may move in a minute, both ways together.
    pub member: Size,
    /// What all strangers at one address may move in a minute (of IPv6, in one network of 64 bits).
    pub stranger: Size,
    /// What all strangers together may move in a minute.
    pub strangers: Size,
}

impl Default for MeasureConfig {
    fn default() -> Self {
        Self { tests: 2, member: Size(4 << 30), stranger: Size(512 << 20), strangers: Size(1 << 30) }
    }
}
