//! The table of servers as commands use it: opened, looked into by what people write, and told as they read it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gx_core::peers::{Candidate, Freshness, PeerRecord, PeerTable, TableLimits};
use gx_core::{Address, Endpoint, NodeId, Timestamp};
use gx_peers::dial::Target;
use gx_peers::seed::look_up;
use gx_peers::{Opened, Peers, SetAside};
use serde::Serialize;

use crate::error::{CliError, Kind, Result};
use crate::hosts::Hosts;
use crate::output::Out;
use crate::road;
use crate::settings::Settings;

/// The shortest beginning of a node id that stands for it.
const SHORTEST_ID: usize = 4;
/// As much of it as tables show.
const SHOWN_ID: usize = 10;

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

/// Returns the node that `--on` means, and where it is, where it names one of the table: by its id, or by as much of its
/// beginning as tables show. What others call a server names nobody: they call it what they like.
pub(crate) fn locate(reference: &str, data: &Path, out: &Out) -> Result<Option<(NodeId, Vec<Endpoint>)>> {
    let whole = reference.parse::<NodeId>().ok();
    let may_begin = reference.len() >= SHOWN_ID
        && reference.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    if whole.is_none() && !may_begin {
        return Ok(None);
    }
    let limits = TableLimits { capacity: TableLimits::MAX_CAPACITY, ..TableLimits::default() };
    let Opened { peers, set_aside } = Peers::open(data, &road::own_key(data)?, limits)?;
    tell(set_aside, out);
    peers.with(|table| located(table, whole, reference))
}

fn located(
    table: &PeerTable,
    whole: Option<NodeId>,
    reference: &str,
) -> Result<Option<(NodeId, Vec<Endpoint>)>> {
    let node = match whole {
        Some(node) if table.get(node).is_some() => Some(node),
        Some(node) => {
            return Err(CliError::failed(format!("the node {node} is not known here"))
                .hint("NODEID@HOST says where it is; `gx peers` lists those that are known"));
        }
        None => match find_in(table, reference) {
            Ok(PeerKey::Node(node)) => Some(node),
            Ok(PeerKey::Address(_)) => None,
            // Several; or none, and then it may be the name of a machine.
            Err(error) if error.kind == Kind::Usage => return Err(error),
            Err(_) => None,
        },
    };
    let Some(node) = node else { return Ok(None) };
    let addresses: Vec<Endpoint> =
        table.get(node).into_iter().flat_map(|entry| entry.addresses()).map(Endpoint::from).collect();
    if addresses.is_empty() {
        return Err(CliError::new(Kind::Unreachable, format!("nobody says where the node {node} is now"))
            .hint("`gx peers update` asks those that are known"));
    }
    Ok(Some((node, addresses)))
}

/// Sees to it that a node is in the table that has just proved who it is at an address: one that is not is asked what it
/// says of itself. Returns whether it is there now.
pub(crate) async fn meet(peers: &Peers, node: NodeId, at: &Endpoint) -> bool {
    let known = || peers.with(|table| table.get(node).is_some());
    if node == peers.own() {
        return false; // nobody measures himself
    }
    if known() {
        return true;
    }
    for address in look_up(at).await {
        if let Err(error) = Target::Address(address, Some(node)).ping(peers).await {
            tracing::debug!(%error, "it does not say what it is");
        }
        if known() {
            return true;
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::peers::Source;

    fn table(addresses: &[SocketAddr]) -> (PeerTable, NodeId) {
        let data = tempfile::tempdir().unwrap();
        let key = gx_identity::open(data.path()).unwrap();
        let record = PeerRecord {
            addresses: addresses.to_vec(),
            ..PeerRecord::new(key.id(), 1, now(), PeerRecord::LEASE)
        };
        let signed = record.sign(|message| key.sign(message)).unwrap();
        let mut table = PeerTable::new(TableLimits::default(), None);
        table.insert(signed.verify(&gx_identity::verify, now()).unwrap(), Source::Own, now()).unwrap();
        table.insert_legacy(([192, 168, 1, 9], 7467).into(), "workstation", Source::Own, now()).unwrap();
        (table, key.id())
    }

    #[test]
    fn a_node_is_found_by_its_id_or_what_tables_show_of_it() {
        let address: SocketAddr = ([192, 168, 1, 7], 7467).into();
        let (table, node) = table(&[address]);
        let found = Some((node, vec![Endpoint::from(address)]));
        assert_eq!(located(&table, Some(node), "").unwrap(), found);
        assert_eq!(located(&table, None, &node.short()).unwrap(), found);
        // What a row without a key is called is nobody's name.
        assert_eq!(located(&table, None, "workstation").unwrap(), None);
        let other = NodeId::from_bytes([1; 32]);
        assert!(!located(&table, Some(other), "").unwrap_err().hints.is_empty());
    }

    #[test]
    fn only_what_looks_like_an_id_is_looked_for() {
        let data = tempfile::tempdir().unwrap();
        let out = Out::new(&crate::cli::Globals::default());
        for reference in ["lab", "192.168.1.7", "box.example:7467", "workstation1", "[::1]:7467"] {
            assert_eq!(locate(reference, data.path(), &out).unwrap(), None, "{reference}");
        }
        assert!(!data.path().join("node.key").exists(), "nothing was opened for it");
    }
}
