//! What a table tells: pages in the order of node ids, a digest, short ids, and who can be asked.

use std::ops::Bound;

use super::*;
use crate::peers::digest::ShortId;

/// Some records, in the order of node ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<VerifiedRecord>,
    /// What to ask for after: the last node of this page; `None` when there are no more.
    pub next: Option<NodeId>,
}

impl Page {
    /// The records of one page at most.
    pub const MAX_RECORDS: usize = 512;
    /// The bytes of one page at most, in its texts and signatures.
    pub const MAX_BYTES: usize = 256 * 1_024;
}

impl PeerTable {
    /// Returns the records after a node, as `viewer` may see them: at most `limit`, 512 and 256 KiB.
    ///
    /// Each page begins after the last node of the one before, so what comes and goes meanwhile neither repeats nor hides
    /// what stays.
    pub fn page(&self, after: Option<NodeId>, limit: usize, viewer: Source, now: Timestamp) -> Page {
        let limit = limit.clamp(1, Page::MAX_RECORDS);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes = 0;
        let mut last = None;
        for (node, entry) in self.nodes.range((start, Bound::Unbounded)) {
            let told: Vec<&VerifiedRecord> = entry.told_to(viewer, now).collect();
            bytes += told.iter().map(|record| record.wire_bytes()).sum::<usize>();
            let full = page.records.len() + told.len() > limit || bytes > Page::MAX_BYTES;
            // The two texts of a quarantined node stay together, also on a page of one.
            if full && !page.records.is_empty() {
                page.next = last;
                break;
            }
            page.records.extend(told.into_iter().cloned());
            last = Some(*node);
        }
        page
    }

    /// Returns the digest of what [`short_ids`](PeerTable::short_ids) has; call [`expire`](PeerTable::expire) before.
    /// Only the buckets that have changed are read.
    pub fn digest(&mut self) -> Digest {
        for bucket in 0..=u8::MAX {
            if self.hashes[usize::from(bucket)].is_none() {
                let entries = self.bucket(bucket).filter(|entry| !self.is_over(entry));
                let mut prints: Vec<_> =
                    entries.flat_map(|entry| entry.records().map(VerifiedRecord::fingerprint)).collect();
                self.hashes[usize::from(bucket)] = Some(Digest::of_bucket(&mut prints));
            }
        }
        Digest::new(|bucket| self.hashes[usize::from(bucket)].unwrap_or_default())
    }

    /// Returns the short ids of all records in some buckets.
    pub fn short_ids(&self, buckets: &Buckets) -> ShortIds {
        let entries =
            buckets.iter().flat_map(|bucket| self.bucket(bucket)).filter(|entry| !self.is_over(entry));
        entries.flat_map(Entry::records).map(VerifiedRecord::short_id).collect()
    }

    /// Returns the records with these short ids, as `viewer` may see them.
    pub fn lookup<'a>(
        &'a self,
        ids: &'a ShortIds,
        viewer: Source,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a VerifiedRecord> {
        let mut buckets = Buckets::NONE;
        ids.as_slice().iter().for_each(|id: &ShortId| buckets.insert(id.bucket()));
        let entries: Vec<&Entry> = buckets.iter().flat_map(|bucket| self.bucket(bucket)).collect();
        let told = entries.into_iter().flat_map(move |entry| entry.told_to(viewer, now));
        told.filter(|record| ids.contains(record.short_id()))
    }

    /// Returns who can be asked now, in the order of node ids: usable, with an address that may be dialled, not this node,
    /// and not in a pause after failures. Untested ones are among them.
    pub fn askable(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, &Entry)> {
        let ready = move |entry: &Entry| {
            entry.seen.as_deref().is_none_or(|seen| seen.failures == 0 || seen.may_try(now))
        };
        self.askable_or_pausing(now).filter(move |(_, entry)| ready(entry))
    }

    pub(in crate::peers) fn askable_or_pausing(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (NodeId, &Entry)> {
        self.iter().filter(move |(node, entry)| {
            self.own != Some(*node) && entry.is_usable(now) && entry.addresses().next().is_some()
        })
    }

    fn bucket(&self, bucket: u8) -> impl Iterator<Item = &Entry> {
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        (first[0], last[0]) = (bucket, bucket);
        let range = NodeId::from_bytes(first)..=NodeId::from_bytes(last);
        self.nodes.range(range).map(|(_, entry)| entry)
    }

    /// Returns whether an entry's record had ended when the table last looked, as that of this node may, and of a pinned one
    /// that took leave.
    fn is_over(&self, entry: &Entry) -> bool {
        entry.pinned && self.next_end.is_none_or(|next| entry.record.expires_at().unix() < next)
    }
}

impl Entry {
    /// Returns the records that whoever is at the other end may see: none that has ended, none that says only where in
    /// somebody else's network a server is.
    fn told_to(&self, viewer: Source, now: Timestamp) -> impl Iterator<Item = &VerifiedRecord> {
        self.records().filter(move |record| record.expires_at() > now && may_see(record, viewer))
    }
}

fn may_see(record: &VerifiedRecord, viewer: Source) -> bool {
    record.is_gone() || record.addresses().iter().any(|address| credible(address.ip(), viewer))
}
