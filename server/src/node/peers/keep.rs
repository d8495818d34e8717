//! Keeping the table up to date while a server runs: this host's own record, asking others from time to time, measuring a
//! few at a time, and the file.
//!
//! Addresses that nobody has reached are dialled ten times a minute at most, so that rows which somebody posts make this
//! host no weapon. The first address of a server is paid for when it is chosen, each further one when it is dialled.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use gx_client::ClientError;
use gx_core::NodeId;
use gx_core::config::Share;
use gx_core::peers::Entry;
use gx_core::peers::exchange::{Ask, Chance, Pace};
use gx_core::peers::file::{Row, Upload};
use gx_identity::NodeKey;
use gx_peers::ask::{choose_targets, is_proven, round};
use gx_peers::dial::Target;
use gx_peers::seed::seed;
use gx_peers::{Peers, own};

use super::lan::Lan;
use super::record::public_address;
use crate::node::{Node, now};

/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);
/// Servers that are measured between two rounds.
const MEASURED: usize = 8;
/// How long a measured server is left alone.
const MEASURE_EVERY_S: i64 = 300;
/// How long the address in the Internet is taken for granted.
const PUBLIC_EVERY_S: i64 = 3_600;
/// How often what was measured is written, where there is nothing else.
const SAVE_EVERY_S: i64 = 300;
/// Servers that are told when this one leaves, and how long that may take.
const TOLD: usize = 3;
const LEAVE: Duration = Duration::from_secs(2);

/// What is kept from round to round.
struct Keeper {
    peers: Arc<Peers>,
    /// The keys this host had before.
    former: Vec<NodeKey>,
    /// Which node is at an address, where the configuration says so.
    expected: BTreeMap<SocketAddr, NodeId>,
    pace: Pace,
    chance: Chance,
    /// How often an address was tried whose server has not said what it is, or has not answered.
    nameless: BTreeMap<SocketAddr, u32>,
    public: Option<(i64, Option<IpAddr>)>,
    /// The local network, where its owner wants it asked and told.
    lan: Option<Lan>,
    /// When the table was last written.
    saved: i64,
}

impl Node {
    /// Keeps the table up to date for ever. `listening` is where others reach this host by TLS, if they do.
    pub(crate) async fn keep_peers(self: Arc<Self>, listening: Option<SocketAddr>) {
        if self.table.config.share == Share::Nobody {
            return;
        }
        let peers = match self.peers() {
            Ok(peers) => peers,
            Err(error) => {
                tracing::error!(%error, "there is no table of servers");
                return;
            }
        };
        let former = gx_identity::former(&self.data).unwrap_or_else(|error| {
            tracing::warn!(%error, "servers that knew this one by an old key are not told of the new one");
            Vec::new()
        });
        let mut keeper = Keeper {
            peers,
            former,
            expected: BTreeMap::new(),
            pace: Pace::new(),
            chance: Chance::new(gx_peers::random()),
            nameless: BTreeMap::new(),
            public: None,
            lan: self.table.config.lan.then(|| Lan::begin(self.id(), listening)),
            saved: 0,
        };
        loop {
            self.tend_peers(&mut keeper, listening).await;
            let every = self.table.config.exchange_every.0.max(SHORTEST);
            // Half to one and a half times as long, so that servers do not ask in step.
            let part = keeper.chance.below(1_000) as u32;
            tokio::time::sleep(every / 2 + every * part / 1_000).await;
        }
    }

