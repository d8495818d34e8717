//! The chat of a real `gx serve`: what it has acknowledged survives kill -9 in the middle of everything, and a thousand
//! connections miss nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gx_chat::chain::Chain;
use gx_chat::frames::{Auth, ClientFrame, Hello, Message, ServerFrame};
use gx_chat::{GroupId, Seq};
use gx_client::{ChatSocket, Client};
use gx_core::api::ChatUserRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Host, Surroundings, eventually};

/// Everybody of one group, of whom each may send as much as they can.
const POLICY: &str = r#"
[chat]
rate = "100000/1s"

[[group]]
id = "g"
name = "everybody"
unit = "u"

[[unit]]
id = "u"
members = ["User{1..48}"]

[[role]]
id = "member"
users = ["members:*"]
default = "own"
allow = [{ group = "own", read = true, write = true }]
"#;

/// How often the server is killed; the long run sets it to 200.
const CYCLES: &str = "GX_TEST_CHAT_CYCLES";
const WRITERS: u64 = 16;
/// Messages of a writer that wait for their answer, at most.
const WINDOW: usize = 8;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn surroundings() -> Surroundings {
    let there = Surroundings::new();
    let policy = there.path("policy.toml");
    std::fs::write(&policy, POLICY).expect("a file can be written");
    there.configured(&format!(
        "[plugins.docker]\nenabled = false\n[plugins.podman]\nenabled = false\n[chat]\npolicy = {policy:?}\n"
    ))
}

/// Gives these users the key of the host, which the tests have.
async fn accounts(client: &Client, users: impl IntoIterator<Item = u64>) {
    for number in users {
        let request = ChatUserRequest { node: client.node(), ..ChatUserRequest::default() };
        client.put_chat_user(&format!("User{number}"), request).await.expect("an account is made");
    }
}

fn group() -> GroupId {
    "g".parse().expect("it is a name")
}

/// Connects and signs in; `None` where the server is gone.
async fn sign_in(client: &Client, user: u64, device: &str) -> Option<(ChatSocket, Seq)> {
    let mut socket = client.chat().await.ok()?;
    let hello = ClientFrame::Hello(Hello {
        v: 1,
        user: format!("User{user}").parse().expect("it is a name"),
        auth: Auth::Key {},
        device: device.parse().expect("it is a name"),
        resume: BTreeMap::new(),
        chain: BTreeMap::new(),
    });
    socket.send(vec![hello.to_text()]).await.ok()?;
    match next(&mut socket).await? {
        ServerFrame::Welcome { rights, .. } => Some((socket, rights.groups[0].last)),
        other => panic!("no welcome: {other:?}"),
    }
}

async fn next(socket: &mut ChatSocket) -> Option<ServerFrame> {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("there is something in time");
    next.ok().flatten().map(|text| ServerFrame::parse(text.as_bytes()).expect("it is a frame"))
}

/// Reads all messages after one, page by page.
async fn history(socket: &mut ChatSocket, mut after: Seq) -> Vec<Message> {
    let mut all = Vec::new();
    loop {
        let asked = ClientFrame::Hist {
            id: 1,
            g: group(),
            after: Some(after),
            before: None,
            since: None,
            limit: 200,
        };
        socket.send(vec![asked.to_text()]).await.expect("the server is there");
        let (m, more) = loop {
            match next(socket).await.expect("the server is there") {
                ServerFrame::Page { m, more, .. } => break (m, more),
                _ => continue,
            }
        };
        after = m.last().map_or(after, |message| message.seq);
        all.extend(m);
        if !more {
            return all;
        }
    }
}

/// A writer: sends one message after the other, and again what was not acknowledged, until it is told to end. Returns what
/// was acknowledged.
async fn write(
    user: u64,
    mut server: watch::Receiver<Option<Client>>,
    mut end: watch::Receiver<bool>,
    acks: Arc<AtomicU64>,
) -> HashMap<String, (u64, u64)> {
    let mut acked = HashMap::new();
    let (mut first, mut last) = (0_u64, 0_u64); // what waits for its answer is between them
    loop {
        let client = tokio::select! {
            found = server.wait_for(Option::is_some) => found.expect("the test lasts").clone().expect("it is there"),
            _ = end.wait_for(|end| *end) => return acked,
        };
        let Some((mut socket, _)) = sign_in(&client, user, "writer").await else {
            // It is dead already: until there is another.
            let gone = server
                .wait_for(|there| there.as_ref().is_none_or(|there| there.address() != client.address()));
            tokio::select! {
                _ = gone => continue,
                _ = end.wait_for(|end| *end) => return acked,
            }
        };
        let message = |number: u64| {
            let (cid, text) = (format!("{user}-{number}"), format!("message {number} of {user}"));
            ClientFrame::Send { cid, g: "g".to_owned(), text }.to_text()
        };
        // In the order in which they were sent before.
        if socket.send((first..last).map(message).collect()).await.is_err() {
            continue;
        }
        let mut waiting: std::collections::VecDeque<u64> = (first..last).collect();
        loop {
            let fresh: Vec<String> = (0..WINDOW - waiting.len())
                .map(|_| {
                    waiting.push_back(last);
                    last += 1;
                    message(last - 1)
                })
                .collect();
            if !fresh.is_empty() && socket.send(fresh).await.is_err() {
                break;
            }
            let frame = tokio::select! {
                frame = next(&mut socket) => frame,
                _ = end.wait_for(|end| *end) => return acked,
            };
            match frame {
                Some(ServerFrame::Ack { cid, seq, ts, .. }) => {
                    let due = waiting.pop_front().expect("something waits");
                    assert_eq!(cid.as_str(), format!("{user}-{due}"), "answers come in order");
                    first = due + 1;
                    acked.insert(cid.into(), (seq.get(), ts));
                    acks.fetch_add(1, Ordering::SeqCst);
                }
                Some(ServerFrame::Nack { code, msg, .. }) => panic!("refused: {code:?} {msg}"),
                Some(_) => {}
                None => break,
            }
        }
    }
}

