//! What is told about plugins: tables for people, JSON for programs.

use std::path::PathBuf;

use gx_core::PluginName;
use gx_core::config::{Isolation, PluginKind};
use gx_core::plugin::Manifest;
use serde::Serialize;

/// A plugin as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginReport {
    /// Its name.
    pub name: PluginName,
    /// What it is.
    pub kind: PluginKind,
    /// Where it comes from.
    pub origin: Origin,
    /// Its version, where its manifest can be read.
    pub version: Option<String>,
    /// The versions of its trait it offers.
    pub api: Vec<String>,
    /// How it stands.
    pub state: PluginState,
    /// Where its code runs.
    pub isolation: Isolation,
    /// The SHA-256 its file must have; none for a plugin that comes with gx.
    pub sha256: Option<String>,
    /// Its file.
    pub path: Option<PathBuf>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
    /// How often its child was started again.
    pub restarts: u32,
}

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It came with this program.
    Bundled,
    /// It was installed with `gx plugin install`.
    Installed,
    /// The configuration names its file, or at least its name.
    Configured,
}

/// How a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// It can be loaded, and nobody has used it yet.
    Declared,
    /// It is being loaded.
    Loading,
    /// It works.
    Loaded,
    /// A call of it did not return.
    Hung,
    /// Its child ended and is being started again.
    Restarting,
    /// It could not be loaded, or its child ended too often.
    Failed,
    /// It is switched off.
    Disabled,
    /// A check of trust, of its manifest or of its configuration failed; none of its code has run.
    Refused,
}

/// What a file says of itself, without being loaded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// The SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
    /// How long it is.
    pub size_bytes: u64,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The result of checking a plugin again from its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The plugin.
    pub name: PluginName,
    /// Where it comes from.
    pub origin: Origin,
    /// Its file.
    pub path: Option<PathBuf>,
    /// The SHA-256 its file has, where it can be read.
    pub sha256: Option<String>,
    /// What is wrong; `None`: nothing.
    pub error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
}