    async fn tend_peers(&self, keeper: &mut Keeper, listening: Option<SocketAddr>) {
        if let Err(error) = on_disk(&keeper.peers, |peers| peers.refresh().map(drop)).await {
            tracing::warn!(%error, "the table of servers cannot be read");
        }
        if let Some(listening) = listening {
            self.find_public(keeper).await;
            self.renew_record(listening, keeper.public.and_then(|(_, address)| address)).await;
        }
        Self::leave_old_keys(keeper);
        self.seed_peers(keeper).await;
        if let Some(lan) = &mut keeper.lan {
            lan.ask(&keeper.peers, now().unix()).await;
        }
        keeper.peers.with(|table| table.expire(now()));
        let measured = keeper.choose_to_measure();
        keeper.measure(measured).await;
        self.ask_peers(keeper).await;
        // What was measured alone is written now and then: a large table is some megabytes.
        let at = now().unix();
        let due = !(keeper.saved..keeper.saved + SAVE_EVERY_S).contains(&at);
        if keeper.peers.has_news() || due && keeper.peers.is_changed() {
            keeper.saved = at;
            if let Err(error) = on_disk(&keeper.peers, |peers| peers.save().map(drop)).await {
                tracing::warn!(%error, "the table of servers cannot be written");
            }
        }
    }

    /// Takes leave under the keys that this host had: it is there under another, and nobody else can say so. What others
    /// pass on of an old record is answered so as well.
    fn leave_old_keys(keeper: &Keeper) {
        for key in &keeper.former {
            match own::farewell(&keeper.peers, key) {
                Ok(Some(_)) => tracing::info!(node = %key.id(), "took leave under the old key"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot take leave under an old key"),
            }
        }
    }

    async fn find_public(&self, keeper: &mut Keeper) {
        let Some(url) = &self.table.config.public_address_url else { return };
        let at = now().unix();
        let fresh = keeper.public.is_some_and(|(asked, _)| (asked..asked + PUBLIC_EVERY_S).contains(&at));
        if !fresh {
            keeper.public = Some((at, public_address(url).await));
        }
    }

    /// Adds the servers of the configuration that are not known.
    async fn seed_peers(&self, keeper: &mut Keeper) {
        let seeds = self.table.config.places();
        keeper.expected = seed(&keeper.peers, seeds).await;
    }

    async fn ask_peers(&self, keeper: &mut Keeper) {
        keeper.pace.renew();
        let targets = keeper.choose_to_ask();
        if targets.is_empty() {
            return;
        }
        let Keeper { peers, pace, chance, .. } = keeper;
        let heard = round(peers, pace, chance, &targets).await;
        self.table.counters.asked.fetch_add(heard.asked as u64, Ordering::Relaxed);
        self.table.counters.lost.fetch_add(heard.lost.len() as u64, Ordering::Relaxed);
        self.count(heard.merged);
    }

    /// Takes leave: tells a few servers, who pass it on, and writes the table a last time.
    pub(crate) async fn leave_peers(&self) {
        let opened = self.table.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(peers) = opened else { return };
        match own::farewell(&peers, &self.key) {
            Ok(Some(record)) => {
                let row = Row::of(&record);
                let upload = Upload { ip_address: vec![row], ask: Some(Ask::default()) };
                let mut chance = Chance::new(gx_peers::random());
                let targets = choose_targets(&peers, &mut chance, TOLD, |_, entry| is_proven(entry));
                let telling = futures_util::stream::iter(targets).for_each_concurrent(TOLD, async |target| {
                    if let Ok(mut link) = target.open(&peers).await {
                        let _ = link.exchange(&upload).await; // who does not hear it sees it soon enough
                    }
                });
                let _ = tokio::time::timeout(LEAVE, telling).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "nobody is told that this host leaves"),
        }
        if let Err(error) = on_disk(&peers, |peers| peers.save().map(drop)).await {
            tracing::warn!(%error, "the table of servers cannot be written");
        }
    }
}

impl Keeper {
    /// Measures these, all at the same time.
    async fn measure(&mut self, targets: Vec<Target>) {
        let (peers, nameless) = (&self.peers, Mutex::new(&mut self.nameless));
        futures_util::stream::iter(targets)
            .for_each_concurrent(MEASURED, async |target| {
                let Err(error) = target.ping(peers).await else { return };
                tracing::debug!(%error, "a server does not answer, or not what it is");
                // Who has no time to say what it is will have: it is asked again as soon as at first.
                if let (Target::Address(address, _), ClientError::Host(_)) = (&target, &error) {
                    nameless.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
                }
            })
            .await;
    }

