//! The table of servers: what each says of itself, what I measured of it, and how tables are compared and merged.
//!
//! | what | where |
//! |---|---|
//! | what a server says of itself, signed | [`PeerRecord`], [`SignedRecord`], [`VerifiedRecord`] |
//! | which addresses may be told by whom | [`address`] |
//! | what I measured of a server | [`Observation`] |
//! | all of them, with limits | [`PeerTable`] |
//! | comparing two tables without sending them | [`Digest`], [`ShortIds`] |
//! | whom to ask for what, and what to answer | [`exchange`] |
//! | `gpu>=1 memory>=8G runtime=podman` | [`Needs`] |
//! | the best server for a need, and why | [`rank`] |
//! | the table as text | [`file`] |
//! | the form in which a table is uploaded | [`form`] |
//!
//! Everything here is pure: `now`, signatures and chance come from the caller. `docs/peers.md` says the same for those
//! who write another implementation.

pub mod address;
mod digest;
pub mod exchange;
pub mod file;
pub mod form;
mod needs;
mod observation;
pub mod rank;
mod record;
mod table;

pub use address::{Network, Source};
pub use digest::{Buckets, Digest, Fingerprint, ShortId, ShortIds};
pub use needs::{Miss, Needs, NeedsError};
pub use observation::{Freshness, Observation};
pub use rank::{Candidate, Ranked, rank};
pub use record::{
    CHAT_LABEL, Gpu, PeerRecord, RECORD_PURPOSE_BYTES, RecordError, Signature, SignedRecord, VerifiedRecord,
    Verify, clean_text, is_label_key,
};
pub use table::{Base, DialBudget, Entry, Inserted, Legacy, Merged, Page, PeerTable, Refused, TableLimits};
