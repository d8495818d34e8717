//! What can go wrong between a caller and a host.

use gx_core::api::ApiError;
use gx_identity::KnownError;
use gx_identity::tls::WrongNode;

/// The result of a call.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a call to a host failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach {address}")]
    Unreachable {
        /// The host's address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What answers there does not shake hands as a node does.
    #[error("cannot shake hands with {address}")]
    Handshake {
        /// The host's address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another node answers there.
    #[error("{address} is another node: {} answers, and {} is expected", .wrong.found, .wrong.expected)]
    WrongNode {
        /// The host's address.
        address: String,
        /// Who answers, and who should.
        wrong: WrongNode,
        /// That the node which is expected is the one that answered first, and not one that the caller has named.
        met: bool,
    },
    /// It cannot be told who was met.
    #[error(transparent)]
    Known(#[from] KnownError),
    /// The host takes too long.
    #[error("{address} did not answer within {seconds} s")]
    TimedOut {
        /// The host's address.
        address: String,
        /// How long it was given.
        seconds: u64,
        /// Whether the request was sent: then it is not known whether the host has done it.
        sent: bool,
    },
    /// The connection broke; whether the host has done it is not known.
    #[error("the connection to {address} broke")]
    Lost {
        /// The host's address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What answers there does not speak as a gx host does.
    #[error("{address} does not answer as a gx host does: {what}")]
    Protocol {
        /// The host's address.
        address: String,
        /// What was odd.
        what: String,
    },
    /// The host said no.
    #[error("{0}")]
    Host(ApiError),
}

impl ClientError {
    /// Returns whether the host may have done what it was asked to do.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::TimedOut { sent: true, .. })
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("is `gx serve` running there?".to_owned()),
            Self::Handshake { address, .. } => Some(format!(
                "is that the port of a gx host? one on this machine that serves with --plain is plain:{address}"
            )),
            Self::WrongNode { address, wrong, met: true } => Some(format!(
                "nothing was sent. Either the host has a new key, or somebody else answers in its place: ask its owner \
                 whether `gx id` there prints {}, and only then `gx id forget {address}`",
                wrong.found
            )),
            Self::WrongNode { .. } => {
                Some("nothing was sent; ask the host's owner what `gx id` prints there".to_owned())
            }
            Self::Known(KnownError::Damaged { .. }) => {
                Some("move the file away; the hosts in it are then met as if for the first time".to_owned())
            }
            Self::Known(KnownError::File { .. }) => None,
            Self::TimedOut { .. } | Self::Lost { .. } => None,
            Self::Protocol { .. } => Some("is that the port of a gx host, and of this version?".to_owned()),
            Self::Host(error) => error.hint.clone(),
        }
    }
}
