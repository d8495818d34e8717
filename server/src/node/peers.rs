//! The table of servers on a host: who is told what of it, and what others may add. How it is kept up to date is in
//! [`keep`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gx_core::NodeId;
use gx_core::config::{PeersConfig, Share};
use gx_core::peers::exchange::{Answer, answer};
use gx_core::peers::file::{TablePage, Upload};
use gx_core::peers::{Freshness, Merged, Network, Page, Source, VerifiedRecord};
use gx_peers::{Opened, Peers, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Verb, authorize};
use super::{Node, now};
use crate::error::{Result, ServerError};

mod keep;
mod lan;
mod record;

/// Rows that one network may have checked in a minute: each with a record takes some 60 µs.
const CHECKS_A_MINUTE: u32 = 4_096;
/// Networks that are counted; more share what is left.
const MAX_NETWORKS: usize = 4_096;

/// The table, once somebody needs it, and what it costs.
#[derive(Debug)]
pub(crate) struct Table {
    config: PeersConfig,
    opened: Mutex<Option<Arc<Peers>>>,
    checks: Mutex<Checks>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    asked: AtomicU64,
    lost: AtomicU64,
    answered: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// What there is to tell of the table, for `/metrics`.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerFigures {
    /// Servers by how much they are to be trusted to be there.
    pub(crate) by_freshness: [(&'static str, usize); 4],
    /// Servers that were asked, that did not answer as they should, and that were answered.
    pub(crate) exchanges: [(&'static str, u64); 3],
    /// Records that others brought and that changed something, and that were refused.
    pub(crate) records: [(&'static str, u64); 2],
}

/// What part of the table is asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableQuery {
    /// The last node of the page before.
    #[serde(default)]
    after: Option<NodeId>,
    /// Rows at most, up to 512.
    #[serde(default)]
    limit: Option<u16>,
}

/// What an upload is answered with: what it asks for, or else the first page.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Exchanged {
    Answer(Answer<VerifiedRecord>),
    Page(TablePage),
}

impl Table {
    pub(crate) fn new(config: PeersConfig) -> Self {
        let (opened, checks) = (Mutex::default(), Mutex::default());
        Self { config, opened, checks, counters: Counters::default() }
    }
}

impl Node {
    /// Returns a page of the table, as somebody there may see it.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`], [`ServerError::State`].
    pub(crate) async fn ip_table(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
        query: TableQuery,
    ) -> Result<TablePage> {
        self.may_exchange(caller)?;
        let limit = query.limit.map_or(Page::MAX_RECORDS, usize::from);
        self.at_the_table(move |peers| {
            peers.with(|table| {
                table.expire(now());
                table.page(query.after, limit, viewer(from), now()).into()
            })
        })
        .await
    }

    /// Takes in what somebody uploads, as far as they may tell it, and answers what they ask.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`], [`ServerError::Invalid`], [`ServerError::State`].
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        caller: &Caller,
        from: Option<IpAddr>,
        upload: Upload,
    ) -> Result<Exchanged> {
        self.may_exchange(caller)?;
        if upload.ip_address.len() > Page::MAX_RECORDS {
            let told = format!("{} rows are more than {}", upload.ip_address.len(), Page::MAX_RECORDS);
            return Err(ServerError::invalid("ip_address", told));
        }
        let (answer, merged) = self
            .at_the_table(move |peers| {
                let merged = peers.merge_rows(&upload.ip_address, viewer(from));
                (answered(peers, upload, viewer(from)), merged)
            })
            .await?;
        self.table.counters.answered.fetch_add(1, Ordering::Relaxed);
        self.count(merged);
        Ok(answer)
    }

    /// Counts rows that are to be checked for somebody, with or without a record.
    ///
    /// # Errors
    /// How long it is until there may be more.
    pub(crate) fn take_checks(&self, from: Option<IpAddr>, rows: usize) -> Result<(), Duration> {
        let Source::Peer(from) = viewer(from) else { return Ok(()) };
        if from.to_canonical().is_loopback() || rows == 0 {
            return Ok(());
        }
        let mut checks = self.table.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.take(Network::of(from), rows as u32, Instant::now())
    }

    /// Returns what there is to tell of the table; nothing while nobody has needed it.
    pub(crate) fn peer_figures(&self) -> PeerFigures {
        let opened = self.table.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counters = &self.table.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerFigures {
            by_freshness: opened.map(|peers| by_freshness(&peers)).unwrap_or_default(),
            exchanges: [
                ("asked", count(&counters.asked)),
                ("lost", count(&counters.lost)),
                ("answered", count(&counters.answered)),
            ],
            records: [("taken", count(&counters.taken)), ("refused", count(&counters.refused))],
        }
    }

    fn may_exchange(&self, caller: &Caller) -> Result<()> {
        let verb = match self.table.config.share {
            Share::Everybody => Verb::Describe,
            Share::Members => Verb::Look,
            Share::Nobody => Verb::Administer,
        };
        authorize(caller, verb, None)
    }

    fn count(&self, merged: Merged) {
        let taken = merged.new + merged.newer + merged.rivals;
        self.table.counters.taken.fetch_add(taken as u64, Ordering::Relaxed);
        self.table.counters.refused.fetch_add(merged.refused as u64, Ordering::Relaxed);
    }

    /// Works on the table beside the threads that answer, as checking a page takes some tens of milliseconds.
    async fn at_the_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Peers) -> T + Send + 'static,
    ) -> Result<T> {
        let peers = self.peers()?;
        let done = tokio::task::spawn_blocking(move || work(&peers)).await;
        done.map_err(|error| ServerError::Internal(error.to_string()))
    }

    /// Returns the table, which is read when somebody first needs it.
    pub(crate) fn peers(&self) -> Result<Arc<Peers>> {
        let mut opened = self.table.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peers) = &*opened {
            return Ok(peers.clone());
        }
        let Opened { peers, set_aside } = Peers::open(&self.data, &self.key, self.table.config.limits())?;
        if let Some(set_aside) = set_aside {
            tracing::warn!(%set_aside, "the table of servers begins anew");
        }
        peers.meter_dials();
        let peers = Arc::new(peers);
        *opened = Some(peers.clone());
        Ok(peers)
    }
}

