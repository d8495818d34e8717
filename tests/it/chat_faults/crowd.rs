//! A crowd: everybody gets everything, and what a connection takes stays small.

use std::future::pending;
use std::time::Duration;

use gx_chat::Seq;
use gx_chat::frames::{ClientFrame, Message, ServerFrame};
use gx_client::{ChatSocket, Client};
use gx_core::NodeId;
use gx_identity::NodeKey;
use tokio::task::JoinSet;

use super::{
    AGAIN, CLIENTS, PATIENCE, WRITERS, accounts, catch_up, history, next, number, sign_in, surroundings,
};
use crate::support::{Host, Surroundings};

/// Connections of the crowd of one user, and of one node.
const OF_ONE: u64 = 25;
const OF_A_NODE: u64 = 1_000;
/// What each of 16 of them sends.
const EACH: u64 = 10;
/// How often they do.
const ROUNDS: u64 = 8;
/// How long one waits at most before the next try, as `gx chat` does.
const LONGEST: Duration = Duration::from_secs(5);

/// A host, and the keys of nodes that have a thousand connections each.
struct Crowd {
    there: Surroundings,
    host: Host,
    keys: Vec<(tempfile::TempDir, NodeKey)>,
    size: u64,
}

impl Crowd {
    async fn new() -> Self {
        raise_limit_of_files();
        let size = number(CLIENTS, 1_000);
        let keys: Vec<(tempfile::TempDir, NodeKey)> = (0..size.div_ceil(OF_A_NODE)).map(|_| key()).collect();
        let nodes: Vec<NodeId> = keys.iter().map(|(_, key)| key.id()).collect();
        let there = surroundings(&nodes);
        let host = there.serve();
        let owner = host.client();
        for (number, node) in (0_u64..).zip(&nodes) {
            let first = number * OF_A_NODE / OF_ONE + 1;
            accounts(&owner, Some(*node), first..first + OF_A_NODE / OF_ONE).await;
        }
        Self { there, host, keys, size }
    }

    /// Returns a client for each connection, with its user and its device.
    fn members(&self) -> Vec<(Client, u64, String)> {
        let clients: Vec<Client> = self.keys.iter().map(|(_, key)| self.host.client_of(key)).collect();
        let of = |number: u64| {
            let client = clients[(number / OF_A_NODE) as usize].clone();
            (client, number / OF_ONE + 1, format!("d{number}"))
        };
        (0..self.size).map(of).collect()
    }

