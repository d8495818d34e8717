//! A plugin that breaks the rules of the boundary on purpose (`tests/faulty/raw.c`).

use std::process::Command;

use gx_core::runtime::LogOptions;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};

use super::*;

fn compiled(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let library = folder.join("raw.so");
    let made = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"])
        .arg("-I")
        .arg(root.join("examples/plugins/c"))
        .arg("-o")
        .arg(&library)
        .arg(root.join("tests/faulty/raw.c"))
        .output()
        .expect("cc is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

async fn raw(isolation: Isolation) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let plugin = load(checked(&compiled(folder.path()), isolation, folder.path())).await.unwrap();
    Loaded { runtime: Remote(plugin.clone()), plugin, folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_completion_counts_and_those_of_others_calls_do_not() {
    for isolation in BOTH {
        let raw = raw(isolation).await;
        for _ in 0..100 {
            assert_eq!(raw.inspect("twice").await.unwrap().name, "first");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_not_taken() {
    for isolation in BOTH {
        let raw = raw(isolation).await;
        let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let session = raw.plugin.session().await.unwrap();
        let plugin = raw.plugin.clone();
        let logs =
            tokio::spawn(async move { Remote(plugin).logs(id("flood"), LogOptions::default(), out).await });
        // Nobody reads, and all of it has been sent: what is kept fits into the two windows on the way.
        until(|| session.calls.flooded() > 1_000 && session.calls.under_way() == 0).await;
        let (ended, taken) = within(async { tokio::join!(logs, count(items)) }).await;
        assert!(ended.unwrap().is_err());
        assert!(taken <= 2 * DEFAULT_WINDOW_BYTES / 65_536, "{taken}");
    }
}

async fn count(mut items: gx_core::stream::Items) -> usize {
    let mut count = 0;
    while items.next().await.is_some() {
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_an_error_and_does_no_harm() {
    for isolation in BOTH {
        let raw = raw(isolation).await;
        for (way, code, message) in [
            ("nonsense", ErrorCode::Internal, "the answer of the plugin faulty to inspect cannot be read"),
            ("status", ErrorCode::Internal, "the plugin faulty failed in inspect: it answered 99"),
            (
                "error",
                ErrorCode::Internal,
                "the plugin faulty failed in inspect, and its error cannot be read",
            ),
            ("large", ErrorCode::ResourceExhausted, "inspect of the plugin faulty is larger than 16 MiB"),
        ] {
            let error = raw.inspect(way).await.unwrap_err();
            assert_eq!(error.code, code, "{way}");
            assert!(error.message.starts_with(message), "{way}: {error}");
            assert!(!error.backend.unwrap_or_default().contains('\u{1b}'), "{way}");
        }
        assert_eq!(raw.inspect("plain").await.unwrap().name, "first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frames_end_the_child() {
    let raw = raw(Isolation::Process).await;
    let error = raw.inspect("frames").await.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("plugin"));
    assert_eq!(raw.inspect("plain").await.unwrap().name, "first");
    let why = raw.plugin.status().last_error.unwrap();
    assert_eq!(why, "its process killed: a frame of 4294967295 bytes is beyond the cap of 16 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_never_completed_is_found_out() {
    let (here, child) = (raw(Isolation::Inline).await, raw(Isolation::Process).await);
    for raw in [&here, &child] {
        assert!(tokio::time::timeout(Duration::from_millis(20), raw.inspect("silent")).await.is_err());
    }
    here.until(PluginState::Hung).await;
    until(|| child.plugin.status().restarts == 1).await;
    assert_eq!(child.inspect("plain").await.unwrap().name, "first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_does_not_return_is_found_out() {
    let (here, child) = (raw(Isolation::Inline).await, raw(Isolation::Process).await);
    // Here it takes the thread that calls, which is why plugins of others run in a child.
    let runtime = Remote(here.plugin.clone());
    std::thread::spawn(move || futures_poll_once(runtime));
    here.until(PluginState::Hung).await;
    assert_eq!(here.inspect("plain").await.unwrap_err().code, ErrorCode::Unavailable);
    assert!(tokio::time::timeout(Duration::from_millis(20), child.inspect("hang")).await.is_err());
    until(|| child.plugin.status().restarts == 1).await;
    assert_eq!(child.inspect("plain").await.unwrap().name, "first");
}

fn futures_poll_once(runtime: Remote) {
    let mut call = runtime.inspect(id("hang"));
    let _ = call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_makes_no_instance_is_refused() {
    for isolation in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut checked = checked(&compiled(folder.path()), isolation, folder.path());
        checked.name = "no-instance".parse().unwrap();
        let error = load(checked).await.err().unwrap();
        assert_eq!(error.to_string(), "it could not be made: it reported an error");
    }
}
