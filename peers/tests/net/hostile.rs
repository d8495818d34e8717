//! Servers that are not as they should be. They change neither what is known of the others nor the time by much.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gx_core::Timestamp;
use gx_core::peers::{Freshness, PeerRecord, Source};
use gx_identity::NodeKey;
use gx_peers::Peers;
use serde_json::json;

use crate::fake::{Fake, Manner, client, now, signed, updated, verified};

fn key() -> (tempfile::TempDir, NodeKey) {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    (data, key)
}

fn is_live(peers: &Peers, server: &Fake) -> bool {
    let day = Duration::from_secs(86_400);
    peers.with(|table| {
        let entry = table.get(server.id());
        entry.is_some_and(|entry| entry.observation().freshness(day, 7 * day, now()) == Freshness::Live)
    })
}

/// Three honest servers of which the first knows the others, and one that does this; it is known too.
async fn network(manner: Manner) -> (Vec<Fake>, Fake) {
    let mut honest = Vec::new();
    for _ in 0..3 {
        honest.push(Fake::start(Manner::Honest).await);
    }
    for other in &honest[1..] {
        honest[0].knows(other);
    }
    (honest, Fake::start(manner).await)
}

/// Updates a table that knows the first honest one and the bad one, and says how long it took.
async fn with(manner: Manner) -> (std::sync::Arc<Peers>, Vec<Fake>, Fake, Duration) {
    let (honest, bad) = network(manner).await;
    let data = tempfile::tempdir().unwrap();
    let peers = client(data.path(), &[honest[0].address]);
    // Its record came another way.
    let record = verified(&signed(&bad.key, bad.address));
    peers.change(|table| table.insert(record, Source::Peer(bad.address.ip()), now()).map(drop)).unwrap();
    let begun = Instant::now();
    updated(&peers).await;
    for server in &honest {
        assert!(is_live(&peers, server), "{} is known and was measured", server.address);
    }
    (peers, honest, bad, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_network_is_known_after_one_update() {
    let (peers, _, other, took) = with(Manner::Honest).await;
    assert_eq!(peers.with(|table| (table.len(), table.legacy().count())), (4, 0));
    assert!(is_live(&peers, &other));
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_wait_waits_and_learns_what_there_is() {
    let busy = Fake::start(Manner::busy_for(5)).await;
    let other = Fake::start(Manner::Honest).await;
    busy.knows(&other);
    let data = tempfile::tempdir().unwrap();
    let peers = client(data.path(), &[busy.address]);
    updated(&peers).await;
    assert!(is_live(&peers, &busy) && is_live(&peers, &other));

    // Who never has time is there, and holds up nobody.
    let busy = Fake::start(Manner::busy_for(u32::MAX)).await;
    let data = tempfile::tempdir().unwrap();
    let peers = client(data.path(), &[busy.address, other.address]);
    let begun = Instant::now();
    let done = updated(&peers).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(done.progress.answered, 2, "{done:?}");
    let seen =
        peers.with(|table| table.legacy().map(|(at, row)| (at, row.seen.failures)).collect::<Vec<_>>());
    assert_eq!(seen, [(busy.address, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_or_slow_holds_up_nobody_for_longer_than_a_connection_may_take() {
    for manner in [Manner::Silent, Manner::Slow, Manner::Promises(3), Manner::Promises(1 << 60)] {
        let (_, _, _, took) = with(manner).await;
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none_or_far_too_long_are_not_taken() {
    let row = json!({ "record": "{}", "signature": "A".repeat(86) });
    let many = json!({ "ip_address": vec![row.clone(); 600] }).to_string();
    let million = json!({ "ip_address": vec![json!({}); 1_000_000] }).to_string();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let bodies = [b"[]".to_vec(), b"\xff\xfe".to_vec(), Vec::new(), many.into_bytes(), million.into_bytes()];
    for manner in bodies.into_iter().map(Manner::Says).chain([Manner::SaysPacked(bomb)]) {
        let (peers, _, _, took) = with(manner).await;
        assert_eq!(peers.with(|table| table.len()), 4);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_taken_that_its_owner_has_not_signed_for_now() {
    let (_data, victim) = key();
    let at: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let good = signed(&victim, at);
    let (_other, thief) = key();
    let text = |change: &dyn Fn(&mut PeerRecord)| {
        let mut record = verified(&good).record();
        change(&mut record);
        serde_json::to_string(&record).unwrap()
    };
    let led_away = text(&|record| record.addresses = vec!["127.0.0.1:7".parse().unwrap()]);
    let by_thief = thief.sign(&[b"gx peer record 1\n", led_away.as_bytes()].concat());
    let of_time = |issued: i64, lease: u64| {
        let at_time = Timestamp::from_unix(now().unix() + issued);
        let record = PeerRecord::new(thief.id(), 1, at_time, Duration::from_secs(lease));
        PeerRecord { addresses: vec![at], ..record }.sign(|message| thief.sign(message)).unwrap()
    };
    let rows = json!([
        { "record": led_away, "signature": good.signature },
        { "record": led_away, "signature": gx_core::peers::Signature(by_thief) },
        of_time(-7_200, 3_600), // replayed after its end
        of_time(3_600, 3_600),  // by a clock that is an hour ahead
    ]);
    let (peers, _, bad, _) = with(Manner::Says(json!({ "ip_address": rows }).to_string().into_bytes())).await;
    assert_eq!(peers.with(|table| table.len()), 4, "three honest ones and the one that lies");
    assert!(is_live(&peers, &bad), "who tells lies of others is there all the same");

    // A clock that is five minutes ahead is one like many.
    let near = json!({ "ip_address": [of_time(300, 3_600)] }).to_string();
    let (peers, ..) = with(Manner::Says(near.into_bytes())).await;
    assert!(peers.with(|table| table.get(thief.id()).is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_claim_one_address_the_one_that_is_there_is_found_there() {
    let (honest, _) = network(Manner::Honest).await;
    let (_data, liar) = key();
    honest[0].tells(&verified(&signed(&liar, honest[1].address)));
    let data = tempfile::tempdir().unwrap();
    let peers = client(data.path(), &[honest[0].address]);
    updated(&peers).await;
    assert!(honest.iter().all(|server| is_live(&peers, server)));
    let failures = peers.with(|table| table.get(liar.id()).map(|entry| entry.observation().failures));
    assert_eq!(failures, Some(1), "its address is somebody else's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_measures_himself() {
    let (honest, _) = network(Manner::Honest).await;
    // The client is the second server: its own address comes back to it, with a key and without.
    let key = &honest[1].key;
    let data = tempfile::tempdir().unwrap();
    let hex = std::fs::read(honest[1].data().join("node.key")).unwrap();
    std::fs::write(data.path().join("node.key"), hex).unwrap();
    std::fs::set_permissions(
        data.path().join("node.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let peers = client(data.path(), &[honest[0].address, honest[1].address]);
    assert_eq!(peers.own(), key.id());
    updated(&peers).await;
    assert_eq!(peers.with(|table| table.legacy().count()), 0, "its own address is no server's");
    assert!(peers.with(|table| table.get(key.id()).is_none_or(|own| own.observed().is_none())));
    assert!(is_live(&peers, &honest[0]) && is_live(&peers, &honest[2]));
}
