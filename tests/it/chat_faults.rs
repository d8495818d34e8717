//! The chat of a real `gx serve`: what it has acknowledged survives kill -9 in the middle of everything, and a road that cuts,
//! delays and repeats; thousands of connections miss nothing.
//!
//! The long run: `GX_TEST_CHAT_CYCLES=200 GX_TEST_CHAT_CLIENTS=5000 cargo nextest run -P long -p gx --test it chat_faults`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gx_chat::chain::Chain;
use gx_chat::frames::{Auth, ClientFrame, Hello, Message, ServerFrame, WhyClosing};
use gx_chat::{GroupId, Seq};
use gx_client::{ChatSocket, Client};
use gx_core::NodeId;
use gx_core::api::ChatUserRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Surroundings, eventually};

mod crowd;
mod cuts;
mod full;
mod slow;

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
members = ["User{1..256}"]

[[role]]
id = "member"
users = ["members:*"]
default = "own"
allow = [{ group = "own", read = true, write = true }]
"#;

/// How often the server is killed, and connections are cut; the long run sets it to 200.
const CYCLES: &str = "GX_TEST_CHAT_CYCLES";
/// How many connections the crowd has; the long run sets it to 5,000.
const CLIENTS: &str = "GX_TEST_CHAT_CLIENTS";
const WRITERS: u64 = 16;
/// Messages of a writer that wait for their answer, at most.
const WINDOW: u64 = 8;
/// One message of so many is sent twice.
const TWICE: u64 = 5;
/// How soon a writer tries again that got no connection.
const AGAIN: Duration = Duration::from_millis(20);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns a number that the environment may set.
fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("it is a number"))
}

/// A host whose members are these nodes.
fn surroundings(members: &[NodeId]) -> Surroundings {
    let there = Surroundings::new();
    let policy = there.path("policy.toml");
    std::fs::write(&policy, POLICY).expect("a file can be written");
    let allow: Vec<String> = members.iter().map(ToString::to_string).collect();
    there.configured(&format!(
        "[server]\nallow = {allow:?}\n[plugins.docker]\nenabled = false\n[plugins.podman]\nenabled = false\n[chat]\npolicy = {policy:?}\n"
    ))
}

/// Gives these users the key of a node.
async fn accounts(client: &Client, node: Option<NodeId>, users: impl IntoIterator<Item = u64>) {
    for number in users {
        let request = ChatUserRequest { node, ..ChatUserRequest::default() };
        client.put_chat_user(&format!("User{number}"), request).await.expect("an account is made");
    }
}

fn group() -> GroupId {
    "g".parse().expect("it is a name")
}

/// Connects and signs in; says why not where the server is gone, or has no room.
async fn sign_in(client: &Client, user: u64, device: &str) -> Result<(ChatSocket, Seq), String> {
    let mut socket = client.chat().await.map_err(|error| format!("no connection: {error:?}"))?;
    let hello = ClientFrame::Hello(Hello {
        v: 1,
        user: format!("User{user}").parse().expect("it is a name"),
        auth: Auth::Key {},
        device: device.parse().expect("it is a name"),
        resume: BTreeMap::new(),
        chain: BTreeMap::new(),
    });
    socket.send(vec![hello.to_text()]).await.map_err(|error| format!("nothing sent: {error:?}"))?;
    match next(&mut socket).await.ok_or("the connection has ended")? {
        ServerFrame::Welcome { rights, .. } => Ok((socket, rights.groups[0].last)),
        // What the server has not noticed the end of is still counted.
        ServerFrame::Closing { why: WhyClosing::Crowded, .. } => Err("the user has too many".to_owned()),
        other => panic!("no welcome: {other:?}"),
    }
}

/// Returns the next frame; `None` where the connection is gone.
async fn next(socket: &mut ChatSocket) -> Option<ServerFrame> {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("there is something in time");
    next.ok().flatten().map(|text| ServerFrame::parse(text.as_bytes()).expect("it is a frame"))
}

/// Adds all messages that come after those that are there, page by page; `None` where the connection is gone meanwhile.
async fn catch_up(socket: &mut ChatSocket, all: &mut Vec<Message>) -> Option<()> {
    // What comes by itself meanwhile is in a page, too.
    let mut due = Seq::ZERO;
    loop {
        let after = all.last().map_or(Seq::ZERO, |message| message.seq);
        let asked = ClientFrame::Hist {
            id: 1,
            g: group(),
            after: Some(after),
            before: None,
            since: None,
            limit: 200,
        };
        socket.send(vec![asked.to_text()]).await.ok()?;
        let (m, more) = loop {
            match next(socket).await? {
                ServerFrame::Page { m, more, .. } => break (m, more),
                ServerFrame::Msgs { m, .. } => due = m.last().map_or(due, |message| due.max(message.seq)),
                _ => {}
            }
        };
        all.extend(m);
        if !more && all.last().map_or(Seq::ZERO, |message| message.seq) >= due {
            return Some(());
        }
    }
}

