//! What a host's audit log says: one line of JSON for each entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Timestamp};
use crate::runtime::ErrorCode;

/// The name of the log in the data folder; older files have `.1`, `.2` and so on behind it.
pub const FILE: &str = "audit.log";

/// Who did what, from where, and whether they were let.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// When it was answered.
    pub time: Timestamp,
    /// The id of the request.
    pub request: String,
    /// Whether it is about a request or the end of a session.
    #[serde(default)]
    pub event: AuditEvent,
    /// What they are to the host.
    pub caller: CallerKind,
    /// Who they are, where they proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What the host calls the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As whom they signed in to the chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address they came from.
    pub from: String,
    /// The method and the path, as in the API's document.
    pub verb: String,
    /// The container, as it was referred to, or its name where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Whether it was done.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The status of the answer.
    pub status: u16,
    /// How long it took, in milliseconds; of a session, from its beginning.
    pub ms: u64,
    /// How many entries before this one are missing: there were more than the log takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// A request.
    #[default]
    Request,
    /// A session has ended: a command by exec, or a connection to SSH or a desktop.
    End,
}

/// What somebody is to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    /// The host itself.
    Host,
    /// A node it lends to.
    Member,
    /// Anybody else.
    Stranger,
}

impl CallerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Host, Self::Member, Self::Stranger];

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Member => "member",
            Self::Stranger => "stranger",
        }
    }
}
