//! Which plugins there are, and the checks between a name and a plugin that may be loaded.
//!
//! A plugin is there because the configuration or the list of installed plugins names it, or because it comes with
//! gx; never because a file lies in a folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gx_core::PluginName;
use gx_core::config::{Isolation, PluginKind};
use gx_core::plugin::Manifest;

use crate::checked::Checked;
use crate::error::HostError;
use crate::lock::Lock;
use crate::manifest;
use crate::options::HostOptions;
use crate::replace::make_private_folder;
use crate::report::Origin;
use crate::settings::{self, Place};
use crate::store::Store;
use crate::trust::{self, Pin};

/// The plugins that come with gx and are there without being named.
const BUNDLED: [(&str, PluginKind); 3] = [
    ("docker", PluginKind::Runtime),
    ("podman", PluginKind::Runtime),
    ("speedtest", PluginKind::Measurement),
];

/// Returns what a plugin is that comes with gx; `None` for all others.
pub(crate) fn bundled_kind(name: &PluginName) -> Option<PluginKind> {
    BUNDLED.iter().find(|(bundled, _)| *bundled == name.as_str()).map(|(_, kind)| *kind)
}

/// Where plugins are looked up.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) options: HostOptions,
    pub(crate) store: Store,
    known: Mutex<Known>,
}

/// The list as it was last read, so that a name is looked up without reading it again.
#[derive(Debug)]
struct Known {
    lock: Arc<Lock>,
    stamp: Stamp,
}

// A replaced file has another inode; a missing one has no stamp.
type Stamp = Option<(u64, i64, i64, u64)>;

/// A plugin as it is named.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: PluginName,
    pub(crate) kind: PluginKind,
    pub(crate) origin: Origin,
    pub(crate) isolation: Isolation,
    /// Who switches it off, if anybody does.
    pub(crate) disabled: Option<Disabled>,
    pub(crate) file: Candidate,
}

/// Who switches a plugin off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disabled {
    ByConfig,
    ByLock,
}

/// The file a plugin is loaded from.
#[derive(Debug, Clone)]
pub(crate) enum Candidate {
    At { path: PathBuf, pin: Pin },
    Nowhere { looked_for: Vec<PathBuf> },
}

impl Candidate {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::At { path, .. } => Some(path),
            Self::Nowhere { .. } => None,
        }
    }

    pub(crate) fn sha256(&self) -> Option<&str> {
        match self {
            Self::At { pin: Pin::Recorded { sha256, .. }, .. } => sha256.as_deref(),
            _ => None,
        }
    }
}

/// A plugin whose file, manifest and configuration are in order.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) manifest: Manifest,
    pub(crate) config: serde_json::Value,
    file: File,
    path: PathBuf,
}

impl Catalog {
    /// Reads the list of installed plugins.
    pub(crate) fn open(options: HostOptions) -> Result<Self, HostError> {
        let store = Store::new(options.store.clone());
        // The stamp comes first: a list that is replaced meanwhile is read again the next time.
        let stamp = stamp(&store.lock_path());
        let known = Known { lock: Arc::new(store.read()?), stamp };
        Ok(Self { options, store, known: Mutex::new(known) })
    }