    async fn connect(&self) -> Vec<ChatSocket> {
        let mut sockets = Vec::new();
        for (client, user, device) in self.members() {
            // Who asks more often than a host answers one node is told to wait.
            let until = tokio::time::Instant::now() + PATIENCE;
            let socket = loop {
                match sign_in(&client, user, &device).await {
                    Ok((socket, _)) => break socket,
                    Err(why) if tokio::time::Instant::now() > until => panic!("there is no room: {why}"),
                    Err(_) => drop(tokio::time::timeout(AGAIN, pending::<()>()).await),
                }
            };
            sockets.push(socket);
        }
        sockets
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_miss_nothing() {
    let crowd = Crowd::new().await;
    let (host, size) = (&crowd.host, crowd.size);
    let before = resident_kib(host.pid());
    let readers = crowd.connect().await;
    let connected = resident_kib(host.pid());
    let mut readers = readers.into_iter().map(|socket| (socket, Vec::new())).collect();
    let mut half = connected;
    for round in 1..=ROUNDS {
        readers = talk(readers, round).await;
        if round == ROUNDS / 2 {
            half = resident_kib(host.pid());
        }
    }
    let after = resident_kib(host.pid());
    assert_eq!(readers.len() as u64, size);
    let each = connected.saturating_sub(before) / size;
    println!(
        "{each} KiB each; {connected} KiB before the messages, {half} after half of them, {after} after all"
    );
    assert!(each < 40, "an idle connection takes {each} KiB");
    assert!(
        half < connected + size * 64,
        "{connected} KiB before the messages, {half} KiB after half of them"
    );
    // Once queues and buffers have grown, messages leave nothing behind: the later ones alone are 64 KiB of text for each.
    assert!(after < half + size * 32, "{half} KiB after half of the messages, {after} KiB after all");
}

/// Who reads, with what they have seen.
type Reader = (ChatSocket, Vec<Message>);

/// Lets some send, and everybody wait until they have seen it all.
async fn talk(readers: Vec<Reader>, round: u64) -> Vec<Reader> {
    let total = WRITERS * EACH * round;
    let mut talking = JoinSet::new();
    for (number, (mut socket, mut seen)) in readers.into_iter().enumerate() {
        let texts = (0..EACH).map(|n| ClientFrame::Send {
            cid: format!("{number}-{round}-{n}"),
            g: "g".to_owned(),
            text: "x".repeat(100),
        });
        let texts: Vec<String> = match (number as u64) < WRITERS {
            true => texts.map(|frame| frame.to_text()).collect(),
            false => Vec::new(),
        };
        talking.spawn(async move {
            socket.send(texts).await.expect("the server is there");
            while (seen.len() as u64) < total {
                match next(&mut socket).await.expect("the server is there") {
                    ServerFrame::Msgs { m, .. } => {
                        let last = seen.last().map_or(Seq::ZERO, |message: &Message| message.seq);
                        seen.extend(m.into_iter().filter(|message| message.seq > last));
                    }
                    ServerFrame::Lag { .. } => {
                        catch_up(&mut socket, &mut seen).await.expect("the server is there");
                    }
                    ServerFrame::Nack { code, msg, .. } => panic!("refused: {code:?} {msg}"),
                    _ => {}
                }
            }
            let numbers = seen.iter().map(|message| message.seq.get());
            assert!(numbers.eq(1..=total), "nothing is missing, and nothing comes twice");
            (socket, seen)
        });
    }
    let mut done = Vec::new();
    while let Some(reader) = talking.join_next().await {
        done.push(reader.expect("everybody has all messages"));
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_come_back_at_once_all_get_in_and_miss_nothing() {
    let mut crowd = Crowd::new().await;
    let mut sockets = crowd.connect().await;
    let text =
        |n: u64| ClientFrame::Send { cid: format!("c{n}"), g: "g".to_owned(), text: format!("text {n}") };
    sockets[0].send((0..EACH).map(|n| text(n).to_text()).collect()).await.expect("the server is there");
    let mut acks = 0;
    while acks < EACH {
        acks += u64::from(matches!(next(&mut sockets[0]).await, Some(ServerFrame::Ack { .. })));
    }
    crowd.host.kill();
    crowd.host = crowd.there.serve();
    drop(sockets);
    let mut back = JoinSet::new();
    for (client, user, device) in crowd.members() {
        back.spawn(async move {
            let mut pause = AGAIN;
            let mut socket = loop {
                if let Ok((socket, _)) = sign_in(&client, user, &device).await {
                    break socket;
                }
                // There were too many at once: everybody waits longer each time, as `gx chat` does.
                let _ = tokio::time::timeout(pause, pending::<()>()).await;
                pause = (pause * 2).min(LONGEST);
            };
            let texts = history(&mut socket).await;
            assert_eq!(texts.len() as u64, EACH);
            socket
        });
    }
    let mut here = Vec::new();
    while let Some(socket) = back.join_next().await {
        here.push(socket.expect("everybody gets in"));
    }
    assert_eq!(here.len() as u64, crowd.size);
    // And it is as before: what is said now comes to the last of them.
    here[0].send(vec![text(EACH).to_text()]).await.expect("the server is there");
    let last = here.last_mut().expect("there are some");
    loop {
        if let ServerFrame::Msgs { m, .. } = next(last).await.expect("the server is there") {
            assert_eq!(m[0].text, format!("text {EACH}"));
            return;
        }
    }
}

/// Returns what a process has in memory, in KiB.
pub(super) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").trim().parse().expect("it is a number")
}

/// Makes a key of a node.
fn key() -> (tempfile::TempDir, NodeKey) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let key = gx_identity::open(folder.path()).expect("a key can be made");
    (folder, key)
}

fn raise_limit_of_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
