//! What a host of plugins is told: the configuration, and where things lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gx_core::PluginName;
use gx_core::config::PluginConfig;

/// What a [`PluginHost`](crate::PluginHost) is told. Nothing is read from the environment.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// `[plugins]` of the configuration.
    pub config: BTreeMap<PluginName, PluginConfig>,
    /// The configuration's file, for errors; a relative path of a plugin is relative to its folder.
    pub config_origin: String,
    /// The configuration's text, for places in errors; may be empty.
    pub config_text: String,
    /// Where the plugins that come with gx lie: beside the program, or in `../lib/gx`. The first that has one counts.
    pub bundled_dirs: Vec<PathBuf>,
    /// `DATA/plugins`: the installed plugins and their list.
    pub store: PathBuf,
    /// `DATA/plugin-state`: a private folder for each plugin.
    pub state: PathBuf,
    /// The program that a child runs: gx itself, as `gx plugin-host …`.
    pub child_program: PathBuf,
    /// A child's whole environment.
    pub child_env: BTreeMap<String, String>,
    /// This program's version, which plugins are told.
    pub host_version: String,
}

impl HostOptions {
    /// Returns a plugin's path as the configuration means it.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        let folder = Path::new(&self.config_origin).parent().unwrap_or(Path::new(""));
        folder.join(path)
    }

    /// Returns where a plugin that comes with gx may lie.
    pub(crate) fn bundled_paths(&self, name: &PluginName) -> impl Iterator<Item = PathBuf> {
        // Crate names have underscores where plugin names have hyphens.
        let file = format!("libgx_plugin_{}.so", name.as_str().replace('-', "_"));
        self.bundled_dirs.iter().map(move |folder| folder.join(&file))
    }
}
