//! What `gx plugin …` changes and looks at: the installed plugins, and the checks without loading anything.

use std::path::Path;

use gx_core::PluginName;

use crate::catalog::{Candidate, Disabled, Entry, bundled_kind};
use crate::error::HostError;
use crate::registry::PluginHost;
use crate::report::{Inspection, Origin, Verified};
use crate::store::InstalledPlugin;
use crate::{manifest, trust};

impl PluginHost {
    /// Reads what a file says of itself, without loading it.
    ///
    /// # Errors
    /// `NotAPlugin`, `OtherMachine`, `OtherAbi`, `OtherApi`; `Untrusted` for a symbolic link; `Io`.
    pub fn inspect(path: &Path) -> Result<Inspection, HostError> {
        let file = trust::open_regular(path)?;
        let manifest = manifest::read(&file, path)?;
        let size_bytes = file.metadata().map_err(HostError::io("read", path))?.len();
        Ok(Inspection { path: path.to_owned(), sha256: trust::sha256_of(&file, path)?, size_bytes, manifest })
    }

    /// Copies a plugin's file into the store and records its content. `sha256` is what it is expected to be.
    ///
    /// # Errors
    /// Those of [`inspect`](PluginHost::inspect); `Untrusted` for another content than the expected one, or a file
    /// others may write to where none is expected; `Bundled`; `Installed`; `Io`, and then nothing has changed.
    pub fn install(&self, file: &Path, sha256: Option<&str>) -> Result<InstalledPlugin, HostError> {
        self.catalog.store.install(file, sha256, |name| bundled_kind(name).is_some())
    }

    /// Replaces an installed plugin by another file of the same name. A running gx keeps what it has loaded.
    ///
    /// # Errors
    /// As for [`install`](PluginHost::install); `NotInstalled`; `WrongKind`.
    pub fn upgrade(&self, file: &Path, sha256: Option<&str>) -> Result<InstalledPlugin, HostError> {
        self.catalog.store.upgrade(file, sha256).map_err(|error| self.explain(error))
    }

    /// Goes back to the version of an installed plugin before the last upgrade.
    ///
    /// # Errors
    /// `NotInstalled`, `NoEarlier`; `Untrusted` when the earlier file has changed meanwhile; `Io`.
    pub fn rollback(&self, name: &PluginName) -> Result<InstalledPlugin, HostError> {
        self.catalog.store.rollback(name).map_err(|error| self.explain(error))
    }

    /// Removes an installed plugin and its files. The folder of its state stays.
    ///
    /// # Errors
    /// `NotInstalled`, `Io`.
    pub fn remove(&self, name: &PluginName) -> Result<(), HostError> {
        self.catalog.store.remove(name).map_err(|error| self.explain(error))
    }

    /// Switches a plugin on, and forgets crashes while it was loaded.
    ///
    /// # Errors
    /// `Unknown`; `Disabled` when the configuration switches it off; `Io`.
    pub fn enable(&self, name: &PluginName) -> Result<(), HostError> {
        if self.catalog.entry(name)?.disabled == Some(Disabled::ByConfig) {
            return Err(self.disabled(name, Disabled::ByConfig));
        }
        self.forgive(name);
        self.catalog.store.enable(name)
    }

    /// Switches a plugin off, wherever it comes from.
    ///
    /// # Errors
    /// `Unknown`, `Io`.
    pub fn disable(&self, name: &PluginName) -> Result<(), HostError> {
        self.catalog.entry(name)?;
        self.catalog.store.disable(name)
    }

    /// Returns what is installed, by name.
    ///
    /// # Errors
    /// `Lock`, `Untrusted`, `Io`.
    pub fn installed(&self) -> Result<Vec<InstalledPlugin>, HostError> {
        self.catalog.store.installed()
    }

    /// Checks a plugin as before a load, its configuration included, without loading it.
    ///
    /// # Errors
    /// What [`runtime`](PluginHost::runtime) would fail with.
    pub fn check(&self, name: &PluginName) -> Result<(), HostError> {
        self.catalog.check(&self.catalog.entry(name)?).map(drop)
    }

    /// Checks the files of all plugins, or of one, again: owner, permissions, content, manifest, configuration.
    ///
    /// # Errors
    /// `Unknown`. What is wrong with a plugin is in the answer.
    pub fn verify(&self, name: Option<&PluginName>) -> Result<Vec<Verified>, HostError> {
        let entries = match name {
            Some(name) => vec![self.catalog.entry(name)?],
            None => self.catalog.entries(),
        };
        Ok(entries.into_iter().map(|entry| self.verified(entry)).collect())
    }

    fn verified(&self, entry: Entry) -> Verified {
        let path = match &entry.file {
            Candidate::At { path, .. } => Some(path.clone()),
            Candidate::Nowhere { .. } => None,
        };
        let actual =
            path.as_ref().and_then(|path| trust::sha256_of(&trust::open_regular(path).ok()?, path).ok());
        let error = self.catalog.check(&entry).err();
        Verified {
            name: entry.name,
            origin: entry.origin,
            path,
            sha256: actual,
            hint: error.as_ref().and_then(HostError::hint),
            error: error.map(|error| error.told()),
        }
    }

    // The store does not know of plugins that are there without being installed.
    fn explain(&self, error: HostError) -> HostError {
        match error {
            HostError::NotInstalled { name, installed, .. } => {
                let there = self.catalog.entry(&name).is_ok_and(|entry| entry.origin != Origin::Installed);
                HostError::NotInstalled { name, there, installed }
            }
            other => other,
        }
    }
}
