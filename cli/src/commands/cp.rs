//! `gx cp`: files into a container and out of it, with the rules of `docker cp` for what exists already.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use gx_core::ErrorCode;
use gx_core::stream::{InputSender, input, pipe};
use serde::Serialize;

use super::Context;
use crate::archive::{self, InputWriter, ItemsReader, Unpacked, Wanted};
use crate::error::{CliError, Result};
use crate::output::{Show, View, human};
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  gx cp web:/etc/nginx/nginx.conf .
  gx cp site/. web:/srv             what is in the folder, not the folder itself
  gx cp web:/var/log - | tar t      as a tar archive
  gx cp - web:/srv < site.tar

A folder is copied into a folder that exists, else under the new name. A local name with a colon is written ./a:b.";

/// What `gx cp` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CpArgs {
    /// What to copy: ID:PATH in a container, a path here, or `-` for a tar archive on standard input
    #[arg(value_name = "SRC")]
    pub source: Place,
    /// Where to: ID:PATH in a container, a path here, or `-` for a tar archive on standard output
    #[arg(value_name = "DST")]
    pub destination: Place,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path in a container.
    Container {
        /// Its id or name.
        id: String,
        /// The path, from its root.
        path: String,
    },
    /// A path here.
    Here(PathBuf),
    /// A tar archive on standard input or output.
    Stdio,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdio);
        }
        match text.split_once(':') {
            Some((id, path)) if !id.is_empty() && !id.contains('/') && !id.starts_with('.') => match path {
                "" => Err(format!("{text:?} names no path: {id}:/ is the root of the container")),
                // Paths in a container count from its root, as with `docker cp`.
                path => Ok(Self::Container {
                    id: id.to_owned(),
                    path: format!("/{}", path.trim_start_matches('/')),
                }),
            },
            _ if text.is_empty() => Err("an empty path".to_owned()),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container { id, path } => write!(f, "{id}:{path}"),
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::Stdio => f.write_str("-"),
        }
    }
}

pub(crate) async fn run(args: CpArgs, context: &Context<'_>) -> Result {
    let target = context.target().await?;
    match (args.source, args.destination) {
        (Place::Container { id, path }, Place::Stdio) => archive_to_stdout(target, &id, &path, context).await,
        (Place::Container { id, path }, Place::Here(to)) => {
            let done = copy_out(target, &id, path, to).await?;
            context.out.show(&Copied { copied: done })
        }
        (Place::Stdio, Place::Container { id, path }) => send(target, &id, &path, copy_stdin).await,
        (Place::Here(from), Place::Container { id, path }) => copy_in(target, from, &id, &path).await,
        (Place::Container { .. }, Place::Container { .. }) => {
            Err(CliError::usage("gx cp does not copy from container to container")
                .hint("gx cp A:/PATH - | gx cp - B:/FOLDER"))
        }
        (Place::Here(_) | Place::Stdio, Place::Here(_) | Place::Stdio) => {
            Err(CliError::usage("neither side is a container").hint("one side is written ID:PATH"))
        }
    }
}

async fn archive_to_stdout(target: &Target, id: &str, path: &str, context: &Context<'_>) -> Result {
    if context.out.to_terminal() {
        return Err(CliError::usage("a tar archive is not for a terminal").hint("gx cp ID:PATH - > FILE"));
    }
    let (output, mut items) = pipe(0);
    let write = async {
        while let Some(item) = items.next().await {
            context.out.raw_stdout(&item.bytes).await?;
        }
        drop(items);
        Ok(())
    };
    let (read, written): (_, Result) = tokio::join!(target.copy_out(id, path, output), write);
    written?;
    read.map_err(|error| no_path(error, id, path))
}

async fn copy_out(target: &Target, id: &str, path: String, to: PathBuf) -> Result<Unpacked> {
    let (output, items) = pipe(0);
    let reader = ItemsReader::new(items);
    let name = last_part(&path).map(str::to_owned);
    let shown = to.display().to_string();
    let unpacked = tokio::task::spawn_blocking(move || {
        archive::unpack(reader, |is_folder| place_here(&to, name.as_deref(), is_folder))
    });
    let read = target.copy_out(id, &path, output).await;
    let unpacked = unpacked.await.map_err(|panic| CliError::bug(&panic.to_string()))?;
    // What was cut off is a consequence of what ended it.
    read.map_err(|error| no_path(error, id, &path))?;
    unpacked.map_err(|error| CliError::io(format!("cannot copy to {shown}"), &error))
}

