//! Who asks, and the one check of what they may.

use std::sync::Arc;

use gx_core::NodeId;
use gx_core::member::Member;

use super::Node;
use crate::error::{Result, ServerError};

/// Who is at the other end of a connection, as far as the connection proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A program on this machine, on a connection that nobody else can make.
    ThisMachine,
    /// Whoever has the key of this node.
    Key(NodeId),
    /// Anybody.
    Unknown,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The host itself: this machine's own user, or whoever has the node's own key.
    Host,
    /// Another node, that the host lends to.
    Member(Arc<Member>),
    /// Anybody else; with a NodeId where they have proved one.
    Stranger(Option<NodeId>),
}

impl Caller {
    /// Returns whose the caller's containers are, on the node `host`; `None` for who can have none.
    pub(crate) fn owner(&self, host: NodeId) -> Option<NodeId> {
        match self {
            Self::Host => Some(host),
            Self::Member(member) => Some(member.id),
            Self::Stranger(_) => None,
        }
    }
}

impl Node {
    /// Returns who somebody is to this node, now.
    pub(crate) fn caller(&self, identity: Identity) -> Caller {
        match identity {
            Identity::ThisMachine => Caller::Host,
            Identity::Key(id) => self.caller_of(id),
            Identity::Unknown => Caller::Stranger(None),
        }
    }

    /// Returns who the node with this key is to this one, now.
    pub fn caller_of(&self, id: NodeId) -> Caller {
        if id == self.id() {
            return Caller::Host;
        }
        match self.members.member(id) {
            Some(member) => Caller::Member(member),
            None => Caller::Stranger(Some(id)),
        }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// See that the host is there, and what it is.
    Describe,
    /// Measure how fast bytes come and go.
    Measure,
    /// See the images and the runtimes.
    Look,
    /// List their own containers.
    List,
    /// Make a container.
    Create,
    /// See, use or remove a container.
    Use,
    /// Fetch or build an image.
    Fetch,
    /// Come to the door of the chat.
    Chat,
    /// Become a member, by a ticket.
    Join,
    /// See what goes on in the whole host, and decide who may use it.
    Administer,
}

impl Verb {
    fn text(self) -> &'static str {
        match self {
            Self::Describe => "see what this host is",
            Self::Measure => "measure this host",
            Self::Look => "see the images and runtimes of this host",
            Self::List => "list containers here",
            Self::Create => "create containers here",
            Self::Use => "use this container",
            Self::Fetch => "fetch or build images here",
            Self::Chat => "talk here",
            Self::Join => "join this host",
            Self::Administer => "administer this host",
        }
    }
}

/// Decides whether somebody may do something; `owner` is whose container it is about.
///
/// The host may do everything. Members make containers and use their own. Anybody may see what the host is and, within its
/// budgets, measure it; who proves a key may show a ticket. The chat asks everybody who they are.
///
/// # Errors
/// [`ServerError::NotAllowed`].
pub fn authorize(caller: &Caller, verb: Verb, owner: Option<NodeId>) -> Result<()> {
    let allowed = match (caller, verb) {
        // The chat has accounts and a policy of its own, which decide the rest.
        (Caller::Host, _) | (_, Verb::Describe | Verb::Measure | Verb::Chat) => true,
        (Caller::Member(member), Verb::Use) => owner == Some(member.id),
        (Caller::Member(_), Verb::Look | Verb::List | Verb::Create | Verb::Fetch) => true,
        (Caller::Member(_) | Caller::Stranger(Some(_)), Verb::Join) => true, // the ticket decides
        (Caller::Member(_), Verb::Administer) | (Caller::Stranger(_), _) => false,
    };
    if allowed { Ok(()) } else { Err(ServerError::NotAllowed { what: verb.text() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::member;

    #[test]
    fn a_container_is_its_owners_and_the_hosts() {
        let (mine, other) = (member(1), member(2));
        let owner = mine.owner(NodeId::from_bytes([9; 32]));
        assert!(authorize(&Caller::Host, Verb::Use, owner).is_ok());
        assert!(authorize(&mine, Verb::Use, owner).is_ok());
        assert!(authorize(&other, Verb::Use, owner).is_err());
        assert!(authorize(&other, Verb::Use, None).is_err());
        assert!(authorize(&Caller::Stranger(owner), Verb::Use, owner).is_err(), "no member any more");
    }

    #[tokio::test]
    async fn the_nodes_own_key_is_the_host_and_another_is_a_stranger() {
        let host = crate::tests::Host::new().await;
        let other = NodeId::from_bytes([1; 32]);
        assert_eq!(host.node.caller(Identity::Key(host.node.id())), Caller::Host);
        assert_eq!(host.node.caller(Identity::Key(other)), Caller::Stranger(Some(other)));
        assert_eq!(host.node.caller(Identity::Unknown), Caller::Stranger(None));
    }

    #[test]
    fn strangers_see_that_the_host_is_there_and_no_more() {
        let stranger = Caller::Stranger(Some(NodeId::from_bytes([1; 32])));
        assert!(authorize(&stranger, Verb::Describe, None).is_ok());
        assert!(authorize(&stranger, Verb::Join, None).is_ok());
        assert!(authorize(&Caller::Stranger(None), Verb::Join, None).is_err());
        assert!(authorize(&stranger, Verb::Measure, None).is_ok());
        for verb in [Verb::Look, Verb::List, Verb::Create, Verb::Use, Verb::Fetch, Verb::Administer] {
            assert!(authorize(&stranger, verb, None).is_err(), "{verb:?}");
        }
    }
}
