//! A reader that never reads, on a real connection: nobody waits for them, memory is bounded, and when they read on they are
//! told what they lack and can catch up.

use gx_chat::Seq;
use gx_chat::frames::{ClientFrame, Message, ServerFrame};
use gx_client::ChatSocket;
use tokio::task::JoinSet;

use super::crowd::resident_kib;
use super::{WRITERS, accounts, catch_up, next, sign_in, surroundings};

/// What each writer sends: in all more than the kernel keeps for a connection, and the server's queue.
const EACH: u64 = 160;
const TEXT_BYTES: usize = 4_000;
const TOTAL: u64 = WRITERS * EACH;
/// Messages of a writer that wait for their answer, at most.
const WINDOW: usize = 16;
/// By how much the server may grow, whatever waits: the queues of all, and the pages of the database.
const GROWTH_KIB: u64 = 64 * 1024;

/// Sends everything, and reads what comes: of what is sent by others, too.
async fn write(user: u64, mut socket: ChatSocket) {
    let text = |number| ClientFrame::Send {
        cid: format!("{user}-{number}"),
        g: "g".to_owned(),
        text: "x".repeat(TEXT_BYTES),
    };
    let mut numbers = 0..EACH;
    let first: Vec<String> = numbers.by_ref().take(WINDOW).map(|number| text(number).to_text()).collect();
    socket.send(first).await.expect("the server is there");
    let mut acks = 0;
    while acks < EACH {
        match next(&mut socket).await.expect("the server is there") {
            ServerFrame::Ack { .. } => {
                acks += 1;
                let more = numbers.next().map(|number| text(number).to_text());
                socket.send(more.into_iter().collect()).await.expect("the server is there");
            }
            ServerFrame::Nack { code, msg, .. } => panic!("refused: {code:?} {msg}"),
            _ => {}
        }
    }
}

/// Reads until everything is there, and returns how often it was too slow.
async fn read(socket: &mut ChatSocket) -> u64 {
    let (mut seen, mut lags): (Vec<Message>, u64) = (Vec::new(), 0);
    while (seen.len() as u64) < TOTAL {
        match next(socket).await.expect("the connection lasts") {
            ServerFrame::Msgs { m, .. } => {
                let last = seen.last().map_or(Seq::ZERO, |message| message.seq);
                seen.extend(m.into_iter().filter(|message| message.seq > last));
            }
            ServerFrame::Lag { from, .. } => {
                let last = seen.last().map_or(Seq::ZERO, |message| message.seq);
                assert!(from <= last.next(), "told from where on: {from:?}, and {last:?} is here");
                lags += 1;
                catch_up(socket, &mut seen).await.expect("the connection lasts");
            }
            _ => {}
        }
    }
    assert!(seen.iter().map(|message| message.seq.get()).eq(1..=TOTAL), "nothing is missing or doubled");
    lags
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_delays_nobody_and_catches_up_when_they_do() {
    let there = surroundings(&[]);
    let host = there.serve();
    let owner = host.client();
    accounts(&owner, owner.node(), 1..=WRITERS + 2).await;
    let (mut idle, _) = sign_in(&owner, WRITERS + 1, "idle").await.expect("the server is there");
    let (mut reader, _) = sign_in(&owner, WRITERS + 2, "reader").await.expect("the server is there");
    let mut writers = Vec::new();
    for user in 1..=WRITERS {
        writers.push(sign_in(&owner, user, "writer").await.expect("the server is there").0);
    }
    let before = resident_kib(host.pid());

    // All is stored and acknowledged, and somebody else has all of it, before the first byte of it is read here.
    let mut writing = JoinSet::new();
    for (user, socket) in (1..).zip(writers) {
        writing.spawn(write(user, socket));
    }
    read(&mut reader).await;
    while let Some(done) = writing.join_next().await {
        done.expect("everything is acknowledged");
    }
    let after = resident_kib(host.pid());
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");

    // On the very connection that stood still.
    assert!(read(&mut idle).await > 0, "it was told that it lacks something");
}