/// Reads all messages.
async fn history(socket: &mut ChatSocket) -> Vec<Message> {
    let mut all = Vec::new();
    catch_up(socket, &mut all).await.expect("the server is there");
    all
}

/// A writer: sends one message after the other, again what was not acknowledged, and some twice, until it is told to end.
/// Returns what was acknowledged.
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
        let Ok((mut socket, _)) = sign_in(&client, user, "writer").await else {
            // There may be another server by then.
            let _ = tokio::time::timeout(AGAIN, server.changed()).await;
            continue;
        };
        let message = |number: u64| {
            let (cid, text) = (format!("{user}-{number}"), format!("message {number} of {user}"));
            ClientFrame::Send { cid, g: "g".to_owned(), text }.to_text()
        };
        // In the order in which they were sent before.
        if socket.send((first..last).map(message).collect()).await.is_err() {
            continue;
        }
        loop {
            let mut fresh = Vec::new();
            while last - first < WINDOW {
                fresh.extend(std::iter::repeat_n(message(last), if last % TWICE == 0 { 2 } else { 1 }));
                last += 1;
            }
            if !fresh.is_empty() && socket.send(fresh).await.is_err() {
                break;
            }
            let frame = tokio::select! {
                frame = next(&mut socket) => frame,
                _ = end.wait_for(|end| *end) => return acked,
            };
            match frame {
                Some(ServerFrame::Ack { cid, seq, ts, dup, .. }) => {
                    let place = (seq.get(), ts);
                    if let Some(before) = acked.get(cid.as_str()) {
                        assert_eq!((before, dup), (&place, true), "{cid} was sent twice, and is stored once");
                        continue;
                    }
                    assert_eq!(cid.as_str(), format!("{user}-{first}"), "answers come in order");
                    first += 1;
                    acked.insert(cid.into(), place);
                    acks.fetch_add(1, Ordering::SeqCst);
                }
                Some(ServerFrame::Nack { code, msg, .. }) => panic!("refused: {code:?} {msg}"),
                Some(_) => {}
                None => break,
            }
        }
    }
}

/// Checks that everything stored is there once and in its order, and that what was acknowledged is in its place.
fn check(all: &[Message], acked: &HashMap<String, (u64, u64)>) {
    let mut chain = Chain::new(group());
    let mut of_user: HashMap<String, u64> = HashMap::new();
    let mut stored = HashMap::new();
    for (number, message) in all.iter().enumerate() {
        assert_eq!(message.seq.get(), number as u64 + 1, "numbers are dense");
        chain.take(message).expect("nothing was changed");
        let place = (message.seq.get(), message.ts);
        assert!(stored.insert(message.cid.to_string(), place).is_none(), "stored twice");
        // Of each sender, all messages in the order in which they were sent.
        let next = of_user.entry(message.from.to_string()).or_default();
        assert!(message.cid.as_str().ends_with(&format!("-{next}")), "{} is not number {next}", message.cid);
        *next += 1;
    }
    for (cid, place) in acked {
        assert_eq!(stored.get(cid), Some(place), "{cid} was acknowledged");
    }
}

/// Waits until so many messages are acknowledged. The writers have threads of their own.
fn reach(acks: &AtomicU64, due: u64) {
    eventually("messages are acknowledged", || (acks.load(Ordering::SeqCst) >= due).then_some(()));
}

/// Ends the writers, and returns what was acknowledged.
async fn ended(
    end: &watch::Sender<bool>,
    mut writers: JoinSet<HashMap<String, (u64, u64)>>,
) -> HashMap<String, (u64, u64)> {
    end.send_replace(true);
    let mut acked = HashMap::new();
    while let Some(of_one) = writers.join_next().await {
        acked.extend(of_one.expect("a writer comes to its end"));
    }
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let (there, cycles) = (surroundings(&[]), number(CYCLES, 50));
    let mut host = Some(there.serve());
    let client = host.as_ref().expect("it runs").client();
    accounts(&client, client.node(), 1..=WRITERS + 1).await;
    let (server, at) = watch::channel(Some(client));
    let (end, ending) = watch::channel(false);
    let acks = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for user in 1..=WRITERS {
        writers.spawn(write(user, at.clone(), ending.clone(), acks.clone()));
    }
    for cycle in 0..cycles {
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
    let acked = ended(&end, writers).await;

    let client = host.as_ref().expect("it runs").client();
    let (mut reader, last) = sign_in(&client, WRITERS + 1, "reader").await.expect("the server is there");
    let all = history(&mut reader).await;
    assert!(all.len() as u64 >= last.get());
    check(&all, &acked);
    assert!(acked.len() as u64 >= cycles * 40, "{} messages are few", acked.len());
}
