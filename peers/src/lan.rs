//! Servers of the local network, by multicast DNS (RFC 6762, RFC 6763): one says that it is there, another asks who is.
//!
//! Whoever is in the network can answer anything. What is taken of it is an address to try and who is said to be there;
//! nobody is dialled here, and nothing is believed until a key has proved it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use gx_core::NodeId;
use gx_core::peers::address::{Scope, possible, scope};
use gx_core::peers::{Network, Source};
use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use serde::Serialize;

use crate::{Peers, now};

/// What gx is called in a network: gx over TLS over TCP.
const SERVICE: &str = "_gx._tcp.local.";
/// The key of TXT that says which node it is.
const NODE: &str = "node";
/// Servers that are taken of one search, and addresses of each.
const MAX_FOUND: usize = 64;
const MAX_ADDRESSES: usize = 4;
/// Answers that are looked at in one search.
const MAX_ANSWERS: usize = 1_024;

/// Why a network cannot be asked, or told.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS does not work here: {because}")]
pub struct LanError {
    because: String,
}

impl From<mdns_sd::Error> for LanError {
    fn from(error: mdns_sd::Error) -> Self {
        Self { because: error.to_string() }
    }
}

/// A server that says it is in this network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Who is said to be there.
    pub node_id: NodeId,
    /// Where.
    pub addresses: Vec<SocketAddr>,
}

/// A server that is told of until this is dropped.
pub struct Announced(ServiceDaemon);

impl std::fmt::Debug for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announced")
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let _ = self.0.shutdown(); // it says goodbye, and its thread ends
    }
}

/// Tells the network that a node listens here. What listens on loopback alone is told to nobody.
///
/// # Errors
/// [`LanError`].
pub fn announce(node: NodeId, listening: SocketAddr) -> Result<Option<Announced>, LanError> {
    if listening.ip().is_loopback() {
        return Ok(None);
    }
    let short = node.short();
    let properties = [(NODE, node.to_string())];
    let host = format!("gx-{short}.local.");
    let address = (!listening.ip().is_unspecified()).then(|| listening.ip());
    let own: Vec<IpAddr> = address.into_iter().collect();
    let mut service = ServiceInfo::new(SERVICE, &short, &host, &own[..], listening.port(), &properties[..])?;
    service = match address {
        // Only where it can be reached.
        Some(address) => {
            service.set_interfaces(vec![IfKind::Addr(address)]);
            service
        }
        None => service.enable_addr_auto(),
    };
    let daemon = quiet()?;
    daemon.register(service)?;
    Ok(Some(Announced(daemon)))
}

