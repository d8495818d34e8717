//! The installed plugins: `DATA/plugins`, with `plugins.lock` and a file for each build.
//!
//! Files are content-addressed (`NAME/VERSION-SHA256.so`) and never written to once they have their name: a running
//! gx has them mapped. What changes is `plugins.lock`, replaced as a whole, last. After a crash or a full disk the
//! old list holds, and what nothing refers to is swept away by the next change. One change at a time: a file lock on
//! `.changing` is held meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gx_core::PluginName;
use gx_core::config::PluginKind;
use gx_core::plugin::Manifest;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Distrust, HostError};
use crate::lock::{Build, FileVersion, Lock, Locked, Sha256Hex};
use crate::replace::{UNFINISHED, Unfinished, make_private_folder, replace, sync_folder};
use crate::{manifest, trust};

const LOCK_FILE: &str = "plugins.lock";
const CHANGING: &str = ".changing";
const MAX_LOCK_BYTES: u64 = 1 << 20;
/// How many earlier builds of a plugin are kept to go back to.
const EARLIER_KEPT: usize = 2;

/// The folder of installed plugins.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// A plugin as it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledPlugin {
    /// Its name.
    pub name: PluginName,
    /// What it is.
    pub kind: PluginKind,
    /// The version that is used.
    pub version: String,
    /// The SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// The file.
    pub path: PathBuf,
    /// The versions that can be gone back to, the latest last.
    pub earlier: Vec<String>,
    /// Whether it is used.
    pub enabled: bool,
}

impl Store {
    /// Makes a store of a folder, which need not be there yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the path of the list.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.folder.join(LOCK_FILE)
    }

    /// Returns the path of a build's file.
    pub(crate) fn file(&self, name: &PluginName, build: &Build) -> PathBuf {
        self.folder.join(name.as_str()).join(build.file_name())
    }

    /// Reads the list; a missing one is empty. It says which content may run, so it is trusted no more easily than
    /// a plugin's file.
    pub(crate) fn read(&self) -> Result<Lock, HostError> {
        let path = self.lock_path();
        let file = match trust::open(&path, &trust::Pin::Bundled) {
            Ok(file) => file,
            Err(HostError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Lock::default());
            }
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(MAX_LOCK_BYTES).read_to_string(&mut text).map_err(HostError::io("read", &path))?;
        Lock::from_text(&path.display().to_string(), &text)
            .map_err(|error| HostError::Lock { error: Box::new(error) })
    }

    /// Installs a plugin under a name that is not installed yet. `bundled` says which names come with gx.
    pub(crate) fn install(
        &self,
        source: &Path,
        expected: Option<&str>,
        bundled: impl Fn(&PluginName) -> bool,
    ) -> Result<InstalledPlugin, HostError> {
        let change = self.change()?;
        let staged = change.stage(source, expected)?;
        let name = staged.manifest.name.clone();
        if bundled(&name) {
            return Err(HostError::Bundled { name });
        }
        if let Some(there) = change.lock.plugins.get(&name) {
            return Err(HostError::Installed { name, version: there.current.version.to_string() });
        }
        change.commit(staged, Vec::new())
    }

    /// Replaces an installed plugin by another build; a plugin that is that build already stays.
    pub(crate) fn upgrade(
        &self,
        source: &Path,
        expected: Option<&str>,
    ) -> Result<InstalledPlugin, HostError> {
        let change = self.change()?;
        let staged = change.stage(source, expected)?;
        let name = staged.manifest.name.clone();
        let there = change.installed(&name)?.clone();
        if there.kind != staged.manifest.kind {
            return Err(HostError::WrongKind { name, wanted: there.kind, found: staged.manifest.kind });
        }
        if there.current.sha256 == staged.build.sha256 {
            return Ok(self.shown(&name, &there, &change.lock));
        }
        let mut earlier = there.earlier;
        earlier.retain(|build| build.sha256 != staged.build.sha256);
        earlier.push(there.current);
        earlier.drain(..earlier.len().saturating_sub(EARLIER_KEPT));
        change.commit(staged, earlier)
    }

    /// Goes back to the build before the one that is used, which is forgotten.
    pub(crate) fn rollback(&self, name: &PluginName) -> Result<InstalledPlugin, HostError> {
        let mut change = self.change()?;
        let mut there = change.installed(name)?.clone();
        there.current = there.earlier.pop().ok_or_else(|| HostError::NoEarlier { name: name.clone() })?;
        let path = self.file(name, &there.current);
        let by = self.lock_path().display().to_string();
        // A list that leads to a file that cannot be loaded would be no step back.
        trust::open(&path, &trust::Pin::Recorded { sha256: Some(there.current.sha256.to_string()), by })?;
        change.lock.plugins.insert(name.clone(), there.clone());
        let shown = self.shown(name, &there, &change.lock);
        change.write()?;
        Ok(shown)
    }

    /// Removes an installed plugin, its files and what it was switched to.
    pub(crate) fn remove(&self, name: &PluginName) -> Result<(), HostError> {
        let mut change = self.change()?;
        change.installed(name)?;
        change.lock.plugins.remove(name);
        change.lock.disabled.remove(name);
        change.write()
    }

    /// Switches a plugin on.
    pub(crate) fn enable(&self, name: &PluginName) -> Result<(), HostError> {
        let mut change = self.change()?;
        if change.lock.disabled.remove(name) { change.write() } else { Ok(()) }
    }

    /// Switches a plugin off, wherever it comes from.
    pub(crate) fn disable(&self, name: &PluginName) -> Result<(), HostError> {
        let mut change = self.change()?;
        if change.lock.disabled.insert(name.clone()) { change.write() } else { Ok(()) }
    }

    /// Returns what is installed.
    pub(crate) fn installed(&self) -> Result<Vec<InstalledPlugin>, HostError> {
        let lock = self.read()?;
        Ok(lock.plugins.iter().map(|(name, plugin)| self.shown(name, plugin, &lock)).collect())
    }

    fn shown(&self, name: &PluginName, plugin: &Locked, lock: &Lock) -> InstalledPlugin {
        InstalledPlugin {
            name: name.clone(),
            kind: plugin.kind,
            version: plugin.current.version.to_string(),
            sha256: plugin.current.sha256.to_string(),
            path: self.file(name, &plugin.current),
            earlier: plugin.earlier.iter().map(|build| build.version.to_string()).collect(),
            enabled: !lock.disabled.contains(name),
        }
    }

    fn change(&self) -> Result<Change<'_>, HostError> {
        make_private_folder(&self.folder)?;
        let path = self.folder.join(CHANGING);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let held = opened.map_err(HostError::io("open", &path))?;
        held.lock().map_err(HostError::io("lock", &path))?;
        let lock = self.read()?;
        let change = Change { store: self, lock, _held: held };
        change.sweep();
        Ok(change)
    }
}