/// Returns where a file or folder of this name goes; without a name its content goes into the destination.
fn place_here(to: &Path, name: Option<&str>, is_folder: bool) -> io::Result<PathBuf> {
    let says_folder = to.as_os_str().as_encoded_bytes().ends_with(b"/");
    match (std::fs::metadata(to), name) {
        (Ok(there), Some(name)) if there.is_dir() => Ok(to.join(name)),
        (Ok(there), _) if there.is_dir() == is_folder => Ok(to.to_owned()),
        (Ok(_), _) => Err(io::Error::other("a folder cannot take the place of a file")),
        (Err(_), _) if says_folder && !is_folder => Err(io::Error::other("there is no such folder")),
        (Err(_), _) => Ok(to.to_owned()),
    }
}

async fn copy_in(target: &Target, from: PathBuf, id: &str, path: &str) -> Result {
    let source = LocalSource::open(from)?;
    let there = kind_of(target, id, path).await?;
    let (folder, name) = place_there(path, there, &source)?;
    send(target, id, &folder, move |sender| source.send(sender, &name)).await
}

/// What is at a path in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Folder,
    File,
    Nothing,
}

// The first entry of the archive tells; the rest of it is not read.
async fn kind_of(target: &Target, id: &str, path: &str) -> Result<There> {
    let first = first_kind(target, id, path).await?;
    match first {
        // A link to a folder takes files as the folder does.
        Some(kind) if kind.is_symlink() => {
            let behind = first_kind(target, id, &format!("{}/.", path.trim_end_matches('/'))).await;
            Ok(if matches!(behind, Ok(Some(kind)) if kind.is_dir()) { There::Folder } else { There::File })
        }
        Some(kind) if kind.is_dir() => Ok(There::Folder),
        Some(_) => Ok(There::File),
        None => Ok(There::Nothing),
    }
}

async fn first_kind(target: &Target, id: &str, path: &str) -> Result<Option<tar::EntryType>> {
    let (output, items) = pipe(0);
    let reader = ItemsReader::new(items);
    let first = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(reader);
        let first = archive.entries()?.next();
        Ok::<_, io::Error>(first.transpose()?.map(|entry| entry.header().entry_type()))
    });
    let read = target.copy_out(id, path, output).await;
    let first = first.await.map_err(|panic| CliError::bug(&panic.to_string()))?;
    match read {
        Err(error) if is_path(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => first.map_err(|error| CliError::io(format!("cannot look at {id}:{path}"), &error)),
    }
}

/// Returns the folder in the container that the archive is unpacked in, and what its first entry is called there;
/// nothing when only the content of a folder goes.
fn place_there(path: &str, there: There, source: &LocalSource) -> Result<(String, PathBuf)> {
    let path_of_parent = || {
        let trimmed = path.trim_end_matches('/').trim_end_matches("/.");
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        (if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }, PathBuf::from(name))
    };
    match there {
        There::Folder if source.content_only => Ok((path.to_owned(), PathBuf::new())),
        There::Folder => Ok((path.to_owned(), source.name.clone())),
        There::File if source.is_folder => {
            Err(CliError::failed(format!("{path} is a file, and a folder cannot take its place")))
        }
        There::Nothing if path.ends_with('/') && !source.is_folder => {
            Err(CliError::failed(format!("there is no folder {path} in the container"))
                .hint("without the last '/' the file gets that name"))
        }
        There::File | There::Nothing => Ok(path_of_parent()),
    }
}

/// A file or folder here.
#[derive(Debug)]
struct LocalSource {
    path: PathBuf,
    name: PathBuf,
    is_folder: bool,
    /// It was written `FOLDER/.`.
    content_only: bool,
}

impl LocalSource {
    fn open(path: PathBuf) -> Result<Self> {
        let fail = |error: io::Error| CliError::io(format!("cannot read {}", path.display()), &error);
        let bytes = path.as_os_str().as_encoded_bytes();
        let content_only = bytes == b"." || bytes.ends_with(b"/.");
        // A link is copied as a link, unless a '/' behind it asks for what it leads to.
        let metadata = match bytes.ends_with(b"/") || content_only {
            true => std::fs::metadata(&path),
            false => std::fs::symlink_metadata(&path),
        };
        let is_folder = metadata.map_err(fail)?.is_dir();
        let name = match path.file_name() {
            Some(name) => PathBuf::from(name),
            None => path.canonicalize().map_err(fail)?.file_name().map(PathBuf::from).unwrap_or_default(),
        };
        Ok(Self { path, name, is_folder, content_only })
    }