/// Asks the network for so long who is there. The first [`MAX_FOUND`] nodes are taken, in the order of their ids.
///
/// # Errors
/// [`LanError`].
pub async fn discover(own: NodeId, patience: Duration) -> Result<Vec<Found>, LanError> {
    let asking = Announced(quiet()?);
    let answers = asking.0.browse(SERVICE)?;
    let mut found: BTreeMap<NodeId, Vec<SocketAddr>> = BTreeMap::new();
    let all = async {
        for _ in 0..MAX_ANSWERS {
            match answers.recv_async().await {
                Ok(ServiceEvent::ServiceResolved(service)) => take(&mut found, own, &service),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    };
    let _ = tokio::time::timeout(patience, all).await;
    Ok(found.into_iter().map(|(node_id, addresses)| Found { node_id, addresses }).collect())
}

/// Takes servers that were found into the table: as rows without a key, on the account of their own networks and within the
/// limits for such, until they prove who they are. Returns how many are new.
pub fn take_in(peers: &Peers, found: &[Found]) -> usize {
    let mut new = 0;
    for Found { node_id, addresses } in found {
        let known = |address| {
            peers.with(|table| {
                table.get(*node_id).is_some_and(|entry| entry.addresses().any(|there| there == address))
                    || table.legacy().any(|(there, _)| there == address)
            })
        };
        for address in addresses.iter().filter(|address| !known(**address)) {
            let source = Source::Peer(address.ip());
            let taken = peers.change(|table| table.insert_legacy(*address, "", source, now()));
            match taken {
                Ok(_) => new += 1,
                Err(error) => tracing::debug!(%address, %error, "found in the network and not taken"),
            }
        }
    }
    new
}

fn quiet() -> Result<ServiceDaemon, LanError> {
    let daemon = ServiceDaemon::new()?;
    // Nobody is told over loopback what only others need.
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    Ok(daemon)
}

fn take(found: &mut BTreeMap<NodeId, Vec<SocketAddr>>, own: NodeId, service: &ResolvedService) {
    let Some(node) = service.get_property_val_str(NODE).and_then(|node| node.parse::<NodeId>().ok()) else {
        return;
    };
    if node == own || (!found.contains_key(&node) && found.len() >= MAX_FOUND) {
        return;
    }
    let addresses = service.addresses.iter().map(|ip| SocketAddr::new(ip.to_ip_addr(), service.port));
    let mut near: Vec<SocketAddr> = addresses.filter(|address| is_near(*address, way_to(*address))).collect();
    near.sort_unstable();
    let known = found.entry(node).or_default();
    near.retain(|address| !known.contains(address));
    known.extend(near);
    known.truncate(MAX_ADDRESSES);
    if known.is_empty() {
        found.remove(&node);
    }
}

/// Returns whether an address can be that of a neighbour: possible, not this machine, and in a network this machine is in.
fn is_near(address: SocketAddr, from: Option<IpAddr>) -> bool {
    let Some(from) = from else { return false };
    let own = match scope(address.ip()) {
        Scope::Nowhere | Scope::Loopback => false,
        Scope::Private => scope(from) == Scope::Private,
        Scope::Public => Network::of(from) == Network::of(address.ip()),
    };
    possible(address) && own && from != address.ip()
}

/// Returns the address from which this machine would reach another; nothing is sent.
fn way_to(address: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn resolved(node: &str, addresses: &[IpAddr], port: u16) -> ResolvedService {
        let properties = [(NODE, node)];
        let service =
            ServiceInfo::new(SERVICE, "x", "gx-x.local.", addresses, port, &properties[..]).unwrap();
        service.as_resolved_service()
    }

    #[test]
    fn only_neighbours_are_taken() {
        let from = |text: &str| Some(text.parse().unwrap());
        for (address, way, near) in [
            ("192.168.1.7:7467", from("192.168.1.2"), true),
            ("10.0.9.9:7467", from("10.0.1.1"), true),
            ("203.0.113.7:7467", from("203.0.113.9"), true),
            ("[fd00::7]:7467", from("fd00::1"), true),
            ("203.0.113.7:7467", from("192.168.1.2"), false),
            ("192.168.1.7:7467", from("203.0.113.9"), false),
            ("192.168.1.7:7467", None, false),
            ("192.168.1.7:0", from("192.168.1.2"), false),
            ("127.0.0.1:22", from("127.0.0.1"), false),
            ("[::1]:22", from("::1"), false),
            ("0.0.0.0:7467", from("192.168.1.2"), false),
            ("224.0.0.251:5353", from("192.168.1.2"), false),
            ("169.254.169.254:80", from("192.168.1.2"), false),
            ("[fe80::1]:7467", from("fe80::2"), false),
            // This machine itself.
            ("192.168.1.2:22", from("192.168.1.2"), false),
        ] {
            assert_eq!(is_near(at(address), way), near, "{address}");
        }
    }

    #[test]
    fn what_is_no_server_of_gx_is_passed_over() {
        let own = NodeId::from_bytes([1; 32]);
        let mut found = BTreeMap::new();
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        for node in ["", "x", &own.to_string(), &NodeId::from_bytes([2; 32]).to_string()] {
            take(&mut found, own, &resolved(node, &loopback, 7467));
            take(&mut found, own, &resolved(node, &[], 7467));
        }
        assert_eq!(found, BTreeMap::new());
    }

    #[test]
    fn many_that_were_found_take_no_more_of_the_table_than_strangers_may() {
        let data = tempfile::tempdir().unwrap();
        let key = gx_identity::open(data.path()).unwrap();
        let peers = Peers::open(data.path(), &key, gx_core::peers::TableLimits::default()).unwrap().peers;
        let found: Vec<Found> = (1..=64_u8)
            .map(|number| Found {
                node_id: NodeId::from_bytes([number; 32]),
                addresses: (0..4).map(|port| ([192, 168, 1, number], 7_000 + port).into()).collect(),
            })
            .collect();
        assert_eq!(take_in(&peers, &found), 8);
        assert_eq!(take_in(&peers, &found), 0, "the same again is nothing new");
        assert!(
            peers.with(|table| table.legacy().all(|(_, row)| !row.pinned && row.seen.last_tried.is_none()))
        );
    }

    #[test]
    fn what_listens_on_loopback_is_told_to_nobody() {
        let node = NodeId::from_bytes([1; 32]);
        assert!(announce(node, at("127.0.0.1:7467")).unwrap().is_none());
        assert!(announce(node, at("[::1]:7467")).unwrap().is_none());
    }
}
