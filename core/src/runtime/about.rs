//! What a runtime can do, what its engine is, and whether it is well.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a runtime can do; a feature that is not listed answers `Unsupported`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Capabilities {
    /// The features.
    pub features: BTreeSet<Feature>,
}

impl Capabilities {
    /// Returns whether a feature is there.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

impl FromIterator<Feature> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self { features: features.into_iter().collect() }
    }
}

/// Something a runtime may or may not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// `pull`.
    Pull,
    /// `images` and `remove_image`.
    Images,
    /// `build`.
    Build,
    /// `signal`.
    Signal,
    /// `exec`.
    Exec,
    /// `exec` with a terminal.
    ExecTty,
    /// An exec is killed when the call is dropped or its time-out passes.
    ExecCancel,
    /// `copy_in` and `copy_out`.
    Copy,
    /// [`ContainerSpec::mounts`](crate::ContainerSpec::mounts) hold.
    Volumes,
    /// `feed`.
    Feed,
    /// `stats`.
    Stats,
    /// `events`.
    Events,
    /// Published ports.
    Ports,
    /// GPUs.
    Gpus,
    /// Limits of CPU, memory and processes hold.
    Limits,
    /// The limit of what a container writes holds.
    Disk,
    /// [`ContainerSpec::network`](crate::ContainerSpec::network) holds, and `remove_network`.
    Networks,
    /// [`Security::user_namespace`](crate::container::Security::user_namespace) holds.
    UserNamespaces,
    /// [`BuildRequest::no_network`](crate::runtime::BuildRequest::no_network) holds, and no context of a build, whatever
    /// links are in it, is unpacked anywhere but in a folder of its own.
    BuildsApart,
    /// `Exit::oom_killed` can be trusted.
    OomReport,
    /// Real processes: commands, exit codes and signals are those of a kernel (a mock's are scripted).
    Processes,
    /// One of a newer version.
    #[serde(other)]
    Other,
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuntimeInfo {
    /// Its name: `docker`.
    pub backend: String,
    /// Its own version.
    pub version: String,
    /// The version of its API that is spoken.
    pub api_version: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// The operating system of its containers: `linux`.
    pub os: String,
    /// The architecture, as images name it: `amd64`.
    pub arch: String,
    /// The storage driver.
    pub storage: String,
    /// Where it was reached: a socket's path or a URL.
    pub endpoint: String,
    /// Things worth knowing, a line each.
    pub notes: Vec<String>,
}

/// Whether an engine is there and well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Why, where it is not healthy.
    #[serde(default)]
    pub why: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The verdict on an engine's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// There is none.
    Undetected,
    /// It works.
    Healthy,
    /// It is there and does not work.
    #[serde(other)]
    Unhealthy,
}
