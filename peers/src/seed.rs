//! Servers to begin with: those of the configuration, and hosts that were joined.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gx_core::peers::Source;
use gx_core::{Endpoint, NodeId};

use crate::{Peers, now};

/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Adds these to the table, so far as nobody with a key is known there who may be used, and returns which node is expected at which address.
/// A name that is not known is passed over; the next update tries again.
pub async fn seed(peers: &Peers, seeds: Vec<(Endpoint, Option<NodeId>)>) -> BTreeMap<SocketAddr, NodeId> {
    let mut expected = BTreeMap::new();
    for (endpoint, node) in seeds {
        for address in look_up(&endpoint).await {
            expected.extend(node.map(|node| (address, node)));
            let known = peers.with(|table| {
                node.is_some_and(|node| table.get(node).is_some_and(|entry| entry.is_usable(now())))
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

#[cfg(test)]
mod tests {
    use gx_core::peers::{PeerRecord, TableLimits};

    use super::*;

    fn addresses(peers: &Peers) -> Vec<SocketAddr> {
        peers.with(|table| table.legacy().map(|(address, _)| address).collect())
    }

    #[tokio::test]
    async fn a_seed_that_took_leave_is_asked_for_at_its_address() {
        let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mine_key, key) =
            (gx_identity::open(mine.path()).unwrap(), gx_identity::open(theirs.path()).unwrap());
        let peers = Peers::open(mine.path(), &mine_key, TableLimits::default()).unwrap().peers;
        let address = SocketAddr::from(([127, 0, 0, 1], 7_467));
        let record =
            PeerRecord { addresses: vec![address], ..PeerRecord::new(key.id(), 1, now(), PeerRecord::LEASE) };
        let take = |record: &PeerRecord| {
            peers.merge(&[record.sign(|message| key.sign(message)).unwrap()], Source::Peer(address.ip()))
        };
        assert_eq!(take(&record).new, 1);
        let seeds = || vec![(address.to_string().parse::<Endpoint>().unwrap(), Some(key.id()))];
        seed(&peers, seeds()).await;
        assert_eq!(addresses(&peers), [], "it is known by its key");
        assert_eq!(take(&record.farewell(now())).newer, 1);
        seed(&peers, seeds()).await;
        assert_eq!(addresses(&peers), [address]);
    }
}
