//! Servers to begin with: those of the configuration, and hosts that were joined.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gx_core::peers::Source;
use gx_core::{Endpoint, NodeId};

use crate::{Peers, now};

/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Adds these to the table, so far as nobody with a key is known there, and returns which node is expected at which address.
/// A name that is not known is passed over; the next update tries again.
pub async fn seed(peers: &Peers, seeds: Vec<(Endpoint, Option<NodeId>)>) -> BTreeMap<SocketAddr, NodeId> {
    let mut expected = BTreeMap::new();
    for (endpoint, node) in seeds {
        for address in look_up(&endpoint).await {
            expected.extend(node.map(|node| (address, node)));
            let known = peers.with(|table| {
                node.is_some_and(|node| table.get(node).is_some())
                    || table.is_some_nodes(address)
                    || table.legacy().any(|(there, _)| there == address)
            });
            if known || node == Some(peers.own()) {
                continue;
            }
            if let Err(error) = peers.change(|table| table.insert_legacy(address, "", Source::Own, now())) {
                tracing::warn!(%address, %error, "nobody can be reached there");
            }
        }
    }
    expected
}

/// Returns the addresses of a name, or none.
pub async fn look_up(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let name = (endpoint.host(), endpoint.port());
    match tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(name)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            tracing::debug!(%endpoint, %error, "the name is not known");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
