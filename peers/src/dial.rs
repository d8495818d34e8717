//! Reaching servers: at the first of their addresses to answer, as the node that is expected, and how far they are.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use gx_client::{ClientError, PeerLink};
use gx_core::NodeId;
use gx_core::measurement::Millis;
use gx_core::peers::Source;

use crate::ask::is_proven;
use crate::patience::{Turns, pause};
use crate::{Peers, now};

/// How long an address is tried before the next one is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// So many addresses of one server are tried.
const MAX_TRIED: usize = 4;

/// Whom to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A server with a key.
    Node(NodeId, Vec<SocketAddr>),
    /// Whoever is at an address that nobody has a key of; or this node, where the configuration says so.
    Address(SocketAddr, Option<NodeId>),
}

impl Target {
    /// Returns the node that is expected.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Node(node, _) => Some(*node),
            Self::Address(_, node) => *node,
        }
    }

    fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Node(_, addresses) => addresses,
            Self::Address(address, _) => std::slice::from_ref(address),
        }
    }

    /// Returns what tells whether a further address may be dialled. Whoever chose this server has paid for the first; one that
    /// answered when last tried costs nothing.
    fn may_go_on(&self, peers: &Peers) -> impl FnMut() -> bool {
        let known = |node| peers.with(|table| table.get(node).is_some_and(is_proven));
        let free = matches!(self, Self::Node(node, _) if known(*node));
        move || free || peers.take_dial()
    }

    /// Connects, and notes in the table that it could not be done.
    ///
    /// # Errors
    /// That of the address that was tried first.
    pub async fn open(&self, peers: &Peers) -> Result<PeerLink, ClientError> {
        let opened = link(self.addresses(), self.node(), self.may_go_on(peers)).await;
        if opened.is_err() {
            self.failed(peers);
        }
        opened
    }

    /// Connects and measures the latency; a server that was known by its address only is from now on known by its key,
    /// where it says of itself what it is. What comes of it is in the table.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Host`] is of a server that is there, and has more to do than to say what it is.
    pub async fn ping(&self, peers: &Peers) -> Result<Millis, ClientError> {
        self.ping_over(None, peers).await.map(|(latency, _)| latency)
    }

    /// Measures the latency as [`ping`](Target::ping) does, on a connection that was kept from the last time, as long as
    /// that is of use; returns the connection for the next time.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn ping_over(
        &self,
        kept: Option<PeerLink>,
        peers: &Peers,
    ) -> Result<(Millis, PeerLink), ClientError> {
        let result = self.pinged(kept, peers).await;
        match &result {
            Ok(_) => {}
            // Who is too busy to say what it is has been measured.
            Err(error) if pause(error).is_some() => {}
            // Who refuses is there.
            Err(ClientError::Host(_)) => self.refused(peers),
            Err(_) => self.failed(peers),
        }
        result
    }

    async fn pinged(&self, kept: Option<PeerLink>, peers: &Peers) -> Result<(Millis, PeerLink), ClientError> {
        if let Some(mut link) = kept.filter(PeerLink::is_open)
            // One that the other end has closed meanwhile says nothing about that end.
            && let Ok(latency) = link.latency().await
        {
            let introduced = self.introduce(peers, &mut link).await;
            self.answered(peers, &link, latency);
            return introduced.map(|()| (latency, link));
        }
        let mut link = link(self.addresses(), self.node(), self.may_go_on(peers)).await?;
        if link.node() == peers.own() {
            self.forget_own(peers);
            return Ok((Millis(0.0), link));
        }
        let latency = link.latency().await?;
        let introduced = self.introduce(peers, &mut link).await;
        self.answered(peers, &link, latency);
        introduced.map(|()| (latency, link))
    }

    /// Asks a server without a known key for what it says of itself. It is an error that it has no time for that.
    async fn introduce(&self, peers: &Peers, link: &mut PeerLink) -> Result<(), ClientError> {
        let (Self::Address(address, _), node) = (self, link.node()) else { return Ok(()) };
        let mut turns = Turns::default();
        let page = loop {
            match link.table(Some(before(node)), 1).await {
                Ok(page) => break page,
                Err(error) if turns.wait(&error).await => {}
                Err(error) if pause(&error).is_some() => return Err(error),
                // A server without a table, or that shows it to members only, stays an address.
                Err(_) => return Ok(()),
            }
        };
        let records: Vec<_> = page.ip_address.iter().filter_map(|row| row.signed()).take(2).collect();
        peers.merge(&records, Source::Peer(address.ip()));
        Ok(())
    }

    fn answered(&self, peers: &Peers, link: &PeerLink, latency: Millis) {
        let (node, address) = (link.node(), link.address());
        peers.note(|table| {
            let known = table.observe(node, |seen| seen.answered(Some(latency), now()));
            if known {
                table.reached(node, address);
            } else {
                table.observe_legacy(address, |seen| seen.answered(Some(latency), now()));
            }
        });
    }

    fn refused(&self, peers: &Peers) {
        peers.note(|table| match self {
            Self::Node(node, _) => table.observe(*node, |seen| seen.answered(None, now())),
            Self::Address(address, _) => table.observe_legacy(*address, |seen| seen.answered(None, now())),
        });
    }

    fn failed(&self, peers: &Peers) {
        peers.note(|table| match self {
            Self::Node(node, _) => table.observe(*node, |seen| seen.failed(now())),
            Self::Address(address, _) => table.observe_legacy(*address, |seen| seen.failed(now())),
        });
    }

    /// Nobody measures himself, by whatever address.
    fn forget_own(&self, peers: &Peers) {
        if let Self::Address(address, _) = self {
            peers.change(|table| table.remove_legacy(*address));
        }
    }
}

/// Returns the id before a node's, after which its record is the first.
fn before(node: NodeId) -> NodeId {
    let mut bytes = *node.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    NodeId::from_bytes(bytes)
}

/// Connects to the first address to answer. Each further one is tried a moment later, or when those before have failed, if
/// `may_go_on` says so.
async fn link(
    addresses: &[SocketAddr],
    node: Option<NodeId>,
    mut may_go_on: impl FnMut() -> bool,
) -> Result<PeerLink, ClientError> {
    let mut waiting = addresses.iter().take(MAX_TRIED).copied();
    let mut tries = FuturesUnordered::new();
    let mut first_error = None;
    tries.extend(waiting.next().map(|address| PeerLink::open(address, node)));
    while !tries.is_empty() {
        tokio::select! {
            Some(result) = tries.next() => match result {
                Ok(link) => return Ok(link),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
        tries.extend(waiting.next().filter(|_| may_go_on()).map(|address| PeerLink::open(address, node)));
    }
    Err(first_error.unwrap_or_else(no_address))
}

fn no_address() -> ClientError {
    let source = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    ClientError::Unreachable { address: "a server without an address".to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_is_one_less() {
        let mut bytes = [0; 32];
        bytes[30] = 1;
        let mut less = [0; 32];
        less[31] = 0xff;
        assert_eq!(before(NodeId::from_bytes(bytes)), NodeId::from_bytes(less));
    }
}
