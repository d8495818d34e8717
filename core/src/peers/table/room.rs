//! Who goes when there is no room: first what has ended, then who fails, then who was never tried, then who is far.
//! Pinned servers never go, nor do the last 32 that answered.
//!
//! A newcomer takes somebody's place only when it is worth more. Among those never tried the fingerprint decides, so that
//! a flood of new ones changes nothing once the best of them are in. What one source brings beyond a tenth is not let
//! in at all, so nobody is ever over a quota.

use std::collections::BTreeSet;

use crate::id::{NodeId, Timestamp};
use crate::peers::table::{Entry, PeerTable, Refused};

/// So many that answered are never given up.
pub(super) const LAST_GOOD: usize = 32;

/// What an entry is worth; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// It took leave, or is quarantined: all there is to keep is that.
    Spent,
    /// It does not answer; the more often, the less.
    Failing { tries_left: u32 },
    /// It was never tried.
    Untested { fingerprint: [u8; 16] },
    /// It answered; the longer it takes, the less.
    Good { nearness: u64 },
}

impl Worth {
    pub(super) fn of(entry: &Entry) -> Self {
        if entry.record.is_gone() || entry.is_quarantined() {
            return Self::Spent;
        }
        let Some(seen) = entry.seen.as_deref() else {
            return Self::Untested { fingerprint: entry.record.fingerprint().0 };
        };
        if seen.failures > 0 {
            return Self::Failing { tries_left: u32::MAX - seen.failures };
        }
        if seen.last_seen.is_none() {
            return Self::Untested { fingerprint: entry.record.fingerprint().0 };
        }
        let micros = seen.latency_ms.map_or(u64::MAX, |ms| (ms.0 * 1e3) as u64);
        Self::Good { nearness: u64::MAX - micros }
    }
}

/// Returns whether an entry is one of the good: it answered when last tried.
pub(super) fn is_good(entry: &Entry) -> bool {
    matches!(Worth::of(entry), Worth::Good { .. })
}

impl PeerTable {
    /// Makes room for an entry that is to come, if it has to.
    ///
    /// # Errors
    /// [`Refused::Full`] when all that could go is worth as much or more.
    pub(super) fn make_room(&mut self, node: NodeId, entry: &Entry, now: Timestamp) -> Result<(), Refused> {
        if self.nodes.len() + self.legacy.len() < self.limits.capacity {
            return Ok(());
        }
        self.drop_ended(now);
        if self.nodes.len() + self.legacy.len() < self.limits.capacity || self.give_up_legacy() {
            return Ok(());
        }
        let worth = if entry.pinned { None } else { Some((Worth::of(entry), node)) };
        let good = self.good;
        let line = self.line.get_or_insert_with(|| line_of(self.nodes.iter()));
        let first = line.first().copied().ok_or(Refused::Full)?;
        let kept = matches!(first.0, Worth::Good { .. }) && good <= LAST_GOOD;
        if kept || worth.is_some_and(|worth| worth <= first) {
            return Err(Refused::Full);
        }
        self.remove(first.1);
        Ok(())
    }

    pub(super) fn leave_line(&mut self, node: NodeId) {
        if let (Some(line), Some(entry)) = (&mut self.line, self.nodes.get(&node)) {
            line.remove(&(Worth::of(entry), node));
        }
    }

    pub(super) fn join_line(&mut self, node: NodeId) {
        if let (Some(line), Some(entry)) = (&mut self.line, self.nodes.get(&node).filter(|e| !e.pinned)) {
            line.insert((Worth::of(entry), node));
        }
    }
}

fn line_of<'a>(entries: impl Iterator<Item = (&'a NodeId, &'a Entry)>) -> BTreeSet<(Worth, NodeId)> {
    entries.filter(|(_, entry)| !entry.pinned).map(|(node, entry)| (Worth::of(entry), *node)).collect()
}
