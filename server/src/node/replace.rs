//! Small files that are there whole, or as they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts a text in the place of a file, which only its owner can read. It is written beside as `draft`, synced and renamed: after
/// a crash or the loss of power the file is the old one or the new one. Whoever calls this is the only one to use the draft.
///
/// # Errors
/// Those of the file system; the draft is gone, and the old file is there still, unless only syncing the folder has failed.
pub(super) fn replace(draft: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let placed = place(draft, path, text);
    if placed.is_err() {
        let _ = fs::remove_file(draft); // it may not be there
    }
    placed
}

fn place(draft: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    // One that a crash has left is in nobody's use; a new one follows no link.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    File::open(path.parent().expect("a file is in a folder"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (draft, path) = (folder.path().join("draft"), folder.path().join("file"));
        replace(&draft, &path, b"one").unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &draft).unwrap();
        replace(&draft, &path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!elsewhere.exists() && !draft.exists());

        // A folder in the place of the file: the rename fails after everything was written.
        let blocked = folder.path().join("blocked");
        fs::create_dir_all(blocked.join("x")).unwrap();
        assert!(replace(&draft, &blocked, b"three").is_err());
        assert!(!draft.exists() && blocked.join("x").exists());
    }
}
