//! The output of a main process.

use std::time::Duration;

use gx_core::runtime::{LogOptions, StopOptions};
use gx_core::stream::{Kind, pipe};
use gx_core::{ContainerSpec, ErrorCode, Runtime, Timestamp};

use crate::support::*;

#[tokio::test]
async fn output_is_split_and_outlives_the_process() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, shell("echo out; echo err >&2; printf last")).await;
    let followed = made.logs(LogOptions { follow: true, ..LogOptions::default() }).await;
    assert_eq!(followed, ("out\nlast".to_owned(), "err\n".to_owned()));
    made.exit().await;
    for follow in [false, true] {
        assert_eq!(made.logs(LogOptions { follow, ..LogOptions::default() }).await, followed);
    }
    runtime.remove(made.id(), Default::default()).await.unwrap();
    let gone = runtime.logs(made.id(), LogOptions::default(), null()).await;
    assert_error(gone, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn a_container_that_never_ran_has_no_output() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    for follow in [false, true] {
        assert_eq!(made.logs(LogOptions { follow, ..LogOptions::default() }).await, Default::default());
    }
}

#[tokio::test]
async fn the_tail_is_of_lines() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, shell("seq 1 100")).await;
    made.exit().await;
    let tail = async |tail| made.logs(LogOptions { tail: Some(tail), ..LogOptions::default() }).await.0;
    assert_eq!(tail(2).await, "99\n100\n");
    assert_eq!(tail(0).await, "");
    assert_eq!(tail(1000).await.lines().count(), 100);
}

#[tokio::test]
async fn times_bound_the_output() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, shell("for i in 1 2 3; do echo $i; sleep 0.05; done")).await;
    made.exit().await;
    let (stamped, _) = made.logs(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let lines: Vec<_> = stamped.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["1", "2", "3"]);
    let second: Timestamp = lines[1].0.parse().unwrap();
    let since = made.logs(LogOptions { since: Some(second), ..LogOptions::default() }).await.0;
    let until = made.logs(LogOptions { until: Some(second), ..LogOptions::default() }).await.0;
    assert_eq!((since.as_str(), until.as_str()), ("2\n3\n", "1\n"));
}

#[tokio::test]
async fn a_long_line_has_one_time() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, shell("head -c 50000 /dev/zero | tr '\\0' x; echo; echo y")).await;
    made.exit().await;
    let (out, _) = made.logs(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let lines: Vec<_> = out.lines().map(|line| line.split_once(' ').unwrap().1.len()).collect();
    assert_eq!(lines, [50_000, 1]);
}

#[tokio::test]
async fn following_brings_each_line_as_it_comes() {
    let Some(runtime) = runtime().await else { return };
    let made =
        Made::run(&runtime, shell("echo one; trap 'echo two; exit' HUP; while :; do sleep 0.05; done")).await;
    let (out, mut items) = pipe(0);
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let following = tokio::spawn({
        let (runtime, id) = (made.runtime.clone(), made.id());
        async move { runtime.logs(id, follow, out).await }
    });
    assert_eq!(within(items.next()).await.unwrap().bytes, "one\n");
    until("it hears the signal", || async {
        let _ = runtime.signal(made.id(), "HUP".to_owned()).await; // before the trap is set it hears none
        made.logs(Default::default()).await.0 == "one\ntwo\n"
    })
    .await;
    assert_eq!(within(items.next()).await.unwrap().bytes, "two\n");
    assert_eq!(within(items.next()).await, None);
    within(following).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_call() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, spec(&["sleep", "100"])).await;
    let (out, items) = pipe(0);
    drop(items);
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    within(runtime.logs(made.id(), follow, out)).await.unwrap();
}

#[tokio::test]
async fn a_terminal_has_standard_output_only() {
    let Some(runtime) = runtime().await else { return };
    let line = "printf '\\001\\002\\003'; echo out; echo err >&2";
    let made = Made::run(&runtime, ContainerSpec { tty: true, ..shell(line) }).await;
    made.exit().await;
    let (out, err) = made.logs(LogOptions::default()).await;
    assert_eq!((out.as_str(), err.as_str()), ("\u{1}\u{2}\u{3}out\r\nerr\r\n", ""));
}

#[tokio::test]
async fn a_big_log_waits_for_its_reader() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, shell("head -c 10000000 /dev/zero | tr '\\0' x | fold -w 1000")).await;
    let (out, mut items) = pipe(0);
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let following = tokio::spawn({
        let (runtime, id) = (made.runtime.clone(), made.id());
        async move { runtime.logs(id, follow, out).await }
    });
    made.exit().await;
    assert!(!following.is_finished(), "it holds more than its window");
    let mut bytes = 0;
    while let Some(item) = within(items.next()).await {
        assert_eq!(item.kind, Kind::Stdout);
        bytes += item.bytes.iter().filter(|byte| **byte == b'x').count();
    }
    assert_eq!(bytes, 10_000_000);
    within(following).await.unwrap().unwrap();
    let options = StopOptions { grace_ms: Some(0), ..StopOptions::default() };
    tokio::time::timeout(Duration::from_secs(5), runtime.stop(made.id(), options)).await.unwrap().unwrap();
}