    /// Returns the list of installed plugins as it is now. While it cannot be read, what it last said holds.
    pub(crate) fn lock(&self) -> Arc<Lock> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.store.lock_path());
        if stamp != known.stamp {
            known.stamp = stamp;
            match self.store.read() {
                Ok(lock) => known.lock = Arc::new(lock),
                Err(error) => tracing::warn!(%error, "the list of installed plugins cannot be read"),
            }
        }
        Arc::clone(&known.lock)
    }

    /// Returns all names there are, sorted.
    pub(crate) fn names(&self) -> BTreeSet<PluginName> {
        let bundled = BUNDLED.iter().map(|(name, _)| name.parse().expect("a plugin's name"));
        let mut names: BTreeSet<PluginName> = bundled.filter(|name| self.bundled(name).is_some()).collect();
        names.extend(self.options.config.keys().cloned());
        names.extend(self.lock().plugins.keys().cloned());
        names
    }

    /// Returns all plugins there are, by name.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.names().iter().filter_map(|name| self.find(name)).collect()
    }

    /// Returns the plugin of this name.
    pub(crate) fn entry(&self, name: &PluginName) -> Result<Entry, HostError> {
        let unknown = || HostError::Unknown { name: name.clone(), known: self.names().into_iter().collect() };
        self.find(name).ok_or_else(unknown)
    }

    fn find(&self, name: &PluginName) -> Option<Entry> {
        let lock = self.lock();
        let config = self.options.config.get(name);
        let installed = lock.plugins.get(name);
        let (origin, file) = self.candidate(name, &lock);
        let named = config.is_some() || installed.is_some() || bundled_kind(name).is_some();
        if !named || (config.is_none() && file.path().is_none()) {
            return None;
        }
        let configured = config.map(|config| config.kind).or(installed.map(|plugin| plugin.kind));
        // What a bundled file is need not be said: its table may be there for another key.
        let bundled = bundled_kind(name).filter(|_| origin == Origin::Bundled);
        let kind = bundled.or(configured).unwrap_or_default();
        let isolation = config.and_then(|config| config.isolation).unwrap_or(match origin {
            Origin::Bundled => Isolation::Inline,
            Origin::Installed | Origin::Configured => Isolation::Process,
        });
        let disabled = match config {
            Some(config) if !config.enabled => Some(Disabled::ByConfig),
            _ => lock.disabled.contains(name).then_some(Disabled::ByLock),
        };
        Some(Entry { name: name.clone(), kind, origin, isolation, disabled, file })
    }

    // A path in the configuration counts before what is installed, and that before what comes with gx.
    fn candidate(&self, name: &PluginName, lock: &Lock) -> (Origin, Candidate) {
        let config = self.options.config.get(name);
        let pinned = config.and_then(|config| config.sha256.clone());
        let installed = lock.plugins.get(name);
        let pin = || match (&pinned, installed) {
            (Some(sha256), _) => {
                Pin::Recorded { sha256: Some(sha256.clone()), by: self.options.config_origin.clone() }
            }
            (None, plugin) => Pin::Recorded {
                sha256: plugin.map(|plugin| plugin.current.sha256.to_string()),
                by: self.store.lock_path().display().to_string(),
            },
        };
        if let Some(path) = config.and_then(|config| config.path.as_deref()) {
            return (Origin::Configured, Candidate::At { path: self.options.resolve(path), pin: pin() });
        }
        if let Some(plugin) = installed {
            let path = self.store.file(name, &plugin.current);
            return (Origin::Installed, Candidate::At { path, pin: pin() });
        }
        match self.bundled(name) {
            Some(path) if pinned.is_some() => (Origin::Bundled, Candidate::At { path, pin: pin() }),
            Some(path) => (Origin::Bundled, Candidate::At { path, pin: Pin::Bundled }),
            None => {
                let looked_for = self.options.bundled_paths(name).collect();
                (Origin::Configured, Candidate::Nowhere { looked_for })
            }
        }
    }

    fn bundled(&self, name: &PluginName) -> Option<PathBuf> {
        // A link is found too, and refused by name, rather than passed over in silence.
        self.options.bundled_paths(name).find(|path| path.symlink_metadata().is_ok())
    }

    /// Checks everything that can be checked without running the plugin's code. Reads the whole file where it is
    /// pinned: not for a thread that must not block.
    pub(crate) fn check(&self, entry: &Entry) -> Result<Passed, HostError> {
        let (path, pin) = match &entry.file {
            Candidate::At { path, pin } => (path.clone(), pin),
            Candidate::Nowhere { looked_for } => return Err(missing(entry, looked_for.clone())),
        };
        let file = trust::open(&path, pin).map_err(|error| match error {
            HostError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                missing(entry, vec![path.clone()])
            }
            other => other,
        })?;
        let manifest = manifest::read(&file, &path)?;
        if manifest.name != entry.name {
            return Err(HostError::OtherName { path, found: manifest.name, wanted: entry.name.clone() });
        }
        if manifest.kind != entry.kind {
            let (name, wanted, found) = (entry.name.clone(), entry.kind, manifest.kind);
            return Err(HostError::WrongKind { name, wanted, found });
        }
        let config = self.options.config.get(&entry.name);
        let table = config.map(|config| config.config.clone()).unwrap_or_default();
        let config = settings::check(&manifest, &table, self.place(&entry.name))?;
        Ok(Passed { manifest, config, file, path })
    }

    /// Returns where a plugin's table stands.
    pub(crate) fn place<'a>(&'a self, name: &'a PluginName) -> Place<'a> {
        Place { origin: &self.options.config_origin, text: &self.options.config_text, name }
    }

    /// Checks a plugin and makes its folder: all that is needed to load it.
    pub(crate) fn prepare(&self, entry: &Entry) -> Result<Checked, HostError> {
        let Passed { manifest, config, file, path } = self.check(entry)?;
        let state_dir = self.options.state.join(entry.name.as_str());
        make_private_folder(&state_dir)?;
        Ok(Checked {
            name: entry.name.clone(),
            kind: entry.kind,
            manifest,
            file: Arc::new(file),
            path,
            isolation: entry.isolation,
            config,
            state_dir,
            host_version: self.options.host_version.clone(),
            child_program: self.options.child_program.clone(),
            child_env: self.options.child_env.clone(),
        })
    }
}

fn missing(entry: &Entry, looked_for: Vec<PathBuf>) -> HostError {
    HostError::Missing { name: entry.name.clone(), looked_for }
}

fn stamp(path: &Path) -> Stamp {
    let about = path.symlink_metadata().ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.size()))
}
