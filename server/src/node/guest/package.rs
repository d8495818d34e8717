//! What goes into a container for the guest: the program and its settings, as a line for its standard input or as tar
//! archives, whichever the runtime has a way for.

use bytes::Bytes;
use gx_core::guest;
use gx_core::runtime::VolumePrune;
use gx_core::stream::{InputChunk, InputSender};
use gx_core::{Mount, Timestamp, VolumeName};
use tar::{EntryType, Header};

use super::PROGRAM;

/// The most that a runtime is fed, less than [`Runtime::feed`](gx_core::Runtime::feed) takes.
pub(super) const FEED_MAX: usize = 24 * 1024;

/// How the names of the program's volumes begin.
const PREFIX: &str = "gx-guest-";

/// How the guest gets into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roads {
    /// The program is in a volume that all containers share; else it is copied into each.
    pub(super) shared: bool,
    /// The settings are told on standard input; else they are copied.
    pub(super) told: bool,
    /// Nothing can be written to the container's root.
    pub(super) read_only: bool,
}

/// What the guest is told, and the way it takes. It has secrets in it, and no `Debug`.
#[derive(Clone)]
pub(crate) struct Package {
    pub(super) settings: Bytes,
    pub(super) roads: Roads,
}

impl Package {
    /// Returns the line that the guest reads first, where it is told.
    pub(crate) fn line(&self) -> Option<Bytes> {
        self.roads.told.then(|| Bytes::from([&self.settings[..], b"\n"].concat()))
    }

    /// Returns the archive to unpack and the folder to unpack it in, where there is something to copy.
    pub(crate) fn archive(&self) -> Option<(&'static str, Vec<Bytes>)> {
        let Roads { shared, told, read_only } = self.roads;
        if shared && told {
            return None;
        }
        // Only what is mounted can be written in a root that is read-only.
        let below = if read_only { guest::FOLDER } else { "/" };
        let inside = |path: &'static str| path.strip_prefix(below).unwrap_or(path).trim_start_matches('/');
        let mut parts = Vec::new();
        if !read_only {
            parts.push(folder(inside(guest::FOLDER)));
        }
        if !shared {
            parts.push(folder(inside(guest::PROGRAM_FOLDER)));
            parts.extend(file(inside(guest::PROGRAM), 0o755, Bytes::from_static(PROGRAM)));
        }
        if !told {
            parts.extend(file(inside(guest::SETTINGS), 0o600, self.settings.clone()));
        }
        parts.push(end());
        Some((below, parts))
    }

    /// Returns whether the program is taken from the volume that all share.
    pub(crate) fn is_shared(&self) -> bool {
        self.roads.shared
    }
}

/// Returns the volume of the program, which is another for each version.
pub(super) fn volume() -> VolumeName {
    let name = format!("{PREFIX}{}", env!("GX_GUEST_DIGEST"));
    name.parse().expect("letters, digits and '-' are the name of a volume")
}

/// Returns which volumes of the program nobody needs: those of other versions, made before.
pub(crate) fn stale(made_before: Timestamp) -> VolumePrune {
    let prefix = PREFIX.parse().expect("letters and '-' are the name of a volume");
    VolumePrune { prefix, keep: vec![volume()], made_before }
}

/// Returns the mount of the program in a container that can only read it.
pub(super) fn mount() -> Mount {
    Mount { volume: Some(volume()), path: guest::PROGRAM_FOLDER.to_owned(), read_only: true }
}

/// Returns the archive that fills the volume. The program gets its name last, as a second link: whoever sees it sees all
/// of it, also when the one who fills is killed. The first link has a name that nobody else uses: two who fill at a time
/// would else give the name to what the other is still writing, and "text file busy" ends the container that runs it.
pub(crate) fn filling(unique: &str) -> Vec<Bytes> {
    let name = guest::PROGRAM.rsplit('/').next().expect("a path has a last part");
    let part = format!("guest.part-{unique}");
    let mut link = header(name, EntryType::Link, 0o755, 0);
    link.set_link_name(&part).expect("a short name");
    link.set_cksum();
    let link = Bytes::copy_from_slice(link.as_bytes());
    file(&part, 0o755, Bytes::from_static(PROGRAM)).into_iter().chain([link, end()]).collect()
}

/// Writes an archive, or a line. When the reader is gone it knows why.
pub(crate) async fn send(parts: Vec<Bytes>, to: InputSender) {
    for part in parts {
        if to.send(InputChunk::Data(part)).await.is_err() {
            return;
        }
    }
}

fn folder(path: &str) -> Bytes {
    Bytes::copy_from_slice(header(&format!("{path}/"), EntryType::Directory, 0o755, 0).as_bytes())
}

fn file(path: &str, mode: u32, content: Bytes) -> [Bytes; 3] {
    let header = header(path, EntryType::Regular, mode, content.len());
    let padding = padding(content.len());
    [Bytes::copy_from_slice(header.as_bytes()), content, padding]
}

fn header(path: &str, kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(path).expect("our own paths are short and relative");
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

const BLOCK: usize = 512;

fn padding(length: usize) -> Bytes {
    Bytes::from_static(&[0; BLOCK]).slice(..length.next_multiple_of(BLOCK) - length)
}

fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK])
}
