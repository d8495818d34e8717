//! What `cargo xtask bench chat` runs: crowds of readers, those who write to them, and what the chat is measured against.
//!
//! | | |
//! |---|---|
//! | `accounts ADDRESS NODE READERS` | gives users of `policy.toml` accounts by the key of the host itself; 25 readers share one |
//! | `memory` | serves the chat without its store until its input ends; prints where |
//! | `burst READERS MESSAGES ROUNDS KIND=ADDRESS=PID…` | sends messages to a crowd at each server in turn, as fast as all have them |
//! | `pace READERS EACH_SECOND SECONDS ROUNDS KIND=ADDRESS…` | sends at a steady rate to each server in turn, and times each delivery |
//! | `ingest ADDRESS MEMORY SENDERS SECONDS ROUNDS FILE` | senders who wait for each answer, of the chat and of one without its store, in turn with one commit a message in SQLite |
//! | `idle ADDRESS NODE DATA COUNT` | signs in so often and does nothing until its input ends; with TLS unless DATA is `-` |
//! | `store FOLDER ROWS` | fills a store, and times pages, searches and exports of it |
//!
//! KIND is `gx`, `memory`, `nats` or `irc`. Times are printed as JSON, in milliseconds.

#![expect(clippy::print_stdout, reason = "a program that a bench runs and reads")]

mod crowd;
mod dialect;
mod idle;
mod memory;
mod rows;
mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use gx_client::Client;
use gx_core::api::ChatUserRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use crowd::Crowd;
use dialect::{Dialect, OF_A_USER};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Those who write to a crowd.
const WRITERS: usize = 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let told = match words[..] {
        ["accounts", address, node, readers] => {
            return runtime()?.block_on(accounts(address, node, readers.parse()?));
        }
        // As `gx serve` has it: one thread for each CPU.
        ["memory"] => return tokio::runtime::Runtime::new()?.block_on(memory::serve()),
        ["idle", address, node, data, count] => {
            return runtime()?.block_on(idle::stay(address, node, data, count.parse()?));
        }
        ["burst", readers, messages, rounds, ref servers @ ..] => {
            let servers = servers.iter().map(|text| Server::parse(text)).collect::<Result<Vec<_>>>()?;
            burst(&servers, readers.parse()?, messages.parse()?, rounds.parse()?)?
        }
        ["pace", readers, each_second, seconds, rounds, ref servers @ ..] => {
            let servers = servers.iter().map(|text| Server::parse(text)).collect::<Result<Vec<_>>>()?;
            let pace = (each_second.parse()?, seconds.parse()?);
            steady(&servers, readers.parse()?, pace, rounds.parse()?)?
        }
        ["ingest", address, memory, senders, seconds, rounds, file] => {
            let chats = [address.parse()?, memory.parse()?];
            let time = Duration::from_secs_f64(seconds.parse()?);
            ingest(chats, senders.parse()?, time, rounds.parse()?, Path::new(file))?
        }
        ["store", folder, rows] => store::measure(Path::new(folder), rows.parse()?)?,
        _ => return Err("see the head of benches/chat/main.rs".into()),
    };
    println!("{told}");
    Ok(())
}

/// One CPU at most: the other is the server's.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A server that is measured.
struct Server {
    kind: String,
    dialect: Dialect,
    address: SocketAddr,
    pid: Option<u32>,
}

impl Server {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split('=');
        let (Some(kind), Some(address)) = (parts.next(), parts.next()) else {
            return Err(format!("{text} is not KIND=ADDRESS=PID").into());
        };
        let pid = parts.next().map(str::parse).transpose()?;
        Ok(Self { kind: kind.to_owned(), dialect: kind.parse()?, address: address.parse()?, pid })
    }

    fn crowd(&self, readers: usize) -> Result<Crowd> {
        Crowd::gather(self.dialect, self.address, readers, WRITERS)
            .map_err(|error| format!("{}: {error}", self.kind).into())
    }

    /// Returns the CPU time it has taken, in milliseconds: fields 14 and 15 of proc_pid_stat(5).
    fn cpu_ms(&self) -> Result<f64> {
        let Some(pid) = self.pid else { return Ok(f64::NAN) };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, rest) = stat.rsplit_once(')').ok_or("no such process")?;
        let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        Ok(ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64 * 1e3)
    }
}

