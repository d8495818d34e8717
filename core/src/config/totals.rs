//! `[server.totals]`: what all containers of a host together may have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Size;

/// What all containers of this host together may have; what is left out has no bound. A stopped container keeps its
/// GPUs, its disk and its ports, and gives back CPUs, memory and processes until it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TotalConfig {
    /// CPUs, in thousandths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// What containers write, in the runtimes that can bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Published ports, without those of gx itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
}
