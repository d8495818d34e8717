//! The checks before any code of a plugin runs: where its file lies, whose it is, who may write to it, and whether
//! its content is the one that was recorded.
//!
//! Everything is asked of descriptors, never twice of a path. The folder is opened first, the file through the
//! folder, and the file that was checked is the one that is hashed and loaded. What is left is somebody who may
//! write to the open file itself: its owner or root, and those the checks trust.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::error::{Distrust, HostError};

/// What the content of a file is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Nothing: the file comes with this program and lies where only those who installed it can write.
    Bundled,
    /// A recorded SHA-256; a missing one is an error.
    Recorded {
        /// 64 hexadecimal digits.
        sha256: Option<String>,
        /// The file that says so.
        by: String,
    },
}

/// Opens a file that may be loaded.
pub(crate) fn open(path: &Path, pin: &Pin) -> Result<File, HostError> {
    let file = open_in_folder(path)?;
    match pin {
        Pin::Bundled => {}
        Pin::Recorded { sha256: None, .. } => {
            return Err(HostError::untrusted(path, Distrust::Unpinned { actual: sha256_of(&file, path)? }));
        }
        Pin::Recorded { sha256: Some(expected), by } => {
            compare(path, &sha256_of(&file, path)?, expected, by)?
        }
    }
    Ok(file)
}

/// Opens a regular file without following a link at its end, whoever it belongs to.
pub(crate) fn open_regular(path: &Path) -> Result<File, HostError> {
    let opened = rustix::fs::open(path, FILE, Mode::empty());
    regular(path, opened).map(|(file, _)| file)
}

/// Returns the SHA-256 of a file's content as 64 lower-case hexadecimal digits.
pub(crate) fn sha256_of(file: &File, path: &Path) -> Result<String, HostError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut chunk, at).map_err(HostError::io("read", path))?;
        if read == 0 {
            return Ok(hex(hash));
        }
        hash.update(&chunk[..read]);
        at += read as u64;
    }
}

/// Ends a hash as 64 lower-case hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails when a SHA-256 is not the one expected; `by` is who expects it.
pub(crate) fn compare(path: &Path, actual: &str, expected: &str, by: &str) -> Result<(), HostError> {
    if actual.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let (actual, expected, by) = (actual.to_owned(), expected.to_owned(), by.to_owned());
    Err(HostError::untrusted(path, Distrust::Changed { actual, expected, by }))
}

/// Fails when a file or folder belongs to, or may be written to by, anybody but root and this program's user.
pub(crate) fn check_owner_and_mode(path: &Path, about: &Metadata) -> Result<(), HostError> {
    let us = rustix::process::geteuid().as_raw();
    if about.uid() != 0 && about.uid() != us {
        return Err(HostError::untrusted(path, Distrust::Owner { owner: about.uid(), us }));
    }
    match about.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => Err(HostError::untrusted(path, Distrust::Writable { mode })),
        _ => Ok(()),
    }
}

// NONBLOCK: opening a fifo or a device somebody put there returns at once.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn open_in_folder(path: &Path) -> Result<File, HostError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(HostError::untrusted(path, Distrust::NotAFile));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let opened =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let inside = File::from(opened.map_err(io::Error::from).map_err(HostError::io("open", folder))?);
    let about_folder = inside.metadata().map_err(HostError::io("read", folder))?;
    check_owner_and_mode(folder, &about_folder).map_err(|error| as_folder(error, path, folder))?;
    let (file, about) = regular(path, rustix::fs::openat(&inside, name, FILE, Mode::empty()))?;
    check_owner_and_mode(path, &about)?;
    Ok(file)
}

fn as_folder(error: HostError, path: &Path, folder: &Path) -> HostError {
    match error {
        HostError::Untrusted { reason: Distrust::Writable { mode }, .. } => {
            HostError::untrusted(path, Distrust::FolderWritable { folder: folder.to_owned(), mode })
        }
        other => other,
    }
}

