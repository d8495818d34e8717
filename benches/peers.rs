//! What the table of servers costs: merging, memory, ranking, text, and ten thousand servers exchanging theirs. What each
//! line means: `benches/README.md`.
#![expect(clippy::print_stdout, reason = "it is a program that prints its results")]

#[path = "../core/tests/peers/network.rs"]
#[expect(dead_code, reason = "real tables are for the tests: ten thousand of them do not fit")]
mod network;
#[path = "../core/tests/peers/sketch.rs"]
mod sketch;
#[path = "../core/tests/peers/world.rs"]
mod world;

use std::time::Instant;

use gx_core::Timestamp;
use gx_core::measurement::Millis;
use gx_core::peers::exchange::Chance;
use gx_core::peers::{Needs, PeerTable, Source, TableLimits, VerifiedRecord, rank};

use network::Simulation;
use sketch::{Catalogue, Sketch};
use world::{START, address, population, signed, verify};

/// A figure beside the one to hold; `None` where there is none.
struct Row {
    what: &'static str,
    unit: &'static str,
    found: f64,
    goal: Option<f64>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut rows = tables();
    rows.extend(simulation(10_000));
    for Row { what, unit, found, goal } in &rows {
        let goal = goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal}"));
        println!("{what}: {found:.3} {unit} ({goal})");
    }
    if let Some(at) = args.iter().position(|arg| arg == "--json") {
        let file = args.get(at + 1).expect("--json is followed by a file");
        std::fs::write(file, json(&rows)).expect("the file can be written");
    }
}

fn row(what: &'static str, unit: &'static str, found: f64, goal: Option<f64>) -> Row {
    Row { what, unit, found, goal }
}

fn now() -> Timestamp {
    Timestamp::from_unix(START)
}

fn limits(capacity: usize) -> TableLimits {
    TableLimits { capacity, ..TableLimits::default() }
}

/// Returns the table and how long it took: each of a hundred networks brings its part.
fn merged(records: &[VerifiedRecord], capacity: usize) -> (PeerTable, f64) {
    let mut table = PeerTable::new(limits(capacity), None);
    let begun = Instant::now();
    for (part, records) in records.chunks(records.len().div_ceil(100)).enumerate() {
        table.merge(records.iter().cloned(), Source::Peer(address(part * 4)), now());
    }
    (table, begun.elapsed().as_secs_f64())
}

fn tables() -> Vec<Row> {
    // Before there is anything large: what an allocator gives back later would be counted against it.
    let small = ten_thousand();
    let many = population(100_000, 1);
    let mut merges: Vec<f64> = (0..5).map(|_| merged(&many, 100_000).1).collect();
    merges.sort_unstable_by(f64::total_cmp);
    let full = merged(&many, 10_000).1;
    let (mut table, _) = merged(&many, 100_000);
    let mut rows = vec![
        row("merge of 100,000 records that are verified", "s", merges[2], Some(1.0)),
        row("the same into a table of 10,000", "s", full, Some(1.0)),
        row("check of one record, all but ed25519", "µs", check_one(&many[..2_000]), None),
        row("digest of 100,000, all buckets", "ms", timed(|| drop(table.digest())) * 1e3, None),
    ];
    let begun = Instant::now();
    let text = table.to_text();
    rows.push(row("text of 100,000", "s", begun.elapsed().as_secs_f64(), Some(1.0)));
    let begun = Instant::now();
    let mut again = PeerTable::new(limits(100_000), None);
    let read = again.read_own(&text, &|_, _, _| true, now()).expect("it was just written");
    assert_eq!(read.keyed.new, 100_000, "{:?}", read.skipped.first());
    rows.push(row("the same read, without ed25519", "s", begun.elapsed().as_secs_f64(), None));
    drop((table, again, text, many));
    rows.extend(small);
    rows
}

fn ten_thousand() -> Vec<Row> {
    let before = resident_bytes();
    let (mut table, _) = merged(&population(10_000, 2), 10_000);
    let nodes: Vec<_> = table.iter().map(|(node, _)| node).collect();
    for (at, node) in nodes.into_iter().enumerate() {
        table.observe(node, |seen| seen.answered(Some(Millis(at as f64 / 50.0)), now()));
    }
    let memory = (resident_bytes() - before) / 1e6;
    let needs: Needs = "gpu>=1 memory>=8G runtime=podman".parse().expect("needs");
    let ranking = timed(|| drop(rank(table.candidates(now()), &needs)));
    vec![
        row("memory of 10,000 records, each measured", "MB", memory, Some(16.0)),
        row("the best of 10,000 for a need, with reasons", "ms", ranking * 1e3, None),
    ]
}

/// Returns what one record takes to be read and checked, with a signature that costs nothing.
fn check_one(records: &[VerifiedRecord]) -> f64 {
    let signed: Vec<_> = records.iter().map(|record| signed(&record.record())).collect();
    assert!(signed[0].verify(&verify, now()).is_ok());
    let all = timed(|| signed.iter().for_each(|record| drop(record.verify(&|_, _, _| true, now()))));
    all / records.len() as f64 * 1e6
}

fn timed(run: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    run();
    begun.elapsed().as_secs_f64()
}

/// Returns what of this process is in memory: field 2 of proc_pid_statm(5), in pages.
fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a Linux with /proc");
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).expect("a number");
    pages * 4_096.0
}

/// From three known servers each until 99 % are known on average.
fn simulation(count: usize) -> Vec<Row> {
    let catalogue = Catalogue::new(&population(count, 3));
    let mut servers: Vec<Sketch> = (0..count).map(|number| Sketch::new(&catalogue, number)).collect();
    let mut chance = Chance::new(3);
    for server in &mut servers {
        (0..3).for_each(|_| server.learn(chance.below(count)));
    }
    let mut simulation = Simulation::new(servers, (0..count).map(address).collect(), 3);
    let all: Vec<usize> = (0..count).collect();
    let begun = Instant::now();
    let mut rounds = 0.0;
    while simulation.known(&all, |server| server.part()).0 < 0.99 && rounds < 20.0 {
        simulation.round();
        rounds += 1.0;
    }
    let figures = simulation.figures();
    vec![
        row("10,000 servers: rounds until 99 % are known", "", rounds, Some(8.0)),
        row("10,000 servers: requests of one", "", figures.requests, Some(30.0)),
        row("10,000 servers: the most requests of one", "", figures.most_requests as f64, Some(32.0)),
        row("10,000 servers: bodies of one", "MB", figures.bytes / 1e6, Some(3.0)),
        row("10,000 servers: the simulation took", "s", begun.elapsed().as_secs_f64(), None),
    ]
}

fn json(rows: &[Row]) -> String {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| serde_json::json!({ "what": row.what, "unit": row.unit, "found": row.found, "goal": row.goal }))
        .collect();
    serde_json::to_string_pretty(&rows).expect("rows are JSON") + "\n"
}
