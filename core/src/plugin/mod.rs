//! What crosses into a plugin, and what an author needs to write one.
//!
//! | what | file |
//! |---|---|
//! | the only types that cross, and their versions | [`abi`] |
//! | the manifest and the schema of a plugin's configuration | [`manifest`] |
//! | the methods: their numbers and bodies | [`method`] |
//! | the macros a plugin ends with, and what they rest on | [`export`] |
//!
//! An author writes `use gx_core::plugin::*;`, implements [`Runtime`] or [`Measurement`] and ends with
//! [`export_runtime!`](crate::export_runtime) or [`export_measurement!`](crate::export_measurement). How a plugin
//! is found, checked and loaded is the host's business.

use std::path::PathBuf;

#[expect(unsafe_code, reason = "it reads what the other side lends")]
pub mod abi;
#[expect(unsafe_code, reason = "it is called by the other side")]
pub mod export;
pub mod manifest;
pub mod method;

mod instance;
mod linger;
mod schema;
mod service;
#[expect(unsafe_code, reason = "it calls the other side")]
mod upcall;

#[cfg(test)]
#[expect(unsafe_code, reason = "it plays the host")]
mod tests;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use serde;
pub use serde_json;

pub use crate::container::{
    Container, ContainerSpec, ContainerState, Exit, Gpus, Mount, PortMapping, PortRequest, Protocol,
    Resources, Security, label,
};
pub use crate::id::{ContainerId, ContainerName, IdempotencyKey, NodeId, PluginName, Timestamp, VolumeName};
pub use crate::image::{Image, ImageProcess, ImageRef};
pub use crate::measurement::{
    BitsPerSecond, Budget, Confidence, Doubt, Latency, LoadedLatency, Measurement, MeasurementCapabilities,
    Millis, Sample, Stop, Target, Throughput,
};
pub use crate::network::{Bridge, NetworkSpec, Prefix};
pub use crate::runtime::{
    BuildRequest, Capabilities, ErrorCode, Event, EventAction, ExecSpec, Feature, Health, HealthStatus,
    ListFilter, LogOptions, Progress, PullRequest, RegistryAuth, RemoveOptions, Result, Runtime,
    RuntimeError, RuntimeInfo, Stats, StopOptions, VolumePrune,
};
pub use crate::stream::{Gone, Input, InputChunk, Item, Kind, Output};
pub use manifest::Manifest;

/// What a plugin is told about its surroundings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PluginContext {
    /// The name it has in the configuration.
    pub name: PluginName,
    /// A folder of its own, mode 0700, which outlives it.
    pub state_dir: PathBuf,
    /// The version of the program that loaded it.
    #[serde(default)]
    pub host_version: String,
}

/// Something in a plugin's configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConfigIssue {
    /// The key within the plugin's table, dotted; empty for the whole.
    #[serde(default)]
    pub path: String,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
}

impl ConfigIssue {
    /// Makes an issue about a key.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl std::fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}
