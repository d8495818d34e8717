//! `gx invite`: a ticket by which others become members of this host.

use clap::{Args, Subcommand};
use gx_core::api::{InviteInfo, InviteList, InviteRequest, Invited};
use gx_core::units::Span;
use gx_core::{Endpoint, PeerName};
use serde::Serialize;
use std::time::Duration;

use super::allowance::{AllowanceArgs, words};
use super::{Context, allowance};
use crate::error::Result;
use crate::output::{Show, Table, View, human};

const EXAMPLES: &str = "\
Examples:
  gx invite                                     a ticket for one node, good for a day
  gx invite --name ann --containers 2 --memory 8g --ttl 8h
  gx invite --uses 20 --expires 2h --for 1d     for a course: who joins is a member for a day
  gx invite --address lab.example:7467 | qrencode -t utf8

The ticket alone is on standard output. Whoever has it can join, so hand it over as you would a password; the host keeps
a digest of it only. `gx invite revoke ID` takes it back, and who has joined stays: see `gx allow`.";

/// What `gx invite` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct InviteArgs {
    /// What to do with those there are
    #[command(subcommand)]
    pub command: Option<InviteCommand>,
    /// What you call who joins; of several the later ones get a number
    #[arg(long, value_name = "NAME")]
    pub name: Option<PeerName>,
    /// How many nodes may join with it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub uses: u32,
    /// For how long it is good
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    pub expires: Span,
    /// How long who joins is a member; without it until `gx allow remove`
    #[arg(long = "for", value_name = "SPAN")]
    pub member_for: Option<Span>,
    /// Where others reach this host; may be given again. Without it `advertise` in [server], else the machine's addresses
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub addresses: Vec<Endpoint>,
    /// What who joins may have.
    #[command(flatten)]
    pub allowance: AllowanceArgs,
}

/// What to do with the invitations there are.
#[derive(Debug, Subcommand)]
pub enum InviteCommand {
    /// Lists invitations that are good still
    List(ListArgs),
    /// Takes an invitation back
    Revoke(RevokeArgs),
}

/// What `gx invite list` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx invite list\n  gx invite list --json | jq -r '.invites[].id'")]
pub struct ListArgs {}

/// What `gx invite revoke` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx invite revoke k4cqd2v7m3xw5aeu")]
pub struct RevokeArgs {
    /// Its id, as `gx invite list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
}

pub(crate) async fn run(args: InviteArgs, context: &Context<'_>) -> Result {
    match args.command {
        Some(InviteCommand::List(ListArgs {})) => {
            context.out.show(&Listed(context.target().await?.invites().await?))
        }
        Some(InviteCommand::Revoke(RevokeArgs { id })) => {
            context.out.show(&Revoked(context.target().await?.revoke_invite(&id).await?))
        }
        None => invite(args, context).await,
    }
}

async fn invite(args: InviteArgs, context: &Context<'_>) -> Result {
    let request = InviteRequest {
        name: args.name,
        uses: args.uses,
        expires_s: seconds(args.expires),
        for_s: args.member_for.map(seconds),
        allowance: args.allowance.allowance(),
        addresses: args.addresses,
    };
    let invited = Ticket(context.target().await?.invite(request).await?);
    context.out.show(&invited)?;
    let Invited { addresses, invite, .. } = &invited.0;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let nodes = if invite.uses == 1 { "one node".to_owned() } else { format!("{} nodes", invite.uses) };
    context.out.note(&format!(
        "for {nodes}, until {}; it leads to {}\nwho has it runs `gx join TICKET` and gets {}",
        human::moment(invite.until),
        addresses.join(", "),
        words(&invite.allowance)
    ));
    Ok(())
}

/// Returns a span in whole seconds, at least one where it is not nothing.
pub(super) fn seconds(span: Span) -> u64 {
    span.0.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Ticket(Invited);

impl Show for Ticket {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.0.ticket.reveal())
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(InviteList);

impl Show for Listed {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["id", "name", "used", "expires", "member for", "may have"]);
        for invite in &self.0.invites {
            table.row([
                invite.id.to_string(),
                invite.name.as_ref().map(ToString::to_string).unwrap_or_default(),
                format!("{} of {}", invite.used, invite.uses),
                human::left(invite.until, view.now),
                invite
                    .for_s
                    .map(|seconds| Span(Duration::from_secs(seconds)).to_string())
                    .unwrap_or_default(),
                allowance::words(&invite.allowance),
            ]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.0.invites.iter().map(|invite| format!("{}\n", invite.id)).collect()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Revoked(InviteInfo);

impl Show for Revoked {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.0.id)
    }
}
