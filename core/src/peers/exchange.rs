//! The exchange of tables: whom to ask, for what, and what to answer. Both ends are here, without any network.
//!
//! A client asks up to three servers a round ([`choose`]). Its [`Round`] says what to send; each answer brings records
//! and the short ids of what there is beside, so that no record has to come twice:
//!
//! 1. The first ask says what the client has: all short ids while that is little or much is expected to differ, else a
//!    [`Digest`] of 2 KB. The three begin their answers at different buckets.
//! 2. A digest that differs much is answered with the buckets; the client then says what it has in those.
//! 3. What did not fit is asked for by short id, of one server each, a full page at a time; what that server lacks goes
//!    along with it.
//!
//! ```
//! use gx_core::peers::exchange::{Pace, Round, answer};
//! use gx_core::peers::{PeerTable, Source, TableLimits};
//! use gx_core::Timestamp;
//!
//! let now = Timestamp::from_unix(1_800_000_000);
//! let mut mine = PeerTable::new(TableLimits::default(), None);
//! let mut theirs = PeerTable::new(TableLimits::default(), None);
//! let mut pace = Pace::new();
//! let mut round = Round::begin(&pace, 1, 0);
//! loop {
//!     let asks = round.asks(&mut mine.book(Source::Own, now), &mut pace);
//!     if asks.is_empty() {
//!         break;
//!     }
//!     for sent in asks {
//!         // Over the network; `sent.push` is what goes along.
//!         let reply = answer(&mut theirs.book(Source::Own, now), &sent.ask);
//!         // Verify and merge `reply.records` here.
//!         round.heard(sent.peer, &sent.ask, &reply);
//!     }
//! }
//! pace.ended(&round, mine.len());
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::peers::address::Source;
use crate::peers::digest::{Buckets, Digest, ShortId, ShortIds};
use crate::peers::record::VerifiedRecord;
use crate::peers::table::{Page, PeerTable};

mod chance;
mod round;

pub use chance::{Chance, choose};
pub use round::{Pace, Round, Sent};

/// So few are sent wherever they are; more only from the asker's arc, as others are asked for the rest.
const SEND_ANYHOW: usize = 32;
/// A differing part of at most so many records is sent at once, instead of asking what the other end has of it.
const SEND_AT_ONCE: usize = 64;

/// What an ask asks. JSON: what is not said is not asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ask {
    /// All that the asker has, by bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// All that the asker has, one by one: what else there is, is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub have: Option<ShortIds>,
    /// The only buckets that `have` is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Buckets>,
    /// These are wanted.
    #[serde(skip_serializing_if = "ShortIds::is_empty")]
    pub want: ShortIds,
    /// The bucket to begin at, for what does not fit.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: u8,
    /// How many servers are asked at once: of what `have` leaves, only that part of all buckets from `start` on is
    /// wanted now, and the short ids of the rest. 0 and 1 are everything.
    #[serde(skip_serializing_if = "is_zero")]
    pub parts: u8,
}

