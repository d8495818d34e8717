//! One server in the table, and which of its records holds.

use std::net::SocketAddr;

use crate::id::Timestamp;
use crate::peers::address::{Network, Scope, Source, credible, scope};
use crate::peers::observation::Observation;
use crate::peers::record::VerifiedRecord;
use crate::peers::table::Inserted;

/// A server that has a key.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) record: VerifiedRecord,
    /// Another text of the same seq.
    pub(super) rival: Option<VerifiedRecord>,
    /// Who brought it; `None` is this machine.
    pub(super) source: Option<Network>,
    /// Which addresses of the record somebody told who may, a bit each.
    pub(super) told: u8,
    pub(super) pinned: bool,
    pub(super) seen: Option<Box<Observation>>,
}

impl Entry {
    /// Returns what the server says of itself.
    pub fn record(&self) -> &VerifiedRecord {
        &self.record
    }

    /// Returns whether the server signed two texts with one seq, and so is not to be used.
    pub fn is_quarantined(&self) -> bool {
        self.rival.is_some()
    }

    /// Returns whether the user wants it kept.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Returns the network it was first told by, or was last reached in; `None` is this machine's own word.
    pub fn source(&self) -> Option<Network> {
        self.source
    }

    /// Returns what I measured of it.
    pub fn observation(&self) -> Observation {
        self.seen.as_deref().copied().unwrap_or_default()
    }

    /// Returns the addresses that may be dialled: those of the record that were told by somebody who may tell them.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + Clone + '_ {
        let listed = self.record.addresses().iter().enumerate();
        listed.filter(|(at, _)| self.told & (1 << at) != 0).map(|(_, address)| *address)
    }

    /// Returns where to ask for it when its record has ended: where it was reached, if that is known, else its first address.
    pub(super) fn last_address(&self) -> Option<SocketAddr> {
        last_address(self.addresses(), self.source)
    }

    /// Returns whether it may be used: it is there, and says one thing.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.rival.is_none() && !self.record.is_gone() && self.record.expires_at() > now
    }

    /// Returns the records to pass on: one, or the two that quarantine it.
    pub(super) fn records(&self) -> impl Iterator<Item = &VerifiedRecord> {
        std::iter::once(&self.record).chain(&self.rival)
    }

    /// Lets go of what has ended. Returns whether nothing is left.
    pub(super) fn end(&mut self, now: Timestamp) -> bool {
        self.rival = self.rival.take().filter(|rival| rival.expires_at() > now);
        if self.record.expires_at() > now {
            self.told |= told_by_anybody(&self.record);
            return false;
        }
        let Some(rival) = self.rival.take() else {
            self.told |= told_by_anybody(&self.record);
            return true;
        };
        self.told = told_by_anybody(&rival);
        self.record = rival;
        false
    }

    fn mark(&mut self, source: Source) {
        self.told |= told_by(&self.record, source);
    }
}

/// Returns the first of these addresses that is in the network in which the server was reached, else the first.
pub(in crate::peers) fn last_address(
    addresses: impl Iterator<Item = SocketAddr> + Clone,
    network: Option<Network>,
) -> Option<SocketAddr> {
    let reached = addresses.clone().find(|address| network == Some(Network::of(address.ip())));
    reached.or_else(|| addresses.into_iter().next())
}

pub(super) fn told_by(record: &VerifiedRecord, source: Source) -> u8 {
    bits(record, |address| credible(address.ip(), source))
}

/// Returns those addresses that anybody may tell.
fn told_by_anybody(record: &VerifiedRecord) -> u8 {
    bits(record, |address| scope(address.ip()) == Scope::Public)
}

pub(super) fn bits(record: &VerifiedRecord, which: impl Fn(SocketAddr) -> bool) -> u8 {
    let listed = record.addresses().iter().enumerate();
    listed.filter(|(_, address)| which(**address)).fold(0, |bits, (at, _)| bits | 1 << at)
}

/// Puts a record where another one of its node is. Of more than two texts of one seq the two that come first in an order
/// that is the same everywhere are kept.
pub(super) fn replace(entry: &mut Entry, record: VerifiedRecord, source: Source, now: Timestamp) -> Inserted {
    if record.seq() > entry.record.seq() || entry.record.expires_at() <= now {
        entry.told = 0;
        entry.rival = None;
        entry.record = record;
        entry.mark(source);
        return Inserted::Newer;
    }
    if record.seq() < entry.record.seq() {
        return Inserted::Older;
    }
    if entry.records().any(|known| known.fingerprint() == record.fingerprint()) {
        if entry.rival.is_none() {
            entry.mark(source);
        }
        // One text may have several signatures; everybody is to hold the same one.
        let same = entry.record.fingerprint() == record.fingerprint();
        let held = if same { Some(&mut entry.record) } else { entry.rival.as_mut() };
        if let Some(held) = held.filter(|held| record.order() < held.order()) {
            *held = record;
        }
        return Inserted::Known;
    }
    let mut texts: Vec<VerifiedRecord> = entry.records().cloned().chain([record]).collect();
    texts.sort_unstable_by_key(VerifiedRecord::order);
    let mut texts = texts.into_iter();
    entry.record = texts.next().expect("there are at least two");
    entry.rival = texts.next();
    entry.told = 0;
    Inserted::Rival
}
