//! The plugins of this program: found by name, loaded on first use, then one supervised handle each.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gx_core::config::PluginKind;
use gx_core::measurement::Measurement;
use gx_core::{PluginName, Runtime};
use tokio::sync::OnceCell;

use crate::catalog::{Catalog, Disabled, Entry};
use crate::checked::Checked;
use crate::error::{ErrorClass, HostError};
use crate::loaded::{self, Handle, Loaded, StartFault};
use crate::options::HostOptions;
use crate::report::{PluginReport, PluginState};
use crate::settings;

/// The plugins of this program. Cheap to open: nothing is loaded until it is asked for.
pub struct PluginHost {
    pub(crate) catalog: Arc<Catalog>,
    start: Start,
    slots: Mutex<HashMap<PluginName, Arc<Slot>>>,
    closed: AtomicBool,
}

/// How a checked plugin is loaded.
type Start = fn(Checked) -> Starting;
type Starting = Pin<Box<dyn Future<Output = Result<Loaded, StartFault>> + Send>>;

/// What there is of a plugin that was asked for.
#[derive(Default)]
struct Slot {
    loaded: OnceCell<Loaded>,
    loading: AtomicBool,
    failed: Mutex<Option<Failure>>,
}

#[derive(Debug, Clone)]
struct Failure {
    state: PluginState,
    message: String,
    hint: Option<String>,
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("options", &self.catalog.options).finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Reads which plugins there are.
    ///
    /// # Errors
    /// `Lock` when the list of installed plugins is damaged, `Untrusted` when others may write to it.
    pub fn open(options: HostOptions) -> Result<Arc<Self>, HostError> {
        Self::open_with(options, |checked| Box::pin(loaded::start(checked)))
    }

    fn open_with(options: HostOptions, start: Start) -> Result<Arc<Self>, HostError> {
        let catalog = Arc::new(Catalog::open(options)?);
        Ok(Arc::new(Self { catalog, start, slots: Mutex::default(), closed: AtomicBool::new(false) }))
    }

    /// Returns the runtimes that are switched on, sorted by name. The bundled ones are there without being named.
    pub fn runtime_names(&self) -> Vec<PluginName> {
        self.enabled(PluginKind::Runtime)
    }

    /// Returns the measurements that are switched on, sorted by name.
    pub fn measurement_names(&self) -> Vec<PluginName> {
        self.enabled(PluginKind::Measurement)
    }

    fn enabled(&self, kind: PluginKind) -> Vec<PluginName> {
        let entries = self.catalog.entries().into_iter();
        entries
            .filter(|entry| entry.kind == kind && entry.disabled.is_none())
            .map(|entry| entry.name)
            .collect()
    }

    /// Returns a runtime, loading it on first use. Several first uses at a time load it once. The handle stays the
    /// same when its child is started again.
    ///
    /// # Errors
    /// [`HostError`]: not there, switched off, not trusted, not a plugin for this program, wrong configuration, or it
    /// failed to load. The next use tries again.
    pub async fn runtime(&self, name: &PluginName) -> Result<Arc<dyn Runtime>, HostError> {
        match self.loaded(name, PluginKind::Runtime).await?.handle {
            Handle::Runtime(runtime) => Ok(runtime),
            Handle::Measurement(_) => Err(wrong_kind(name, PluginKind::Runtime, PluginKind::Measurement)),
        }
    }

    /// Returns a measurement, as [`runtime`](PluginHost::runtime) returns a runtime.
    ///
    /// # Errors
    /// Those of [`runtime`](PluginHost::runtime).
    pub async fn measurement(&self, name: &PluginName) -> Result<Arc<dyn Measurement>, HostError> {
        match self.loaded(name, PluginKind::Measurement).await?.handle {
            Handle::Measurement(measurement) => Ok(measurement),
            Handle::Runtime(_) => Err(wrong_kind(name, PluginKind::Measurement, PluginKind::Runtime)),
        }
    }

    /// Ends all loaded plugins; afterwards none is loaded any more.
    pub async fn shutdown(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let slots: Vec<_> =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut ending = tokio::task::JoinSet::new();
        for loaded in slots.iter().filter_map(|slot| slot.loaded.get().cloned()) {
            ending.spawn(async move { loaded.supervisor.shutdown().await });
        }
        ending.join_all().await;
    }

