//! The peers of the dashboard: the table of servers, the best first, and how far each is, measured again and again while a
//! page is open. Nobody is asked anything for a page that is not.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use gx_client::PeerLink;
use gx_core::NodeId;
use gx_core::measurement::Millis;
use gx_core::peers::Freshness;
use gx_peers::Peers;
use gx_peers::dial::Target;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::history::History;
use crate::commands::peers::{ListArgs, Listed};
use crate::error::Result;
use crate::peers::{self, PeerInfo};
use crate::settings::Settings;

/// How often latencies are measured.
const EVERY: Duration = Duration::from_secs(10);
/// Peers that are shown; the rest of a large table is for `gx peers list`.
const SHOWN: usize = 100;
/// Peers that are measured each time, those first whose last time is longest ago, and how many at once.
const MEASURED: usize = 32;
const AT_ONCE: usize = 8;
/// How often what was measured is written.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// A peer: who it is; without a key, where.
type Key = (Option<NodeId>, Option<SocketAddr>);

/// The peers, and what was measured of them since the dashboard began.
pub(super) struct Watched {
    peers: Arc<Peers>,
    settings: Settings,
    histories: Mutex<BTreeMap<Key, History>>,
    told: watch::Sender<Value>,
    opened: Notify,
}

/// A peer as the page is told of it.
#[derive(Serialize)]
struct Row {
    /// What the page calls it.
    key: String,
    title: String,
    #[serde(flatten)]
    info: PeerInfo,
    #[serde(flatten)]
    history: History,
}

impl Watched {
    /// Begins with a table; [`keep`](Watched::keep) does the rest.
    pub(super) fn new(peers: Arc<Peers>, settings: Settings) -> Self {
        let (told, opened) = (watch::Sender::new(Value::Null), Notify::new());
        Self { peers, settings, histories: Mutex::default(), told, opened }
    }

    /// Returns what a page is told, now and each time that something is new.
    pub(super) fn subscribe(&self) -> watch::Receiver<Value> {
        let told = self.told.subscribe();
        self.opened.notify_one();
        told
    }

    /// Measures as long as a page is open, for ever.
    pub(super) async fn keep(&self) -> Infallible {
        loop {
            while self.told.receiver_count() == 0 {
                self.opened.notified().await;
            }
            self.tend().await;
            self.save().await;
        }
    }

