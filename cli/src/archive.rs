//! Tar archives between files and streams: packing a folder, unpacking what a container gives without ever leaving
//! the destination.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use bytes::{Buf as _, Bytes};
use gx_core::stream::{InputChunk, InputSender, Items, Kind, MAX_ITEM_BYTES};
use tar::{Builder, Entry, EntryType, Header};
use tokio::runtime::Handle;

/// Reads the raw bytes of a stream, on a thread that may block.
pub(crate) struct ItemsReader {
    items: Items,
    handle: Handle,
    rest: Bytes,
}

impl ItemsReader {
    pub(crate) fn new(items: Items) -> Self {
        Self { items, handle: Handle::current(), rest: Bytes::new() }
    }
}

impl Read for ItemsReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.handle.block_on(self.items.next()) {
                Some(item) if item.kind == Kind::Stdout => self.rest = item.bytes,
                Some(_) => {}
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Writes bytes into a call, on a thread that may block.
pub(crate) struct InputWriter {
    sender: InputSender,
    handle: Handle,
}

impl InputWriter {
    pub(crate) fn buffered(sender: InputSender) -> io::BufWriter<Self> {
        io::BufWriter::with_capacity(MAX_ITEM_BYTES, Self { sender, handle: Handle::current() })
    }
}

impl Write for InputWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = InputChunk::Data(Bytes::copy_from_slice(bytes));
        // Who no longer reads has a reason, and tells it as the result of the call.
        self.handle.block_on(self.sender.send(chunk)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds a file, a link or a folder with all that is `wanted` below it; `name` is what it is called in the archive,
/// empty for nothing before the names of what is in the folder. All of it belongs to root there.
pub(crate) fn pack<W: Write>(
    archive: &mut Builder<W>,
    from: &Path,
    name: &Path,
    wanted: &dyn Fn(&Path, bool) -> Wanted,
) -> io::Result<()> {
    let metadata = told(from, fs::symlink_metadata(from))?;
    pack_entry(archive, from, name, Path::new(""), &metadata, wanted)
}

/// What to do with a path while packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It belongs in the archive.
    Yes,
    /// It does not, but something below it may.
    Below,
    /// Neither it nor anything below.
    No,
}

fn pack_entry<W: Write>(
    archive: &mut Builder<W>,
    from: &Path,
    name: &Path,
    inner: &Path,
    metadata: &Metadata,
    wanted: &dyn Fn(&Path, bool) -> Wanted,
) -> io::Result<()> {
    if !metadata.is_dir() {
        return pack_leaf(archive, from, name, metadata);
    }
    if !name.as_os_str().is_empty() && wanted(inner, true) == Wanted::Yes {
        archive.append_data(&mut header_of(metadata), name, io::empty())?;
    }
    let mut children: Vec<_> = told(from, fs::read_dir(from)?.collect::<io::Result<Vec<_>>>())?;
    children.sort_by_key(fs::DirEntry::file_name);
    for child in children {
        let inner = inner.join(child.file_name());
        let metadata = told(&child.path(), child.metadata())?;
        let keep = wanted(&inner, metadata.is_dir());
        if keep == Wanted::Yes || (keep == Wanted::Below && metadata.is_dir()) {
            pack_entry(archive, &child.path(), &name.join(child.file_name()), &inner, &metadata, wanted)?;
        }
    }
    Ok(())
}

fn pack_leaf<W: Write>(
    archive: &mut Builder<W>,
    from: &Path,
    name: &Path,
    metadata: &Metadata,
) -> io::Result<()> {
    let mut header = header_of(metadata);
    if metadata.is_symlink() {
        let target = told(from, fs::read_link(from))?;
        header.set_size(0);
        return archive.append_link(&mut header, name, target);
    }
    if metadata.is_file() {
        // A file that shrinks meanwhile must not shift what follows it: the archive has its length already.
        let file = told(from, File::open(from))?.chain(io::repeat(0)).take(metadata.len());
        return archive.append_data(&mut header, name, file);
    }
    Ok(()) // sockets, devices and pipes are not content
}

fn header_of(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Unpacked {
    /// Files and links.
    pub(crate) files: u64,
    /// Their content.
    pub(crate) bytes: u64,
}

/// Unpacks an archive of one file or folder, as [`copy_out`](gx_core::Runtime::copy_out) gives it. `place` says where
/// it goes, once it is known whether it is a folder.
pub(crate) fn unpack(
    archive: impl Read,
    place: impl FnOnce(bool) -> io::Result<PathBuf>,
) -> io::Result<Unpacked> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries()?;
    let first = entries.next().ok_or_else(|| bad("the archive is empty"))??;
    let is_folder = first.header().entry_type().is_dir();
    let root = normal(&first.path()?)?;
    let mut unpacker =
        Unpacker { root, place: place(is_folder)?, folders: Vec::new(), done: Unpacked::default() };
    unpacker.entry(first)?;
    for entry in entries {
        unpacker.entry(entry?)?;
    }
    unpacker.finish()
}

struct Unpacker {
    /// The name of the first entry in the archive, which all others are below.
    root: PathBuf,
    /// Where the first entry goes.
    place: PathBuf,
    /// Folders get their modes at the end: one that cannot be written must still be filled.
    folders: Vec<(PathBuf, u32)>,
    done: Unpacked,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> io::Result<()> {
        let to = self.target(&entry.path()?)?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                match fs::create_dir(&to) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => {}
                    made => told(&to, made)?,
                }
                self.folders.push((to, entry.header().mode()? & 0o777));
                return Ok(());
            }
            EntryType::Link => {
                let named = entry.link_name()?.ok_or_else(|| bad("a link in the archive names nothing"))?;
                let target = self.target(&named)?;
                remove_file(&to)?;
                told(&to, fs::hard_link(target, &to))?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Symlink => {
                let unpacked = entry.unpack(&to);
                if unpacked.is_err() && !entry.header().entry_type().is_symlink() {
                    remove_file(&to)?; // a part of a file is worse than none
                }
                told(&to, unpacked)?;
                self.done.bytes += entry.size();
            }
            _ => return Ok(()), // devices and pipes of a container are none of this machine's
        }
        self.done.files += 1;
        Ok(())
    }

    /// Returns where an entry goes; it is always inside of [`place`](Self::place), links followed.
    fn target(&self, name: &Path) -> io::Result<PathBuf> {
        let name = normal(name)?;
        let inner = name.strip_prefix(&self.root).map_err(|_| bad_name(&name))?;
        if inner.as_os_str().is_empty() {
            return Ok(self.place.clone());
        }
        let to = self.place.join(inner);
        let parent = to.parent().ok_or_else(|| bad_name(&name))?;
        let inside =
            told(parent, parent.canonicalize())?.starts_with(told(&self.place, self.place.canonicalize())?);
        if inside { Ok(to) } else { Err(bad_name(&name)) }
    }

    fn finish(self) -> io::Result<Unpacked> {
        for (folder, mode) in self.folders.iter().rev() {
            told(folder, fs::set_permissions(folder, fs::Permissions::from_mode(*mode)))?;
        }
        Ok(self.done)
    }
}

