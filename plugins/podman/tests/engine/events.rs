//! Events and statistics.

use std::time::{Duration, SystemTime};

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Items, pipe};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Made, podman, shell, until};

async fn next<T: serde::de::DeserializeOwned>(items: &mut Items) -> T {
    let item = tokio::time::timeout(crate::support::LIMIT, items.next()).await.unwrap().unwrap();
    assert_eq!(item.kind, Kind::Event);
    serde_json::from_slice(&item.bytes).unwrap()
}

async fn history(items: &mut Items, id: &ContainerId) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    while all.last().is_none_or(|event| event.action != EventAction::Remove) {
        let event: Event = next(items).await;
        if event.id == *id {
            all.push(event);
        }
    }
    all
}

#[tokio::test]
async fn a_life_is_told_in_order_now_and_later() {
    let podman = podman!();
    let before = Timestamp::from(SystemTime::now());
    let (out, mut live) = pipe(DEFAULT_WINDOW_BYTES);
    let runtime = podman.clone();
    let watching = tokio::spawn(async move { runtime.events(None, out).await });
    // "From now on" begins once the engine listens, which nothing tells; so lives are lived until one is seen.
    let mut spec = shell("exit 7");
    spec.labels.insert("gx.owner".to_owned(), "me".to_owned());
    let probe = Made::ended(&podman, "true").await;
    drop(probe);
    let made = Made::started(&podman, spec).await;
    podman.wait(made.id.clone()).await.unwrap();
    let id = made.id.clone();
    drop(made);
    let expected = [EventAction::Create, EventAction::Start, EventAction::Exit, EventAction::Remove];
    let seen = history(&mut live, &id).await;
    assert_eq!(seen.iter().map(|event| event.action).collect::<Vec<_>>(), expected);
    assert_eq!(seen[2].exit_code, Some(7));
    assert!(seen.iter().all(|event| event.labels["gx.owner"] == "me"), "{seen:?}");
    assert!(seen.iter().all(|event| !event.labels.contains_key("image")), "{seen:?}");
    assert!(seen.is_sorted_by_key(|event| event.at) && seen[0].at >= before);
    drop(live);
    tokio::time::timeout(Duration::from_secs(5), watching).await.unwrap().unwrap().unwrap();

    let (out, mut again) = pipe(DEFAULT_WINDOW_BYTES);
    let (runtime, start) = (podman.clone(), seen[1].at);
    tokio::spawn(async move { runtime.events(Some(start), out).await });
    assert_eq!(history(&mut again, &id).await, seen[1..], "from a time on, the time itself too");
}

#[tokio::test]
async fn a_forced_removal_tells_the_exit_first() {
    let podman = podman!();
    let before = Timestamp::from(SystemTime::now());
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let id = made.id.clone();
    drop(made);
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    tokio::spawn(async move { podman.events(Some(before), out).await });
    let actions: Vec<_> = history(&mut items, &id).await.into_iter().map(|event| event.action).collect();
    assert_eq!(actions, [EventAction::Create, EventAction::Start, EventAction::Exit, EventAction::Remove]);
}

#[tokio::test]
async fn figures_come_once_or_until_the_end() {
    let podman = podman!();
    if !podman.capabilities().await.unwrap().has(Feature::Stats) {
        return;
    }
    let mut spec = shell("while :; do :; done");
    spec.resources.memory_bytes = Some(64 << 20);
    let made = Made::started(&podman, spec).await;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    podman.stats(made.id.clone(), 0, out).await.unwrap();
    let once: Stats = next(&mut items).await;
    assert!(items.next().await.is_none());
    assert_eq!((once.cpu_milli, once.memory_limit_bytes), (None, Some(64 << 20)));
    assert!(once.pids >= 1 && once.memory_bytes > 0 && once.read_at.is_some(), "{once:?}");

    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (runtime, id) = (podman.clone(), made.id.clone());
    let stats = tokio::spawn(async move { runtime.stats(id, 200, out).await });
    let first: Stats = next(&mut items).await;
    let mut second: Stats = next(&mut items).await;
    for _ in 0..20 {
        if second.cpu_milli.unwrap() > 50 {
            break;
        }
        second = next(&mut items).await;
    }
    assert!(second.cpu_ns > first.cpu_ns && second.cpu_milli.unwrap() > 50, "{second:?}");
    podman.signal(made.id.clone(), "KILL".to_owned()).await.unwrap();
    until("the figures end", || async { stats.is_finished() }).await;
    stats.await.unwrap().unwrap();
}

#[tokio::test]
async fn traffic_in_is_told_from_traffic_out() {
    let podman = podman!();
    if !podman.capabilities().await.unwrap().has(Feature::Stats) {
        return;
    }
    let mut spec = shell("mkdir /www; head -c 1000000 /dev/zero > /www/x; exec httpd -f -p 80 -h /www");
    spec.ports = vec![PortRequest {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_port: None,
        host_address: Some("127.0.0.1".parse().unwrap()),
    }];
    let made = Made::started(&podman, spec).await;
    let port = made.inspect().await.ports[0].host_port;
    until("a published port leads to the container", || async move {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
        let mut answer = Vec::new();
        let asked = stream.write_all(b"GET /x HTTP/1.0\r\n\r\n").await;
        asked.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.len() > 1_000_000
    })
    .await;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    podman.stats(made.id.clone(), 0, out).await.unwrap();
    let stats: Stats = next(&mut items).await;
    assert!(stats.network_out_bytes > 1_000_000 && stats.network_in_bytes < 500_000, "{stats:?}");
}
