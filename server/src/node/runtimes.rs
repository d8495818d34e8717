//! The runtimes of a node: those of plugins, and those a program that embeds a node brings along.
//!
//! A node asks only the runtimes it has ever used for its containers, so that an engine nobody uses is neither loaded
//! nor waited for. Which those are is one empty file each in `DATA/used`; it may name too many, never too few.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gx_core::runtime::Capabilities;
use gx_core::{PluginName, Runtime};
use gx_host::PluginHost;

use super::containers::timely;
use super::watch_folder::FolderWatch;
use crate::error::{Result, ServerError};

/// For how long it holds what a runtime has said it can do: an engine may be restarted with another configuration. A
/// server asks more often than that.
const FRESH: Duration = Duration::from_secs(60);

/// The runtimes by name.
pub(crate) struct Runtimes {
    built_in: BTreeMap<PluginName, Arc<dyn Runtime>>,
    plugins: Arc<PluginHost>,
    used: PathBuf,
    /// What each has said it can do, and when.
    able: Mutex<BTreeMap<PluginName, (Instant, Capabilities)>>,
}

impl Runtimes {
    pub(crate) fn new(
        built_in: BTreeMap<PluginName, Arc<dyn Runtime>>,
        plugins: Arc<PluginHost>,
        data: &Path,
    ) -> Self {
        Self { built_in, plugins, used: data.join("used"), able: Mutex::default() }
    }

    pub(crate) fn plugins(&self) -> &Arc<PluginHost> {
        &self.plugins
    }

    /// Returns the names of all enabled runtimes, sorted.
    pub(crate) fn names(&self) -> Vec<PluginName> {
        let mut names = self.plugins.runtime_names();
        names.extend(self.built_in.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Returns a runtime, loading its plugin on first use.
    ///
    /// # Errors
    /// [`ServerError::UnknownRuntime`], [`ServerError::Plugin`].
    pub(crate) async fn get(&self, name: &PluginName) -> Result<Arc<dyn Runtime>> {
        if let Some(runtime) = self.built_in.get(name) {
            return Ok(runtime.clone());
        }
        let known = self.names();
        if !known.contains(name) {
            return Err(ServerError::UnknownRuntime { name: name.clone(), known });
        }
        let plugin = self.plugins.runtime(name).await;
        plugin.map_err(|error| ServerError::Plugin { runtime: name.clone(), error: Box::new(error) })
    }

    /// Returns what a runtime can do, which it is asked when nobody knows: that takes an engine as long as a small part of
    /// a create.
    ///
    /// # Errors
    /// Those of [`Runtimes::get`]; [`ServerError::Runtime`], [`ServerError::Slow`].
    pub(crate) async fn capabilities(&self, name: &PluginName) -> Result<Capabilities> {
        match self.able().get(name) {
            Some((at, can)) if at.elapsed() < FRESH => return Ok(can.clone()),
            _ => {}
        }
        self.ask_capabilities(name).await
    }

    /// Asks a runtime what it can do, and remembers that.
    ///
    /// # Errors
    /// As [`Runtimes::capabilities`].
    pub(crate) async fn ask_capabilities(&self, name: &PluginName) -> Result<Capabilities> {
        let runtime = self.get(name).await?;
        let can = timely(name, async { runtime.capabilities().await.map_err(ServerError::of(name)) }).await?;
        self.able().insert(name.clone(), (Instant::now(), can.clone()));
        Ok(can)
    }

    /// Forgets what a runtime can do: it is not well, or has just failed, and may have said what an engine can in general.
    pub(crate) fn forget_capabilities(&self, name: &PluginName) {
        self.able().remove(name);
    }

    fn able(&self) -> MutexGuard<'_, BTreeMap<PluginName, (Instant, Capabilities)>> {
        self.able.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names of the runtimes in which this node may have containers, sorted.
    ///
    /// # Errors
    /// [`ServerError::State`] when the folder is there and cannot be read.
    pub(crate) fn used(&self) -> Result<Vec<PluginName>> {
        let entries = match std::fs::read_dir(&self.used) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ServerError::state("read", &self.used)(error)),
        };
        let mut names: Vec<PluginName> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the file by which a runtime is known to be used; without it nobody asks the runtime any more.
    pub(crate) fn used_mark(&self, name: &PluginName) -> PathBuf {
        self.used.join(name.as_str())
    }

    /// Notes that this node is about to have a container in a runtime.
    ///
    /// # Errors
    /// [`ServerError::State`].
    pub(crate) fn mark_used(&self, name: &PluginName) -> Result<()> {
        let path = self.used_mark(name);
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.used)
            .and_then(|()| std::fs::OpenOptions::new().create(true).append(true).open(&path))
            .map(drop)
            .map_err(ServerError::state("write", &path))
    }

    /// Watches for runtimes that are used for the first time, by whichever process.
    ///
    /// # Errors
    /// [`ServerError::State`].
    pub(crate) fn watch_used(&self) -> Result<FolderWatch> {
        std::fs::create_dir_all(&self.used).map_err(ServerError::state("write", &self.used))?;
        FolderWatch::new(&self.used).map_err(self.unwatched())
    }

    /// Returns the error of a watch that does not work.
    pub(crate) fn unwatched(&self) -> impl FnOnce(std::io::Error) -> ServerError {
        ServerError::state("watch", &self.used)
    }

    /// Lets go of all engines. Containers keep running.
    pub(crate) async fn shutdown(&self) {
        for (name, runtime) in &self.built_in {
            if let Err(error) = runtime.shutdown().await {
                tracing::warn!(runtime = %name, %error, "the runtime did not shut down cleanly");
            }
        }
        self.plugins.shutdown().await;
    }
}
