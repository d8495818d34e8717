//! A plugin as a host loads it, made ready for the suite: its handle, and the hooks that only its host can lend.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gx_core::PluginName;
use gx_core::config::Isolation;
use gx_core::plugin::{ConfigIssue, Manifest};
use gx_core::runtime::Runtime;
use gx_host::{HostError, HostOptions, PluginHost};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::{Map, Value};

use crate::Loader;
use crate::options::{Hook, Hooks};

/// A plugin that a host of its own has loaded.
#[derive(Debug, Clone)]
pub struct Hosted {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: HostOptions,
    name: PluginName,
    manifest: Manifest,
    library: PathBuf,
    isolation: Isolation,
    /// The host of the one that is tested.
    host: Arc<PluginHost>,
    /// The hosts of those that were loaded beside it.
    others: Mutex<Vec<Arc<PluginHost>>>,
    loads: AtomicU32,
}

impl Hosted {
    /// Opens a host and lets it load the plugin.
    ///
    /// # Errors
    /// Those of [`PluginHost::open`] and [`PluginHost::runtime`].
    pub async fn load(options: HostOptions, name: PluginName) -> Result<(Self, Arc<dyn Runtime>), HostError> {
        let host = PluginHost::open(options.clone())?;
        let runtime = host.runtime(&name).await?;
        let report = host.reports().into_iter().find(|report| report.name == name);
        let report = report.expect("what was loaded is reported");
        let library = report.path.expect("what was loaded has a file");
        let manifest = PluginHost::inspect(&library)?.manifest;
        let (isolation, loads) = (report.isolation, AtomicU32::new(0));
        let inner =
            Inner { options, name, manifest, library, isolation, host, others: Mutex::default(), loads };
        Ok((Self { inner: Arc::new(inner) }, runtime))
    }

    /// Returns the hooks its host can lend: another load, the memory of its process, and, where it has a process of
    /// its own, that process's end.
    pub fn hooks(&self) -> Hooks {
        let inner = self.inner.clone();
        let memory = move || inner.process().and_then(resident);
        let inner = self.inner.clone();
        let crash: Hook = Arc::new(move || {
            let killed = inner.process().ok_or_else(|| "its process is not to be found".to_owned());
            let killed =
                killed.and_then(|pid| kill_process(pid, Signal::KILL).map_err(|error| error.to_string()));
            Box::pin(std::future::ready(killed))
        });
        Hooks {
            memory: Some(Arc::new(memory)),
            crash: (self.inner.isolation == Isolation::Process).then_some(crash),
            loader: Some(self.inner.clone()),
            ..Hooks::default()
        }
    }

    /// Ends the plugin and whatever else was loaded for the suite.
    pub async fn shutdown(&self) {
        let others = std::mem::take(&mut *self.inner.others());
        for host in others.iter().chain([&self.inner.host]) {
            host.shutdown().await;
        }
        // Where it cannot be removed it is empty folders that stay.
        let _ = std::fs::remove_dir_all(self.inner.states());
    }
}

impl Inner {
    fn others(&self) -> std::sync::MutexGuard<'_, Vec<Arc<PluginHost>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the others keep their state: they must not meet that of the one that is tested.
    fn states(&self) -> PathBuf {
        self.options.state.join(format!(".conformance-{}", std::process::id()))
    }

    /// Returns the process its code runs in.
    fn process(&self) -> Option<Pid> {
        match self.isolation {
            Isolation::Inline => Some(getpid()),
            Isolation::Process => child_with(&self.library),
        }
    }
}

#[async_trait]
impl Loader for Inner {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn config(&self) -> Map<String, Value> {
        let table =
            self.options.config.get(&self.name).map(|plugin| plugin.config.clone()).unwrap_or_default();
        match serde_json::to_value(table) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        }
    }

    async fn load(&self, config: Map<String, Value>) -> Result<Arc<dyn Runtime>, Vec<ConfigIssue>> {
        let issue = |message: String| vec![ConfigIssue::new("", message)];
        let table = toml::Table::try_from(config).map_err(|error| issue(error.to_string()))?;
        let mut options = self.options.clone();
        options.config.entry(self.name.clone()).or_default().config = table;
        options.config_text = String::new();
        options.state = self.states().join(self.loads.fetch_add(1, Ordering::Relaxed).to_string());
        let host = PluginHost::open(options).map_err(|error| issue(error.told()))?;
        let loaded = host.runtime(&self.name).await;
        self.others().push(host);
        loaded.map_err(|error| match error.config_errors() {
            [] => issue(error.told()),
            errors => errors.iter().map(|error| ConfigIssue::new("", error.to_string())).collect(),
        })
    }
}

/// Returns the resident set of a process, in bytes (proc_pid_statm(5): the second number, in pages).
fn resident(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Returns the oldest child of this process that has a library in its memory. The host starts it by a descriptor, so
/// that its arguments do not tell.
fn child_with(library: &Path) -> Option<Pid> {
    let library = library.canonicalize().ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let ours = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // proc_pid_stat(5): after the name in parentheses come the state and the parent; the 22nd is its start.
        let fields: Vec<&str> = status.rsplit_once(')')?.1.split_whitespace().collect();
        let parent: i32 = fields.get(1)?.parse().ok()?;
        let started: u64 = fields.get(19)?.parse().ok()?;
        let maps = std::fs::read_to_string(entry.path().join("maps")).ok()?;
        let ours = parent == getpid().as_raw_nonzero().get() && maps.contains(library.to_str()?);
        ours.then_some((started, pid))
    });
    ours.min().and_then(|(_, pid)| Pid::from_raw(pid))
}
