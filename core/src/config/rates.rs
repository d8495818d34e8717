//! `[server.rates]`: how many requests a host answers.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests a host answers, for each caller: so many at once, and so many a second in the long run. The host
/// itself has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// Requests of one member a second.
    pub member_per_second: NonZeroU32,
    /// Requests of one member at once.
    pub member_burst: NonZeroU32,
    /// Requests a second of all strangers at one address (of IPv6, in one network of 64 bits).
    pub stranger_per_second: NonZeroU32,
    /// Requests at once of all strangers at one address.
    pub stranger_burst: NonZeroU32,
}

impl Default for RateConfig {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            member_per_second: number(100),
            member_burst: number(500),
            stranger_per_second: number(10),
            stranger_burst: number(50),
        }
    }
}
