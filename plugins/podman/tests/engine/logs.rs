//! What a main process wrote.

use std::time::Duration;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};
use tokio::time::Instant;

use crate::support::{LIMIT, Made, podman, shell, streams, until};

fn follow() -> LogOptions {
    LogOptions { follow: true, ..LogOptions::default() }
}

#[tokio::test]
async fn output_and_error_are_apart_and_every_byte_is_kept() {
    let podman = podman!();
    let script = "echo out; echo err >&2; printf 'a\\r\\nb\\377\\n'; head -c 30000 /dev/zero | tr '\\0' x; printf '\\nno end'";
    let (made, _) = Made::ended(&podman, script).await;
    let (stdout, stderr) = made.raw_logs(LogOptions::default()).await;
    let expected = [&b"out\na\r\nb\xff\n"[..], &[b'x'; 30_000], b"\nno end"].concat();
    assert_eq!(stdout, expected);
    assert_eq!(stderr, b"err\n");
    assert_eq!(made.raw_logs(follow()).await.0, expected, "to follow what has ended ends too");
    assert_eq!(made.logs(LogOptions { tail: Some(1), ..LogOptions::default() }).await.0, "no end");
    assert_eq!(made.raw_logs(LogOptions { tail: Some(0), ..LogOptions::default() }).await, (vec![], vec![]));
}

#[tokio::test]
async fn a_part_is_chosen_by_lines_or_time() {
    let podman = podman!();
    let (made, _) = Made::ended(&podman, "for i in 1 2 3 4; do echo $i; sleep 0.2; done").await;
    let (stamped, _) = made.logs(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let lines: Vec<(Timestamp, &str)> = stamped
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(time, text)| (time.parse().unwrap(), text))
        .collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    let part = |since: Option<usize>, until: Option<usize>, tail| LogOptions {
        since: since.map(|n| lines[n].0),
        until: until.map(|n| lines[n].0),
        tail,
        ..LogOptions::default()
    };
    assert_eq!(
        made.logs(part(Some(1), None, None)).await.0,
        "2\n3\n4\n",
        "from a time on, the time itself too"
    );
    assert_eq!(made.logs(part(None, Some(3), None)).await.0, "1\n2\n3\n", "before a time");
    assert_eq!(made.logs(part(Some(1), Some(3), Some(1))).await.0, "3\n");
    assert_eq!(made.logs(part(None, None, Some(2))).await.0, "3\n4\n");
    let two = LogOptions { follow: true, ..part(None, Some(2), None) };
    assert_eq!(made.logs(two).await.0, "1\n2\n");
}

#[tokio::test]
async fn a_long_line_has_one_timestamp() {
    let podman = podman!();
    let (made, _) = Made::ended(&podman, "head -c 50000 /dev/zero | tr '\\0' x; echo; echo next").await;
    let (stdout, _) = made.logs(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with(&"x".repeat(50_000)) && lines[1].ends_with(" next"));
    assert_eq!(lines[0].matches(' ').count(), 1);
}

#[tokio::test]
async fn following_brings_lines_as_they_come_and_ends_with_the_process() {
    let podman = podman!();
    let script = "mkfifo /go; echo one; read x < /go; echo $x; exit 3";
    let made = Made::started(&podman, shell(script)).await;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (id, runtime) = (made.id.clone(), podman.clone());
    let logs = tokio::spawn(async move { runtime.logs(id, follow(), out).await });
    assert_eq!(&items.next().await.unwrap().bytes[..], b"one\n");
    made.exec("echo two > /go").await;
    assert_eq!(&items.next().await.unwrap().bytes[..], b"two\n");
    let begun = Instant::now();
    assert!(items.next().await.is_none());
    logs.await.unwrap().unwrap();
    assert!(begun.elapsed() < LIMIT);
}

#[tokio::test]
async fn following_ends_when_the_reader_or_the_container_goes() {
    let podman = podman!();
    let made = Made::started(&podman, shell("echo one; sleep 1000")).await;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (id, runtime) = (made.id.clone(), podman.clone());
    let logs = tokio::spawn(async move { runtime.logs(id, follow(), out).await });
    items.next().await.unwrap();
    drop(items);
    tokio::time::timeout(Duration::from_secs(5), logs).await.unwrap().unwrap().unwrap();
    let (followed, removed) = tokio::join!(made.logs(follow()), async {
        until("it is followed", || async { !made.logs(LogOptions::default()).await.0.is_empty() }).await;
        podman.remove(made.id.clone(), RemoveOptions { force: true }).await
    });
    removed.unwrap();
    assert_eq!(followed.0, "one\n");
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole_while_they_are_written() {
    let podman = podman!();
    let line = "0123456789".repeat(10);
    let made = Made::started(&podman, shell(&format!("yes {line} | head -n 1000000"))).await;
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let ((), length) =
        tokio::join!(async { podman.logs(made.id.clone(), follow(), out).await.unwrap() }, async {
            let mut items = items;
            let mut length = 0;
            while let Some(item) = items.next().await {
                length += item.bytes.len();
            }
            length
        });
    assert_eq!(length, 101_000_000);
    let (tail, _) = made.logs(LogOptions { tail: Some(3), ..LogOptions::default() }).await;
    assert_eq!(tail, format!("{line}\n").repeat(3));
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_the_reading() {
    let podman = podman!();
    let (made, _) = Made::ended(&podman, "yes | head -c 5000000").await;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (id, runtime) = (made.id.clone(), podman.clone());
    let mut logs = tokio::spawn(async move { runtime.logs(id, LogOptions::default(), out).await });
    items.next().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), &mut logs).await;
    assert!(early.is_err(), "5 MB do not fit the window");
    let (rest, _) = streams(items).await;
    assert!(rest.len() > 4_000_000);
    logs.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_terminal_has_one_stream_with_its_own_ends_of_line() {
    let podman = podman!();
    let mut spec = shell("echo out; echo err >&2; tty");
    spec.tty = true;
    let made = Made::started(&podman, spec).await;
    podman.wait(made.id.clone()).await.unwrap();
    let (stdout, stderr) = made.logs(LogOptions::default()).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\r\nerr\r\n/dev/pts/0\r\n", ""));
    let fresh = Made::created(&podman, shell("true")).await;
    assert_eq!(fresh.logs(follow()).await.0, "", "one that never ran has written nothing");
}
