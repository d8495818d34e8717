//! What a server says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ServerId;
use crate::id::{ChainHash, Cid, GroupId, Seq, UserName};

/// What a server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The user is signed in.
    Welcome {
        /// The user.
        user: UserName,
        /// What proves the user the next time, instead of a password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The server.
        server: ServerId,
        /// The server's clock, in milliseconds since 1970.
        now: u64,
        /// What it takes and gives at most.
        limits: Limits,
        /// What the user may do.
        rights: Rights,
    },
    /// New messages of a group, in order and without gaps.
    Msgs {
        /// The group.
        g: GroupId,
        /// The messages.
        m: Vec<Message>,
    },
    /// A message is stored, and survives the loss of power.
    Ack {
        /// What the client calls it.
        cid: Cid,
        /// The group.
        g: GroupId,
        /// Its number there.
        seq: Seq,
        /// When, in milliseconds since 1970 by the server's clock.
        ts: u64,
        /// Whether it was there already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dup: bool,
    },
    /// A message is not stored.
    Nack {
        /// What the client calls it, as far as it could be read.
        cid: String,
        /// Why not.
        code: NackCode,
        /// When it may be tried again; never, without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
        /// The same in words.
        msg: String,
    },
    /// An answer to `hist`.
    Page {
        /// What the question called it.
        id: u64,
        /// The group.
        g: GroupId,
        /// The messages, the oldest first.
        m: Vec<Message>,
        /// Whether there are more in the direction that was asked for.
        more: bool,
        /// How many of those asked for are gone, as they are older than what is kept.
        #[serde(default, skip_serializing_if = "is_zero")]
        expired: u64,
    },
    /// An answer to `find`, the newest first.
    Hits {
        /// What the question called it.
        id: u64,
        /// What was found.
        m: Vec<Hit>,
        /// Whether there is more.
        more: bool,
    },
    /// An answer to `who`.
    Members {
        /// What the question called it.
        id: u64,
        /// The group.
        g: GroupId,
        /// Everybody who may be there.
        m: Vec<Member>,
    },
    /// Messages were not sent, as the client reads too slowly or was away: it asks for them with `hist`. What comes
    /// by itself goes on after them.
    Lag {
        /// The group.
        g: GroupId,
        /// The first message that was not sent.
        from: Seq,
    },
    /// Who has come and gone since the last one; at most one a second.
    Presence {
        /// Whether these are all who are there, and not changes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
        /// Who came, by group.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        on: BTreeMap<GroupId, BTreeSet<UserName>>,
        /// Who went, by group.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        off: BTreeMap<GroupId, BTreeSet<UserName>>,
    },
    /// Somebody is typing.
    Typing {
        /// Where.
        g: GroupId,
        /// Who.
        user: UserName,
    },
    /// The policy has changed: what the user may do now.
    Policy {
        /// All of it.
        rights: Rights,
    },
    /// The answer to `ping`.
    Pong {
        /// The server's clock, in milliseconds since 1970.
        now: u64,
    },
    /// Something was refused.
    Error {
        /// What the question called its answer, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// What.
        code: ErrorCode,
        /// Whether the connection ends.
        fatal: bool,
        /// When it may be tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
        /// The same in words.
        msg: String,
    },
    /// The connection ends.
    Closing {
        /// Why.
        why: WhyClosing,
        /// When to come back, which differs from client to client; not at all, without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// What a newer server says.
    #[serde(other)]
    Unknown,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its number in the group.
    pub seq: Seq,
    /// When it was stored, in milliseconds since 1970 by the server's clock.
    pub ts: u64,
    /// Who sent it.
    pub from: UserName,
    /// What its sender's client calls it.
    pub cid: Cid,
    /// What is said, exactly as it was sent.
    pub text: String,
    /// The hash of it and of all before it in the group.
    pub h: ChainHash,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The group.
    pub g: GroupId,
    /// The message.
    pub m: Message,
}

/// Somebody who may be in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// Whether they are there.
    pub on: bool,
}

/// What a server takes and gives at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest message, in bytes of UTF-8.
    pub text_bytes: u64,
    /// Messages a second.
    pub per_s: u32,
    /// Messages at once.
    pub burst: u32,
    /// Messages in a page.
    pub page: u32,
    /// How long messages are kept, in seconds.
    pub retention_s: u64,
}

/// What a user may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Every group the user may do anything in.
    pub groups: Vec<RightsIn>,
    /// The group to begin in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<GroupId>,
    /// How the user goes from group to group.
    #[serde(default)]
    pub moves: Moves,
    /// Where a line goes that is typed in a group which the user may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<GroupId>,
}

/// What a user may do in a group, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsIn {
    /// The group.
    pub g: GroupId,
    /// What people call it.
    pub name: String,
    /// The command that leads there, without its colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether the user may read.
    pub r: bool,
    /// Whether the user may write.
    pub w: bool,
    /// The first message that is kept; one more than `last` when none is.
    pub first: Seq,
    /// The last message.
    pub last: Seq,
    /// The last message the user has seen, on any device.
    pub read: Seq,
    /// Whether the client has messages that this server never had, or other ones under their numbers: it forgets what it
    /// has of the group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

/// How a user goes from group to group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moves {
    /// By the commands of the groups.
    Switch,
    /// By `:t`, from one to the next.
    Toggle,
    /// Not at all: there is one group.
    #[default]
    #[serde(other)]
    Stay,
}

/// Why a message is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NackCode {
    /// The user may read there, and not write.
    NoWrite,
    /// There is no such group for this user.
    NoGroup,
    /// It is longer than `text_bytes`.
    TooLong,
    /// Nothing is said.
    Empty,
    /// There were too many; it may be sent again.
    Rate,
    /// Its `cid` is none.
    BadCid,
    /// Another message has this `cid`.
    Conflict,
    /// The server ends; it may be sent again.
    Closed,
    /// The server cannot store now; it may be sent again.
    Unavailable,
    /// What a newer server says.
    #[serde(other)]
    Other,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It is no frame.
    BadFrame,
    /// The versions do not fit.
    Version,
    /// The first frame is no `hello`, or a later one is.
    Order,
    /// Nobody is called so, or it is not proved.
    Auth,
    /// There were too many.
    Rate,
    /// There is no such group for this user.
    NoGroup,
    /// The server cannot do it now.
    Unavailable,
    /// What a newer server says.
    #[serde(other)]
    Other,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyClosing {
    /// The server ends.
    Stop,
    /// The client said `bye`.
    Bye,
    /// The user is no longer one, or is disabled.
    Removed,
    /// The client gave no sign of life.
    Silent,
    /// There are too many connections of this user.
    Crowded,
    /// What a newer server says.
    #[serde(other)]
    Other,
}
