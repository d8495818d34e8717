//! The context of a build: which Containerfile it has, known before the engine is asked.
//!
//! The engine wants the name first and the archive after. So the archive is read until the name is certain, into
//! a file without a name; the rest is passed on as it comes.

use std::fs::{File, OpenOptions};
use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use gx_core::stream::{Input, MAX_ITEM_BYTES};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::archive::bytes_of;

/// The name that is looked for first, and the one that is taken without it.
const PREFERRED: &str = "Containerfile";
const FALLBACK: &str = "Dockerfile";
const BLOCK: usize = 512;

/// Finds the Containerfile, and returns its name with the archive.
pub(crate) async fn choose(
    scratch: &Path,
    mut archive: Input,
) -> io::Result<(&'static str, impl Stream<Item = io::Result<Bytes>> + Send + use<>)> {
    let mut head = tokio::fs::File::from_std(nameless_file(scratch)?);
    let mut scan = Scan::default();
    while !scan.found
        && let Some(bytes) = archive.next_data().await
    {
        scan.push(&bytes);
        head.write_all(&bytes).await?;
    }
    head.flush().await?;
    head.seek(SeekFrom::Start(0)).await?;
    let name = if scan.found { PREFERRED } else { FALLBACK };
    Ok((name, bytes_of_file(head).chain(bytes_of(archive).map(Ok))))
}

fn nameless_file(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("build-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn bytes_of_file(file: tokio::fs::File) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold(file, |mut file| async move {
        let mut bytes = vec![0; MAX_ITEM_BYTES];
        match file.read(&mut bytes).await {
            Ok(0) => None,
            Ok(length) => {
                bytes.truncate(length);
                Some((Ok(bytes.into()), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    })
}

/// Looks through the headers of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
#[derive(Debug, Default)]
struct Scan {
    header: Vec<u8>,
    /// Bytes until the next header.
    skip: u64,
    found: bool,
}

impl Scan {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.found {
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.header.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            if self.header.len() == BLOCK {
                self.read_header();
                self.header.clear();
            }
        }
    }

    fn read_header(&mut self) {
        let size = size(&self.header[124..136]);
        self.skip = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX);
        let text = |field: &[u8]| field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let name = text(&self.header[..100]);
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        let prefixed = !text(&self.header[345..500]).is_empty() && self.header[257..].starts_with(b"ustar\0");
        let is_file = matches!(self.header[156], b'0' | b'1' | b'2' | 0); // a file, or a link to one
        self.found = is_file && !prefixed && name == PREFERRED.as_bytes();
    }
}

/// Octal digits, or with the first bit set a binary number (a GNU extension for large files).
fn size(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    let digits = field.iter().filter(|byte| matches!(byte, b'0'..=b'7'));
    digits.fold(0, |sum, digit| (sum << 3) | u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use gx_core::stream::{InputChunk, input};

    fn archive(files: &[(&str, usize)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, size) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(*size as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, vec![b'x'; *size].as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn found(archive: &[u8], piece: usize) -> bool {
        let mut scan = Scan::default();
        archive.chunks(piece).for_each(|bytes| scan.push(bytes));
        scan.found
    }

    #[test]
    fn a_containerfile_is_found_wherever_it_is() {
        let long = "a/".repeat(80);
        let with = archive(&[(&long, 0), ("Dockerfile", 1000), ("x", 512), ("Containerfile", 5)]);
        let without = archive(&[("Dockerfile", 3), ("sub/Containerfile", 3), ("Containerfile.old", 1)]);
        for piece in [1, 7, 512, 100_000] {
            assert!(found(&with, piece) && !found(&without, piece), "pieces of {piece}");
        }
        assert!(!found(&[b'x'; 5000], 600) && !found(b"", 1));
    }

    #[tokio::test]
    async fn the_archive_is_passed_on_whole() {
        for (first, name) in [("Containerfile", "Containerfile"), ("Dockerfile", "Dockerfile")] {
            let bytes = archive(&[(first, 10), ("big", 300_000)]);
            let (sender, reader) = input();
            let sent = bytes.clone();
            tokio::spawn(async move { sender.send(InputChunk::Data(sent.into())).await });
            let folder = tempfile::tempdir().unwrap();
            let (chosen, stream) = choose(folder.path(), reader).await.unwrap();
            let passed: Vec<Bytes> = stream.try_collect().await.unwrap();
            assert_eq!((chosen, passed.concat() == bytes), (name, true));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