    /// Returns whom to ask: those that answered when last tried; where there are too few, others, as long as the budget
    /// lasts.
    fn choose_to_ask(&mut self) -> Vec<Target> {
        let count = self.pace.fanout();
        let mut targets = choose_targets(&self.peers, &mut self.chance, count, |_, entry| is_proven(entry));
        targets.extend(self.unproven(count - targets.len()));
        targets
    }

    /// Returns up to so many of those that were never reached, or do not answer: as many as the budget pays for, which is
    /// asked for those only that there are.
    fn unproven(&mut self, count: usize) -> Vec<Target> {
        let found = choose_targets(&self.peers, &mut self.chance, count, |_, entry| !is_proven(entry));
        found.into_iter().take_while(|_| self.peers.take_dial()).collect()
    }

    /// Returns whom to measure: some that were never reached or do not answer, as long as the budget lasts, and those
    /// whose last time is long ago.
    fn choose_to_measure(&mut self) -> Vec<Target> {
        let (peers, at) = (self.peers.clone(), now());
        let rows: Vec<SocketAddr> = peers.with(|table| {
            // Who is known by a key by now is in the table as a node.
            self.nameless.retain(|address, _| table.legacy().any(|(there, _)| there == *address));
            let due = table.legacy().filter(|(address, row)| {
                let pause = pause_s(self.nameless.get(address).copied().unwrap_or(0));
                row.seen.may_try(at)
                    && row.seen.last_tried.is_none_or(|tried| is_over(tried.unix(), at.unix(), pause))
            });
            due.map(|(address, _)| address).take(MEASURED / 2).collect()
        });
        let mut targets: Vec<Target> = Vec::new();
        for address in rows {
            if peers.take_dial() {
                *self.nameless.entry(address).or_default() += 1;
                targets.push(Target::Address(address, self.expected.get(&address).copied()));
            }
        }
        targets.extend(self.unproven(MEASURED / 2 - targets.len()));
        let left = MEASURED - targets.len();
        let old = |entry: &Entry| {
            let seen = entry.observation();
            is_proven(entry)
                && (seen.latency_ms.is_none()
                    || seen.last_tried.is_none_or(|tried| is_old(tried.unix(), at.unix())))
        };
        targets.extend(choose_targets(&peers, &mut self.chance, left, |_, entry| old(entry)));
        targets
    }
}

fn is_old(tried: i64, at: i64) -> bool {
    is_over(tried, at, MEASURE_EVERY_S)
}

/// Whether a pause is over. A clock that was set back keeps nobody waiting.
fn is_over(tried: i64, at: i64, pause_s: i64) -> bool {
    !(tried..tried + pause_s).contains(&at)
}

/// Returns how long an address is left alone that was tried so often. A server that has just started may answer before it
/// can say what it is, so it is asked again soon; one without a table is asked less and less often.
fn pause_s(tries: u32) -> i64 {
    (1_i64 << tries.min(16)).min(MEASURE_EVERY_S)
}

async fn on_disk<T: Send + 'static>(
    peers: &Arc<Peers>,
    work: impl FnOnce(&Peers) -> T + Send + 'static,
) -> T {
    let peers = peers.clone();
    tokio::task::spawn_blocking(move || work(&peers))
        .await
        .expect("reading and writing a table does not panic")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use gx_core::peers::{PeerRecord, file};
    use tokio::net::TcpListener;

    use super::*;
    use crate::node::Caller;
    use crate::tests::Host;

    fn keeper(peers: Arc<Peers>) -> Keeper {
        let (pace, chance) = (Pace::new(), Chance::new(1));
        let expected = BTreeMap::new();
        let (nameless, former) = (BTreeMap::new(), Vec::new());
        Keeper { peers, former, expected, pace, chance, nameless, public: None, lan: None, saved: 0 }
    }

    #[tokio::test]
    async fn rows_that_somebody_posts_make_no_weapon_of_a_host() {
        posted_rows_with_addresses(1).await;
    }

    #[tokio::test]
    async fn rows_with_several_addresses_of_one_victim_make_no_weapon_either() {
        posted_rows_with_addresses(4).await;
    }

    /// Posts servers with so many addresses each, all of one victim that hangs up at once, and counts how often it is dialled.
    async fn posted_rows_with_addresses(count: usize) {
        let host = Host::new().await;
        let dialled = Arc::new(AtomicUsize::new(0));
        let mut addresses = Vec::new();
        let mut victim = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (port, dialled) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), dialled.clone());
            addresses.push(port.local_addr().unwrap());
            victim.spawn(async move {
                while let Ok((stream, _)) = port.accept().await {
                    dialled.fetch_add(1, Ordering::Relaxed);
                    drop(stream);
                }
            });
        }
        let rows = (0..64).map(|_| {
            let data = tempfile::tempdir().unwrap();
            let key = gx_identity::open(data.path()).unwrap();
            let record = PeerRecord {
                addresses: addresses.clone(),
                ..PeerRecord::new(key.id(), 1, now(), PeerRecord::LEASE)
            };
            let signed = record.sign(|message| key.sign(message)).unwrap();
            file::Row {
                record: Some(signed.record),
                signature: Some(signed.signature),
                ..file::Row::default()
            }
        });
        let upload = Upload { ip_address: rows.collect(), ask: None };
        let posted = host.node.exchange(&Caller::Stranger(None), Some(addresses[0].ip()), upload).await;
        assert!(posted.is_ok());
        let peers = host.node.peers().unwrap();
        assert_eq!(peers.with(|table| table.len()), 64);
        let mut keeper = keeper(peers);
        for _ in 0..6 {
            host.node.tend_peers(&mut keeper, None).await;
        }
        // A minute may have begun meanwhile, which brings ten more.
        let dialled = dialled.load(Ordering::Relaxed);
        assert!((1..=20).contains(&dialled), "it was dialled {dialled} times");
    }

    #[test]
    fn an_address_without_a_name_is_tried_again_soon_and_then_less_and_less_often() {
        let pauses: Vec<i64> = (0..12).map(pause_s).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pause_s(u32::MAX), MEASURE_EVERY_S);
        assert!(!is_over(100, 101, 2) && is_over(100, 102, 2) && is_over(100, 99, 2));
    }

    #[tokio::test]
    async fn a_host_says_what_it_is_and_takes_leave() {
        let host = Host::new().await;
        let peers = host.node.peers().unwrap();
        let mut keeper = keeper(peers.clone());
        let listening: SocketAddr = "127.0.0.1:7467".parse().unwrap();
        host.node.tend_peers(&mut keeper, Some(listening)).await;
        let record = || peers.with(|table| table.get(host.node.id()).unwrap().record().record());
        let first = record();
        assert_eq!(first.addresses, [listening]);
        assert!(first.cpus > 0 && first.memory_bytes > 0 && first.platform.starts_with("linux/"));
        host.node.tend_peers(&mut keeper, Some(listening)).await;
        assert_eq!(record().seq, first.seq, "nothing has changed");
        host.node.leave_peers().await;
        assert!(record().gone && record().seq == first.seq + 1);
        let host = host.restart().await;
        let peers = host.node.peers().unwrap();
        assert!(
            peers.with(|table| table.get(host.node.id()).unwrap().record().is_gone()),
            "that is in the file"
        );
        host.node.tend_peers(&mut self::keeper(peers.clone()), Some(listening)).await;
        let again = peers.with(|table| table.get(host.node.id()).unwrap().record().record());
        assert!(!again.gone && again.seq > first.seq + 1);
    }
}