/// Waits until so many messages are acknowledged. The writers have threads of their own.
fn reach(acks: &AtomicU64, due: u64) {
    eventually("messages are acknowledged", || (acks.load(Ordering::SeqCst) >= due).then_some(()));
}

fn cycles() -> u64 {
    std::env::var(CYCLES).ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let there = surroundings();
    let mut host = Some(there.serve());
    accounts(&host.as_ref().expect("it runs").client(), 1..=WRITERS + 1).await;
    let (server, at) = watch::channel(host.as_ref().map(Host::client));
    let (end, ending) = watch::channel(false);
    let acks = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for user in 1..=WRITERS {
        writers.spawn(write(user, at.clone(), ending.clone(), acks.clone()));
    }
    for cycle in 0..cycles() {
        // A little more each time, so that it is killed at another moment of its work.
        let due = acks.load(Ordering::SeqCst) + 40 + cycle * 7 % 60;
        reach(&acks, due);
        server.send_replace(None);
        host.take().expect("it runs").kill();
        let again = there.serve();
        server.send_replace(Some(again.client()));
        host = Some(again);
    }
    let due = acks.load(Ordering::SeqCst) + WRITERS * 10;
    reach(&acks, due);
    end.send_replace(true);
    let mut acked = HashMap::new();
    while let Some(of_one) = writers.join_next().await {
        acked.extend(of_one.expect("a writer comes to its end"));
    }

    let client = host.as_ref().expect("it runs").client();
    let (mut reader, last) = sign_in(&client, WRITERS + 1, "reader").await.expect("the server is there");
    let all = history(&mut reader, Seq::ZERO).await;
    assert!(all.len() as u64 >= last.get());
    let mut chain = Chain::new(group());
    let mut of_user: HashMap<String, u64> = HashMap::new();
    let mut stored = HashMap::new();
    for (number, message) in all.iter().enumerate() {
        assert_eq!(message.seq.get(), number as u64 + 1, "numbers are dense");
        chain.take(message).expect("nothing was changed");
        assert!(
            stored.insert(message.cid.to_string(), (message.seq.get(), message.ts)).is_none(),
            "stored twice"
        );
        // Of each sender, all messages in the order in which they were sent.
        let next = of_user.entry(message.from.to_string()).or_default();
        assert!(message.cid.as_str().ends_with(&format!("-{next}")), "{} is not number {next}", message.cid);
        *next += 1;
    }
    for (cid, place) in &acked {
        assert_eq!(stored.get(cid), Some(place), "{cid} was acknowledged");
    }
    assert!(acked.len() as u64 >= cycles() * 40, "{} messages are few", acked.len());
}

/// Connections of the crowd, by user and in all.
const OF_ONE: u64 = 25;
const CROWD: u64 = 1_000;
/// What each of 16 of them sends.
const EACH: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_miss_nothing() {
    raise_limit_of_files();
    let there = surroundings();
    let host = there.serve();
    let client = host.client();
    accounts(&client, 1..=CROWD / OF_ONE).await;
    let before = resident_kib(host.pid());
    let mut readers = Vec::new();
    for number in 0..CROWD {
        let (user, device) = (number / OF_ONE + 1, format!("d{number}"));
        readers.push(sign_in(&client, user, &device).await.expect("there is room").0);
    }
    let connected = resident_kib(host.pid());
    let total = WRITERS * EACH;
    let mut crowd = JoinSet::new();
    for (number, mut socket) in readers.into_iter().enumerate() {
        let texts = (0..EACH).map(|n| ClientFrame::Send {
            cid: format!("{number}-{n}"),
            g: "g".to_owned(),
            text: "x".repeat(100),
        });
        let texts: Vec<String> = match (number as u64) < WRITERS {
            true => texts.map(|frame| frame.to_text()).collect(),
            false => Vec::new(),
        };
        crowd.spawn(async move {
            socket.send(texts).await.expect("the server is there");
            let mut seen = Seq::ZERO;
            while seen.get() < total {
                let m = match next(&mut socket).await.expect("the server is there") {
                    ServerFrame::Msgs { m, .. } => m,
                    ServerFrame::Lag { .. } => history(&mut socket, seen).await,
                    ServerFrame::Nack { code, msg, .. } => panic!("refused: {code:?} {msg}"),
                    _ => continue,
                };
                for message in m {
                    if message.seq <= seen {
                        continue;
                    }
                    assert_eq!(message.seq, seen.next(), "nothing is missing");
                    seen = message.seq;
                }
            }
            socket
        });
    }
    let mut done = Vec::new();
    while let Some(socket) = crowd.join_next().await {
        done.push(socket.expect("everybody has all messages"));
    }
    let after = resident_kib(host.pid());
    assert_eq!(done.len() as u64, CROWD);
    let each = connected.saturating_sub(before) / CROWD;
    assert!(each < 100, "an idle connection takes {each} KiB");
    assert!(after < connected + 64 * 1024, "{connected} KiB before the messages, {after} KiB after them");
}

/// Returns what a process has in memory, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").trim().parse().expect("it is a number")
}

fn raise_limit_of_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
