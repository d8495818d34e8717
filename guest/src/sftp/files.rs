//! What requests do to files.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use super::attributes::{Attributes, line};
use super::wire::{LONGEST, PIECE, Reply, What};

/// So many files a client may have open.
const HANDLES: usize = 1000;
/// So many names are told at once.
const NAMES: usize = 100;

/// The files a client has open, by number.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: Vec<Option<Open>>,
}

#[derive(Debug)]
enum Open {
    File(File),
    /// The first two are the folder itself and the one above.
    Folder {
        path: PathBuf,
        dots: u8,
        entries: fs::ReadDir,
    },
}

impl Files {
    /// Does what a request says.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn perform(&mut self, what: What<'_>) -> io::Result<Reply> {
        match what {
            What::Open { path, flags, attributes } => self.open(path, flags, attributes),
            What::Close { handle } => self.close(handle),
            What::Read { handle, offset, length } => self.read(handle, offset, length),
            What::Write { handle, offset, data } => {
                self.file(handle)?.write_all_at(data, offset)?;
                Ok(Reply::DONE)
            }
            What::Stat { path } => Ok(Reply::Attributes(Attributes::of(&fs::metadata(path)?))),
            What::LinkStat { path } => Ok(Reply::Attributes(Attributes::of(&fs::symlink_metadata(path)?))),
            What::HandleStat { handle } => {
                Ok(Reply::Attributes(Attributes::of(&self.file(handle)?.metadata()?)))
            }
            What::SetHandleStat { handle, attributes } => set_open(self.file(handle)?, attributes),
            What::OpenFolder { path } => {
                let entries = fs::read_dir(path)?;
                self.keep(Open::Folder { path: path.to_owned(), dots: 0, entries })
            }
            What::ReadFolder { handle } => self.read_folder(handle),
            What::Sync { handle } => {
                self.file(handle)?.sync_all()?;
                Ok(Reply::DONE)
            }
            What::Limits => {
                let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
                Ok(Reply::Numbers(vec![number(LONGEST), number(PIECE), number(PIECE), number(HANDLES)]))
            }
            other => by_path(other),
        }
    }

    fn open(&mut self, path: &Path, flags: u32, attributes: Attributes) -> io::Result<Reply> {
        const READ: u32 = 1;
        const WRITE: u32 = 2;
        const APPEND: u32 = 4;
        const CREATE: u32 = 8;
        const TRUNCATE: u32 = 16;
        const EXCLUSIVE: u32 = 32;
        let has = |flag| flags & flag != 0;
        let writes = has(WRITE) || has(APPEND);
        let mut options = OpenOptions::new();
        options.read(has(READ)).mode(attributes.mode.unwrap_or(0o666) & 0o7777);
        if has(APPEND) {
            options.append(true);
        } else {
            options.write(writes).truncate(has(TRUNCATE) && writes);
        }
        options.create(has(CREATE) && writes && !has(EXCLUSIVE));
        options.create_new(has(CREATE) && writes && has(EXCLUSIVE));
        // A pipe without a reader must not stop the whole session.
        let file = options.custom_flags(libc::O_NOCTTY).open(path)?;
        self.keep(Open::File(file))
    }

    fn keep(&mut self, open: Open) -> io::Result<Reply> {
        let free = self.open.iter().position(Option::is_none);
        let at = free.unwrap_or(self.open.len());
        if at >= HANDLES {
            return Err(io::Error::other("too many open files"));
        }
        match free {
            Some(at) => self.open[at] = Some(open),
            None => self.open.push(Some(open)),
        }
        Ok(Reply::Handle(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    fn close(&mut self, handle: &[u8]) -> io::Result<Reply> {
        *self.slot(handle)? = None;
        Ok(Reply::DONE)
    }

    fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> io::Result<Reply> {
        let mut data = vec![0; usize::try_from(length).unwrap_or(PIECE).min(PIECE)];
        let count = self.file(handle)?.read_at(&mut data, offset)?;
        data.truncate(count);
        Ok(if data.is_empty() { Reply::END } else { Reply::Data(data) })
    }

    fn read_folder(&mut self, handle: &[u8]) -> io::Result<Reply> {
        let Some(Open::Folder { path, dots, entries }) = self.slot(handle)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let mut names = Vec::new();
        while *dots < 2 {
            let name = if *dots == 0 { "." } else { ".." };
            names.extend(named(OsStr::new(name), fs::symlink_metadata(path.join(name))));
            *dots += 1;
        }
        while names.len() < NAMES
            && let Some(entry) = entries.next()
        {
            let entry = entry?;
            names.extend(named(&entry.file_name(), entry.metadata()));
        }
        Ok(if names.is_empty() { Reply::END } else { Reply::Names(names) })
    }

    fn file(&mut self, handle: &[u8]) -> io::Result<&File> {
        match self.slot(handle)? {
            Some(Open::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn slot(&mut self, handle: &[u8]) -> io::Result<&mut Option<Open>> {
        let number =
            handle.try_into().map(u32::from_be_bytes).ok().and_then(|number| usize::try_from(number).ok());
        let slot = number.and_then(|number| self.open.get_mut(number)).filter(|slot| slot.is_some());
        slot.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Does what needs no open file.
fn by_path(what: What<'_>) -> io::Result<Reply> {
    match what {
        What::SetStat { path, attributes } => set(path, attributes, AtFlags::empty())?,
        What::SetLinkStat { path, attributes } => set(path, attributes, AtFlags::SYMLINK_NOFOLLOW)?,
        What::Remove { path } => fs::remove_file(path)?,
        What::MakeFolder { path, attributes } => {
            fs::DirBuilder::new().mode(attributes.mode.unwrap_or(0o777) & 0o7777).create(path)?;
        }
        What::RemoveFolder { path } => fs::remove_dir(path)?,
        What::Rename { from, to } => rename(from, to)?,
        What::Replace { from, to } => fs::rename(from, to)?,
        What::Symlink { target, path } => std::os::unix::fs::symlink(target, path)?,
        What::Hardlink { from, to } => fs::hard_link(from, to)?,
        What::RealPath { path } => return Ok(alone(real(path)?)),
        What::ReadLink { path } => return Ok(alone(fs::read_link(path)?)),
        What::Space { path } => return space(path),
        _ => return Ok(Reply::UNSUPPORTED),
    }
    Ok(Reply::DONE)
}

fn named(name: &OsStr, file: io::Result<Metadata>) -> Option<(Vec<u8>, String, Attributes)> {
    // Gone since it was listed.
    let file = file.ok()?;
    Some((name.as_bytes().to_vec(), line(&name.to_string_lossy(), &file), Attributes::of(&file)))
}

fn alone(path: PathBuf) -> Reply {
    let text = path.to_string_lossy().into_owned();
    Reply::Names(vec![(path.into_os_string().into_vec(), text, Attributes::default())])
}

/// Returns the whole path of a file; of one that is not there the path as it would be.
fn real(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut whole = PathBuf::new();
    for component in std::env::current_dir()?.join(path).components() {
        match component {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    Ok(whole)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system knows how.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        renamed => Ok(renamed?),
    }
}

fn set(path: &Path, attributes: Attributes, follow: AtFlags) -> io::Result<()> {
    if let Some(size) = attributes.size {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = attributes.mode.filter(|_| follow.is_empty()) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = attributes.times {
        rustix::fs::utimensat(CWD, path, &timestamps(times), follow)?;
    }
    if let Some((uid, gid)) = attributes.owner {
        match follow.is_empty() {
            true => std::os::unix::fs::chown(path, Some(uid), Some(gid))?,
            false => std::os::unix::fs::lchown(path, Some(uid), Some(gid))?,
        }
    }
    Ok(())
}

fn set_open(file: &File, attributes: Attributes) -> io::Result<Reply> {
    if let Some(size) = attributes.size {
        file.set_len(size)?;
    }
    if let Some(mode) = attributes.mode {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = attributes.times {
        rustix::fs::futimens(file, &timestamps(times))?;
    }
    if let Some((uid, gid)) = attributes.owner {
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    Ok(Reply::DONE)
}

fn timestamps((read, changed): (u32, u32)) -> Timestamps {
    let time = |second: u32| Timespec { tv_sec: second.into(), tv_nsec: 0 };
    Timestamps { last_access: time(read), last_modification: time(changed) }
}

/// The eleven fields of OpenSSH's PROTOCOL, section 4.4.
fn space(path: &Path) -> io::Result<Reply> {
    let space = rustix::fs::statvfs(path)?;
    Ok(Reply::Numbers(vec![
        space.f_bsize,
        space.f_frsize,
        space.f_blocks,
        space.f_bfree,
        space.f_bavail,
        space.f_files,
        space.f_ffree,
        space.f_favail,
        space.f_fsid,
        space.f_flag.bits() & 3,
        space.f_namemax,
    ]))
}