async fn accounts(address: &str, node: &str, readers: usize) -> Result<()> {
    let client = Client::plain(&address.parse()?);
    let node = Some(node.parse()?);
    let readers = (1..=readers.div_ceil(OF_A_USER)).map(|number| format!("Reader{number}"));
    for user in readers.chain((1..=64).map(|number| format!("Writer{number}"))) {
        client.put_chat_user(&user, ChatUserRequest { node, ..ChatUserRequest::default() }).await?;
    }
    Ok(())
}

/// Sends bursts to a crowd at each server, in turn; the first round warms the caches.
fn burst(servers: &[Server], readers: usize, messages: u64, rounds: usize) -> Result<Value> {
    let mut crowds = servers.iter().map(|server| server.crowd(readers)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); servers.len()];
    for round in 0..=rounds {
        for turn in 0..servers.len() {
            let which = (round + turn) % servers.len();
            let server = &servers[which];
            crowds[which].keep_alive()?;
            let before = server.cpu_ms()?;
            let took = crowds[which].burst(messages).map_err(|error| format!("{}: {error}", server.kind))?;
            if round > 0 {
                times[which].0.push(took.as_secs_f64() * 1e3);
                times[which].1.push(server.cpu_ms()? - before);
            }
        }
    }
    Ok(by_kind(servers, times.iter().map(|(ms, cpu_ms)| json!({ "ms": ms, "cpu_ms": cpu_ms }))))
}

/// Sends at a steady rate to each server, in turn, and returns of each round the median and the p99 of all deliveries.
fn steady(servers: &[Server], readers: usize, pace: (u32, u32), rounds: usize) -> Result<Value> {
    let mut crowds = servers.iter().map(|server| server.crowd(readers)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); servers.len()];
    for round in 0..=rounds {
        for turn in 0..servers.len() {
            let which = (round + turn) % servers.len();
            crowds[which].keep_alive()?;
            let seconds = if round == 0 { 1 } else { pace.1 };
            let mut delays = crowds[which].steady(pace.0, seconds)?;
            if round > 0 {
                delays.sort_by(f64::total_cmp);
                times[which].0.push(rank(&delays, 50));
                times[which].1.push(rank(&delays, 99));
            }
        }
    }
    Ok(by_kind(servers, times.iter().map(|(half, most)| json!({ "p50_ms": half, "p99_ms": most }))))
}

/// Returns the value that so many percent are not above (nearest rank).
fn rank(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// Lets senders wait for each answer, in turn with rows that are committed one by one. Of the chats one is without its store.
fn ingest(
    chats: [SocketAddr; 2],
    senders: usize,
    time: Duration,
    rounds: usize,
    file: &Path,
) -> Result<Value> {
    let [mut chat, mut memory] = [
        Crowd::gather(Dialect::Gx, chats[0], 0, senders)?,
        Crowd::gather(Dialect::Gx, chats[1], 0, senders)?,
    ];
    let (mut same, mut plain) = (
        rows::Rows::create(&file.with_extension("same.db"), rows::Kind::Same)?,
        rows::Rows::create(file, rows::Kind::Plain)?,
    );
    let mut found = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        let rate = |crowd: &mut Crowd| {
            let began = Instant::now();
            crowd.ingest(time).map(|acked| acked as f64 / began.elapsed().as_secs_f64())
        };
        chat.keep_alive()?;
        memory.keep_alive()?;
        let rates = [
            rate(&mut chat)?,
            rate(&mut memory)?,
            same.commit_one_by_one(time)? as f64 / time.as_secs_f64(),
            plain.commit_one_by_one(time)? as f64 / time.as_secs_f64(),
        ];
        if round > 0 {
            found.iter_mut().zip(rates).for_each(|(all, rate)| all.push(rate));
        }
    }
    let [chat, memory, same, plain] = found;
    Ok(json!({ "gx_per_s": chat, "memory_per_s": memory, "same_per_s": same, "plain_per_s": plain }))
}

fn by_kind(servers: &[Server], found: impl Iterator<Item = Value>) -> Value {
    let kinds = servers.iter().map(|server| server.kind.clone());
    Value::Object(kinds.zip(found).collect::<Map<_, _>>())
}
