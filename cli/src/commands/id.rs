//! `gx id`: who this node is, and which hosts it knows.

use clap::{Args, Subcommand};
use gx_core::{Endpoint, NodeId, Timestamp};
use gx_identity::KnownHosts;
use gx_server::ServerError;
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, Table, View, human};

const EXAMPLES: &str = "\
Examples:
  gx id                      this node's id: others know it by that, and by nothing else
  gx id known                which node answered at each address that was used
  gx id forget box:7467      the next node that answers there is taken for the right one

The id is the public half of the key in DATA/node.key. Whoever has a copy of that file is this node: keep one where \
nobody else can read it.";

/// What `gx id` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IdArgs {
    /// What to do; without it the id is printed.
    #[command(subcommand)]
    pub command: Option<IdCommand>,
}

/// What there is to do with ids.
#[derive(Debug, Subcommand)]
pub enum IdCommand {
    /// Lists which node answered at each address that was used
    #[command(after_help = KNOWN_EXAMPLES)]
    Known,
    /// Forgets which node answered at an address
    Forget(ForgetArgs),
}

const KNOWN_EXAMPLES: &str = "\
Examples:
  gx id known
  gx id known --json | jq -r '.[].node'";

const FORGET_EXAMPLES: &str = "\
Examples:
  gx id forget box:7467

Do it when you know why another node answers there: the next one is taken for the right one.";

/// What `gx id forget` takes.
#[derive(Debug, Args)]
#[command(after_help = FORGET_EXAMPLES)]
pub struct ForgetArgs {
    /// The address, as HOST or HOST:PORT
    #[arg(value_name = "ADDRESS")]
    pub address: Endpoint,
}

pub(crate) fn run(args: IdArgs, context: &Context<'_>) -> Result {
    let data = context.settings()?.data;
    match args.command {
        None => {
            let key = gx_identity::open(&data).map_err(ServerError::from)?;
            context.out.show(&Own { node_id: key.id() })
        }
        Some(IdCommand::Known) => {
            let all = KnownHosts::of(&data).all()?;
            let host = |(address, known): (Endpoint, gx_identity::Known)| Host {
                address,
                node: known.node,
                since: known.since,
            };
            context.out.show(&Hosts(all.into_iter().map(host).collect()))
        }
        Some(IdCommand::Forget(args)) => match KnownHosts::of(&data).forget(&args.address)? {
            Some(node) => context.out.show(&Forgotten { address: args.address, node }),
            None => Err(CliError::failed(format!("no node is known at {}", args.address))
                .hint("`gx id known` lists the addresses")),
        },
    }
}

#[derive(Serialize)]
struct Own {
    node_id: NodeId,
}

impl Show for Own {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.node_id)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Hosts(Vec<Host>);

#[derive(Serialize)]
struct Host {
    address: Endpoint,
    node: NodeId,
    since: Timestamp,
}

impl Show for Hosts {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["ADDRESS", "NODE", "KNOWN SINCE"]);
        for host in &self.0 {
            let since = human::ago(host.since, view.now);
            table.row([host.address.to_string(), host.node.to_string(), since]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.0.iter().map(|host| format!("{}\n", host.node)).collect()
    }
}

#[derive(Serialize)]
struct Forgotten {
    address: Endpoint,
    node: NodeId,
}

impl Show for Forgotten {
    fn text(&self, _: &View) -> String {
        format!("{} is forgotten; node {} answered there\n", self.address, self.node)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_shown_with_their_whole_ids() {
        let node = NodeId::from_bytes([7; 32]);
        let host = Host { address: "box".parse().unwrap(), node, since: Timestamp::from_unix(-7200) };
        let text = Hosts(vec![host]).text(&View::plain());
        assert!(
            text.contains("box:7467") && text.contains(&node.to_string()) && text.contains("2h"),
            "{text}"
        );
    }
}
