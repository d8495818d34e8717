//! `gx peers add`, `remove`, `import` and `export`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::peers::Source;
use gx_core::peers::file::{self, Row};
use gx_core::{Address, NodeId};
use gx_peers::dial::Target;
use gx_peers::seed;
use serde::Serialize;

use super::list::{ListArgs, Listed};
use crate::commands::Context;
use crate::error::{CliError, Kind, Result};
use crate::output::{Pairs, Show, View};
use crate::peers::{self, PeerKey};

const ADD_EXAMPLES: &str = "\
Examples:
  gx peers add 192.168.1.7
  gx peers add box.example:7467 NODEID@203.0.113.7

A server is asked at once who it is. One that does not answer is kept, and tried again with `gx peers update`.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  gx peers remove 192.168.1.7:7467
  gx peers remove qeaqcaib

Others may tell of it again.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  gx peers import ip_table.json          also one of the predecessor's
  gx peers import - < table.json

Records are checked; what others measured is passed over.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  gx peers export > table.json           for `gx peers import` elsewhere";

/// The longest file that is taken in, in bytes.
const MAX_IMPORT: u64 = 256 << 20;

/// What `gx peers add` takes.
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub struct AddArgs {
    /// Where the servers are, as [NODEID@]HOST[:PORT]
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<Address>,
    /// Asks nobody who is there
    #[arg(long)]
    pub offline: bool,
}

/// What `gx peers remove` takes.
#[derive(Debug, Args)]
#[command(after_help = REMOVE_EXAMPLES)]
pub struct RemoveArgs {
    /// The servers: an id, the beginning of it, an address, or the name of a host that was joined
    #[arg(value_name = "PEER", required = true, add = ArgValueCandidates::new(super::known))]
    pub peers: Vec<String>,
}

/// What `gx peers import` takes.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// What `gx peers export` takes.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {}

pub(super) async fn add(args: AddArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let mut targets: Vec<(SocketAddr, Option<NodeId>)> = Vec::new();
    for address in &args.addresses {
        let node = match address {
            Address::Node(node, _) => Some(*node),
            Address::Bare(_) => None,
            Address::Plain(_) => {
                return Err(CliError::usage(
                    "a server without encryption proves nothing, and is not in the table",
                )
                .hint("`--on plain:…` uses one on this machine"));
            }
        };
        let found = seed::look_up(address.endpoint()).await;
        let first = found.first().copied().ok_or_else(|| {
            CliError::new(Kind::Unreachable, format!("the name {} is not known", address.endpoint()))
                .hint("an IP address needs no name")
        })?;
        targets.push((first, node));
    }
    for (address, _) in &targets {
        let known = peers.with(|table| table.is_some_nodes(*address));
        if !known {
            let added = peers.change(|table| table.insert_legacy(*address, "", Source::Own, peers::now()));
            added.map_err(|error| CliError::usage(format!("{address}: {error}")))?;
        }
    }
    peers::save(&peers, context.out)?;
    if !args.offline {
        for (address, node) in &targets {
            if let Err(error) = Target::Address(*address, *node).ping(&peers).await {
                context.out.warn(&error.to_string(), error.hint().as_deref());
            }
        }
    }
    peers.change(|table| {
        let nodes: Vec<NodeId> = table
            .iter()
            .filter(|(_, entry)| {
                entry.addresses().any(|there| targets.iter().any(|(address, _)| *address == there))
            })
            .map(|(node, _)| node)
            .collect();
        for node in nodes {
            table.pin(node);
        }
    });
    peers::save(&peers, context.out)?;
    let at = |info: &peers::PeerInfo| targets.iter().any(|(address, _)| info.addresses.contains(address));
    let infos = peers::infos(&peers, &settings)?.into_iter().filter(at).collect();
    context.out.show(&Listed::new(infos, &ListArgs { all: true, ..ListArgs::default() }))
}

pub(super) fn remove(args: RemoveArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let keys: Vec<PeerKey> = args
        .peers
        .iter()
        .map(|reference| peers::find(&peers, &settings, reference))
        .collect::<Result<_>>()?;
    let mut removed = Removed { removed: Vec::new() };
    for key in keys {
        peers.change(|table| match key {
            PeerKey::Node(node) => table.remove(node).is_some(),
            PeerKey::Address(address) => table.remove_legacy(address).is_some(),
        });
        removed.removed.push(match key {
            PeerKey::Node(node) => node.to_string(),
            PeerKey::Address(address) => address.to_string(),
        });
    }
    peers::save(&peers, context.out)?;
    context.out.show(&removed)
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
}

impl Show for Removed {
    fn text(&self, _: &View) -> String {
        self.removed.iter().map(|peer| format!("{peer}\n")).collect()
    }
}

pub(super) fn import(args: ImportArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let text = super::read(&args.file, MAX_IMPORT)?;
    let rows = file::rows(&text).map_err(|error| {
        CliError::failed(format!("{}: {error}", args.file.display()))
            .hint("a table is JSON as {\"ip_address\": [ … ]}; `gx peers export` prints one")
    })?;
    let peers = peers::open(&settings, context.out)?;
    let read = peers.change(|table| table.merge_rows(&rows, Source::Own, &gx_identity::verify, peers::now()));
    let mut why: BTreeMap<String, usize> = BTreeMap::new();
    read.skipped.iter().for_each(|(_, skipped)| *why.entry(skipped.to_string()).or_default() += 1);
    peers::save(&peers, context.out)?;
    context.out.show(&Imported {
        new: read.keyed.new + read.keyless,
        newer: read.keyed.newer,
        unchanged: rows
            .len()
            .saturating_sub(read.keyed.new + read.keyed.newer + read.keyless + read.skipped.len()),
        skipped: why,
    })
}

#[derive(Serialize)]
struct Imported {
    new: usize,
    newer: usize,
    unchanged: usize,
    /// Rows that were passed over, by reason.
    skipped: BTreeMap<String, usize>,
}

impl Show for Imported {
    fn text(&self, view: &View) -> String {
        let pairs =
            Pairs::new().pair("new", self.new).pair("newer", self.newer).pair("known", self.unchanged);
        self.skipped
            .iter()
            .fold(pairs, |pairs, (why, count)| pairs.pair("skipped", format!("{count}: {why}")))
            .text(view)
    }
}

pub(super) fn export(ExportArgs {}: ExportArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let rows = peers.with(|table| table.iter().map(|(_, entry)| Row::from(entry)).collect());
    context.out.show(&Exported { ip_address: rows })
}

#[derive(Serialize)]
struct Exported {
    ip_address: Vec<Row>,
}

impl Show for Exported {
    fn text(&self, _: &View) -> String {
        let rows: Vec<String> =
            self.ip_address.iter().map(|row| serde_json::to_string(row).unwrap_or_default()).collect();
        format!("{{\"ip_address\":[\n{}\n]}}\n", rows.join(",\n"))
    }
}
