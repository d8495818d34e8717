//! The table of servers as commands use it: opened, looked into by what people write, and told as they read it.

use std::net::SocketAddr;
use std::sync::Arc;

use gx_core::peers::{Candidate, Freshness, PeerRecord, PeerTable};
use gx_core::{Address, NodeId, Timestamp};
use gx_peers::{Opened, Peers, SetAside};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::hosts::Hosts;
use crate::output::Out;
use crate::road;
use crate::settings::Settings;

/// The shortest beginning of a node id that stands for it.
const SHORTEST_ID: usize = 4;

/// Opens the table. People are told of a file that is damaged.
pub(crate) fn open(settings: &Settings, out: &Out) -> Result<Arc<Peers>> {
    let key = road::own_key(&settings.data)?;
    let Opened { peers, set_aside } = Peers::open(&settings.data, &key, settings.config.peers.limits())?;
    tell(set_aside, out);
    peers.with(|table| table.expire(now()));
    Ok(Arc::new(peers))
}

/// Writes the table.
pub(crate) fn save(peers: &Peers, out: &Out) -> Result {
    tell(peers.save()?, out);
    Ok(())
}

fn tell(set_aside: Option<SetAside>, out: &Out) {
    if let Some(set_aside) = set_aside {
        out.warn(
            &set_aside.to_string(),
            Some("`gx peers update` fills the table anew from what is configured and joined"),
        );
    }
}

/// Returns the present.
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKey {
    /// One with a key.
    Node(NodeId),
    /// One that is known by its address only.
    Address(SocketAddr),
}

/// Finds a server by its id, the beginning of it, an address, or the name of a host that was joined.
pub(crate) fn find(peers: &Peers, settings: &Settings, reference: &str) -> Result<PeerKey> {
    if let Some(host) = Hosts::of(&settings.data).find(reference)?
        && peers.with(|table| table.get(host.node).is_some())
    {
        return Ok(PeerKey::Node(host.node));
    }
    peers.with(|table| find_in(table, reference))
}

fn find_in(table: &PeerTable, reference: &str) -> Result<PeerKey> {
    let others = || table.iter().filter(|(node, _)| table.own() != Some(*node));
    if let Ok(node) = reference.parse::<NodeId>()
        && table.get(node).is_some()
    {
        return Ok(PeerKey::Node(node));
    }
    if let Ok(Address::Bare(endpoint) | Address::Node(_, endpoint)) = reference.parse()
        && let Ok(ip) = endpoint.host().parse()
    {
        let address = SocketAddr::new(ip, endpoint.port());
        if let Some((node, _)) = others().find(|(_, entry)| entry.record().addresses().contains(&address)) {
            return Ok(PeerKey::Node(node));
        }
        if table.legacy().any(|(there, _)| there == address) {
            return Ok(PeerKey::Address(address));
        }
    }
    let wanted = reference.to_ascii_lowercase();
    let begins = |node: &NodeId| wanted.len() >= SHORTEST_ID && node.to_string().starts_with(&wanted);
    let fitting: Vec<NodeId> = others().map(|(node, _)| node).filter(begins).collect();
    match fitting.as_slice() {
        [node] => Ok(PeerKey::Node(*node)),
        [] => Err(unknown(table, reference)),
        some => Err(CliError::usage(format!("{} servers begin with {reference}", some.len()))
            .hint("write more of the id")),
    }
}

fn unknown(table: &PeerTable, reference: &str) -> CliError {
    let names: Vec<String> = table
        .iter()
        .flat_map(|(node, entry)| {
            let addresses = entry.record().addresses().iter().map(ToString::to_string);
            addresses.chain([node.short()]).collect::<Vec<_>>()
        })
        .chain(table.legacy().map(|(address, _)| address.to_string()))
        .collect();
    let near = gx_core::config::closest(reference, names.iter().map(String::as_str)).map(str::to_owned);
    let told = CliError::failed(format!("no server {reference} is known"));
    match near {
        Some(near) => told.hint(format!("did you mean `{near}`?")),
        None => told.hint("`gx peers` lists them; `gx peers add HOST` adds one"),
    }
}

/// A server as it is told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PeerInfo {
    /// Who it is; without one nothing of it is sure.
    pub(crate) node_id: Option<NodeId>,
    /// The name under which it was joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Where it is, the best first.
    pub(crate) addresses: Vec<SocketAddr>,
    /// How much it is to be trusted to be there.
    pub(crate) state: Freshness,
    /// Whether it signed two texts with one seq, and is not used.
    pub(crate) quarantined: bool,
    /// Whether it is kept whatever happens.
    pub(crate) pinned: bool,
    /// What was measured here.
    pub(crate) seen: gx_core::peers::Observation,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<PeerRecord>,
}

impl PeerInfo {
    /// Returns it as a server that could be chosen.
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            node_id: self.node_id,
            addresses: self.addresses.clone(),
            record: self.record.clone(),
            seen: self.seen,
            freshness: self.state,
        }
    }

    /// Returns what it is called in a table.
    pub(crate) fn title(&self) -> String {
        match (&self.name, self.node_id, self.addresses.first()) {
            (Some(name), ..) => name.clone(),
            (None, Some(node), _) => node.short(),
            (None, None, Some(address)) => address.to_string(),
            (None, None, None) => "–".to_owned(),
        }
    }
}

/// Returns all servers of a table but this node itself and those that took leave.
pub(crate) fn infos(peers: &Peers, settings: &Settings) -> Result<Vec<PeerInfo>> {
    let hosts = Hosts::of(&settings.data).all()?;
    let name = |node: NodeId| hosts.iter().find(|host| host.node == node).map(|host| host.name.to_string());
    Ok(peers.with(|table| {
        let limits = table.limits();
        let state =
            |seen: &gx_core::peers::Observation| seen.freshness(limits.stale_after, limits.drop_after, now());
        let there =
            table.iter().filter(|(node, entry)| table.own() != Some(*node) && !entry.record().is_gone());
        let nodes = there.map(|(node, entry)| PeerInfo {
            node_id: Some(node),
            name: name(node),
            addresses: entry.addresses().collect(),
            state: state(&entry.observation()),
            quarantined: entry.is_quarantined(),
            pinned: entry.is_pinned(),
            seen: entry.observation(),
            record: Some(entry.record().record()),
        });
        let rows = table.legacy().map(|(address, row)| PeerInfo {
            node_id: None,
            name: Some(row.name.clone()).filter(|name| !name.is_empty()),
            addresses: vec![address],
            state: state(&row.seen),
            quarantined: false,
            pinned: row.pinned,
            seen: row.seen,
            record: None,
        });
        nodes.chain(rows).collect()
    }))
}
