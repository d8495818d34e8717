//! One round of asking other servers what is new, over the network.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use gx_client::{ClientError, PeerLink};
use gx_core::peers::exchange::{Chance, Pace, Round, Sent, choose};
use gx_core::peers::file::{Reply, Row, Upload};
use gx_core::peers::{Entry, Merged, Network, Source, VerifiedRecord};
use gx_core::{NodeId, api::ApiError};

use crate::dial::Target;
use crate::patience::Turns;
use crate::{Peers, now};

/// How long the others of a round are waited for once one has answered, or the slowest would decide for all.
const STRAGGLER: Duration = Duration::from_secs(3);

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// Servers that were asked.
    pub asked: usize,
    /// Servers that did not answer, or not as they should.
    pub lost: Vec<NodeId>,
    /// What became of the records that came.
    pub merged: Merged,
    /// Requests.
    pub requests: usize,
    /// Bytes of bodies, there and back.
    pub bytes: u64,
}

/// Chooses up to so many of those that can be asked now and fit, at random, in different networks where that goes.
pub fn choose_targets(
    peers: &Peers,
    chance: &mut Chance,
    count: usize,
    fits: impl Fn(NodeId, &Entry) -> bool,
) -> Vec<Target> {
    let all: Vec<(NodeId, Vec<SocketAddr>)> = peers.with(|table| {
        let askable = table.askable(now()).filter(|(node, entry)| fits(*node, entry));
        askable.map(|(node, entry)| (node, entry.addresses().collect())).collect()
    });
    let network = |index: usize| all[index].1.first().map(|address| Network::of(address.ip()));
    let chosen = choose(chance, all.len(), count, network);
    chosen.into_iter().map(|index| Target::Node(all[index].0, all[index].1.clone())).collect()
}

/// Returns whether a server answered when last tried.
pub fn is_proven(entry: &Entry) -> bool {
    entry.observed().is_some_and(|seen| seen.failures == 0 && seen.last_seen.is_some())
}

/// Asks these servers until none of them has anything worth a request.
pub async fn round(peers: &Peers, pace: &mut Pace, chance: &mut Chance, targets: &[Target]) -> Heard {
    let mut heard = Heard { asked: targets.len(), ..Heard::default() };
    let mut round = Round::begin(pace, targets.len(), chance.draw() as u8);
    let mut links: Vec<Option<PeerLink>> = targets.iter().map(|_| None).collect();
    loop {
        let asks = peers.with(|table| round.asks(&mut table.book(Source::Own, now()), pace));
        if asks.is_empty() {
            break;
        }
        heard.requests += asks.len();
        for (sent, result) in answers(peers, targets, &mut links, asks).await {
            match result {
                Ok((link, reply)) => {
                    let merged = merge(peers, &link, &reply).await;
                    heard.merged.add(merged);
                    round.heard(sent.peer, &sent.ask, &reply);
                    links[sent.peer] = Some(link);
                }
                Err(refused) => {
                    // Who is busy is there, and not to be asked again now.
                    if !refused && let Target::Node(node, _) = &targets[sent.peer] {
                        peers.note(|table| table.observe(*node, |seen| seen.failed(now())));
                    }
                    heard.lost.extend(targets[sent.peer].node());
                    round.lost(sent.peer);
                }
            }
        }
    }
    heard.bytes = links.iter().flatten().map(|link| link.bytes().0 + link.bytes().1).sum();
    pace.ended(&round, peers.with(|table| table.len()));
    heard
}

type Answered = Result<(PeerLink, Reply), bool>;

/// Sends all requests at once and returns what came; the error tells whether a server is there and refuses.
async fn answers(
    peers: &Peers,
    targets: &[Target],
    links: &mut [Option<PeerLink>],
    asks: Vec<Sent<VerifiedRecord>>,
) -> Vec<(Sent<VerifiedRecord>, Answered)> {
    let mut left: Vec<Option<Sent<VerifiedRecord>>> = asks.into_iter().map(Some).collect();
    let mut calls: FuturesUnordered<_> = left
        .iter()
        .enumerate()
        .filter_map(|(at, sent)| {
            let sent = sent.as_ref()?;
            let (link, upload) = (links[sent.peer].take(), upload(sent));
            let target = &targets[sent.peer];
            Some(async move { (at, call(peers, target, link, &upload).await) })
        })
        .collect();
    let mut answered: Vec<(usize, Answered)> = Vec::new();
    let mut patience = std::pin::pin!(tokio::time::sleep(STRAGGLER));
    loop {
        tokio::select! {
            next = calls.next() => match next {
                Some(result) => answered.push(result),
                None => break,
            },
            () = &mut patience, if answered.iter().any(|(_, result)| result.is_ok()) => break,
        }
    }
    drop(calls);
    let mut all: Vec<_> =
        answered.into_iter().filter_map(|(at, result)| Some((left[at].take()?, result))).collect();
    all.extend(left.into_iter().flatten().map(|sent| (sent, Err(false))));
    all
}

async fn call(peers: &Peers, target: &Target, link: Option<PeerLink>, upload: &Upload) -> Answered {
    let (mut link, mut turns) = (link, Turns::default());
    loop {
        let mut open = match link.take() {
            Some(link) => link,
            None => target.open(peers).await.map_err(|_| true)?, // that it failed is noted already
        };
        match open.exchange(upload).await {
            Ok(reply) => return Ok((open, reply)),
            // It has not read the upload, and closes the connection: the next try takes another.
            Err(error) if turns.wait(&error).await => {}
            Err(error) => {
                tracing::debug!(address = %open.address(), %error, "a server does not exchange its table");
                return Err(matches!(&error, ClientError::Host(ApiError { .. })));
            }
        }
    }
}

fn upload(sent: &Sent<VerifiedRecord>) -> Upload {
    let row = |record: &VerifiedRecord| {
        let signed = record.signed();
        Row { record: Some(signed.record), signature: Some(signed.signature), ..Row::default() }
    };
    Upload { ip_address: sent.push.iter().map(row).collect(), ask: Some(sent.ask.clone()) }
}

/// Takes in what a server has sent, which proves that it is there.
async fn merge(peers: &Peers, link: &PeerLink, reply: &Reply) -> Merged {
    let source = Source::Peer(link.address().ip());
    // Some milliseconds in which nobody's latency should be measured are better than a thread for each.
    let merged = peers.merge(&reply.records, source);
    peers.note(|table| {
        table.observe(link.node(), |seen| seen.answered(None, now()));
        table.reached(link.node(), link.address());
    });
    merged
}