    /// Measures until no page is open. Connections are kept as long.
    async fn tend(&self) {
        let mut links: HashMap<Key, PeerLink> = HashMap::new();
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                () = self.told.closed() => return,
                _ = rounds.tick() => {}
            }
            let shown = match self.listed() {
                Ok((shown, more)) => {
                    self.tell(&shown, more);
                    shown
                }
                Err(error) => {
                    let _ = self.told.send(json!({ "peers": [], "more": 0, "message": error.message }));
                    continue;
                }
            };
            tokio::select! {
                () = self.told.closed() => return,
                () = self.measure(&shown, &mut links) => {}
            }
            if let Ok((shown, more)) = self.listed() {
                self.tell(&shown, more);
            }
            if saved.elapsed() >= SAVE_EVERY {
                saved = Instant::now();
                self.save().await;
            }
        }
    }

    /// Returns the peers that are shown, the best first, and how many more there are.
    fn listed(&self) -> Result<(Vec<PeerInfo>, usize)> {
        self.peers.refresh()?;
        self.peers.with(|table| table.expire(peers::now()));
        let Listed { mut peers, hidden } =
            Listed::new(peers::infos(&self.peers, &self.settings)?, &ListArgs::default());
        let more = hidden + peers.len().saturating_sub(SHOWN);
        peers.truncate(SHOWN);
        Ok((peers, more))
    }

    fn tell(&self, shown: &[PeerInfo], more: usize) {
        let mut histories = self.histories();
        // What is not shown any more needs no history either.
        histories.retain(|known, _| shown.iter().any(|info| key(info) == *known));
        let rows = shown.iter().map(|info| {
            let history = histories.entry(key(info)).or_default();
            history.seen(&info.seen);
            Row { key: name(info), title: info.title(), info: info.clone(), history: history.clone() }
        });
        let rows: Vec<Row> = rows.collect();
        let _ = self.told.send(json!({ "peers": rows, "more": more }));
    }

    async fn measure(&self, shown: &[PeerInfo], links: &mut HashMap<Key, PeerLink>) {
        let due = due(shown);
        links.retain(|known, _| due.iter().any(|info| key(info) == *known));
        let tries: Vec<_> = due.into_iter().map(|info| (info, links.remove(&key(info)))).collect();
        let answers = futures_util::stream::iter(tries).map(async |(info, kept)| {
            let target = match (info.node_id, info.addresses.first()) {
                (Some(node), _) => Target::Node(node, info.addresses.clone()),
                (None, Some(address)) => Target::Address(*address, None),
                (None, None) => return None,
            };
            Some((key(info), target.ping_over(kept, &self.peers).await))
        });
        let mut answers = answers.buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            let Some((key, answer)) = answer else { continue };
            let latency: Option<Millis> = answer.as_ref().ok().map(|(latency, _)| *latency);
            self.histories().entry(key).or_default().pinged(latency, peers::now());
            match answer {
                Ok((_, link)) => drop(links.insert(key, link)),
                Err(error) => tracing::debug!(%error, "a peer does not answer"),
            }
        }
    }

    /// Writes what was measured, beside the threads that answer: a large table is some megabytes.
    pub(super) async fn save(&self) {
        let peers = self.peers.clone();
        let saved = tokio::task::spawn_blocking(move || peers.is_changed().then(|| peers.save())).await;
        if let Ok(Some(Err(error))) = saved {
            tracing::warn!(%error, "what was measured cannot be written");
        }
    }

    fn histories(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, History>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whom to measure: who may be tried, those first whose last time is longest ago.
fn due(shown: &[PeerInfo]) -> Vec<&PeerInfo> {
    let may = |info: &&PeerInfo| {
        !info.quarantined && info.state < Freshness::Hidden && info.seen.may_try(peers::now())
    };
    let mut due: Vec<&PeerInfo> = shown.iter().filter(may).collect();
    due.sort_by_key(|info| info.seen.last_tried.map(gx_core::Timestamp::unix));
    due.truncate(MEASURED);
    due
}

fn key(info: &PeerInfo) -> Key {
    (info.node_id, if info.node_id.is_some() { None } else { info.addresses.first().copied() })
}

fn name(info: &PeerInfo) -> String {
    match key(info) {
        (Some(node), _) => node.to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::peers::Observation;

    fn peer(number: u8, seen: Observation) -> PeerInfo {
        PeerInfo {
            node_id: Some(NodeId::from_bytes([number; 32])),
            name: None,
            addresses: vec![([192, 168, 1, number], 7467).into()],
            state: Freshness::Live,
            quarantined: false,
            pinned: false,
            seen,
            record: None,
        }
    }

    #[test]
    fn who_was_not_measured_for_longest_is_first_and_who_fails_is_left_alone() {
        let now = peers::now();
        let tried = |seconds: i64| {
            let mut seen = Observation::default();
            seen.answered(Some(Millis(1.0)), gx_core::Timestamp::from_unix(now.unix() - seconds));
            seen
        };
        let mut failing = tried(90);
        failing.failed(now);
        let mut all = vec![peer(1, tried(20)), peer(2, tried(40)), peer(3, Observation::default())];
        all.push(peer(4, failing));
        all.push(PeerInfo { quarantined: true, ..peer(5, tried(60)) });
        let order: Vec<u8> = due(&all).iter().filter_map(|info| Some(info.node_id?.as_bytes()[0])).collect();
        assert_eq!(order, [3, 2, 1]);
        let many: Vec<PeerInfo> = (0..100).map(|number| peer(number, tried(i64::from(number)))).collect();
        assert_eq!(due(&many).len(), MEASURED);
    }

    #[tokio::test]
    async fn nobody_is_asked_until_a_page_is_open() {
        let data = tempfile::tempdir().unwrap();
        let key = gx_identity::open(data.path()).unwrap();
        let peers = Peers::open(data.path(), &key, gx_core::peers::TableLimits::default()).unwrap().peers;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        peers.change(|table| {
            table.insert_legacy(address, "", gx_core::peers::Source::Own, peers::now()).unwrap();
        });
        let settings = Settings {
            config: gx_core::config::Config::default(),
            file: None,
            text: String::new(),
            data: data.path().to_owned(),
        };
        let watched = Watched::new(Arc::new(peers), settings);
        tokio::select! {
            never = watched.keep() => match never {},
            _ = listener.accept() => panic!("it was asked"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let mut told = watched.subscribe();
        tokio::select! {
            never = watched.keep() => match never {},
            accepted = listener.accept() => drop(accepted.unwrap()),
        }
        let value = told.borrow_and_update().clone();
        assert_eq!(value["peers"][0]["key"], address.to_string());
    }
}
