//! The files of a container: a tree in memory that tar archives go into and come out of.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path};

use bytes::Bytes;
use gx_core::runtime::{ErrorCode, Result, RuntimeError};

/// A file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File { bytes: Bytes, mode: u32 },
}

/// All files by their full path without the leading `/`; the root itself is the empty path.
#[derive(Debug, Clone)]
pub(crate) struct Files(BTreeMap<String, Node>);

impl Files {
    /// Returns the tree every container begins with.
    pub(crate) fn new() -> Self {
        let folders = ["", "bin", "etc", "root", "tmp"];
        Self(folders.into_iter().map(|folder| (folder.to_owned(), Node::Folder)).collect())
    }

    /// Returns the content of a file.
    pub(crate) fn read(&self, path: &str) -> Option<Bytes> {
        match self.0.get(&key(path)?)? {
            Node::File { bytes, .. } => Some(bytes.clone()),
            Node::Folder => None,
        }
    }

    /// Writes a file in a folder that is there; returns whether it is.
    pub(crate) fn write(&mut self, path: &str, bytes: Bytes) -> bool {
        let Some(path) = key(path) else { return false };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if path.is_empty() || self.0.get(folder) != Some(&Node::Folder) {
            return false;
        }
        self.0.insert(path, Node::File { bytes, mode: 0o644 });
        true
    }

    /// Returns the bytes of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |node: &Node| if let Node::File { bytes, .. } = node { bytes.len() as u64 } else { 0 };
        self.0.values().map(size).sum()
    }

    /// Unpacks an archive below a folder: all of it, or nothing when it is damaged.
    pub(crate) fn unpack(&mut self, folder: &str, archive: &[u8]) -> Result<()> {
        let missing = || no_path(folder);
        let base = key(folder).ok_or_else(missing)?;
        if self.0.get(&base) != Some(&Node::Folder) {
            return Err(missing());
        }
        let unpacked = entries(archive).map_err(|why| {
            RuntimeError::new(ErrorCode::InvalidArgument, format!("the archive is damaged: {why}"))
        })?;
        for (name, node) in unpacked {
            let path = if base.is_empty() { name } else { format!("{base}/{name}") };
            for (end, _) in path.match_indices('/') {
                self.0.entry(path[..end].to_owned()).or_insert(Node::Folder);
            }
            self.0.insert(path, node);
        }
        Ok(())
    }

    /// Packs a file or a folder with all below it; the entries begin with the last part of the path.
    pub(crate) fn pack(&self, path: &str) -> Result<Vec<u8>> {
        let missing = || no_path(path);
        let top = key(path).ok_or_else(missing)?;
        if !self.0.contains_key(&top) {
            return Err(missing());
        }
        let cut = top.rfind('/').map_or(0, |slash| slash + 1);
        let below = format!("{top}/");
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.0 {
            let wanted = *path == top || top.is_empty() || path.starts_with(&below);
            if wanted && !path.is_empty() {
                append(&mut archive, &path[cut..], node)
                    .map_err(|error| RuntimeError::new(ErrorCode::Internal, error.to_string()))?;
            }
        }
        archive.into_inner().map_err(|error| RuntimeError::new(ErrorCode::Internal, error.to_string()))
    }
}

fn no_path(path: &str) -> RuntimeError {
    RuntimeError::new(ErrorCode::NotFound, format!("no file or folder {path}")).field("path")
}

/// Returns the path as the tree has it; `None` when it leaves the root.
fn key(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn entries(archive: &[u8]) -> std::io::Result<Vec<(String, Node)>> {
    let damaged = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    let mut found = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_str().and_then(key).ok_or_else(|| damaged("a path leaves the folder"))?;
        let node = if entry.header().entry_type().is_dir() {
            Node::Folder
        } else {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != entry.size() {
                return Err(damaged("it ends early"));
            }
            Node::File { bytes: bytes.into(), mode: entry.header().mode()? }
        };
        if !name.is_empty() {
            found.push((name, node));
        }
    }
    Ok(found)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, node: &Node) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    match node {
        Node::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, format!("{name}/"), &[][..])
        }
        Node::File { bytes, mode } => {
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, &bytes[..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut files = Files::new();
        assert!(files.write("/tmp/a", Bytes::from_static(b"hello")));
        assert!(!files.write("/missing/a", Bytes::new()));
        let archive = files.pack("/tmp").unwrap();
        let mut other = Files::new();
        other.unpack("/root", &archive).unwrap();
        assert_eq!(other.read("/root/tmp/a").unwrap(), "hello");
        assert!(!other.pack("/").unwrap().is_empty());
        assert_eq!(other.pack("/nope").unwrap_err().field.as_deref(), Some("path"));
    }

    #[test]
    fn a_damaged_archive_changes_nothing() {
        let mut files = Files::new();
        files.write("/tmp/a", Bytes::from_static(b"hello"));
        let archive = files.pack("/tmp").unwrap();
        let mut other = Files::new();
        assert_eq!(other.unpack("/root", &archive[..514]).unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(other.unpack("/root", &[7; 1024]).unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(other.unpack("/etc/none", &archive).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(other.bytes(), 0);
    }
}
