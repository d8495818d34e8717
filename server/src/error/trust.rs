//! What can go wrong with invitations, members and identities, and what is told of it.

use std::path::PathBuf;

use gx_core::{ErrorCode, NodeId, Timestamp};

/// Why somebody was not let in, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The connection proves no key.
    #[error("the connection proves no key, so nobody can join by it")]
    NoKey,
    /// The host's own key.
    #[error("this is the host's own key: it need not join itself")]
    Itself,
    /// No invitation has the id.
    #[error("no such invitation: it was revoked, or has expired long since")]
    NoSuchInvite,
    /// The secret is another.
    #[error("the secret of the ticket is wrong")]
    WrongSecret,
    /// The invitation has come to its end.
    #[error("the invitation expired at {at}, by the clock of the host")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// As many have joined as may.
    #[error("the ticket is used up: {uses} of {uses} have joined with it")]
    UsedUp {
        /// How many may.
        uses: u32,
    },
    /// The host has removed this node since it joined with the ticket.
    #[error("this node joined with the ticket before, and the host has removed it since")]
    Removed,
    /// Too many wrong tickets are shown at a time.
    #[error("too many wrong tickets are shown to this host just now")]
    TooManyAttempts,
    /// A list is as long as it may be.
    #[error("there are {limit} {noun} already, and no more")]
    Full {
        /// Of what, in the plural.
        noun: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// No member fits.
    #[error("no member {reference}")]
    NoMember {
        /// What was asked for.
        reference: String,
        /// A name that was probably meant.
        near: Option<String>,
    },
    /// More than one member fits.
    #[error("{reference} fits more than one member: {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// The ids of those it fits.
        candidates: Vec<String>,
    },
    /// A member of the configuration, which gx does not write.
    #[error("{id} is a member by the configuration")]
    Configured {
        /// Who.
        id: NodeId,
    },
    /// No invitation fits.
    #[error("no invitation {reference}")]
    NoInvite {
        /// What was asked for.
        reference: String,
    },
    /// The name is another member's.
    #[error("the name {name} is another member's")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The list of members cannot be used, and is left as it is.
    #[error("the list of members {} {fault}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The caller was a member when the call began.
    #[error("the host lends to you no longer")]
    Dismissed,
    /// A ticket would lead nowhere.
    #[error("nobody else can reach this host: it listens on {listen} only")]
    OutOfReach {
        /// The address.
        listen: String,
    },
    /// A statement about a change of key is not signed by both.
    #[error("the change of key is not signed by both keys")]
    Unsigned,
    /// A statement about a change of key is sent by somebody else.
    #[error("a change of key is told by who has the new key")]
    NotYours,
}

impl TrustError {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::NoKey | Self::WrongSecret | Self::Unsigned => ErrorCode::Unauthenticated,
            Self::NoSuchInvite | Self::NoMember { .. } | Self::NoInvite { .. } => ErrorCode::NotFound,
            Self::Expired { .. } | Self::Configured { .. } | Self::OutOfReach { .. } | Self::Itself => {
                ErrorCode::FailedPrecondition
            }
            Self::UsedUp { .. } | Self::NameTaken { .. } => ErrorCode::AlreadyExists,
            Self::Removed | Self::Dismissed | Self::NotYours => ErrorCode::PermissionDenied,
            Self::TooManyAttempts | Self::Full { .. } => ErrorCode::ResourceExhausted,
            Self::Ambiguous { .. } => ErrorCode::InvalidArgument,
            Self::Damaged { .. } => ErrorCode::Unavailable,
        }
    }

    pub(super) fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoSuchInvite => Some("invite"),
            Self::WrongSecret => Some("secret"),
            Self::NameTaken { .. } => Some("name"),
            Self::OutOfReach { .. } => Some("addresses"),
            Self::NoKey
            | Self::Itself
            | Self::Expired { .. }
            | Self::UsedUp { .. }
            | Self::Removed
            | Self::TooManyAttempts
            | Self::Full { .. }
            | Self::NoMember { .. }
            | Self::Ambiguous { .. }
            | Self::Configured { .. }
            | Self::NoInvite { .. }
            | Self::Damaged { .. }
            | Self::Dismissed
            | Self::Unsigned
            | Self::NotYours => None,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoKey => "use gx, over TLS: a host on loopback with --plain knows nobody",
            Self::Itself => "`gx join` is for another machine; here everything is allowed",
            Self::NoSuchInvite | Self::WrongSecret | Self::Expired { .. } | Self::UsedUp { .. } => {
                "ask the host for another ticket: `gx invite` prints one"
            }
            Self::Removed => "ask the host; another ticket lets you in again",
            Self::TooManyAttempts => "try again in a few seconds",
            Self::Full { .. } => "remove some: `gx allow list`, `gx invite list`",
            Self::NoMember { near: Some(near), .. } => return Some(format!("did you mean `{near}`?")),
            Self::NoMember { near: None, .. } => "gx allow list shows all members",
            Self::Ambiguous { .. } => "give more of the id, or the name",
            Self::Configured { .. } => {
                "take it out of `allow` in [server], and let the server read that: `systemctl reload gx`, `kill -HUP`, or a restart"
            }
            Self::NoInvite { .. } => "gx invite list shows those that are good still",
            Self::NameTaken { .. } => "choose another name, or leave it out",
            Self::Damaged { .. } => {
                "restore it from a backup; or move it away, and everybody has to join anew"
            }
            Self::Dismissed => "ask the host for another ticket",
            Self::OutOfReach { .. } => {
                "set `listen` in [server] to an address that others reach, or say one with --address"
            }
            Self::Unsigned | Self::NotYours => "`gx id rotate` makes one and tells it",
        };
        Some(text.to_owned())
    }
}
