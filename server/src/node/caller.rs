//! Who asks, and the one check of what they may.

use gx_core::NodeId;

use crate::error::{Result, ServerError};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// This machine's own user: in process, or over loopback.
    Host,
    /// Another node, known by its key.
    Node(NodeId),
}

impl Caller {
    /// Returns whose the caller's containers are, on the node `host`.
    pub(crate) fn owner(&self, host: NodeId) -> NodeId {
        match self {
            Self::Host => host,
            Self::Node(id) => *id,
        }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Make a container.
    Create,
    /// See or use a container.
    Use,
    /// Fetch or build an image.
    Fetch,
    /// See the images and the runtimes.
    Look,
}

impl Verb {
    fn text(self) -> &'static str {
        match self {
            Self::Create => "create containers here",
            Self::Use => "use this container",
            Self::Fetch => "fetch or build images here",
            Self::Look => "see the images and runtimes of this host",
        }
    }
}

/// Decides whether somebody may do something; `owner` is whose container it is about.
///
/// The host may do everything. Another node may use what is its own; nothing yet lets it make anything.
///
/// # Errors
/// [`ServerError::NotAllowed`].
pub(crate) fn authorize(caller: &Caller, verb: Verb, owner: Option<NodeId>) -> Result<()> {
    let allowed = match (caller, verb) {
        (Caller::Host, _) => true,
        (Caller::Node(id), Verb::Use) => owner == Some(*id),
        (Caller::Node(_), Verb::Create | Verb::Fetch | Verb::Look) => false,
    };
    if allowed { Ok(()) } else { Err(ServerError::NotAllowed { what: verb.text() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_its_owners_and_the_hosts() {
        let (mine, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        assert!(authorize(&Caller::Host, Verb::Use, Some(mine)).is_ok());
        assert!(authorize(&Caller::Node(mine), Verb::Use, Some(mine)).is_ok());
        assert!(authorize(&Caller::Node(other), Verb::Use, Some(mine)).is_err());
        assert!(authorize(&Caller::Node(other), Verb::Use, None).is_err());
        assert!(authorize(&Caller::Node(other), Verb::Create, None).is_err());
    }
}
