//! Copies into and out of containers.

use std::collections::BTreeMap;
use std::io::Read;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, input, pipe};

use crate::support::{Made, fails, input_of, podman, shell, streams, tar_of};

async fn copied_out(made: &Made, path: &str) -> BTreeMap<String, Vec<u8>> {
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let (done, (archive, _)) =
        tokio::join!(made.podman.copy_out(made.id.clone(), path.to_owned(), out), streams(items));
    done.unwrap();
    let mut archive = tar::Archive::new(archive.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    entries.collect()
}

#[tokio::test]
async fn an_archive_is_unpacked_before_the_start_and_after() {
    let podman = podman!();
    let made = Made::created(&podman, shell("cat /secret; stat -c '%a %u %g' /secret; sleep 1000")).await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_uid(1_234);
    header.set_gid(5_678);
    builder.append_data(&mut header, "secret", &b"abc"[..]).unwrap();
    let archive = builder.into_inner().unwrap();
    podman.copy_in(made.id.clone(), "/".to_owned(), input_of(archive)).await.unwrap();
    podman.start(made.id.clone()).await.unwrap();
    let script = tar_of(&[("folder/run", b"#!/bin/sh\necho ran\n")]);
    podman.copy_in(made.id.clone(), "/bin".to_owned(), input_of(script)).await.unwrap();
    assert_eq!(made.exec("/bin/folder/run").await.1, "ran\n");
    assert_eq!(made.logs(LogOptions::default()).await.0, "abc600 1234 5678\n");
}

#[tokio::test]
async fn a_large_archive_goes_through_in_both_directions() {
    let podman = podman!();
    let made = Made::created(&podman, shell("sleep 1000")).await;
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 7) as u8).collect();
    let archive = tar_of(&[("large", &bytes)]);
    podman.copy_in(made.id.clone(), "/".to_owned(), input_of(archive)).await.unwrap();
    let copied = copied_out(&made, "/large").await;
    assert_eq!(copied.keys().collect::<Vec<_>>(), ["large"]);
    assert!(copied["large"] == bytes);
}

#[tokio::test]
async fn entries_begin_with_the_last_part_of_the_path() {
    let podman = podman!();
    let made =
        Made::started(&podman, shell("mkdir -p /a/b/c; echo x > /a/b/c/file; echo done; sleep 1000")).await;
    crate::support::until("it is written", || async { !made.logs(LogOptions::default()).await.0.is_empty() })
        .await;
    let names: Vec<_> = copied_out(&made, "/a/b")
        .await
        .into_keys()
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect();
    assert_eq!(names, ["b", "b/c", "b/c/file"]);
    assert_eq!(copied_out(&made, "/a/b/c/file").await, [("file".to_owned(), b"x\n".to_vec())].into());
}

#[tokio::test]
async fn paths_and_archives_that_are_no_good_are_told() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let good = || input_of(tar_of(&[("x", b"y")]));
    let into = |path: &str, archive| podman.copy_in(made.id.clone(), path.to_owned(), archive);
    fails(into("/no/such/folder", good()).await, ErrorCode::NotFound, Some("path"));
    assert_eq!(made.exec("ls /no").await.0.code, 1, "and it is not made");
    fails(into("/bin/busybox", good()).await, ErrorCode::InvalidArgument, Some("path"));
    let out = podman.copy_out(made.id.clone(), "/no/such".to_owned(), Output::null()).await;
    fails(out, ErrorCode::NotFound, Some("path"));
    let damaged = input_of(vec![7; 4_000]);
    let error = fails(into("/", damaged).await, ErrorCode::InvalidArgument, Some("archive"));
    assert!(error.backend.unwrap().len() < 500);
    let mut cut = tar_of(&[("x", &[1; 5_000])]);
    cut.truncate(3_000);
    fails(into("/bin", input_of(cut)).await, ErrorCode::InvalidArgument, Some("archive"));
}

#[tokio::test]
async fn a_copy_ends_when_its_reader_goes() {
    let podman = podman!();
    let made = Made::created(&podman, shell("sleep 1000")).await;
    let archive = tar_of(&[("large", &vec![1; 10_000_000])]);
    podman.copy_in(made.id.clone(), "/".to_owned(), input_of(archive)).await.unwrap();
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (done, ()) = tokio::join!(podman.copy_out(made.id.clone(), "/large".to_owned(), out), async move {
        items.next().await.unwrap();
        drop(items);
    });
    done.unwrap();
    let (_sender, never) = input();
    let copy = podman.copy_in(made.id.clone(), "/".to_owned(), never);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(100), copy).await.is_err(),
        "it waits for more"
    );
    assert_eq!(made.inspect().await.state, ContainerState::Created);
}
