//! A whole update: how far all known servers are, what they know, how far those are, all at the same time.
//!
//! Servers are measured as soon as they are known, many at a time, while those that answered are asked for what they know.
//! Whoever is silent holds up nobody: it is not waited for but at the end, and there for the time a connection may take.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_client::ClientError;
use gx_core::NodeId;
use gx_core::peers::exchange::{Chance, Pace};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::ask::{choose_targets, is_proven, round};
use crate::dial::Target;
use crate::{Peers, now, random};

/// Servers that are being measured at a time.
const IN_FLIGHT: usize = 256;
/// How long the first answers are waited for before anybody is asked.
const FIRST: Duration = Duration::from_secs(1);

/// How to update.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds of asking.
    pub hops: u8,
    /// How long all of it may take.
    pub deadline: Duration,
    /// Which node is at an address, where the configuration says so.
    pub expected: BTreeMap<SocketAddr, NodeId>,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Servers to measure so far.
    pub found: usize,
    /// Servers that were measured, or did not answer.
    pub done: usize,
    /// Servers that answered.
    pub answered: usize,
    /// Rounds of asking that are over.
    pub hops: u8,
}

/// What came of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updated {
    /// How far it got.
    pub progress: Progress,
    /// Servers that were not known before.
    pub new: usize,
    /// Requests that asked for tables.
    pub requests: usize,
    /// Bytes of tables, there and back.
    pub bytes: u64,
    /// Whether time was over before all was done.
    pub cut: bool,
}

/// Updates a table; what is learned is in it at once, so that it may be dropped at any time. It is not written.
pub async fn update(peers: &Arc<Peers>, options: &Options, progress: watch::Sender<Progress>) -> Updated {
    let deadline = Instant::now() + options.deadline;
    let mut run = Run {
        peers: peers.clone(),
        expected: options.expected.clone(),
        places: Arc::new(Semaphore::new(IN_FLIGHT)),
        tasks: JoinSet::new(),
        begun: HashSet::new(),
        progress,
        updated: Updated::default(),
        lost: BTreeSet::new(),
    };
    let all = run.all(options.hops);
    let in_time = tokio::time::timeout_at(deadline.into(), all).await.is_ok();
    run.updated.cut = !in_time;
    run.updated.progress = *run.progress.borrow();
    run.updated
}

struct Run {
    peers: Arc<Peers>,
    expected: BTreeMap<SocketAddr, NodeId>,
    places: Arc<Semaphore>,
    tasks: JoinSet<bool>,
    begun: HashSet<Target>,
    progress: watch::Sender<Progress>,
    updated: Updated,
    /// Who did not answer as it should, and is left alone from then on.
    lost: BTreeSet<NodeId>,
}

impl Run {
    async fn all(&mut self, hops: u8) {
        self.peers.change(|table| table.expire(now()));
        let before = self.peers.with(|table| table.len());
        self.measure_new();
        self.first_answers().await;
        let (mut pace, mut chance) = (Pace::new(), Chance::new(random()));
        for _ in 0..hops {
            let lost = &self.lost;
            let count = pace.fanout();
            let fits = |node: NodeId| !lost.contains(&node);
            let mut targets =
                choose_targets(&self.peers, &mut chance, count, |node, entry| fits(node) && is_proven(entry));
            let left = count - targets.len();
            targets.extend(choose_targets(&self.peers, &mut chance, left, |node, entry| {
                fits(node) && !is_proven(entry)
            }));
            if targets.is_empty() || pace.requests_left() == 0 {
                break;
            }
            let peers = self.peers.clone();
            let heard = round(&peers, &mut pace, &mut chance, &targets).await;
            self.lost.extend(&heard.lost);
            self.updated.requests += heard.requests;
            self.updated.bytes += heard.bytes;
            self.collect();
            self.progress.send_modify(|progress| progress.hops += 1);
            self.measure_new();
            if pace.is_settled() {
                break;
            }
            self.first_answers().await;
        }
        while let Some(done) = self.tasks.join_next().await {
            self.done(done.unwrap_or(false));
            // Somebody that was known by address only may have said who it is, and know others.
        }
        self.updated.new = self.peers.with(|table| table.len()).saturating_sub(before);
    }

    /// Begins to measure all that are known and not yet measured in this update.
    fn measure_new(&mut self) {
        for target in self.targets() {
            if !self.begun.insert(target.clone()) {
                continue;
            }
            let (peers, places) = (self.peers.clone(), self.places.clone());
            self.progress.send_modify(|progress| progress.found += 1);
            self.tasks.spawn(async move {
                let Ok(_place) = places.acquire().await else { return false };
                match target.ping(&peers).await {
                    // Who refuses is there.
                    Ok(_) | Err(ClientError::Host(_)) => true,
                    Err(error) => {
                        tracing::debug!(%error, "no answer");
                        false
                    }
                }
            });
        }
    }

    fn targets(&self) -> Vec<Target> {
        self.peers.with(|table| {
            let own = table.own();
            let there = table
                .iter()
                .filter(|(node, entry)| Some(*node) != own && entry.is_usable(now()))
                .map(|(node, entry)| Target::Node(node, entry.addresses().collect()));
            let expected = |address| self.expected.get(&address).copied();
            let rows = table.legacy().map(|(address, _)| Target::Address(address, expected(address)));
            // Whoever said in this update who it is has been measured.
            let measured: HashSet<SocketAddr> = self
                .begun
                .iter()
                .filter_map(|target| match target {
                    Target::Address(address, _) => Some(*address),
                    Target::Node(..) => None,
                })
                .collect();
            let fresh = |target: &Target| match target {
                Target::Node(_, addresses) => !addresses.iter().any(|address| measured.contains(address)),
                Target::Address(..) => true,
            };
            there.filter(fresh).chain(rows).collect()
        })
    }

    /// Waits until there are a few who answered, or nobody is left who could.
    async fn first_answers(&mut self) {
        let enough = |run: &Self| {
            run.peers
                .with(|table| table.askable(now()).filter(|(_, entry)| is_proven(entry)).take(3).count() == 3)
                && run.progress.borrow().answered >= 3
        };
        let deadline = tokio::time::Instant::now() + FIRST;
        self.collect();
        while !enough(self) {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(done)) => self.done(done.unwrap_or(false)),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn collect(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            self.done(done.unwrap_or(false));
        }
    }

    fn done(&self, answered: bool) {
        self.progress.send_modify(|progress| {
            progress.done += 1;
            progress.answered += usize::from(answered);
        });
    }
}
