//! A road between the clients and the server that cuts connections at any moment, delays, and lets some bytes come twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gx_chat::Seq;
use gx_chat::frames::{Message, ServerFrame};
use gx_client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{
    AGAIN, CYCLES, WRITERS, accounts, catch_up, check, ended, history, next, number, reach, sign_in,
    surroundings, write,
};

/// Of so many pieces that pass, one is held up, one is where the connection is cut, and one comes twice.
const DELAYED: u64 = 6;
const CUT: u64 = 60;
const REPEATED: u64 = 150;
/// How long a piece is held up, in milliseconds.
const DELAY_MS: u64 = 20;

/// What the road has done.
#[derive(Default)]
struct Road {
    dice: AtomicU64,
    cuts: AtomicU64,
    repeats: AtomicU64,
    /// Whether it does all that; else everything passes.
    is_bad: std::sync::atomic::AtomicBool,
}

impl Road {
    /// Returns whether it is one of so many (SplitMix64, whose state is counted up).
    fn one_of(&self, many: u64) -> bool {
        let mut z = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.is_bad.load(Ordering::Relaxed) && (z ^ (z >> 31)).is_multiple_of(many)
    }

    /// Leads from a port of its own to an address, and returns where it begins.
    async fn build(self: &Arc<Self>, to: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let from = listener.local_addr().expect("it listens").to_string();
        let road = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (road, to) = (road.clone(), to.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(to).await else { return };
                    let ((client_in, client_out), (server_in, server_out)) =
                        (client.into_split(), server.into_split());
                    // Where one way ends so does the other: both ends are dropped, with what is in them.
                    tokio::select! {
                        () = road.carry(client_in, server_out) => {}
                        () = road.carry(server_in, client_out) => {}
                    }
                });
            }
        });
        from
    }

    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut piece = vec![0; 2_048];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            if self.one_of(CUT) {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                // Some of it has passed.
                let _ = to.write_all(&piece[..length / 2]).await;
                return;
            }
            if self.one_of(DELAYED) {
                tokio::time::sleep(Duration::from_millis(DELAY_MS)).await;
            }
            let twice = self.one_of(REPEATED);
            self.repeats.fetch_add(u64::from(twice), Ordering::Relaxed);
            for _ in 0..1 + usize::from(twice) {
                if to.write_all(&piece[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A reader, who comes back after each cut and goes on where they were. Returns everything, in the order in which they saw it.
async fn read(client: Client, mut end: watch::Receiver<Option<Seq>>) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    let seen = |all: &Vec<Message>| all.last().map_or(Seq::ZERO, |message| message.seq);
    loop {
        let Ok((mut socket, _)) = sign_in(&client, WRITERS + 1, "reader").await else {
            let _ = tokio::time::timeout(AGAIN, end.changed()).await;
            continue;
        };
        if catch_up(&mut socket, &mut all).await.is_none() {
            continue;
        }
        loop {
            if end.borrow().is_some_and(|last| seen(&all) >= last) {
                return all;
            }
            let frame = tokio::select! {
                frame = next(&mut socket) => frame,
                _ = end.changed() => continue,
            };
            let m = match frame {
                Some(ServerFrame::Msgs { m, .. }) => m,
                Some(ServerFrame::Lag { .. }) => match catch_up(&mut socket, &mut all).await {
                    Some(()) => continue,
                    None => break,
                },
                Some(_) => continue,
                None => break,
            };
            let last = seen(&all);
            all.extend(m.into_iter().filter(|message| message.seq > last));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_road_that_cuts_delays_and_repeats() {
    let there = surroundings(&[]);
    let host = there.serve();
    let owner = host.client();
    accounts(&owner, owner.node(), 1..=WRITERS + 2).await;
    let road = Arc::new(Road::default());
    let client = host.client_at(&road.build(host.address.clone()).await);
    road.is_bad.store(true, Ordering::Relaxed);

    let (_server, at) = watch::channel(Some(client.clone()));
    let (end, ending) = watch::channel(false);
    let acks = Arc::new(AtomicU64::new(0));
    let mut writers: JoinSet<HashMap<String, (u64, u64)>> = JoinSet::new();
    for user in 1..=WRITERS {
        writers.spawn(write(user, at.clone(), ending.clone(), acks.clone()));
    }
    let (enough, is_enough) = watch::channel(None);
    let reader = tokio::spawn(read(client, is_enough));
    let due = number(CYCLES, 50);
    while road.cuts.load(Ordering::Relaxed) < due || road.repeats.load(Ordering::Relaxed) < due / 5 {
        let more = acks.load(Ordering::SeqCst) + WRITERS;
        reach(&acks, more);
    }
    let acked = ended(&end, writers).await;

    let (mut straight, last) = sign_in(&owner, WRITERS + 2, "straight").await.expect("the server is there");
    let stored = history(&mut straight).await;
    check(&stored, &acked);
    assert!(stored.len() as u64 >= last.get());
    // Whoever was on the same road has seen the same, once each and in order.
    let last = stored.last().expect("there are messages").seq;
    enough.send_replace(Some(last));
    let seen = reader.await.expect("the reader comes to an end");
    assert_eq!(seen, stored[..seen.len()]);
    assert!(seen.len() >= stored.len() && acked.len() as u64 >= due, "{} messages are few", acked.len());
}
