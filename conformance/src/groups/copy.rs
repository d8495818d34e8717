//! Archives into and out of a container.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use gx_core::runtime::{LogOptions, Result as Answer};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Input, InputChunk, Output, input, pipe};
use gx_core::{ContainerId, ErrorCode};

use super::lifecycle::missing;
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{argv, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("copy/into a created one", "an archive is unpacked before the first start", [Copy], into_created),
    case!("copy/into a running one", "an archive is unpacked while it runs", [Copy], into_running),
    case!("copy/out of a running one", "what the container wrote comes out", [Copy], out_of_running),
    case!(
        "copy/out of an ended one",
        "what the container wrote comes out after its end",
        [Copy],
        out_of_ended
    ),
    case!("copy/folder", "entries begin with the last part of the path, with their modes", [Copy], folder),
    case!("copy/large file", "16 MiB go in and come out unchanged", [Copy], large),
    case!("copy/missing path", "NotFound with field path", [Copy], missing_path),
    case!("copy/missing container", "NotFound", [Copy], missing_container),
    case!("copy/damaged archive", "InvalidArgument when the archive is damaged", [Copy], damaged),
    case!(
        "copy/reader gone",
        "when the reader is gone the method returns soon, with Ok",
        [Copy],
        reader_gone
    ),
];

/// Returns an archive with these files.
pub(super) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        archive.append_data(&mut header, name, *bytes).expect("memory takes everything");
    }
    archive.into_inner().expect("memory takes everything")
}

/// Returns an input with these bytes and then its end.
pub(super) fn input_of(bytes: Vec<u8>) -> Input {
    let (sender, input) = input();
    tokio::spawn(async move { sender.send(InputChunk::Data(Bytes::from(bytes))).await });
    input
}

async fn copy_in(t: &Trial, id: &ContainerId, path: &str, bytes: Vec<u8>) -> Verdict<Answer<()>> {
    soon("copy_in", 2 * SOON, t.runtime.copy_in(id.clone(), path.into(), input_of(bytes))).await
}

/// Returns the entries of what comes out, by name: mode, and content of files.
async fn copy_out(t: &Trial, id: &ContainerId, path: &str) -> Verdict<BTreeMap<String, (u32, Vec<u8>)>> {
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(item) = items.next().await {
            bytes.extend_from_slice(&item.bytes);
        }
        bytes
    };
    let call = t.runtime.copy_out(id.clone(), path.into(), out);
    let (ended, bytes) = soon("copy_out", 2 * SOON, async { tokio::join!(call, reading) }).await?;
    ended.of("copy_out")?;
    entries(&bytes).map_err(|error| Failure::new(format!("what comes out is no archive: {error}")))
}

fn entries(bytes: &[u8]) -> std::io::Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_end_matches('/').to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        found.insert(name, (entry.header().mode()? & 0o777, content));
    }
    Ok(found)
}

async fn into_created(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(argv(&["cat", "/etc/gx-a"]))).await?;
    copy_in(&t, &id, "/etc", archive(&[("gx-a", 0o644, b"before the start\n")])).await?.of("copy_in")?;
    t.start(&id).await?;
    let exit = t.wait(&id).await?;
    same("the exit code", exit.code, 0)?;
    same("the output", t.logs(&id, LogOptions::default()).await?.stdout.as_str(), "before the start\n")
}

async fn into_running(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let files = archive(&[("gx-d/", 0o755, b""), ("gx-d/b", 0o600, b"inside")]);
    copy_in(&t, &id, "/etc", files).await?.of("copy_in")?;
    let out = copy_out(&t, &id, "/etc/gx-d/b").await?;
    same("what comes out", out, [("b".into(), (0o600, b"inside".to_vec()))].into())
}

async fn out_of_running(t: Arc<Trial>) -> Verdict {
    let id = t.running(sh("echo hello > /etc/gx-c; echo ready; sleep 3600")).await?;
    t.until_said(&id, "ready").await?;
    let out = copy_out(&t, &id, "/etc/gx-c").await?;
    same("what comes out", out.get("gx-c").map(|(_, bytes)| &bytes[..]), Some(&b"hello\n"[..]))
}

async fn out_of_ended(t: Arc<Trial>) -> Verdict {
    let (id, _) = t.ended(t.spec(sh("echo hello > /etc/gx-c"))).await?;
    let out = copy_out(&t, &id, "/etc/gx-c").await?;
    same("what comes out", out.get("gx-c").map(|(_, bytes)| &bytes[..]), Some(&b"hello\n"[..]))
}

async fn folder(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let files: &[(&str, u32, &[u8])] = &[
        ("gx-d/", 0o755, b""),
        ("gx-d/one", 0o755, b"1"),
        ("gx-d/sub/", 0o755, b""),
        ("gx-d/sub/two", 0o600, b"22"),
    ];
    copy_in(&t, &id, "/etc", archive(files)).await?.of("copy_in")?;
    for path in ["/etc/gx-d", "/etc/gx-d/"] {
        let out = copy_out(&t, &id, path).await?;
        let expected = files
            .iter()
            .map(|(name, mode, bytes)| (name.trim_end_matches('/').to_owned(), (*mode, bytes.to_vec())));
        same(&format!("what comes out of {path}"), out, expected.collect())?;
    }
    Ok(())
}

async fn large(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let bytes: Vec<u8> =
        (0..16_u32 << 20).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    copy_in(&t, &id, "/etc", archive(&[("gx-large", 0o644, &bytes)])).await?.of("copy_in")?;
    let mut out = copy_out(&t, &id, "/etc/gx-large").await?;
    let back = out.remove("gx-large").map(|(_, bytes)| bytes).unwrap_or_default();
    same("the length", back.len(), bytes.len())?;
    check!(back == bytes, "the bytes are others");
    Ok(())
}

async fn missing_path(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let called = copy_in(&t, &id, "/gx-no-such-folder", archive(&[("a", 0o644, b"a")])).await?;
    refused("copy_in", called, ErrorCode::NotFound, Some("path"))?;
    let called =
        soon("copy_out", SOON, t.runtime.copy_out(id, "/gx-no-such-file".into(), Output::null())).await?;
    refused("copy_out", called, ErrorCode::NotFound, Some("path"))
}

async fn missing_container(t: Arc<Trial>) -> Verdict {
    let called = copy_in(&t, &missing(), "/etc", archive(&[("a", 0o644, b"a")])).await?;
    refused("copy_in", called, ErrorCode::NotFound, None)?;
    let called = soon("copy_out", SOON, t.runtime.copy_out(missing(), "/etc".into(), Output::null())).await?;
    refused("copy_out", called, ErrorCode::NotFound, None)
}

async fn damaged(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let whole = archive(&[("gx-whole", 0o644, &[b'x'; 5000])]);
    let cut = whole[..2000].to_vec();
    for (what, bytes) in [("a cut archive", cut), ("no archive at all", vec![7; 4096])] {
        let called = copy_in(&t, &id, "/etc", bytes).await?;
        refused(&format!("copy_in of {what}"), called, ErrorCode::InvalidArgument, None)?;
    }
    copy_in(&t, &id, "/etc", whole).await?.of("copy_in of a good one after it")
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let bytes = vec![b'x'; 4 << 20];
    copy_in(&t, &id, "/etc", archive(&[("gx-large", 0o644, &bytes)])).await?.of("copy_in")?;
    let (out, items) = pipe(0);
    drop(items);
    let called = t.runtime.copy_out(id, "/etc/gx-large".into(), out);
    soon("copy_out without a reader", SOON, called).await?.of("copy_out")
}
