//! Putting back what a file of one's own has of a server.

use super::*;
use crate::peers::file::Row;

impl Entry {
    /// Returns the other text of the same seq that quarantines the server.
    pub fn rival(&self) -> Option<&VerifiedRecord> {
        self.rival.as_ref()
    }

    /// Returns what I measured of it, if I did.
    pub fn observed(&self) -> Option<Observation> {
        self.seen.as_deref().copied()
    }
}

impl PeerTable {
    /// Inserts a record as it was when the row was written, also on whose account it is.
    pub(in crate::peers) fn restore(
        &mut self,
        record: VerifiedRecord,
        rival: Option<VerifiedRecord>,
        row: &Row,
        now: Timestamp,
    ) -> Result<Inserted, Refused> {
        let node = record.node_id();
        let account = row.network();
        if account.is_some_and(|network| self.brought_by(network) >= self.limits.per_source()) {
            return Err(Refused::SourceQuota);
        }
        let inserted = self.insert(record, Source::Own, now)?;
        let own = self.own == Some(node);
        if inserted == Inserted::New && !own {
            let dial = row.dial.as_deref().unwrap_or_default();
            self.change(node, |entry| {
                entry.told &= bits(&entry.record, |address| dial.contains(&address));
                entry.source = account;
                entry.pinned = row.pinned;
                entry.seen = row.observed.map(Box::new);
            });
            if let Some(network) = account {
                *self.brought.entry(network).or_default() += 1;
            }
        }
        match rival {
            Some(rival) if rival.node_id() == node => self.insert(rival, Source::Own, now),
            Some(_) | None => Ok(inserted),
        }
    }

    /// Gives a row without a key what was written of it.
    pub(in crate::peers) fn put_back_legacy(&mut self, address: SocketAddr, row: &Row) {
        if let Some(legacy) = self.legacy.get_mut(&address) {
            legacy.seen = row.observed.unwrap_or_default();
            legacy.source = row.network();
        }
    }
}
