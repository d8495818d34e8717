//! Rows without a key, as the predecessor's programs tell them: known by address, never passed on, and never above a
//! server with a key.

use std::net::SocketAddr;

use crate::id::Timestamp;
use crate::peers::address::{Network, Source, credible, possible};
use crate::peers::observation::Observation;
use crate::peers::table::{Inserted, PeerTable, Refused, network_of};

/// So many rows without a key of one [`Network`].
pub(super) const PER_NETWORK: usize = 8;

/// A server without a key. Nothing it or others say of it is sure.
#[derive(Debug, Clone, PartialEq)]
pub struct Legacy {
    /// What it is called; cleaned.
    pub name: String,
    /// What I measured of it.
    pub seen: Observation,
    /// Whether the user wants it kept.
    pub pinned: bool,
    /// Who told of it; `None` is this machine.
    pub source: Option<Network>,
}

impl PeerTable {
    /// Adds an address without a key. What the user adds is pinned and bound by no quota.
    ///
    /// # Errors
    /// [`Refused::NoAddress`], [`Refused::NetworkQuota`], [`Refused::SourceQuota`], [`Refused::Full`].
    pub fn insert_legacy(
        &mut self,
        address: SocketAddr,
        name: &str,
        source: Source,
        now: Timestamp,
    ) -> Result<Inserted, Refused> {
        if !possible(address) || !credible(address.ip(), source) {
            return Err(Refused::NoAddress);
        }
        let pinned = source == Source::Own;
        if let Some(row) = self.legacy.get_mut(&address) {
            row.pinned |= pinned;
            return Ok(Inserted::Known);
        }
        if !pinned {
            self.admit_legacy(address, source)?;
        }
        if self.nodes.len() + self.legacy.len() >= self.limits.capacity {
            self.drop_ended(now);
            let full = self.nodes.len() + self.legacy.len() >= self.limits.capacity;
            if full && !self.give_up_legacy() {
                return Err(Refused::Full);
            }
        }
        let name = crate::peers::clean_text(name, 63);
        let row = Legacy { name, seen: Observation::default(), pinned, source: network_of(source) };
        self.legacy.insert(address, row);
        Ok(Inserted::New)
    }

    fn admit_legacy(&self, address: SocketAddr, source: Source) -> Result<(), Refused> {
        let network = Network::of(address.ip());
        let told = network_of(source);
        let unpinned = || self.legacy.iter().filter(|(_, row)| !row.pinned);
        if unpinned().filter(|(at, _)| Network::of(at.ip()) == network).count() >= PER_NETWORK {
            return Err(Refused::NetworkQuota);
        }
        // All rows without a key together are as much as one source may bring.
        let rows = unpinned().count();
        let brought = told.map_or(0, |told| {
            self.brought_by(told) + unpinned().filter(|(_, r)| r.source == told.into()).count()
        });
        if rows.max(brought) >= self.limits.per_source() { Err(Refused::SourceQuota) } else { Ok(()) }
    }

    /// Returns all rows without a key in the order of their addresses.
    pub fn legacy(&self) -> impl Iterator<Item = (SocketAddr, &Legacy)> {
        self.legacy.iter().map(|(address, row)| (*address, row))
    }

    /// Notes what was measured of a row without a key. Returns whether it is known.
    pub fn observe_legacy(&mut self, address: SocketAddr, note: impl FnOnce(&mut Observation)) -> bool {
        self.legacy.get_mut(&address).map(|row| note(&mut row.seen)).is_some()
    }

    /// Forgets a row without a key; returns what was known of it.
    pub fn remove_legacy(&mut self, address: SocketAddr) -> Option<Legacy> {
        self.legacy.remove(&address)
    }

    /// Gives up the row without a key that failed most often, to make room for one with a key.
    pub(super) fn give_up_legacy(&mut self) -> bool {
        let rows = self.legacy.iter().filter(|(_, row)| !row.pinned);
        let worst = rows.max_by_key(|(address, row)| (row.seen.failures, *address)).map(|(at, _)| *at);
        worst.is_some_and(|address| self.legacy.remove(&address).is_some())
    }
}
