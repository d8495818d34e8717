//! A mark that stands while a plugin is being loaded into this process.
//!
//! When loading brings the process down, the mark stays, its lock does not: the next process sees that somebody died
//! there. A process that is loading right now holds the lock, so it is not taken for a dead one.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use gx_core::PluginName;
use rustix::fs::{FlockOperation, flock};

/// After so many deaths in a row a plugin is not loaded any more. One may be chance: a Ctrl-C in the wrong moment.
const TOO_MANY: u32 = 2;

/// Stands while a plugin is being loaded.
#[derive(Debug)]
pub(crate) struct Sentinel {
    folder: PathBuf,
    prefix: String,
    own: PathBuf,
    _lock: File,
}

impl Sentinel {
    /// Sets the mark for a plugin in `folder`.
    ///
    /// # Errors
    /// How many processes in a row have died while they loaded it, when these are too many.
    pub(crate) fn set(folder: &Path, name: &PluginName) -> Result<Option<Self>, u32> {
        let prefix = format!("{name}.loading.");
        let deaths = dead(folder, &prefix).len() as u32;
        if deaths >= TOO_MANY {
            return Err(deaths);
        }
        let own = folder.join(format!("{prefix}{}-{deaths}", std::process::id()));
        // Where no mark can be set (a full disk) the plugin is loaded without one.
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&own);
        let locked = made.ok().filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        Ok(locked.map(|lock| Self { folder: folder.to_owned(), prefix, own, _lock: lock }))
    }

    /// Takes the mark away, and those of the dead: it is loaded.
    pub(crate) fn loaded(self) {
        for mark in dead(&self.folder, &self.prefix) {
            let _ = std::fs::remove_file(mark);
        }
    }
}

/// A load that failed or was given up brought nobody down: the mark goes, those of the dead stay.
impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.own);
    }
}

/// Forgets the deaths of a plugin, so that it is tried again.
pub(crate) fn forget(folder: &Path, name: &PluginName) {
    for mark in dead(folder, &format!("{name}.loading.")) {
        let _ = std::fs::remove_file(mark);
    }
}

fn dead(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| {
            let file = OpenOptions::new().write(true).open(path);
            file.is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die(folder: &Path, name: &PluginName) {
        let sentinel = Sentinel::set(folder, name).unwrap().unwrap();
        let own = sentinel.own.clone();
        drop(sentinel);
        File::create(own).unwrap(); // of a dead process the file stays, without the lock
    }

    #[test]
    fn a_load_that_fails_is_no_death() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            drop(Sentinel::set(folder.path(), &"x".parse().unwrap()).unwrap().unwrap());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_deaths_in_a_row_are_too_many_and_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let name: PluginName = "x".parse().unwrap();
        die(folder.path(), &name);
        let running = Sentinel::set(folder.path(), &name).unwrap().unwrap();
        assert!(Sentinel::set(folder.path(), &name).is_ok(), "one that is still loading is not dead");
        running.loaded();
        die(folder.path(), &name);
        die(folder.path(), &name);
        assert_eq!(Sentinel::set(folder.path(), &name).unwrap_err(), 2);
        assert!(Sentinel::set(folder.path(), &"y".parse().unwrap()).is_ok());
        forget(folder.path(), &name);
        assert!(Sentinel::set(folder.path(), &name).is_ok());
    }
}
