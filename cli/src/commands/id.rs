//! `gx id`: who this node is, and which hosts it knows.

use std::path::Path;

use clap::{Args, Subcommand};
use gx_core::api::{Role, Whoami};
use gx_core::{Endpoint, NodeId, PeerName, Timestamp};
use gx_identity::KnownHosts;
use gx_server::ServerError;
use serde::Serialize;

use super::{Context, allowance};
use crate::error::{CliError, Result};
use crate::hosts;
use crate::output::{Pairs, Show, Table, View, human};
use crate::road;

const EXAMPLES: &str = "\
Examples:
  gx id                      this node's id: others know it by that, and by nothing else
  gx id known                which node answered at each address that was used
  gx id forget box:7467      the next node that answers there is taken for the right one
  gx id rotate               a new key in the place of the old one, which every host that was joined is told of
  gx id --on lab             who a host thinks you are, and what you may have there

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
    /// Makes a new key for this node and tells the hosts it has joined
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate,
}

const KNOWN_EXAMPLES: &str = "\
Examples:
  gx id known
  gx id known --json | jq -r '.[].node'";

const ROTATE_EXAMPLES: &str = "\
Examples:
  gx id rotate

Both keys sign that the new one stands for the old one. Hosts that were joined are told, and those that do not answer when
`--on` names them next; what is open there under the old key ends. Where this node is a host, stop `gx serve` first; its
containers stay its own, and its members find the new key by what was signed. The old key stays as DATA/node.key.N: keep it,
as the secrets of containers were derived of it.";

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

pub(crate) async fn run(args: IdArgs, context: &Context<'_>) -> Result {
    let data = context.settings()?.data;
    match args.command {
        None if context.globals.on.is_some() => {
            context.out.show(&Me(context.target().await?.whoami().await?))
        }
        Some(IdCommand::Rotate) => rotate(&data, context).await,
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
            context.out.show(&Met(all.into_iter().map(host).collect()))
        }
        Some(IdCommand::Forget(args)) => match KnownHosts::of(&data).forget(&args.address)? {
            Some(node) => context.out.show(&Forgotten { address: args.address, node }),
            None => Err(CliError::failed(format!("no node is known at {}", args.address))
                .hint("`gx id known` lists the addresses")),
        },
    }
}

async fn rotate(data: &Path, context: &Context<'_>) -> Result {
    let rotation = gx_server::rotate(data)?;
    let mut rotated =
        Rotated { from: rotation.from, node_id: rotation.to, told: Vec::new(), to_be_told: Vec::new() };
    for host in hosts::Hosts::of(data).all()? {
        match road::tell(&host, data).await {
            Ok(()) => rotated.told.push(host.name),
            Err(error) => {
                let text = format!("{} is not told of the new key yet: {}", host.name, error.message);
                context.out.warn(&text, Some("the next command with --on tells it"));
                rotated.to_be_told.push(host.name);
            }
        }
    }
    context.out.show(&rotated)
}

#[derive(Serialize)]
struct Rotated {
    from: NodeId,
    node_id: NodeId,
    told: Vec<PeerName>,
    to_be_told: Vec<PeerName>,
}

impl Show for Rotated {
    fn text(&self, view: &View) -> String {
        let names = |all: &[PeerName]| {
            let names: Vec<&str> = all.iter().map(PeerName::as_str).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        Pairs::new()
            .pair("node", self.node_id)
            .pair("formerly", self.from)
            .some("told", names(&self.told))
            .some("to be told", names(&self.to_be_told))
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.node_id)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Me(Whoami);

impl Show for Me {
    fn text(&self, view: &View) -> String {
        let role = match self.0.role {
            Role::Host => "the host itself",
            Role::Member => "a member",
            Role::Stranger => "a stranger: `gx join TICKET` makes you a member",
        };
        let member = self.0.member.as_ref();
        Pairs::new()
            .pair("host", format!("{} ({})", self.0.host, self.0.hostname))
            .some("you", self.0.id)
            .pair("you are", role)
            .some("called", member.and_then(|member| member.name.as_ref()))
            .some("you may have", member.map(|member| allowance::words(&member.allowance)))
            .some("for", member.and_then(|member| member.until).map(|until| human::left(until, view.now)))
            .some("containers", self.0.containers)
            .text(view)
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
struct Met(Vec<Host>);

#[derive(Serialize)]
struct Host {
    address: Endpoint,
    node: NodeId,
    since: Timestamp,
}

impl Show for Met {
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
        let text = Met(vec![host]).text(&View::plain());
        assert!(
            text.contains("box:7467") && text.contains(&node.to_string()) && text.contains("2 hours ago"),
            "{text}"
        );
    }
}
