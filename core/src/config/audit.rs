//! `[server.audit]`: the log of who did what.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Size;

/// The audit log, `audit.log` in the data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// How long a file may grow before another is begun.
    pub max_size: Size,
    /// How many files are kept, the current one among them.
    pub files: NonZeroU32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        let files = NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN);
        Self { enabled: true, max_size: Size(10 << 20), files }
    }
}
