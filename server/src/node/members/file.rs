//! The file of the book, `DATA/members.json`: read whole, written beside, synced and renamed, so that after a crash it is
//! the old one or the new one. A damaged one is left as it is, and nobody is a member until somebody has seen to it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::book::{Book, FORMAT};
use crate::error::{Result, ServerError, TrustError};
use crate::node::replace::replace;

const FILE: &str = "members.json";
/// What the name of a file begins with that is not in its place yet.
const DRAFT: &str = ".members.json.";
/// The longest file that is read, in bytes: a full book has about a third of it.
const FILE_MAX: u64 = 32 << 20;

/// What tells two versions of the file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([i128; 4]);

impl Stamp {
    fn of(data: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self([
            i128::from(data.ino()),
            i128::from(data.len()),
            nanoseconds(data.mtime(), data.mtime_nsec()),
            nanoseconds(data.ctime(), data.ctime_nsec()),
        ])
    }
}

pub(super) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Returns the stamp of the file that is there; `None` without one, or where it cannot be looked at.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|data| Stamp::of(&data))
}

/// Reads the book; without a file it is empty.
///
/// # Errors
/// [`TrustError::Damaged`] when it cannot be read, or is not one this program can read.
pub(super) fn read(path: &Path) -> Result<(Option<Stamp>, Book), TrustError> {
    let damaged = |fault: String| TrustError::Damaged { path: path.to_owned(), fault };
    let unread = |error: io::Error| damaged(format!("cannot be read: {error}"));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Book::default())),
        Err(error) => return Err(unread(error)),
    };
    let data = file.metadata().map_err(unread)?;
    if data.mode() & 0o022 != 0 {
        return Err(damaged("can be written by others: set its mode to 0600".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(damaged(format!("is longer than {FILE_MAX} bytes")));
    }
    let book = parse(&bytes).map_err(damaged)?;
    Ok((Some(Stamp::of(&data)), book))
}

fn parse(bytes: &[u8]) -> Result<Book, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    // The format is looked at before anything else, so that a later one is told apart from damage.
    let broken = |error: serde_json::Error| format!("is damaged: {error}");
    let Version { format } = serde_json::from_slice(bytes).map_err(broken)?;
    if format != FORMAT {
        return Err(format!("has the format {format}, and this gx reads {FORMAT}"));
    }
    serde_json::from_slice(bytes).map_err(broken)
}

/// Puts the book in the place of the one that is there. Whoever calls this has the lock.
///
/// # Errors
/// [`ServerError::State`]; the old one is there still.
pub(super) fn write(path: &Path, book: &Book) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().expect("a file is in a folder");
    sweep(folder);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let draft = folder.join(format!("{DRAFT}{}.{number}", std::process::id()));
    let mut text = serde_json::to_vec(book).expect("our own types always become JSON");
    text.push(b'\n');
    replace(&draft, path, &text).map_err(ServerError::state("write", path))
}

/// Removes drafts that a crash has left.
fn sweep(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(DRAFT)) {
        let _ = fs::remove_file(file.path()); // else the next one tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::api::AllowRequest;
    use gx_core::{NodeId, Timestamp};

    fn book() -> Book {
        let mut book = Book::default();
        let (node, now) = (NodeId::from_bytes([1; 32]), Timestamp::from_unix(1_800_000_000));
        let allowance = serde_json::from_str(r#"{"memory": 1500000001, "ttl": "1h"}"#).unwrap();
        book.allow(node, &AllowRequest { allowance, ..AllowRequest::default() }, now).unwrap();
        book
    }

    #[test]
    fn a_book_is_read_as_it_was_written_and_nobody_else_sees_it() {
        let data = tempfile::tempdir().unwrap();
        let path = path(data.path());
        assert_eq!(read(&path).unwrap(), (None, Book::default()));
        fs::write(data.path().join(".members.json.1.0"), "half a dra").unwrap();
        write(&path, &book()).unwrap();
        let (stamp, read) = read(&path).unwrap();
        assert_eq!((stamp, read), (super::stamp(&path), book()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "drafts are swept");
        write(&path, &Book::default()).unwrap();
        assert_ne!(super::stamp(&path), stamp);
    }

    #[test]
    fn a_damaged_book_is_told_and_never_taken_for_an_empty_one() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let path = path(data.path());
        write(&path, &book()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "cut at {length}");
        }
        let told = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            read(&path).unwrap_err().to_string()
        };
        assert!(told(b"{\"format\":2,\"new\":1}").contains("has the format 2, and this gx reads 1"));
        assert!(told(b"{\"format\":1,\"membres\":[]}").contains("unknown field"));
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("can be written by others"));
    }

    #[test]
    fn where_nothing_can_be_written_the_old_book_stays() {
        let data = tempfile::tempdir().unwrap();
        let path = path(data.path());
        write(&path, &book()).unwrap();
        let folder = data.path().join("none");
        assert!(write(&super::path(&folder), &book()).is_err());
        // A folder in the place of the file: the rename fails after everything was written.
        let blocked = data.path().join("blocked");
        fs::create_dir_all(super::path(&blocked).join("x")).unwrap();
        assert!(write(&super::path(&blocked), &book()).is_err());
        assert_eq!(fs::read_dir(&blocked).unwrap().count(), 1, "no draft stays");
        assert_eq!(read(&path).unwrap().1, book());
    }
}
