//! Files that are there as a whole or not at all: written beside, synced, renamed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::HostError;

/// What the name of an unfinished file begins with.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// A file that is not yet in its place; dropped before that, it is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Unfinished {
    /// Makes an empty one in a folder, for its owner alone.
    pub(crate) fn new(folder: &Path) -> Result<Self, HostError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(HostError::io("write to", folder))?;
        Ok(Self { file, path, placed: false })
    }

    /// Returns the file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs it and gives it its name, replacing what has that name; `place` is in the same file system.
    pub(crate) fn place(mut self, place: &Path) -> Result<(), HostError> {
        self.file.sync_all().map_err(HostError::io("write", place))?;
        std::fs::rename(&self.path, place).map_err(HostError::io("write", place))?;
        self.placed = true;
        sync_folder(place.parent().expect("a file has a folder"))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Replaces a file's content: after a crash at any moment it is the old or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), HostError> {
    let unfinished = Unfinished::new(path.parent().expect("a file has a folder"))?;
    let mut file = unfinished.file();
    file.write_all(content).map_err(HostError::io("write", path))?;
    unfinished.place(path)
}

/// Makes a folder and those above it, all for this user alone (0700).
pub(crate) fn make_private_folder(path: &Path) -> Result<(), HostError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(HostError::io("make the folder", path))
}

/// Makes what was renamed or removed in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), HostError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(HostError::io("write to", folder))
}
