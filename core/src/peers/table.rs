//! The table of servers: insert, merge, expire, page, digest.
//!
//! For each node the highest seq that has not ended holds. Two texts of one seq quarantine the node: both are kept and
//! passed on as evidence, and neither is used, until a higher seq comes or one of the two ends. What a table holds is
//! thus the same in whatever order records came, as long as there is room.
//!
//! Who is let in when there is little room is decided in [`room`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::id::{NodeId, Timestamp};
use crate::peers::address::{Network, Source, credible};
use crate::peers::digest::{Buckets, Digest, ShortIds};
use crate::peers::observation::{Freshness, Observation};
use crate::peers::record::VerifiedRecord;

mod budget;
mod combine;
mod entry;
mod legacy;
mod outcome;
mod restore;
mod room;
mod view;

pub use budget::DialBudget;
pub use combine::Base;
pub use entry::Entry;
pub(in crate::peers) use entry::last_address;
use entry::{bits, replace, told_by};
pub use legacy::Legacy;
pub use outcome::{Inserted, Merged, Refused};
pub use view::Page;

/// How much a table takes, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Records at most, up to 100,000.
    pub capacity: usize,
    /// How long a server may not answer until lists leave it out.
    pub stale_after: Duration,
    /// How long it may not answer until it is forgotten.
    pub drop_after: Duration,
}

impl TableLimits {
    /// No table has more records.
    pub const MAX_CAPACITY: usize = 100_000;

    /// Returns how many records one [`Network`] may have brought: a tenth of the capacity.
    pub fn per_source(&self) -> usize {
        (self.capacity / 10).max(1)
    }
}

impl Default for TableLimits {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { capacity: 10_000, stale_after: day, drop_after: 7 * day }
    }
}

/// All servers one knows.
#[derive(Debug, Clone, Default)]
pub struct PeerTable {
    limits: TableLimits,
    own: Option<NodeId>,
    nodes: BTreeMap<NodeId, Entry>,
    legacy: BTreeMap<SocketAddr, Legacy>,
    /// How many nodes may be dialled at each address.
    places: BTreeMap<SocketAddr, usize>,
    /// How many records each network has brought.
    brought: BTreeMap<Network, usize>,
    /// The hash of each bucket; `None` is to be made anew.
    hashes: Vec<Option<[u8; 6]>>,
    /// Who would go first; made when there is first no room.
    line: Option<BTreeSet<(room::Worth, NodeId)>>,
    /// How many entries answered when last tried.
    good: usize,
    /// No record ends before this.
    next_end: Option<i64>,
}

impl PeerTable {
    /// Makes an empty table. `own` is the node whose table it is.
    pub fn new(limits: TableLimits, own: Option<NodeId>) -> Self {
        let capacity = limits.capacity.clamp(1, TableLimits::MAX_CAPACITY);
        let limits = TableLimits { capacity, ..limits };
        Self { limits, own, hashes: vec![Some([0; 6]); 256], ..Self::default() }
    }

    /// Returns the limits it keeps.
    pub fn limits(&self) -> TableLimits {
        self.limits
    }

    /// Returns the node whose table it is.
    pub fn own(&self) -> Option<NodeId> {
        self.own
    }

