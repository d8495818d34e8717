//! `[peers]`: the table of servers, and with whom it is exchanged.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Endpoint};
use crate::id::NodeId;
use crate::peers::{PeerRecord, TableLimits};
use crate::units::Span;

/// The table of servers, and with whom it is exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// Servers to begin with, as HOST, HOST:PORT or NODEID@HOST:PORT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<Address>,
    /// Rounds of asking in one update.
    pub hops: u8,
    /// Servers in the table, at most 100,000.
    pub max_entries: u32,
    /// How long a server may not answer until lists leave it out.
    pub stale_after: Span,
    /// How long it may not answer until it is forgotten.
    pub drop_after: Span,
    /// Who may read this host's table and add to it.
    pub share: Share,
    /// How often a host asks others, on average.
    pub exchange_every: Span,
    /// How long what a host says of itself holds; it is said anew three times as often.
    pub lease: Span,
    /// Where a host asks for its own address in the Internet, as `http://ip-api.com/json/`; without it nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address_url: Option<String>,
    /// Whether a host tells its local network by multicast DNS that it is there, and asks who else is.
    pub lan: bool,
    /// What a host says of itself in its owner's words, for `--needs label.NAME=…`: up to 16, with keys of a-z, 0-9, `_`,
    /// `.` and `-`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Default for PeersConfig {
    fn default() -> Self {
        let limits = TableLimits::default();
        Self {
            seeds: Vec::new(),
            hops: 3,
            max_entries: limits.capacity as u32,
            stale_after: Span(limits.stale_after),
            drop_after: Span(limits.drop_after),
            share: Share::Everybody,
            exchange_every: Span(Duration::from_secs(30)),
            lease: Span(PeerRecord::LEASE),
            public_address_url: None,
            lan: false,
            labels: BTreeMap::new(),
        }
    }
}

impl PeersConfig {
    /// Returns the servers to begin with: where each is, and who it has to be, where that is said.
    pub fn places(&self) -> Vec<(Endpoint, Option<NodeId>)> {
        let place = |seed: &Address| match seed {
            Address::Node(node, endpoint) => Some((endpoint.clone(), Some(*node))),
            Address::Bare(endpoint) => Some((endpoint.clone(), None)),
            // Without encryption nobody proves who they are.
            Address::Plain(_) => None,
        };
        self.seeds.iter().filter_map(place).collect()
    }

    /// Returns how much the table takes, and for how long.
    pub fn limits(&self) -> TableLimits {
        TableLimits {
            capacity: self.max_entries as usize,
            stale_after: self.stale_after.0,
            drop_after: self.drop_after.0,
        }
    }
}

/// Who may read a host's table and add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Anybody, within limits.
    #[default]
    Everybody,
    /// Members only.
    Members,
    /// The host alone; it asks nobody either.
    Nobody,
}
