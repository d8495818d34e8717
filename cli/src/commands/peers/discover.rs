//! `gx peers discover`: asks the local network which servers are there.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use gx_core::NodeId;
use gx_core::units::Span;
use gx_peers::Peers;
use gx_peers::lan::{self, Found};
use serde::Serialize;

use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::hosts::Hosts;
use crate::output::{Show, Table, View};
use crate::peers;

const EXAMPLES: &str = "\
Examples:
  gx peers discover                      then: gx peers update
  gx peers discover --for 10s --json

Servers answer whose owner has set `lan = true` in [peers]. Who they are is not proved until `gx peers update` has reached \
them, and nothing is theirs to be trusted with until you join one by a ticket.";

/// What `gx peers discover` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiscoverArgs {
    /// How long to wait for answers
    #[arg(long = "for", value_name = "SPAN", default_value = "3s")]
    pub patience: Span,
}

pub(super) async fn run(args: DiscoverArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let found = look(&peers, args.patience.0).await?;
    peers::save(&peers, context.out)?;
    let hosts = Hosts::of(&settings.data).all()?;
    let name = |node: NodeId| hosts.iter().find(|host| host.node == node).map(|host| host.name.to_string());
    let found = found.into_iter().map(|Found { node_id, addresses }| Row {
        joined_as: name(node_id),
        known: peers.with(|table| table.get(node_id).is_some()),
        node_id,
        addresses,
    });
    let found: Vec<Row> = found.collect();
    let nobody = found.is_empty();
    context.out.show(&Discovered { found })?;
    context.out.note(match nobody {
        true => {
            "nobody answers: a host says that it is there where its configuration has `lan = true` in [peers]"
        }
        false => "`gx peers update` measures them; `gx join TICKET` joins one",
    });
    Ok(())
}

/// Asks the network, and takes those that answer into the table.
pub(super) async fn look(peers: &Peers, patience: Duration) -> Result<Vec<Found>> {
    let found = lan::discover(peers.own(), patience).await;
    let found = found.map_err(|error| {
        CliError::failed(error.to_string())
            .hint("is this machine in a network? `gx peers add HOST` needs none of it")
    })?;
    lan::take_in(peers, &found);
    Ok(found)
}

#[derive(Serialize)]
struct Discovered {
    found: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    node_id: NodeId,
    addresses: Vec<SocketAddr>,
    /// Whether its record is in the table, so that its key is proved.
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_as: Option<String>,
}

impl Show for Discovered {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["server", "addresses", "state"]);
        for Row { node_id, addresses, known, joined_as } in &self.found {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let state = match (joined_as, known) {
                (Some(name), _) => format!("joined as {name}"),
                (None, true) => "known, not joined".to_owned(),
                (None, false) => "unverified".to_owned(),
            };
            table.row([node_id.short(), addresses.join(", "), state]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.found.iter().map(|row| format!("{}\n", row.node_id)).collect()
    }
}
