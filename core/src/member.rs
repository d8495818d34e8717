//! Members: other nodes that a host lends to, and what each may have.
//!
//! Who is one is the host's own list; see [`crate::config`] for those that the configuration names.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PeerName, Timestamp};
use crate::units::{Size, Span};

/// What one member may have of a host, all its containers together; what is `None` is bounded by the host's own limits
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// Containers at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
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
    /// What containers write, where the engine can bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Published ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// The longest lease of one container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

impl Allowance {
    /// Returns the allowance, with what it says nothing of taken from `default`.
    #[must_use]
    pub fn or(self, default: Self) -> Self {
        Self {
            containers: self.containers.or(default.containers),
            milli_cpus: self.milli_cpus.or(default.milli_cpus),
            memory: self.memory.or(default.memory),
            pids: self.pids.or(default.pids),
            gpus: self.gpus.or(default.gpus),
            disk: self.disk.or(default.disk),
            ports: self.ports.or(default.ports),
            ttl: self.ttl.or(default.ttl),
        }
    }

    /// Returns the longest lease of one container.
    pub fn longest_lease(&self) -> Option<Duration> {
        self.ttl.map(|ttl| ttl.0)
    }
}

/// A node that a host lends to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// What the host calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PeerName>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` is until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What it may have.
    #[serde(default)]
    pub allowance: Allowance,
}
