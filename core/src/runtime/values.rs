//! What the methods of a runtime take and give, beside containers and images.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::container::ContainerState;
use crate::id::{ContainerId, Timestamp, VolumeName};
use crate::image::ImageRef;

/// What to pull.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullRequest {
    /// The image; without tag or digest, `latest`.
    pub image: ImageRef,
    /// `linux/arm64`; `None` is the engine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Who pulls, where the registry asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
}

impl std::fmt::Debug for PullRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullRequest").field("image", &self.image).finish_non_exhaustive()
    }
}

/// A login at a registry. It has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryAuth {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

/// What to build; the context comes as a tar archive beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRequest {
    /// The name of the result.
    pub tag: ImageRef,
    /// The Containerfile's path within the context; `None` is `Containerfile`, else `Dockerfile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerfile: Option<String>,
    /// Values for `ARG`.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Uses nothing of earlier builds.
    #[serde(default)]
    pub no_cache: bool,
    /// What its steps run has loopback alone; asked for only where there is
    /// [`Feature::BuildsApart`](super::Feature::BuildsApart).
    #[serde(default)]
    pub no_network: bool,
}

/// A step of a pull or a build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Progress {
    /// What it is about: a layer's id, a step; empty for the whole.
    pub id: String,
    /// What happens, as people read it.
    pub message: String,
    /// Bytes done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StopOptions {
    /// The signal; `None` is the image's own, else SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long to wait before it is killed, in milliseconds; `None` is the spec's `stop_grace_s`, else 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u32>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RemoveOptions {
    /// Kills a running one first.
    pub force: bool,
}

/// Which volumes to remove, of those that no container mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumePrune {
    /// How their names begin.
    pub prefix: VolumeName,
    /// Those that stay.
    #[serde(default)]
    pub keep: Vec<VolumeName>,
    /// What was made then or later stays, as somebody may be about to use it.
    pub made_before: Timestamp,
}

impl VolumePrune {
    /// Returns whether it is about a volume, which was made at this point in time.
    pub fn is_about(&self, name: &str, made: Timestamp) -> bool {
        name.starts_with(self.prefix.as_str())
            && made < self.made_before
            && self.keep.iter().all(|kept| kept.as_str() != name)
    }
}

/// Which containers to list; empty parts let everything through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListFilter {
    /// Labels a container must have; `None` as value: any value.
    pub labels: BTreeMap<String, Option<String>>,
    /// States, one of which it must be in.
    pub states: BTreeSet<ContainerState>,
}

/// Which part of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogOptions {
    /// Goes on until the main process ends.
    pub follow: bool,
    /// Only the last so many lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Only what was written at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only what was written before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Begins every line with the time it was written, RFC 3339, and a space.
    pub timestamps: bool,
}

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Set on top of the container's environment.
    pub env: BTreeMap<String, String>,
    /// As in [`ContainerSpec::user`](crate::ContainerSpec::user).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working folder; `None` is the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Gives it a terminal; output is then all standard output.
    pub tty: bool,
    /// Whether standard input is passed on; else it is at its end.
    pub stdin: bool,
    /// The terminal's first size: columns and rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
    /// Kills it after so long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

/// What a container uses at one moment. Sizes in bytes, times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Stats {
    /// When it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// CPU time used since the start, all CPUs together.
    pub cpu_ns: u64,
    /// CPU use over the last interval, in thousandths of one CPU; `None` in the first item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory in use, without the page cache where the engine tells.
    pub memory_bytes: u64,
    /// The bound on memory; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Received over all interfaces.
    pub network_in_bytes: u64,
    /// Sent over all interfaces.
    pub network_out_bytes: u64,
    /// Read from block devices.
    pub block_in_bytes: u64,
    /// Written to block devices.
    pub block_out_bytes: u64,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// What happened.
    pub action: EventAction,
    /// To which.
    pub id: ContainerId,
    /// When.
    pub at: Timestamp,
    /// The container's labels, as far as the engine tells.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it ended, with `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What may happen to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventAction {
    /// It was made.
    Create,
    /// Its main process began.
    Start,
    /// Its main process ended.
    Exit,
    /// It was removed.
    Remove,
    /// Anything else.
    #[serde(other)]
    Other,
}