    async fn loaded(&self, name: &PluginName, wanted: PluginKind) -> Result<Loaded, HostError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(HostError::Closed);
        }
        let entry = self.catalog.entry(name)?;
        if let Some(by) = entry.disabled {
            return Err(self.disabled(name, by));
        }
        if entry.kind != wanted {
            return Err(wrong_kind(name, wanted, entry.kind));
        }
        let slot = self.slot(name);
        slot.loaded.get_or_try_init(|| slot.load(&self.catalog, entry, self.start)).await.cloned()
    }

    fn slot(&self, name: &PluginName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(name.clone()).or_default())
    }

    pub(crate) fn disabled(&self, name: &PluginName, by: Disabled) -> HostError {
        let (by, in_config) = match by {
            Disabled::ByConfig => (self.catalog.options.config_origin.clone(), true),
            Disabled::ByLock => (self.catalog.store.lock_path().display().to_string(), false),
        };
        HostError::Disabled { name: name.clone(), by, in_config }
    }

    /// Forgets why a plugin failed, so that it is tried again as if nothing had been.
    pub(crate) fn forgive(&self, name: &PluginName) {
        *self.slot(name).failure() = None;
        crate::sentinel::forget(&self.catalog.options.state, name);
    }

    /// Returns how every plugin stands, by name. Those that are not loaded are checked now, which reads their files.
    pub fn reports(&self) -> Vec<PluginReport> {
        self.catalog.entries().iter().map(|entry| self.report(entry)).collect()
    }

    fn report(&self, entry: &Entry) -> PluginReport {
        let slot = self.slot(&entry.name);
        let passed = self.catalog.check(entry);
        let mut report = blank(entry);
        if let Ok(passed) = &passed {
            report.version = Some(passed.manifest.version.clone());
            report.api.clone_from(&passed.manifest.api);
        }
        match (slot.loaded.get(), passed, slot.failure().clone()) {
            _ if entry.disabled.is_some() => report.state = PluginState::Disabled,
            (Some(loaded), ..) => {
                let status = loaded.supervisor.status();
                (report.state, report.last_error, report.restarts) =
                    (status.state, status.last_error, status.restarts);
            }
            (None, Err(error), _) => report.tell(Failure::from(&error)),
            (None, Ok(_), Some(failure)) => report.tell(failure),
            (None, Ok(_), None) if slot.loading.load(Ordering::Relaxed) => {
                report.state = PluginState::Loading
            }
            (None, Ok(_), None) => report.state = PluginState::Declared,
        }
        report
    }
}

impl Slot {
    async fn load(&self, catalog: &Arc<Catalog>, entry: Entry, start: Start) -> Result<Loaded, HostError> {
        let _loading = Loading::begin(&self.loading);
        let result = load(Arc::clone(catalog), entry, start).await;
        *self.failure() = result.as_ref().err().map(Failure::from);
        result
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<Failure>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a plugin is being loaded, until it is dropped, as the future that loads it may be.
struct Loading<'a>(&'a AtomicBool);

impl<'a> Loading<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

async fn load(catalog: Arc<Catalog>, entry: Entry, start: Start) -> Result<Loaded, HostError> {
    let checking = Arc::clone(&catalog);
    let checked = tokio::task::spawn_blocking(move || checking.prepare(&entry));
    let checked = checked.await.expect("the checks do not panic")?;
    let name = checked.name.clone();
    start(checked).await.map_err(|fault| of_start(fault, &name, &catalog))
}

fn of_start(fault: StartFault, name: &PluginName, catalog: &Catalog) -> HostError {
    match fault {
        StartFault::Config(issues) => settings::refused(&issues, catalog.place(name)),
        StartFault::Crashed(times) => HostError::CrashedWhileLoading { name: name.clone(), times },
        StartFault::Load { reason, hint } => HostError::Load { name: name.clone(), reason, hint },
    }
}

fn wrong_kind(name: &PluginName, wanted: PluginKind, found: PluginKind) -> HostError {
    HostError::WrongKind { name: name.clone(), wanted, found }
}

fn blank(entry: &Entry) -> PluginReport {
    PluginReport {
        name: entry.name.clone(),
        kind: entry.kind,
        origin: entry.origin,
        version: None,
        api: Vec::new(),
        state: PluginState::Declared,
        isolation: entry.isolation,
        sha256: entry.file.sha256().map(str::to_owned),
        path: entry.file.path().map(Into::into),
        last_error: None,
        hint: None,
        restarts: 0,
    }
}

impl PluginReport {
    fn tell(&mut self, failure: Failure) {
        (self.state, self.last_error, self.hint) = (failure.state, Some(failure.message), failure.hint);
    }
}

impl From<&HostError> for Failure {
    fn from(error: &HostError) -> Self {
        let state = match error.class() {
            ErrorClass::Config | ErrorClass::Trust => PluginState::Refused,
            ErrorClass::Plugin | ErrorClass::System => PluginState::Failed,
        };
        Self { state, message: error.told(), hint: error.hint() }
    }
}

#[cfg(test)]
mod tests;
