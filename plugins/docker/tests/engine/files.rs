//! Copying in and out.

use std::io::Read;

use gx_core::runtime::RemoveOptions;
use gx_core::stream::{Input, InputChunk, Kind, input, pipe};
use gx_core::{ErrorCode, Runtime};

use crate::support::*;

async fn copied_out(made: &Made, path: &str) -> gx_core::runtime::Result<Vec<u8>> {
    let (out, mut items) = pipe(0);
    let bytes = async {
        let mut bytes = Vec::new();
        while let Some(item) = items.next().await {
            assert_eq!(item.kind, Kind::Stdout);
            bytes.extend(item.bytes);
        }
        bytes
    };
    let copy = made.runtime.copy_out(made.id(), path.to_owned(), out);
    let (done, bytes) = within(async { tokio::join!(copy, bytes) }).await;
    done.map(|()| bytes)
}

fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["sh", "-c", "cat /etc/gxt/a; sleep 100"])).await;
    let archive = archive(&[("gxt/a", b"hello\n"), ("gxt/b", &vec![7; 3 << 20])]);
    runtime.copy_in(made.id(), "/etc".to_owned(), fed(archive)).await.unwrap();
    let out = files(&copied_out(&made, "/etc/gxt").await.unwrap());
    let names: Vec<_> = out.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect();
    assert_eq!(names, [("gxt/", 0), ("gxt/a", 6), ("gxt/b", 3 << 20)]);
    runtime.start(made.id()).await.unwrap();
    until("it is read", || async { made.logs(Default::default()).await.0 == "hello\n" }).await;
    assert_eq!(
        files(&copied_out(&made, "/etc/gxt/a").await.unwrap()),
        [("a".to_owned(), b"hello\n".to_vec())]
    );
}

#[tokio::test]
async fn what_cannot_be_copied_is_said() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    let copy_in =
        async |path: &str, bytes: Vec<u8>| runtime.copy_in(made.id(), path.to_owned(), fed(bytes)).await;
    let good = archive(&[("a", &vec![1; 2 << 20])]);
    assert_error(copied_out(&made, "/gxt").await, ErrorCode::NotFound, Some("path"));
    assert_error(copy_in("/gxt", good.clone()).await, ErrorCode::NotFound, Some("path"));
    assert_error(copy_in("/bin/sh", good.clone()).await, ErrorCode::InvalidArgument, Some("path"));
    assert_error(copy_in("", good.clone()).await, ErrorCode::InvalidArgument, Some("path"));
    assert_error(copy_in("/", vec![b'x'; 5000]).await, ErrorCode::InvalidArgument, Some("archive"));
    assert_error(copy_in("/", good[..700_000].to_vec()).await, ErrorCode::InvalidArgument, Some("archive"));
    runtime.remove(made.id(), RemoveOptions::default()).await.unwrap();
    assert_error(copied_out(&made, "/bin").await, ErrorCode::NotFound, None);
    assert_error(copy_in("/", good).await, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn a_missing_folder_is_said_while_the_archive_still_comes() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    let (sender, reader) = input();
    let sending =
        tokio::spawn(
            async move { while sender.send(InputChunk::Data(vec![0; 1 << 16].into())).await.is_ok() {} },
        );
    let copied = within(runtime.copy_in(made.id(), "/gxt".to_owned(), reader)).await;
    assert_error(copied, ErrorCode::NotFound, Some("path"));
    within(sending).await.unwrap();
    runtime.copy_in(made.id(), "/".to_owned(), Input::empty()).await.unwrap();
}

// Threads: removing the container blocks this one, while the connection is still to be closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_the_copy() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    let big = archive(&[("gxt-big", &vec![9; 8 << 20])]);
    runtime.copy_in(made.id(), "/".to_owned(), fed(big)).await.unwrap();
    let (out, mut items) = pipe(0);
    let copy = runtime.copy_out(made.id(), "/gxt-big".to_owned(), out);
    let reader = async move { items.next().await };
    let (done, first) = within(async { tokio::join!(copy, reader) }).await;
    assert!(first.is_some());
    done.unwrap();
}
