//! `gx allow`: the members of this host.

use clap::{Args, Subcommand};
use gx_core::api::{AllowRequest, Fate, MemberInfo, MemberList, Origin, Removal, RemoveMember};
use gx_core::units::Span;
use gx_core::{NodeId, PeerName};
use serde::Serialize;

use super::allowance::{AllowanceArgs, words};
use super::{Context, invite};
use crate::error::{CliError, Kind, Result};
use crate::output::{Pairs, Show, Table, View, human};

const ADD_EXAMPLES: &str = "\
Examples:
  gx allow add NODEID                              within the host's own limits
  gx allow add --name ann --gpus 1 --ttl 8h NODEID

`gx id` prints the id of a node. One that is a member gets what is said now instead of what it had. Most people find
`gx invite` easier: a ticket tells the other side where this host is, too.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  gx allow remove ann            its containers that run are stopped
  gx allow remove --rm ann       and removed
  gx allow remove --keep ann     and go on

It holds at once: what the member does here, a session inside a container too, is cut. Its containers are stopped because
their SSH ports are published and their passwords still hold; with --keep whoever knows one gets in until the container is
stopped, removed, or `gx passwd` has made other passwords (keys stay). Stopped containers stay until their leases end; with
`gx allow remove --rm NODEID` they can be removed later too.";

/// What `gx allow` does.
#[derive(Debug, Subcommand)]
pub enum AllowCommand {
    /// Lists members
    List(ListArgs),
    /// Makes a node a member, or changes what it may have
    Add(AddArgs),
    /// Removes a member
    Remove(RemoveArgs),
}

/// What `gx allow list` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx allow list\n  gx allow list --json | jq -r '.members[].member.id'")]
pub struct ListArgs {}

/// What `gx allow add` takes.
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub struct AddArgs {
    /// Its id, as `gx id` prints it there
    #[arg(value_name = "NODEID")]
    pub id: NodeId,
    /// What you call it
    #[arg(long, value_name = "NAME")]
    pub name: Option<PeerName>,
    /// For how long; without it until it is removed
    #[arg(long = "for", value_name = "SPAN")]
    pub member_for: Option<Span>,
    /// What it may have.
    #[command(flatten)]
    pub allowance: AllowanceArgs,
}

/// What `gx allow remove` takes.
#[derive(Debug, Args)]
#[command(after_help = REMOVE_EXAMPLES)]
pub struct RemoveArgs {
    /// Its name, its id, or the beginning of that
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// Lets its containers go on; their passwords and keys still let in
    #[arg(long, conflicts_with = "rm")]
    pub keep: bool,
    /// Removes its containers
    #[arg(long)]
    pub rm: bool,
}

pub(crate) async fn run(command: AllowCommand, context: &Context<'_>) -> Result {
    match command {
        AllowCommand::List(ListArgs {}) => {
            context.out.show(&Listed(context.target().await?.members().await?))
        }
        AllowCommand::Add(args) => add(args, context).await,
        AllowCommand::Remove(args) => remove(args, context).await,
    }
}

async fn add(args: AddArgs, context: &Context<'_>) -> Result {
    let request = AllowRequest {
        name: args.name,
        for_s: args.member_for.map(invite::seconds),
        allowance: args.allowance.allowance(),
    };
    context.out.show(&Added(context.target().await?.allow(&args.id.to_string(), request).await?))
}

async fn remove(args: RemoveArgs, context: &Context<'_>) -> Result {
    let containers = match (args.keep, args.rm) {
        (true, _) => Fate::Keep,
        (_, true) => Fate::Remove,
        (false, false) => Fate::Stop,
    };
    let removal = Removed(context.target().await?.disallow(&args.member, RemoveMember { containers }).await?);
    context.out.show(&removal)?;
    for invite in &removal.0.invites {
        let text = "the ticket it came with is good for others still, and for it under another key";
        context.out.warn(text, Some(&format!("gx invite revoke {invite}")));
    }
    removal.complete()
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(MemberList);

impl Show for Listed {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["name", "id", "by", "since", "until", "may have"]);
        for MemberInfo { member, origin, .. } in &self.0.members {
            table.row([
                member.name.as_ref().map(ToString::to_string).unwrap_or_default(),
                member.id.to_string(),
                by(*origin).to_owned(),
                human::ago(member.since, view.now),
                member.until.map(|until| human::left(until, view.now)).unwrap_or_default(),
                words(&member.allowance),
            ]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.0.members.iter().map(|info| format!("{}\n", info.member.id)).collect()
    }
}

fn by(origin: Origin) -> &'static str {
    match origin {
        Origin::Ticket => "ticket",
        Origin::Allowed => "gx allow",
        Origin::Configuration => "configuration",
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Added(MemberInfo);

impl Show for Added {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.0.member.id)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Removed(Removal);

impl Removed {
    /// Says what could not be done about the containers.
    fn complete(&self) -> Result {
        let mut failed =
            self.0.containers.iter().filter_map(|one| one.error.as_ref().map(|error| (one, error)));
        let Some((one, error)) = failed.next() else { return Ok(()) };
        let what = one.name.clone().unwrap_or_else(|| format!("the containers in {}", one.runtime));
        let told =
            CliError::new(Kind::Engine, format!("the member is removed, and {what} could not be stopped"));
        Err(told
            .cause(error.message.clone())
            .hints(error.hint.clone())
            .hint("a running `gx serve` goes on trying"))
    }
}

impl Show for Removed {
    fn text(&self, view: &View) -> String {
        let done: Vec<&str> = self
            .0
            .containers
            .iter()
            .filter(|one| one.error.is_none())
            .filter_map(|one| one.name.as_deref())
            .collect();
        let done = (!done.is_empty()).then(|| done.join(", "));
        let (stopped, removed) = match self.0.fate {
            Fate::Stop => (done, None),
            Fate::Remove => (None, done),
            Fate::Keep => (None, None),
        };
        Pairs::new()
            .pair("removed", self.0.member.id)
            .some("name", self.0.member.name.as_ref())
            .some("stopped", stopped)
            .some("containers", removed.map(|names| format!("{names}: removed")))
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.0.member.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_stopped_is_an_error_with_its_reason() {
        let value = serde_json::json!({
            "member": { "id": NodeId::from_bytes([1; 32]), "name": "ann", "since": "2026-01-01T00:00:00Z" },
            "fate": "stop",
            "containers": [
                { "name": "web", "runtime": "docker" },
                { "runtime": "podman", "error": { "code": "Unavailable", "message": "nobody answers" } },
            ],
        });
        let removed = Removed(serde_json::from_value(value).unwrap());
        assert!(
            removed.text(&View::plain()).ends_with("name      ann\nstopped   web\n"),
            "{}",
            removed.text(&View::plain())
        );
        let error = removed.complete().unwrap_err();
        assert_eq!(error.message, "the member is removed, and the containers in podman could not be stopped");
        assert_eq!(error.causes, ["nobody answers"]);
    }
}
