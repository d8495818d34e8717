//! What can go wrong between a caller and a host.

use gx_core::api::ApiError;

/// The result of a call.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a call to a host failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is not the address of a host.
    #[error("{text:?} is not the address of a host")]
    Address {
        /// What was given.
        text: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {address}")]
    Unreachable {
        /// The host's address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host takes too long.
    #[error("{address} did not answer within {seconds} s")]
    TimedOut {
        /// The host's address.
        address: String,
        /// How long it was given.
        seconds: u64,
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
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("an address is HOST, HOST:PORT or [IPv6]:PORT".to_owned()),
            Self::Unreachable { .. } => Some("is `gx serve` running there?".to_owned()),
            Self::TimedOut { .. } | Self::Lost { .. } => None,
            Self::Protocol { .. } => Some("is that the port of a gx host, and of this version?".to_owned()),
            Self::Host(error) => error.hint.clone(),
        }
    }
}
