//! The local network: telling it that this host is there, and asking now and then who else is; where its owner wants that.

use std::net::SocketAddr;
use std::time::Duration;

use gx_core::NodeId;
use gx_peers::Peers;
use gx_peers::lan::{Announced, announce, discover, take_in};

/// How often the network is asked, and for how long.
const ASK_EVERY_S: i64 = 300;
const ASK_FOR: Duration = Duration::from_secs(3);

/// What is kept of it from round to round.
#[derive(Debug)]
pub(super) struct Lan {
    /// Until it is dropped the network is told.
    _told: Option<Announced>,
    /// When the network was last asked.
    asked: Option<i64>,
}

impl Lan {
    /// Begins to tell the network, where others reach this host.
    pub(super) fn begin(node: NodeId, listening: Option<SocketAddr>) -> Self {
        let told = listening.and_then(|listening| {
            let told = announce(node, listening);
            told.inspect_err(|error| tracing::warn!(%error, "the local network is not told of this host"))
                .ok()?
        });
        Self { _told: told, asked: None }
    }

    /// Asks the network who is there, if it is time to. Those that are found are tried as all others are that nobody has
    /// reached, within the ten dials a minute.
    pub(super) async fn ask(&mut self, peers: &Peers, now: i64) {
        if self.asked.is_some_and(|asked| (asked..asked + ASK_EVERY_S).contains(&now)) {
            return;
        }
        self.asked = Some(now);
        match discover(peers.own(), ASK_FOR).await {
            Ok(found) => {
                let new = take_in(peers, &found);
                tracing::debug!(found = found.len(), new, "asked the local network");
            }
            Err(error) => tracing::warn!(%error, "the local network is not asked"),
        }
    }
}
