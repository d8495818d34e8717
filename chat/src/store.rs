//! Where messages are kept. A group's messages are numbered from 1 without gaps, in the order in which they were stored; what
//! is stored survives the loss of power.
//!
//! [`SqliteStore`] is the store of one host, in files. Another engine is another [`ChatStore`].

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use crate::chain::ChainError;
use crate::frames::{Hit, Message};
use crate::id::{ChainHash, Cid, DeviceId, GroupId, Seq, UserName};

mod accounts;
mod append;
mod examine;
mod expire;
mod open;
mod positions;
mod read;
mod search;
mod sqlite;
#[cfg(test)]
mod tests;

pub use accounts::{Account, AccountStore, TokenHash};
pub use examine::Examined;
pub use sqlite::SqliteStore;

/// A store of messages. All of it may block: it is called where that is in nobody's way.
pub trait ChatStore: Send + Sync {
    /// Stores messages, all in one transaction, and returns what became of each, once they survive the loss of power.
    /// `now` is the clock's time; messages have it, or that of the last one when the clock went back.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    fn append(&self, batch: &[NewMessage], now: u64) -> Result<Vec<Outcome>, StoreError>;

    /// Returns messages of a group, the oldest first; none from before `oldest`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, group: &GroupId, range: Range, limit: u32, oldest: u64) -> Result<Page, StoreError>;

    /// Returns the messages of these groups that have all words of the query, the newest first; none from before `oldest`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn search(
        &self,
        query: &str,
        groups: &BTreeSet<GroupId>,
        limit: u32,
        oldest: u64,
    ) -> Result<Found, StoreError>;

    /// Returns what there is of each group that has, or had, messages.
    fn heads(&self) -> BTreeMap<GroupId, Head>;

    /// Notes how far devices have received, and users have read.
    ///
    /// # Errors
    /// [`StoreError`].
    fn mark(&self, marks: &[Mark]) -> Result<(), StoreError>;

    /// Returns how far a user has read on any device, by group.
    ///
    /// # Errors
    /// [`StoreError`].
    fn positions(&self, user: &UserName) -> Result<BTreeMap<GroupId, Seq>, StoreError>;

    /// Deletes what is from before `oldest`, gives its room back, and returns how many messages that were.
    ///
    /// # Errors
    /// [`StoreError`].
    fn expire(&self, oldest: u64) -> Result<u64, StoreError>;

    /// Returns what changes each time there may be something new to read.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Checks that the messages of each group follow one another as they were stored, and returns how many there are.
    ///
    /// # Errors
    /// [`StoreError::Chain`] where they do not.
    fn verify(&self) -> Result<u64, StoreError>;
}

/// A message to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Where.
    pub group: GroupId,
    /// Who sent it.
    pub from: UserName,
    /// What its sender calls it. While it is kept, none of the same sender is stored under it again.
    pub cid: Cid,
    /// What is said.
    pub text: String,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored {
        /// Its number.
        seq: Seq,
        /// When, in milliseconds since 1970.
        ts: u64,
    },
    /// The same message was stored before.
    Duplicate {
        /// Its number.
        seq: Seq,
        /// When, in milliseconds since 1970.
        ts: u64,
    },
    /// Another message has its `cid`; this one is not stored.
    Conflict,
}

/// Which messages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The first ones after this one.
    After(Seq),
    /// The last ones before this one.
    Before(Seq),
    /// The last ones.
    Last,
    /// The first ones since this time, in milliseconds since 1970.
    Since(u64),
}

/// Messages of a group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The messages, the oldest first, without gaps.
    pub messages: Vec<Message>,
    /// Whether there are more in the direction asked for.
    pub more: bool,
    /// How many of those asked for are too old to be read.
    pub expired: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// The messages, the newest first.
    pub hits: Vec<Hit>,
    /// Whether there are more.
    pub more: bool,
}

/// What there is of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The first message that is kept; the one after `last` when none is.
    pub first: Seq,
    /// The last message.
    pub last: Seq,
    /// Its hash.
    pub hash: ChainHash,
}

impl Head {
    /// A group without messages.
    pub const EMPTY: Self = Self { first: Seq::ONE, last: Seq::ZERO, hash: ChainHash::ROOT };
}

/// How far somebody is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Who.
    pub user: UserName,
    /// On which device.
    pub device: DeviceId,
    /// Where.
    pub group: GroupId,
    /// The last message the device has received; 0 where only `read` is known.
    pub got: Seq,
    /// The last message the user has read there; 0 where only `got` is known.
    pub read: Seq,
}

/// Says why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room left.
    #[error("no room is left for {path}")]
    Full {
        /// The database.
        path: String,
    },
    /// Another program has it.
    #[error("{path} is in use by another program")]
    Locked {
        /// The database.
        path: String,
    },
    /// It is damaged.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The database.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The messages are not what was stored.
    #[error("the chain of messages does not hold")]
    Chain(#[from] ChainError),
    /// It was made by a newer version.
    #[error("{path} is of version {found}, and this is version {known}")]
    Newer {
        /// The database.
        path: String,
        /// Its version.
        found: i64,
        /// The latest known version.
        known: i64,
    },
    /// It was made by an older version, and is only looked at.
    #[error("{path} is of version {found}, and this is version {known}")]
    Older {
        /// The database.
        path: String,
        /// Its version.
        found: i64,
        /// The version it would be brought up to.
        known: i64,
    },
    /// Anything else.
    #[error("{path} cannot be used")]
    Failed {
        /// The database.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some("make room on that file system; it goes on by itself".to_owned()),
            Self::Locked { .. } => {
                Some("end the other program: two servers cannot share a data folder".to_owned())
            }
            Self::Damaged { .. } | Self::Chain(_) => {
                Some("restore a backup of it, or move it away to begin anew".to_owned())
            }
            Self::Newer { .. } => Some("use the version of gx that made it, or a later one".to_owned()),
            Self::Older { .. } => Some("start the server: it brings the database up to date".to_owned()),
            Self::Failed { .. } => None,
        }
    }
}