/// A change of the list while nobody else makes one.
struct Change<'a> {
    store: &'a Store,
    lock: Lock,
    _held: File,
}

/// A build that is copied and checked, and not yet in its place.
struct Staged {
    manifest: Manifest,
    build: Build,
    copy: Unfinished,
}

impl Change<'_> {
    fn installed(&self, name: &PluginName) -> Result<&Locked, HostError> {
        self.lock.plugins.get(name).ok_or_else(|| HostError::NotInstalled {
            name: name.clone(),
            there: false,
            installed: self.lock.plugins.keys().cloned().collect(),
        })
    }

    /// Copies a file beside the others and checks the copy: the source may change at any time.
    fn stage(&self, source: &Path, expected: Option<&str>) -> Result<Staged, HostError> {
        let from = open_source(source, expected)?;
        let copy = Unfinished::new(&self.store.folder)?;
        let sha256 = copy_and_hash(from, source, &copy, &self.store.folder)?;
        if let Some(expected) = expected {
            trust::compare(source, &sha256, expected, "--sha256")?;
        }
        let manifest = manifest::read(copy.file(), source)?;
        let version = manifest.version.parse::<FileVersion>();
        let version = version.map_err(|error| HostError::not_a_plugin(source, error.to_string()))?;
        let sha256 = sha256.parse::<Sha256Hex>().expect("a SHA-256 has 64 hexadecimal digits");
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned()).display().to_string();
        Ok(Staged {
            manifest,
            copy,
            build: Build { version, sha256, installed_at: SystemTime::now().into(), source },
        })
    }

    fn commit(mut self, staged: Staged, earlier: Vec<Build>) -> Result<InstalledPlugin, HostError> {
        let name = staged.manifest.name;
        let path = self.store.file(&name, &staged.build);
        make_private_folder(path.parent().expect("a plugin's file has a folder"))?;
        let read_only = std::fs::Permissions::from_mode(0o444);
        staged.copy.file().set_permissions(read_only).map_err(HostError::io("write", &path))?;
        staged.copy.place(&path)?;
        let plugin = Locked { kind: staged.manifest.kind, current: staged.build, earlier };
        self.lock.plugins.insert(name.clone(), plugin.clone());
        let shown = self.store.shown(&name, &plugin, &self.lock);
        self.write()?;
        Ok(shown)
    }

    fn write(self) -> Result<(), HostError> {
        replace(&self.store.lock_path(), self.lock.to_text().as_bytes())?;
        self.sweep();
        Ok(())
    }

    /// Removes what no list refers to: what a crash left, builds that are forgotten. What cannot be removed now is
    /// removed another time.
    fn sweep(&self) {
        for entry in entries(&self.store.folder) {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                let _ = std::fs::remove_file(entry.path());
            } else if let Ok(plugin) = name.parse::<PluginName>() {
                self.sweep_plugin(&plugin, &entry.path());
            }
        }
    }

    fn sweep_plugin(&self, name: &PluginName, folder: &Path) {
        let plugin = self.lock.plugins.get(name);
        let builds = plugin.iter().flat_map(|plugin| plugin.earlier.iter().chain([&plugin.current]));
        let kept: Vec<String> = builds.map(Build::file_name).collect();
        for entry in entries(folder) {
            if !kept.iter().any(|kept| entry.file_name() == kept.as_str()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        if kept.is_empty() {
            let _ = std::fs::remove_dir(folder);
            let _ = sync_folder(&self.store.folder);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

// Without a SHA-256 to compare with, what is copied is at least nothing others could have written to.
fn open_source(source: &Path, expected: Option<&str>) -> Result<File, HostError> {
    let file = trust::open_regular(source)?;
    let about = file.metadata().map_err(HostError::io("read", source))?;
    if about.len() > manifest::MAX_FILE_BYTES {
        return Err(HostError::not_a_plugin(source, "it is larger than 1 GiB"));
    }
    match about.permissions().mode() & 0o7777 {
        mode if mode & 0o022 != 0 && expected.is_none() => {
            Err(HostError::untrusted(source, Distrust::Writable { mode }))
        }
        _ => Ok(file),
    }
}

fn copy_and_hash(from: File, source: &Path, copy: &Unfinished, folder: &Path) -> Result<String, HostError> {
    let mut from = from.take(manifest::MAX_FILE_BYTES);
    let mut to = copy.file();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let read = from.read(&mut chunk).map_err(HostError::io("read", source))?;
        if read == 0 {
            return Ok(trust::hex(hash));
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(HostError::io("write to", folder))?;
    }
}

#[cfg(test)]
mod tests;
