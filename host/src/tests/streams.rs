//! What flows beside calls: windows, slow and vanished readers, floods, input.

use gx_core::runtime::{ExecSpec, ListFilter, LogOptions, list_all};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, InputChunk, Kind, MAX_ITEM_BYTES, input, pipe};

use super::*;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_come_whole_and_memory_stays_in_the_window() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let before = resident_bytes();
        let logs = loaded.runtime.logs(id("100000000"), LogOptions::default(), out);
        let read = async {
            let (mut bytes, mut most) = (0, 0);
            while let Some(item) = items.next().await {
                bytes += item.bytes.len();
                most = most.max(resident_bytes().saturating_sub(before));
            }
            (bytes, most)
        };
        let (ended, (bytes, most)) = within(async { tokio::join!(logs, read) }).await;
        ended.unwrap();
        assert_eq!(bytes, 100_000_000);
        assert!(most < 40_000_000, "{most} bytes more"); // other tests run beside this one
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_stops_the_plugin() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let plugin = loaded.plugin.clone();
        let logs =
            tokio::spawn(async move { Remote(plugin).logs(id("endless"), LogOptions::default(), out).await });
        items.next().await.unwrap();
        // The plugin still answers others while this stream stands still.
        loaded.works().await;
        let mut bytes = 0;
        for _ in 0..1_000 {
            bytes += within(items.next()).await.unwrap().bytes.len();
        }
        assert_eq!(bytes, 1_000 * MAX_ITEM_BYTES);
        drop(items);
        within(logs).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_stream_keeps_what_was_written_before() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let error = within(loaded.runtime.logs(id("panic"), LogOptions::default(), out)).await.unwrap_err();
        assert!(error.message.contains("asked to panic in a stream"), "{error}");
        assert_eq!(items.next().await.unwrap().bytes.len(), MAX_ITEM_BYTES);
        assert!(items.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_containers_are_listed() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let labels = [("count".to_owned(), Some("200".to_owned()))].into();
        let listed =
            within(list_all(&loaded.runtime, ListFilter { labels, ..ListFilter::default() })).await.unwrap();
        assert_eq!(listed.len(), 200);
        assert_eq!(listed[199].id, id("c199"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_goes_through_within_its_window_and_comes_back() {
    const TOTAL: usize = 20_000_000;
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let (sender, chunks) = input();
        let exec = loaded.runtime.exec(id("a"), ExecSpec::default(), chunks, out);
        let write = async move {
            sender.send(InputChunk::Resize { columns: 80, rows: 25 }).await.unwrap();
            sender.send(InputChunk::Data(vec![9; TOTAL].into())).await.unwrap();
        };
        let read = async {
            let (mut bytes, mut size) = (0, Vec::new());
            while let Some(item) = items.next().await {
                match item.kind {
                    Kind::Stdout => bytes += item.bytes.len(),
                    _ => size.extend_from_slice(&item.bytes),
                }
            }
            (bytes, size)
        };
        let (exit, (), (bytes, size)) = within(async { tokio::join!(exec, write, read) }).await;
        assert_eq!(exit.unwrap().code, 43);
        assert_eq!((bytes, size.as_slice()), (TOTAL, &b"80x25"[..]));
    }
}
