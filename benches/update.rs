//! What an update of the table costs over real connections, with TLS, between servers in one process, and what the file
//! costs. What each line means: `benches/README.md`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints its results")]

#[path = "../peers/tests/net/fake.rs"]
#[expect(dead_code, reason = "what tests alone need")]
mod fake;

use std::sync::Arc;
use std::time::Instant;

use gx_core::peers::{PeerRecord, Source, TableLimits};
use gx_peers::Peers;
use serde_json::{Value, json};

use fake::{Fake, Manner, client, now, updated, verified};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut rows = file();
    rows.extend(runtime.block_on(updates()));
    for row in &rows {
        println!("{row}");
    }
    if let Some(at) = args.iter().position(|arg| arg == "--json") {
        let file = args.get(at + 1).expect("--json is followed by a file");
        std::fs::write(file, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    }
}

fn row(what: &str, unit: &str, found: f64, goal: Option<f64>) -> Value {
    json!({ "what": what, "unit": unit, "found": found, "goal": goal })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    (work(), begun.elapsed().as_secs_f64())
}

/// A hundred thousand records that are signed, written and read again.
fn file() -> Vec<Value> {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let limits = TableLimits { capacity: 100_000, ..TableLimits::default() };
    let open = || Peers::open(data.path(), &key, limits).unwrap().peers;
    let peers = open();
    // One key signs for all: who signed is not what is measured here, and making keys takes long.
    for number in 0..100_000_u32 {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let node = gx_core::NodeId::from_bytes(id);
        let [_, a, b, c] = number.to_be_bytes();
        let record = PeerRecord {
            addresses: vec![([11, a, b, c], 7_467).into()],
            cpus: 16,
            memory_bytes: 64 << 30,
            version: "0.1.0".to_owned(),
            platform: "linux/amd64".to_owned(),
            ..PeerRecord::new(node, 1, now(), PeerRecord::LEASE)
        };
        let record = record.sign(|_| [7; 64]).unwrap().verify(&|_, _, _| true, now()).unwrap();
        peers.change(|table| table.insert(record, Source::Own, now()).map(drop)).unwrap();
    }
    let (_, written) = timed(|| peers.save().unwrap());
    let bytes = std::fs::metadata(peers.file()).unwrap().len();
    let (again, read) = timed(open);
    assert_eq!(again.with(|table| table.len()), 100_000);
    vec![
        row("file of 100,000 records written, on the disk", "s", written, Some(1.0)),
        row("the same read, sealed by this node", "s", read, None),
        row("its size", "MB", bytes as f64 / 1e6, None),
    ]
}

/// Servers that know each other.
async fn network(count: usize) -> Vec<Fake> {
    let mut servers = Vec::with_capacity(count);
    for _ in 0..count {
        servers.push(Fake::start(Manner::Honest).await);
    }
    let records: Vec<_> =
        servers.iter().map(|server| verified(&fake::signed(&server.key, server.address))).collect();
    for server in &servers {
        for record in records.iter().filter(|record| record.node_id() != server.id()) {
            server.tells(record);
        }
    }
    servers
}

/// Updates the table of somebody who knows one of them, and returns how long that took.
async fn update(first: &Fake, known: usize, bad: &[Fake]) -> (f64, usize) {
    let data = tempfile::tempdir().unwrap();
    let peers: Arc<Peers> = client(data.path(), &[first.address]);
    for other in bad {
        let record = verified(&fake::signed(&other.key, other.address));
        peers.change(|table| table.insert(record, Source::Own, now()).map(drop)).unwrap();
    }
    let begun = Instant::now();
    let done = updated(&peers).await;
    peers.save().unwrap();
    let took = begun.elapsed().as_secs_f64();
    let live = peers.with(|table| {
        table.iter().filter(|(_, entry)| entry.observed().is_some_and(|seen| seen.failures == 0)).count()
    });
    assert!(live >= known, "{live} of {known}");
    (took, done.requests)
}

async fn median(first: &Fake, known: usize, bad: &[Fake]) -> (f64, usize) {
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(update(first, known, bad).await);
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all[2]
}

async fn updates() -> Vec<Value> {
    let mut rows = Vec::new();
    for count in [4, 8, 16, 32, 100, 1_000] {
        let servers = network(count).await;
        let goal = match count {
            32 => Some(0.7),
            1_000 => Some(10.0),
            _ => None,
        };
        let (took, requests) = median(&servers[0], count, &[]).await;
        rows.push(row(&format!("update: {count} servers, one known before"), "s", took, goal));
        rows.push(row(
            &format!("update: {count} servers, requests for tables"),
            "",
            requests as f64,
            Some(32.0),
        ));
    }
    let servers = network(31).await;
    let alone = median(&servers[0], 31, &[]).await.0;
    for (name, manner) in [
        ("silent", Manner::Silent),
        ("slow", Manner::Slow),
        ("saying garbage", Manner::Says(b"\xff\xfe".to_vec())),
        (
            "sending a million rows",
            Manner::Says(json!({ "ip_address": vec![json!({}); 1_000_000] }).to_string().into()),
        ),
    ] {
        let bad = [Fake::start(manner).await];
        let took = median(&servers[0], 31, &bad).await.0;
        rows.push(row(
            &format!("update: 31 servers and one {name}, longer by"),
            "s",
            took - alone,
            Some(3.2),
        ));
    }
    rows
}
