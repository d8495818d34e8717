//! What goes wrong with a peer, and how the caller is told.

use std::io;

use gx_core::os_error;
use gx_core::plugin::{ErrorCode, RuntimeError};
use gx_identity::tls::WrongNode;

use crate::receipt::BadReceipt;

/// What went wrong with a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The address is none.
    #[error("`{0}` is not an address with a port")]
    Address(String),
    /// The name of the address is known to nobody, or it has no address.
    #[error("nobody knows where {0} is")]
    Name(String),
    /// No connection came about.
    #[error("cannot connect to {address}: {}", os_error::text(.source))]
    Connect {
        /// Where.
        address: String,
        #[source]
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("the peer did not {what} in time")]
    Slow { what: &'static str },
    /// It went away.
    #[error("the connection broke: {}", os_error::text(.0))]
    Broken(#[from] io::Error),
    /// What it says is not what the protocol has.
    #[error("the peer's answer is not one of a speed test: {0}")]
    Garbage(&'static str),
    /// It refuses.
    #[error("the peer answers with status {0}")]
    Status(u16),
    /// It is being measured by others, or has been enough.
    #[error("the peer lets nobody measure it just now")]
    Busy {
        /// When to come back, in milliseconds.
        retry_after_ms: Option<u32>,
    },
    /// The peer does not speak TLS, or not in the way of nodes.
    #[error("the peer does not prove who it is: {}", os_error::text(.0))]
    Handshake(#[source] io::Error),
    /// Another node answers.
    #[error(transparent)]
    Other(WrongNode),
    /// Its account of an upload is wrong.
    #[error(transparent)]
    Receipt(#[from] BadReceipt),
}

impl From<Fault> for RuntimeError {
    fn from(fault: Fault) -> Self {
        use ErrorCode as E;
        let (code, hint) = match &fault {
            Fault::Address(_) => (E::InvalidArgument, "write it as HOST:PORT or [IPV6]:PORT"),
            Fault::Name(_) => (E::NotFound, "check the name, or use the peer's address"),
            Fault::Connect { .. } => {
                (E::Unavailable, "is `gx serve` running there, and does a firewall let you through?")
            }
            Fault::Slow { .. } => {
                (E::DeadlineExceeded, "it is busy, or something between drops what is sent; try again")
            }
            Fault::Broken(_) => {
                (E::Unavailable, "try again; if it breaks each time, the log of the peer may say why")
            }
            Fault::Garbage(_) | Fault::Receipt(_) => (
                E::FailedPrecondition,
                "is it a gx host of this version, without a proxy between that changes what it says?",
            ),
            Fault::Status(401 | 403) => (E::PermissionDenied, "the host decides who may measure it"),
            Fault::Status(404) => (E::Unsupported, "the peer is no gx host, or one that cannot be measured"),
            Fault::Status(_) => (E::Unavailable, "the log of the peer may say why"),
            Fault::Handshake(_) => (E::Unavailable, "is it a gx host, and does it listen with TLS?"),
            Fault::Other(_) => (
                E::PermissionDenied,
                "the host has another key than it had; ask its owner before you trust it",
            ),
            Fault::Busy { .. } => (E::ResourceExhausted, "try again in a minute; pings are always answered"),
        };
        let retry_after_ms = match &fault {
            Fault::Busy { retry_after_ms } => *retry_after_ms,
            _ => None,
        };
        let error = Self::new(code, fault.to_string()).hint(hint);
        let error = if matches!(fault, Fault::Address(_)) { error.field("address") } else { error };
        Self { retry_after_ms, ..error }
    }
}

#[cfg(test)]
mod tests {
    use gx_core::NodeId;

    use super::*;

    #[test]
    fn every_fault_says_what_to_do() {
        let io = || io::Error::from_raw_os_error(111);
        for fault in [
            Fault::Address("x".to_owned()),
            Fault::Name("x".to_owned()),
            Fault::Connect { address: "127.0.0.1:1".to_owned(), source: io() },
            Fault::Slow { what: "answer" },
            Fault::Broken(io()),
            Fault::Garbage("x"),
            Fault::Handshake(io()),
            Fault::Other(WrongNode {
                expected: NodeId::from_bytes([1; 32]),
                found: NodeId::from_bytes([2; 32]),
            }),
            Fault::Status(500),
            Fault::Status(404),
            Fault::Busy { retry_after_ms: Some(5_000) },
            Fault::Receipt(BadReceipt::TooMuch),
        ] {
            let text = fault.to_string();
            assert!(!text.contains("os error") && !text.ends_with('.'), "{text}");
            let error = RuntimeError::from(fault);
            assert!(error.hint.is_some(), "{text}");
        }
        let busy = RuntimeError::from(Fault::Busy { retry_after_ms: Some(5_000) });
        assert_eq!((busy.code, busy.retry_after_ms), (ErrorCode::ResourceExhausted, Some(5_000)));
    }
}