fn regular(
    path: &Path,
    opened: rustix::io::Result<rustix::fd::OwnedFd>,
) -> Result<(File, Metadata), HostError> {
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(HostError::untrusted(path, Distrust::Symlink)),
        // A socket cannot be opened at all.
        Err(rustix::io::Errno::NXIO) => return Err(HostError::untrusted(path, Distrust::NotAFile)),
        Err(error) => return Err(HostError::io("open", path)(error.into())),
    };
    let about = file.metadata().map_err(HostError::io("read", path))?;
    if !about.is_file() {
        return Err(HostError::untrusted(path, Distrust::NotAFile));
    }
    Ok((file, about))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorClass;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libx.so");
        std::fs::write(&path, "abc").unwrap();
        mode(&path, 0o644);
        (folder, path)
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path, pin: &Pin) -> (String, String) {
        let error = open(path, pin).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Trust);
        (error.to_string(), error.hint().unwrap())
    }

    #[test]
    fn an_ordinary_file_with_the_recorded_content_is_trusted() {
        let (_folder, path) = place();
        open(&path, &Pin::Bundled).unwrap();
        open(&path, &Pin::Recorded { sha256: Some(ABC.to_uppercase()), by: "plugins.lock".to_owned() })
            .unwrap();
    }

    #[test]
    fn a_symlink_is_refused() {
        let (folder, path) = place();
        let link = folder.path().join("link.so");
        symlink(&path, &link).unwrap();
        let (message, hint) = refused(&link, &Pin::Bundled);
        assert_eq!(message, format!("{} is not trusted: it is a symbolic link", link.display()));
        assert_eq!(hint, "name the file itself");
    }

    #[test]
    fn a_folder_a_fifo_and_a_socket_are_refused_at_once() {
        let (folder, _path) = place();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [inner, fifo, socket] {
            assert!(refused(&path, &Pin::Bundled).0.ends_with("it is not a regular file"));
        }
    }

    #[test]
    fn a_file_others_may_write_to_is_refused() {
        let (_folder, path) = place();
        mode(&path, 0o666);
        let (message, hint) = refused(&path, &Pin::Bundled);
        let shown = path.display();
        assert_eq!(
            message,
            format!("{shown} is not trusted: its mode 0666 lets group or others write to it")
        );
        assert_eq!(hint, format!("chmod go-w {shown}"));
        mode(&path, 0o664);
        assert!(refused(&path, &Pin::Bundled).0.contains("its mode 0664"));
    }

    #[test]
    fn a_file_in_a_folder_others_may_write_to_is_refused() {
        let (folder, path) = place();
        mode(folder.path(), 0o1777);
        let (message, hint) = refused(&path, &Pin::Bundled);
        let shown = folder.path().display();
        assert!(
            message
                .ends_with(&format!("the mode 1777 of its folder {shown} lets group or others write to it"))
        );
        assert_eq!(hint, format!("chmod go-w {shown}"));
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let (_folder, path) = place();
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give a file away.
        }
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        let (message, _) = refused(&path, &Pin::Bundled);
        assert!(
            message.contains("it belongs to user 4242, neither to root nor to the user gx runs as (0)"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_or_another_sha256_is_refused_with_the_one_it_has() {
        let (_folder, path) = place();
        let (message, hint) = refused(&path, &Pin::Recorded { sha256: None, by: "gx.toml".to_owned() });
        assert!(message.ends_with("no SHA-256 of it is recorded"));
        assert!(hint.contains(&format!("write sha256 = \"{ABC}\"")), "{hint}");
        std::fs::write(&path, "abd").unwrap();
        let (message, hint) =
            refused(&path, &Pin::Recorded { sha256: Some(ABC.to_owned()), by: "plugins.lock".to_owned() });
        assert!(message.contains("its SHA-256 is a52d159f"), "{message}");
        assert!(message.ends_with(&format!("{ABC} is recorded in plugins.lock")), "{message}");
        assert!(hint.contains("gx plugin upgrade FILE"), "{hint}");
    }

    #[test]
    fn what_is_loaded_is_what_was_checked_even_when_the_path_is_replaced() {
        let (folder, path) = place();
        let file = open(&path, &Pin::Recorded { sha256: Some(ABC.to_owned()), by: "x".to_owned() }).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "evil").unwrap();
        std::fs::rename(&other, &path).unwrap();
        use std::os::fd::AsRawFd;
        let through = std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        assert_eq!(through, b"abc");
    }
}