impl From<StoreError> for ServerError {
    fn from(StoreError::File { what, path, source }: StoreError) -> Self {
        Self::State { what, path, source }
    }
}

fn answered(peers: &Peers, upload: Upload, viewer: Source) -> Exchanged {
    peers.with(|table| match upload.ask {
        Some(ask) => Exchanged::Answer(answer(&mut table.book(viewer, now()), &ask)),
        None => Exchanged::Page(table.page(None, Page::MAX_RECORDS, viewer, now()).into()),
    })
}

/// Returns who sees the table, or tells of servers; who is nowhere is told what everybody may know.
fn viewer(from: Option<IpAddr>) -> Source {
    Source::Peer(from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

fn by_freshness(peers: &Peers) -> [(&'static str, usize); 4] {
    let mut counts = [("live", 0), ("untested", 0), ("stale", 0), ("hidden", 0)];
    peers.with(|table| {
        let limits = table.limits();
        for (node, entry) in table.iter().filter(|(node, _)| table.own() != Some(*node)) {
            debug_assert!(table.get(node).is_some());
            let at = match entry.observation().freshness(limits.stale_after, limits.drop_after, now()) {
                Freshness::Live => 0,
                Freshness::Untested => 1,
                Freshness::Stale => 2,
                Freshness::Hidden | Freshness::Dropped => 3,
            };
            counts[at].1 += 1;
        }
    });
    counts
}

/// The records that were checked in this minute.
#[derive(Debug, Default)]
struct Checks {
    since: Option<Instant>,
    by_network: HashMap<Option<Network>, u32>,
}

impl Checks {
    fn take(&mut self, network: Network, records: u32, at: Instant) -> Result<(), Duration> {
        const MINUTE: Duration = Duration::from_secs(60);
        let begun = self.since.filter(|since| at.saturating_duration_since(*since) < MINUTE);
        if begun.is_none() {
            self.by_network.clear();
        }
        let since = *self.since.insert(begun.unwrap_or(at));
        let known = self.by_network.contains_key(&Some(network)) || self.by_network.len() < MAX_NETWORKS;
        let taken = self.by_network.entry(known.then_some(network)).or_default();
        if taken.saturating_add(records) > CHECKS_A_MINUTE {
            return Err((since + MINUTE).saturating_duration_since(at));
        }
        *taken += records;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_so_many_checks_a_minute() {
        let mut checks = Checks::default();
        let (begun, network) = (Instant::now(), |third| Network::V4([203, 0, third]));
        for _ in 0..8 {
            checks.take(network(1), 512, begun).unwrap();
        }
        let wait = checks.take(network(1), 1, begun + Duration::from_secs(20)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(40));
        checks.take(network(2), 512, begun).unwrap();
        checks.take(network(1), 512, begun + Duration::from_secs(60)).unwrap();
    }
}
