//! Two versions of one table brought together: this program's, and what another one has written into the file since.
//!
//! Both come from a common one, the [`Base`], so that what one of them has removed is told from what the other has added.
//! Of a record the newer holds, of what was measured the later, and of pinned or not the one that was changed.

use super::*;

/// What a table was when it was last in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    nodes: BTreeMap<NodeId, (u64, bool)>,
    legacy: BTreeMap<SocketAddr, bool>,
}

impl PeerTable {
    /// Returns what is needed of this version to bring others that come of it together.
    pub fn base(&self) -> Base {
        let nodes = self.nodes.iter().map(|(node, entry)| (*node, (entry.record.seq(), entry.pinned)));
        let legacy = self.legacy.iter().map(|(address, row)| (*address, row.pinned));
        Base { nodes: nodes.collect(), legacy: legacy.collect() }
    }

    /// Takes in what another program has made of `base`.
    pub fn combine(&mut self, theirs: PeerTable, base: &Base, now: Timestamp) {
        self.leave_what_they_removed(&theirs, base);
        for (node, entry) in theirs.nodes {
            self.combine_node(node, entry, base.nodes.get(&node).copied(), now);
        }
        for (address, row) in theirs.legacy {
            self.combine_legacy(address, row, base.legacy.get(&address).copied());
        }
    }

    /// Removes what was there before and is not there in theirs, unless there is something newer of it here.
    fn leave_what_they_removed(&mut self, theirs: &PeerTable, base: &Base) {
        for (node, (seq, _)) in base.nodes.iter().filter(|(node, _)| !theirs.nodes.contains_key(node)) {
            let same = self.nodes.get(node).is_some_and(|mine| mine.record.seq() <= *seq);
            if same && self.own != Some(*node) {
                self.remove(*node);
            }
        }
        for address in base.legacy.keys().filter(|address| !theirs.legacy.contains_key(address)) {
            self.legacy.remove(address);
        }
    }

    fn combine_node(&mut self, node: NodeId, theirs: Entry, base: Option<(u64, bool)>, now: Timestamp) {
        if !self.nodes.contains_key(&node) {
            let removed_here = base.is_some_and(|(seq, _)| theirs.record.seq() <= seq);
            if !removed_here && self.make_room(node, &theirs, now).is_ok() {
                self.add(node, theirs);
            }
            return;
        }
        let own = self.own == Some(node);
        let end = theirs.record.expires_at().unix();
        self.change(node, |mine| {
            let before = (mine.record.clone(), mine.told);
            for record in theirs.records() {
                replace(mine, record.clone(), Source::Own, now);
            }
            // Which addresses may be dialled was decided by whoever took the record in.
            let told = [before, (theirs.record, theirs.told)];
            let same = told.into_iter().filter(|(record, _)| mine.rival.is_none() && *record == mine.record);
            mine.told = same.fold(0, |bits, (_, told)| bits | told);
            let changed = base.is_none_or(|(_, pinned)| pinned != theirs.pinned);
            mine.pinned = own || if changed { theirs.pinned } else { mine.pinned };
            mine.seen = later(mine.seen.take(), theirs.seen);
        });
        self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
        self.touch(node);
    }

    fn combine_legacy(&mut self, address: SocketAddr, theirs: Legacy, base: Option<bool>) {
        let Some(mine) = self.legacy.get_mut(&address) else {
            let full = self.nodes.len() + self.legacy.len() >= self.limits.capacity;
            if base.is_none() && !full && !self.is_some_nodes(address) {
                self.legacy.insert(address, theirs);
            }
            return;
        };
        if base != Some(theirs.pinned) {
            mine.pinned = theirs.pinned;
        }
        if theirs.seen.last_tried > mine.seen.last_tried {
            mine.seen = theirs.seen;
        }
    }
}

/// Returns what was measured later; what only one of them knows of speed is kept.
fn later(mine: Option<Box<Observation>>, theirs: Option<Box<Observation>>) -> Option<Box<Observation>> {
    let (Some(mine), Some(theirs)) = (&mine, &theirs) else { return mine.or(theirs) };
    let (mut latest, other) =
        if theirs.last_tried > mine.last_tried { (**theirs, **mine) } else { (**mine, **theirs) };
    if other.measured_at > latest.measured_at {
        (latest.download_bps, latest.upload_bps) = (other.download_bps, other.upload_bps);
        latest.measured_at = other.measured_at;
    }
    Some(Box::new(latest))
}
