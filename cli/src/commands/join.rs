//! `gx join`: becomes a member of a host, by a ticket.

use std::io::Read as _;
use std::time::SystemTime;

use clap::Args;
use gx_client::{Client, ClientError};
use gx_core::api::{JoinRequest, Whoami};
use gx_core::ticket::Ticket;
use gx_core::{Endpoint, PeerName, Timestamp};
use gx_identity::{KnownHosts, Met};
use serde::Serialize;

use super::{Context, allowance};
use crate::error::{CliError, Result};
use crate::hosts::{Host, Hosts};
use crate::output::{Pairs, Show, View, human};
use crate::{peers, road};

const EXAMPLES: &str = "\
Examples:
  gx join gx1qaz…                        then: gx create --on HOST debian:bookworm
  gx join - < ticket.txt                 so that the ticket is seen by no other user of this machine
  gx join --name lab gx1qaz…

The ticket says where the host is and which key it has: no other is taken for it. Joining again with the same ticket does
no harm, and is how to go on where it is not known whether it came through.";

/// The longest ticket that is read, in bytes.
const STDIN_MAX: u64 = 16 * 1024 + 1;
/// How often a join is sent again when the connection breaks before the answer.
const RETRIES: usize = 2;

/// What `gx join` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct JoinArgs {
    /// The ticket; `-` reads it from standard input
    #[arg(value_name = "TICKET")]
    pub ticket: String,
    /// What you call the host, for --on; without it as it calls itself
    #[arg(long, value_name = "NAME")]
    pub name: Option<PeerName>,
}

pub(crate) async fn run(args: JoinArgs, context: &Context<'_>) -> Result {
    let ticket = read(args.ticket)?;
    let data = context.settings()?.data;
    let key = road::own_key(&data)?;
    if ticket.host == key.id() {
        return Err(CliError::usage("this ticket is this node's own: it need not join itself")
            .hint("hand it to somebody else; here `gx create` works without"));
    }
    let (address, me) = first_to_answer(&ticket, &key).await?;
    pin(&ticket, &address, context, &KnownHosts::of(&data))?;
    let host = Host {
        name: args.name.unwrap_or_else(|| name_of(&me)),
        node: ticket.host,
        addresses: ticket.addresses.clone(),
        since: Timestamp::from(SystemTime::now()),
        knows: key.id(),
    };
    let host = Hosts::of(&data).put(host)?;
    if let Err(error) = note_in_table(&ticket, &address, context).await {
        context.out.warn(&error.message, error.hints.first().map(String::as_str));
    }
    context.out.show(&Joined { host: host.name.clone(), address, whoami: me })?;
    context.out.note(&format!("use it: gx create --on {} debian:bookworm", host.name));
    Ok(())
}

fn read(given: String) -> Result<Ticket> {
    let text = match given.as_str() {
        "-" => {
            let mut text = String::new();
            let read = std::io::stdin().take(STDIN_MAX).read_to_string(&mut text);
            read.map_err(|error| CliError::io("cannot read the ticket", &error))?;
            text
        }
        _ => given,
    };
    // The text itself is not told: it may be most of a good ticket.
    text.parse()
        .map_err(|error: gx_core::ticket::TicketError| CliError::usage(error.to_string()).hint(error.hint()))
}

/// Joins at the first address at which the host answers.
async fn first_to_answer(ticket: &Ticket, key: &gx_identity::NodeKey) -> Result<(Endpoint, Whoami)> {
    let nearest = road::nearest(&ticket.addresses).await;
    let others = ticket.addresses.iter().filter(|address| **address != nearest);
    let mut why = None;
    for address in std::iter::once(&nearest).chain(others) {
        match join(ticket, address, key).await {
            Ok(me) => return Ok((address.clone(), me)),
            Err(error @ ClientError::Host(_)) => return Err(error.into()),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.map_or_else(|| CliError::failed("the ticket has no address"), CliError::from))
}

async fn join(
    ticket: &Ticket,
    address: &Endpoint,
    key: &gx_identity::NodeKey,
) -> Result<Whoami, ClientError> {
    let client = Client::to_node(address, ticket.host, key);
    let request = JoinRequest { invite: ticket.invite.clone(), secret: ticket.secret.to_text() };
    let mut retries = 0;
    loop {
        match client.join(request.clone()).await {
            Err(ClientError::Lost { source, .. }) if retries < RETRIES => {
                tracing::debug!(%source, "the connection broke; sending the same request again");
                retries += 1;
            }
            other => return other,
        }
    }
}

/// Notes that the host is at these addresses; one where another node is known is told, and left.
fn pin(ticket: &Ticket, answered: &Endpoint, context: &Context<'_>, known: &KnownHosts) -> Result {
    for address in &ticket.addresses {
        match known.meet(address, ticket.host).map_err(ClientError::from)? {
            Met::First | Met::Again => {}
            Met::Other(other) => {
                let what = if address == answered { "answers" } else { "is" };
                let text = format!("the host {what} at {address}, where node {other} was known");
                context
                    .out
                    .warn(&text, Some(&format!("gx id forget {address}, where that one is gone for good")));
            }
        }
    }
    Ok(())
}

/// Takes the host into the table of servers, and keeps it there.
async fn note_in_table(ticket: &Ticket, at: &Endpoint, context: &Context<'_>) -> Result {
    let peers = peers::open(&context.settings()?, context.out)?;
    // One that says nothing of itself is asked again by `gx peers update`, as all that were joined are.
    peers::meet(&peers, ticket.host, at).await;
    peers.change(|table| table.pin(ticket.host));
    peers::save(&peers, context.out)
}

/// Returns what a host calls itself, as far as that is a name; else the beginning of its id.
fn name_of(me: &Whoami) -> PeerName {
    let letter = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let own: String =
        me.hostname.split('.').next().unwrap_or_default().chars().filter(letter).take(40).collect();
    own.parse().unwrap_or_else(|_| me.host.short().parse().expect("the beginning of an id is a name"))
}

#[derive(Serialize)]
struct Joined {
    host: PeerName,
    address: Endpoint,
    whoami: Whoami,
}

impl Show for Joined {
    fn text(&self, view: &View) -> String {
        let member = self.whoami.member.as_ref();
        Pairs::new()
            .pair("host", &self.host)
            .pair("node", self.whoami.host)
            .pair("address", &self.address)
            .some("you may have", member.map(|member| allowance::words(&member.allowance)))
            .some("for", member.and_then(|member| member.until).map(|until| human::left(until, view.now)))
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::NodeId;
    use gx_core::api::Role;

    #[test]
    fn a_host_is_called_as_it_calls_itself_where_that_is_a_name() {
        let host = NodeId::from_bytes([7; 32]);
        let named = |hostname: &str| {
            let hostname = hostname.to_owned();
            let (role, id, member, containers) = (Role::Member, None, None, None);
            name_of(&Whoami { host, hostname, role, id, member, containers }).to_string()
        };
        assert_eq!(named("lab.example"), "lab");
        assert_eq!(named("\u{1b}[2Jl\u{430}b"), "2Jlb");
        for none in ["", "\u{430}", "-"] {
            assert_eq!(named(none), host.short());
        }
    }

    #[test]
    fn a_ticket_that_is_wrong_is_not_repeated() {
        let error = read("gx1aaaaaaaa".to_owned()).unwrap_err();
        assert_eq!(error.message, "a character of the ticket is wrong or missing");
        assert!(!format!("{error:?}").contains("aaaa") && !error.hints.is_empty());
    }
}