impl Ask {
    /// Returns the buckets that are wanted now.
    fn arc(&self) -> Buckets {
        let length = 256_usize.div_ceil(usize::from(self.parts.max(1)));
        let mut arc = Buckets::NONE;
        (0..length).for_each(|step| arc.insert(self.start.wrapping_add(step as u8)));
        arc
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// What is answered. JSON: the records are in `ip_address`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer<R> {
    /// Records: at most 512 and 256 KiB.
    #[serde(rename = "ip_address")]
    pub records: Vec<R>,
    /// What is there beside and did not fit.
    #[serde(default, skip_serializing_if = "ShortIds::is_empty")]
    pub rest: ShortIds,
    /// What the asker has and this end lacks.
    #[serde(default, skip_serializing_if = "ShortIds::is_empty")]
    pub lack: ShortIds,
    /// The buckets that differ from the asker's digest. When there are records too, they are all that is in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differ: Option<Buckets>,
    /// How many records there are in all.
    #[serde(default)]
    pub known: usize,
}

/// A table as one end of an exchange sees it; [`PeerTable::book`] makes one.
pub trait Book {
    /// What is exchanged.
    type Record: Clone;
    /// Returns how many records there are.
    fn known(&self) -> usize;
    /// Returns the digest of all of them.
    fn digest(&mut self) -> Digest;
    /// Returns their short ids.
    fn short_ids(&self, buckets: &Buckets) -> ShortIds;
    /// Returns the records of some short ids, without those the other end may not see, in the order of their nodes.
    fn lookup(&self, ids: &ShortIds) -> Vec<Self::Record>;
    /// Returns the short id of the table's own server.
    fn own(&self) -> Option<ShortId>;
    /// Returns the short id of a record and what it takes on the wire, in bytes.
    fn measure(record: &Self::Record) -> (ShortId, usize);
}

/// Returns the answer to an ask. What came along with the ask is merged before.
pub fn answer<B: Book>(book: &mut B, ask: &Ask) -> Answer<B::Record> {
    let known = book.known();
    let mut answer = Answer {
        records: Vec::new(),
        rest: ShortIds::default(),
        lack: ShortIds::default(),
        differ: None,
        known,
    };
    let mut wanted = if ask.want.is_empty() { ShortIds::default() } else { ask.want.clone() };
    if let Some(digest) = &ask.digest {
        let differ = book.digest().differing(digest);
        let there = book.short_ids(&differ);
        if there.len() <= SEND_AT_ONCE {
            wanted = wanted.union(&there);
        }
        answer.differ = Some(differ);
    } else if let Some(have) = &ask.have {
        let mine = book.short_ids(&ask.within.unwrap_or(Buckets::ALL));
        answer.lack = have.without(&mine);
        wanted = wanted.union(&mine.without(have));
    }
    let all = ask.have.is_none() || ask.parts <= 1 || wanted.len() <= SEND_ANYHOW;
    let mut now = if all { std::mem::take(&mut wanted) } else { wanted.take_within(&ask.arc()) };
    let first = now.take_from(ask.start, Page::MAX_RECORDS);
    let (records, too_many) = fitting::<B>(book.lookup(&first), Page::MAX_BYTES);
    answer.records = records;
    answer.rest = wanted.union(&now).union(&too_many);
    answer
}

/// Returns as many as one body may have, and the short ids of the others.
fn fitting<B: Book>(mut records: Vec<B::Record>, max_bytes: usize) -> (Vec<B::Record>, ShortIds) {
    let mut bytes = 0;
    let fits = |record: &B::Record| {
        bytes += B::measure(record).1;
        bytes > max_bytes
    };
    let end = records.iter().position(fits).unwrap_or(records.len()).min(Page::MAX_RECORDS);
    let others = records.split_off(end);
    let others = others.iter().map(|record| B::measure(record).0).collect();
    (records, others)
}

/// A [`PeerTable`] as one end of an exchange.
#[derive(Debug)]
pub struct TableBook<'a> {
    table: &'a mut PeerTable,
    viewer: Source,
    now: Timestamp,
}

impl PeerTable {
    /// Opens the table for an exchange with `viewer`, who sees only what it may.
    pub fn book(&mut self, viewer: Source, now: Timestamp) -> TableBook<'_> {
        self.expire(now);
        TableBook { table: self, viewer, now }
    }
}

impl Book for TableBook<'_> {
    type Record = VerifiedRecord;

    fn known(&self) -> usize {
        self.table.len()
    }

    fn digest(&mut self) -> Digest {
        self.table.digest()
    }

    fn short_ids(&self, buckets: &Buckets) -> ShortIds {
        self.table.short_ids(buckets)
    }

    fn lookup(&self, ids: &ShortIds) -> Vec<VerifiedRecord> {
        self.table.lookup(ids, self.viewer, self.now).cloned().collect()
    }

    fn own(&self) -> Option<ShortId> {
        let entry = self.table.get(self.table.own()?)?;
        (entry.record().expires_at() > self.now).then(|| entry.record().short_id())
    }

    fn measure(record: &VerifiedRecord) -> (ShortId, usize) {
        (record.short_id(), record.wire_bytes())
    }
}