    fn send(self, sender: InputSender, name: &Path) -> io::Result<()> {
        let mut archive = tar::Builder::new(InputWriter::buffered(sender));
        let path = if self.is_folder { self.path.canonicalize()? } else { self.path };
        archive::pack(&mut archive, &path, name, &|_, _| Wanted::Yes)?;
        archive.into_inner()?.flush()
    }
}

/// Sends an archive, which `write` writes on a thread that may block.
async fn send(
    target: &Target,
    id: &str,
    folder: &str,
    write: impl FnOnce(InputSender) -> io::Result<()> + Send + 'static,
) -> Result {
    let (sender, given) = input();
    let written = tokio::task::spawn_blocking(move || write(sender));
    let copied = target.copy_in(id, folder, given).await;
    match written.await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::io("cannot read what is to be copied", &error))
        }
        _ => copied.map_err(|error| match is_path(&error) {
            true => no_path(error, id, folder).hint(format!("gx exec {id} -- mkdir -p {folder} makes it")),
            false => error,
        }),
    }
}

/// Returns whether a path in the container is to blame.
fn is_path(error: &CliError) -> bool {
    error.code == Some(ErrorCode::NotFound) && error.field.as_deref() == Some("path")
}

/// Names the place as the user did.
fn no_path(mut error: CliError, id: &str, path: &str) -> CliError {
    if is_path(&error) {
        error.message = format!("there is no {path} in {id}");
    }
    error
}

fn copy_stdin(sender: InputSender) -> io::Result<()> {
    let mut writer = InputWriter::buffered(sender);
    io::copy(&mut io::stdin().lock(), &mut writer)?;
    writer.flush()
}

/// Returns the last part of a path in a container, or nothing where its content is meant.
fn last_part(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next();
    name.filter(|name| !matches!(*name, "" | "." | ".."))
}

#[derive(Serialize)]
struct Copied {
    copied: Unpacked,
}

impl Show for Copied {
    fn text(&self, _: &View) -> String {
        let Unpacked { files, bytes } = self.copied;
        format!("{files} file{}, {}\n", if files == 1 { "" } else { "s" }, human::bytes(bytes))
    }

    fn ids(&self, _: &View) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_as_with_docker() {
        let container = |id: &str, path: &str| Place::Container { id: id.into(), path: path.into() };
        for (text, place) in [
            ("web:/srv/x", container("web", "/srv/x")),
            ("web:srv", container("web", "/srv")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/a:b", Place::Here("/a:b".into())),
            ("a/b:c", Place::Here("a/b:c".into())),
            ("a", Place::Here("a".into())),
            ("-", Place::Stdio),
        ] {
            assert_eq!(text.parse::<Place>().unwrap(), place, "{text}");
        }
        assert!("web:".parse::<Place>().is_err() && "".parse::<Place>().is_err());
    }

    #[test]
    fn where_things_go_there() {
        let source = |is_folder, content_only| LocalSource {
            path: "x/d".into(),
            name: "d".into(),
            is_folder,
            content_only,
        };
        let place = |path, there, source| place_there(path, there, &source).ok();
        let at = |folder: &str, name: &str| Some((folder.to_owned(), PathBuf::from(name)));
        assert_eq!(place("/srv", There::Folder, source(false, false)), at("/srv", "d"));
        assert_eq!(place("/srv/new", There::Nothing, source(false, false)), at("/srv", "new"));
        assert_eq!(place("/new", There::Nothing, source(true, false)), at("/", "new"));
        assert_eq!(place("/new/", There::Nothing, source(true, true)), at("/", "new"));
        assert_eq!(place("/new/", There::Nothing, source(false, false)), None);
        assert_eq!(place("/srv", There::Folder, source(true, true)), at("/srv", ""));
        assert_eq!(place("/file", There::File, source(true, false)), None);
        assert_eq!(place("/file", There::File, source(false, false)), at("/", "file"));
    }

    #[test]
    fn where_things_go_here() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let new = folder.path().join("new");
        assert_eq!(place_here(folder.path(), Some("x"), false).unwrap(), folder.path().join("x"));
        assert_eq!(place_here(folder.path(), None, true).unwrap(), folder.path());
        assert_eq!(place_here(&new, Some("x"), true).unwrap(), new);
        assert_eq!(place_here(&file, Some("x"), false).unwrap(), file);
        assert!(place_here(&file, Some("x"), true).is_err());
        assert!(place_here(&folder.path().join("new/"), Some("x"), false).is_err());
        assert_eq!((last_part("/a/b/"), last_part("/a/."), last_part("/")), (Some("b"), None, None));
    }
}
