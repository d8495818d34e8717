//! The part of the contract about trust: invitations, members, who is who.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::address::Endpoint;
use crate::id::{InviteId, NodeId, PeerName, PluginName, Timestamp};
use crate::member::{Allowance, Member};
use crate::secret::Secret;

/// How long an invitation is good for where nobody says: a day.
const EXPIRES_S: u64 = 86_400;

/// Whom to invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InviteRequest {
    /// What the host calls who joins; of several the later ones get a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<PeerName>,
    /// How many nodes may join with it.
    pub uses: u32,
    /// For how long it is good, in seconds.
    pub expires_s: u64,
    /// How long who joins is a member, in seconds; `None` is until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// What each who joins may have.
    pub allowance: Allowance,
    /// Where the ticket says the host is; empty for what the host itself knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Endpoint>,
}

impl Default for InviteRequest {
    fn default() -> Self {
        Self {
            name: None,
            uses: 1,
            expires_s: EXPIRES_S,
            for_s: None,
            allowance: Allowance::default(),
            addresses: Vec::new(),
        }
    }
}

/// A new invitation with its ticket, which is told this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invited {
    /// The string to hand over.
    pub ticket: Secret,
    /// Where the ticket says the host is.
    pub addresses: Vec<Endpoint>,
    /// The invitation.
    pub invite: InviteInfo,
}

/// An invitation, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InviteInfo {
    /// Its id.
    pub id: InviteId,
    /// What the host calls who joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PeerName>,
    /// When it was made.
    pub since: Timestamp,
    /// Until when it is good.
    pub until: Timestamp,
    /// How many nodes may join with it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// How long who joins is a member, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// What each who joins may have.
    #[serde(default)]
    pub allowance: Allowance,
}

/// Invitations that are good still.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InviteList {
    /// The newest first.
    pub invites: Vec<InviteInfo>,
}

/// What a ticket's holder shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The id of the invitation.
    pub invite: InviteId,
    /// The secret of the ticket, in base32.
    pub secret: Secret,
}

/// What a caller is to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The host itself.
    Host,
    /// A node that the host lends to.
    Member,
    /// Anybody else.
    Stranger,
}

/// Who a host thinks the caller is, and what it may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The host's identity.
    pub host: NodeId,
    /// The host's own name of itself.
    pub hostname: String,
    /// What the caller is.
    pub role: Role,
    /// The caller's identity, where the connection proves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<NodeId>,
    /// What the host has noted of it, where it is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// How many containers it has, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
}

/// How a node became a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// By a ticket.
    Ticket,
    /// By `gx allow add`.
    Allowed,
    /// By `allow` in the configuration.
    Configuration,
}

/// A member, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberInfo {
    /// Who, and what it may have.
    pub member: Member,
    /// How it became one.
    pub origin: Origin,
    /// The ids it had before it changed its key; containers made under them are its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<NodeId>,
}

/// The members of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberList {
    /// By name and id.
    pub members: Vec<MemberInfo>,
}

/// What a node that is let in by its id may have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AllowRequest {
    /// What the host calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<PeerName>,
    /// For how long, in seconds; `None` is until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// What it may have.
    pub allowance: Allowance,
}

/// What becomes of a removed member's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Those that run are stopped.
    #[default]
    Stop,
    /// They go on; who knows a password or has a key in one still gets in by its published ports.
    Keep,
    /// They are removed.
    Remove,
}

/// How to remove a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveMember {
    /// What becomes of its containers.
    pub containers: Fate,
}

/// A member that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removal {
    /// Who it was.
    pub member: Member,
    /// What became of its containers.
    pub fate: Fate,
    /// Its containers that were stopped or removed, and those that could not be: the host goes on trying.
    pub containers: Vec<LeftContainer>,
    /// Invitations that are good still, by which it could come back under another key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invites: Vec<InviteId>,
}

/// A container of somebody who was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftContainer {
    /// Its name; none for a runtime that could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is.
    pub runtime: PluginName,
    /// Why it was not stopped or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// What both keys of a node have signed: that the new one stands for it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The id the node had.
    pub from: NodeId,
    /// The id it has.
    pub to: NodeId,
    /// When it was signed, by the node's own clock.
    pub at: Timestamp,
    /// The old key's signature, 128 hexadecimal digits.
    pub by_old: String,
    /// The new key's signature, likewise.
    pub by_new: String,
}

/// Who a host is, and how it came to be that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityInfo {
    /// Its identity.
    pub id: NodeId,
    /// Its changes of key, the oldest first; each begins where the one before ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<Rotation>,
}