    /// Returns how many nodes it has, this one among them.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether it knows nobody, with or without a key.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.legacy.is_empty()
    }

    /// Returns a node's entry.
    pub fn get(&self, node: NodeId) -> Option<&Entry> {
        self.nodes.get(&node)
    }

    /// Returns whether a node with a key may be dialled at an address, in O(log n).
    pub fn is_some_nodes(&self, address: SocketAddr) -> bool {
        self.places.contains_key(&address)
    }

    /// Returns all entries in the order of their node ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Entry)> {
        self.nodes.iter().map(|(node, entry)| (*node, entry))
    }

    /// Adds or replaces a record that `source` brought, in O(log n).
    ///
    /// # Errors
    /// [`Refused`]; the table is then as it was.
    pub fn insert(
        &mut self,
        record: VerifiedRecord,
        source: Source,
        now: Timestamp,
    ) -> Result<Inserted, Refused> {
        if record.expires_at() <= now {
            return Err(Refused::Expired);
        }
        let node = record.node_id();
        if self.own == Some(node) && source != Source::Own {
            return self.insert_own(&record);
        }
        if told_by(&record, source) == 0 && !record.is_gone() {
            return Err(Refused::NoAddress);
        }
        match self.nodes.get(&node) {
            Some(_) => Ok(self.update(record, source, now)),
            None => self.insert_new(record, source, now),
        }
    }

    /// Adds what comes, verified, from one source.
    pub fn merge(
        &mut self,
        records: impl IntoIterator<Item = VerifiedRecord>,
        source: Source,
        now: Timestamp,
    ) -> Merged {
        let mut merged = Merged::default();
        records.into_iter().for_each(|record| merged.count(self.insert(record, source, now)));
        merged
    }

    fn insert_own(&self, record: &VerifiedRecord) -> Result<Inserted, Refused> {
        match self.nodes.get(&record.node_id()) {
            Some(entry) if entry.record == *record => Ok(Inserted::Known),
            Some(entry) if entry.record.seq() > record.seq() => Ok(Inserted::Older),
            _ => Err(Refused::Own { seq: record.seq() }),
        }
    }

    fn insert_new(
        &mut self,
        record: VerifiedRecord,
        source: Source,
        now: Timestamp,
    ) -> Result<Inserted, Refused> {
        let node = record.node_id();
        let source_network = network_of(source);
        let entry = Entry {
            told: told_by(&record, source),
            rival: None,
            source: source_network,
            // A node is never without its own record.
            pinned: self.own == Some(node),
            seen: None,
            record,
        };
        if source_network.is_some_and(|network| self.brought_by(network) >= self.limits.per_source()) {
            return Err(Refused::SourceQuota);
        }
        self.make_room(node, &entry, now)?;
        self.add(node, entry);
        Ok(Inserted::New)
    }

    /// Decides between the record of a node that is there and another one.
    fn update(&mut self, record: VerifiedRecord, source: Source, now: Timestamp) -> Inserted {
        let (node, end) = (record.node_id(), record.expires_at().unix());
        let result = self.change(node, |entry| replace(entry, record, source, now));
        let result = result.expect("it was there a moment ago");
        if result != Inserted::Older {
            self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
            self.touch(node);
        }
        result
    }

    /// Changes an entry, and its place among those that may go.
    fn change<T>(&mut self, node: NodeId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.leave_line(node);
        let entry = self.nodes.get_mut(&node)?;
        let was_good = room::is_good(entry);
        let before: Vec<SocketAddr> = entry.addresses().collect();
        let result = change(entry);
        self.good = self.good + usize::from(room::is_good(entry)) - usize::from(was_good);
        if !before.iter().copied().eq(entry.addresses()) {
            take_place(&mut self.places, entry.addresses());
            leave_place(&mut self.places, before.into_iter());
        }
        self.join_line(node);
        Some(result)
    }

    /// Forgets records and rows whose time is over, and servers that have not answered for too long. Of a pinned server
    /// whose record has ended the address stays, as a row without a key, so that it is asked anew. Returns how many went.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        self.drop_silent(now) + self.drop_ended(now)
    }

    /// Forgets records that have ended. It looks for them only when there can be one.
    fn drop_ended(&mut self, now: Timestamp) -> usize {
        if self.next_end.is_none_or(|end| end > now.unix()) {
            return 0;
        }
        let over = |record: &VerifiedRecord| record.expires_at() <= now;
        let ended: Vec<NodeId> =
            self.nodes.iter().filter(|(_, entry)| entry.records().any(over)).map(|(node, _)| *node).collect();
        let before = self.nodes.len();
        for node in ended {
            self.touch(node);
            if self.change(node, |entry| entry.end(now)) == Some(true) && self.own != Some(node) {
                self.look_for_again(node);
            }
        }
        let ends = self.nodes.values().flat_map(Entry::records).map(|record| record.expires_at().unix());
        self.next_end = ends.filter(|end| *end > now.unix()).min();
        before - self.nodes.len()
    }

    /// Forgets a node whose record has ended; where it is pinned, its address stays. One that took leave has none, and stays
    /// as it is until it is back.
    fn look_for_again(&mut self, node: NodeId) {
        let Some(entry) = self.nodes.get(&node).filter(|entry| entry.pinned) else {
            self.remove(node);
            return;
        };
        let Some(address) = entry.last_address() else { return };
        let row = Legacy { name: String::new(), seen: entry.observation(), pinned: true, source: None };
        self.remove(node);
        self.legacy.entry(address).or_insert(row).pinned = true;
    }

    fn drop_silent(&mut self, now: Timestamp) -> usize {
        let TableLimits { stale_after, drop_after, .. } = self.limits;
        let over = |seen: &Observation| {
            seen.failures > 0 && seen.freshness(stale_after, drop_after, now) == Freshness::Dropped
        };
        let silent: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, entry)| !entry.pinned && entry.seen.as_deref().is_some_and(over))
            .map(|(node, _)| *node)
            .collect();
        let rows = self.legacy.len();
        self.legacy.retain(|_, row| row.pinned || !over(&row.seen));
        silent.iter().for_each(|node| drop(self.remove(*node)));
        silent.len() + rows - self.legacy.len()
    }

    /// Forgets a node; returns what was known of it.
    pub fn remove(&mut self, node: NodeId) -> Option<Entry> {
        self.leave_line(node);
        let entry = self.nodes.remove(&node)?;
        self.good -= usize::from(room::is_good(&entry));
        leave_place(&mut self.places, entry.addresses());
        self.unbring(entry.source);
        self.touch(node);
        Some(entry)
    }

    /// Keeps a node. Returns whether it is known.
    pub fn pin(&mut self, node: NodeId) -> bool {
        self.change(node, |entry| entry.pinned = true).is_some()
    }

    /// No longer keeps a node; its own one a table always keeps. Returns whether it is known.
    pub fn unpin(&mut self, node: NodeId) -> bool {
        let own = self.own == Some(node);
        self.change(node, |entry| entry.pinned = own).is_some()
    }

    /// Notes what was measured of a node. Returns whether it is known.
    pub fn observe(&mut self, node: NodeId, note: impl FnOnce(&mut Observation)) -> bool {
        self.change(node, |entry| note(entry.seen.get_or_insert_default())).is_some()
    }

    /// Notes that a node answered at an address, and proved its key: it is no longer on the account of whoever told of it,
    /// but of the network it is in, where that has not brought too much itself. A row without a key for the same address
    /// goes; if the user had it pinned, the node is pinned instead.
    pub fn reached(&mut self, node: NodeId, at: SocketAddr) {
        let network = Network::of(at.ip());
        let room = self.brought_by(network) < self.limits.per_source();
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        if let Some(old) = entry.source.filter(|old| *old != network && room) {
            entry.source = Some(network);
            *self.brought.entry(network).or_default() += 1;
            self.unbring(Some(old));
        }
        if self.legacy.remove(&at).is_some_and(|row| row.pinned) {
            self.pin(node);
        }
    }

    /// Returns how many records a network has brought.
    pub fn brought_by(&self, network: Network) -> usize {
        self.brought.get(&network).copied().unwrap_or_default()
    }

    fn add(&mut self, node: NodeId, entry: Entry) {
        let end = entry.record.expires_at().unix();
        self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
        if let Some(network) = entry.source {
            *self.brought.entry(network).or_default() += 1;
        }
        self.good += usize::from(room::is_good(&entry));
        take_place(&mut self.places, entry.addresses());
        self.nodes.insert(node, entry);
        self.touch(node);
        self.join_line(node);
    }

    fn unbring(&mut self, network: Option<Network>) {
        let Some(network) = network else { return };
        if let Some(count) = self.brought.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.brought.remove(&network);
            }
        }
    }

    /// Has the hash of a node's bucket made anew.
    fn touch(&mut self, node: NodeId) {
        self.hashes[usize::from(node.as_bytes()[0])] = None;
    }
}

fn take_place(places: &mut BTreeMap<SocketAddr, usize>, addresses: impl Iterator<Item = SocketAddr>) {
    addresses.for_each(|address| *places.entry(address).or_default() += 1);
}

fn leave_place(places: &mut BTreeMap<SocketAddr, usize>, addresses: impl Iterator<Item = SocketAddr>) {
    for address in addresses {
        if let Some(count) = places.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&address);
            }
        }
    }
}

fn network_of(source: Source) -> Option<Network> {
    match source {
        Source::Own => None,
        Source::Peer(from) => Some(Network::of(from)),
    }
}
