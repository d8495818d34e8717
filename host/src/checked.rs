//! What the checks hand to a link: a plugin that may be loaded, and all that is needed for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use gx_core::PluginName;
use gx_core::config::{Isolation, PluginKind};
use gx_core::plugin::Manifest;

/// A plugin that has passed every check.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// Its name, here and in its manifest.
    pub(crate) name: PluginName,
    /// What it is, here and in its manifest.
    pub(crate) kind: PluginKind,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// The file that was checked. It is loaded through this descriptor (`/proc/self/fd/N`), so that what runs is
    /// what was checked, whatever happens to the path meanwhile.
    ///
    /// Whoever loads it keeps the descriptor open for as long as the process lives: the dynamic loader remembers
    /// libraries by name, and a second plugin under a reused number would be taken for the first.
    pub(crate) file: Arc<File>,
    /// The file's path, for people.
    pub(crate) path: PathBuf,
    /// Where its code runs.
    pub(crate) isolation: Isolation,
    /// `[plugins.NAME.config]`, checked against the manifest, as JSON.
    pub(crate) config: serde_json::Value,
    /// A private folder (0700) for the plugin.
    pub(crate) state_dir: PathBuf,
    /// This program's version.
    pub(crate) host_version: String,
    /// The program a child runs.
    pub(crate) child_program: PathBuf,
    /// A child's whole environment.
    pub(crate) child_env: BTreeMap<String, String>,
}