fn normal(name: &Path) -> io::Result<PathBuf> {
    let mut normal = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => normal.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(bad_name(name)),
        }
    }
    Ok(normal)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => told(path, removed),
    }
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn bad_name(name: &Path) -> io::Error {
    bad(&format!("the archive has {}, which would leave the destination", name.display()))
}

/// Adds the path to an error.
fn told<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // Written raw: the builder itself refuses bad names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    const FOLDER: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn a_folder_survives_packing_and_unpacking() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "content").unwrap();
        std::os::unix::fs::symlink("b/file", from.join("a/link")).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
        let mut builder = Builder::new(Vec::new());
        pack(&mut builder, &from, Path::new("x"), &|_, _| Wanted::Yes).unwrap();
        let bytes = builder.into_inner().unwrap();
        let to = folder.path().join("to");
        let done = unpack(bytes.as_slice(), |is_folder| {
            assert!(is_folder);
            Ok(to.clone())
        });
        assert_eq!(done.unwrap(), Unpacked { files: 2, bytes: 7 });
        assert_eq!(fs::read_to_string(to.join("a/link")).unwrap(), "content");
        assert_eq!(fs::metadata(to.join("a/b")).unwrap().permissions().mode() & 0o777, 0o555);
        fs::set_permissions(to.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "kept").unwrap();
        let to_outside = outside.path().to_str().unwrap();
        let to_secret = secret.to_str().unwrap();
        for entries in [
            vec![(FOLDER, "d/", ""), (FILE, "d/../../secret", "lost")],
            vec![(FOLDER, "d/", ""), (FILE, "/secret", "lost")],
            vec![(FOLDER, "d/", ""), (FILE, "e/secret", "lost")],
            vec![(FOLDER, "d/", ""), (EntryType::Symlink, "d/l", to_outside), (FILE, "d/l/secret", "lost")],
            vec![(FOLDER, "d/", ""), (EntryType::Symlink, "d/l", ".."), (FILE, "d/l/secret", "lost")],
            vec![(FOLDER, "d/", ""), (EntryType::Link, "d/l", to_secret), (FILE, "d/l", "lost")],
            vec![(FOLDER, "d/", ""), (EntryType::Link, "d/l", "d/../../secret")],
            vec![(FILE, "f", "x"), (FILE, "g", "lost")],
        ] {
            let inside = outside.path().join("inside");
            fs::create_dir(&inside).unwrap();
            let bytes = archive(&entries);
            let error = unpack(bytes.as_slice(), |_| Ok(inside.join("place"))).unwrap_err();
            assert!(error.to_string().contains("would leave the destination"), "{entries:?}: {error}");
            assert_eq!(fs::read_to_string(&secret).unwrap(), "kept");
            fs::remove_dir_all(&inside).unwrap();
        }
    }

    #[test]
    fn a_link_that_is_there_is_replaced_and_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let place = folder.path().join("place");
        fs::create_dir(&place).unwrap();
        let bytes = archive(&[
            (FOLDER, "d/", ""),
            (EntryType::Symlink, "d/l", kept.to_str().unwrap()),
            (FILE, "d/l", "new"),
            (EntryType::Fifo, "d/pipe", ""),
        ]);
        unpack(bytes.as_slice(), |_| Ok(place.clone())).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        assert_eq!(fs::read_to_string(place.join("l")).unwrap(), "new");
        assert!(!place.join("pipe").exists());
    }

    #[test]
    fn what_is_cut_off_or_garbage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = archive(&[(FILE, "f", &"x".repeat(5_000))]);
        for bytes in [&[][..], &bytes[..1_000], &[7; 2_000]] {
            let place = folder.path().join("place");
            unpack(bytes, |_| Ok(place.clone())).unwrap_err();
            assert!(!place.exists(), "a part of a file stays");
        }
    }
}
