//! `gx peers`: the servers that are known, how far and how fast they are, and the best of them.

use std::io::Read as _;

use clap::{Args, Subcommand};
use clap_complete::CompletionCandidate;

use super::{Context, completions};
use crate::error::{CliError, Result};
use crate::peers;

mod best;
mod change;
mod discover;
mod list;
mod measure;
mod show;
mod throughput;
mod update;

pub(crate) use best::{choose, ranked};
pub(crate) use list::{ListArgs, Listed, needs};

const EXAMPLES: &str = "\
Examples:
  gx peers                               the servers that are known, the best first
  gx peers add 192.168.1.7               then: gx peers update
  gx peers update --hops 3               measures them, and asks them which others they know
  gx peers measure lab                   latency, download and upload of a host
  gx peers best --needs 'gpu>=1 memory>=8G runtime=podman'
  gx create --on best debian:bookworm    on the best of them";

/// What `gx peers` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct PeersArgs {
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub command: Option<PeersCommand>,
    /// How to list them
    #[command(flatten)]
    pub list: list::ListArgs,
}

/// What to do with the table.
#[derive(Debug, Subcommand)]
pub enum PeersCommand {
    /// Lists the servers that are known
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Adds servers by their addresses, and keeps them
    Add(change::AddArgs),
    /// Forgets servers
    #[command(visible_alias = "rm")]
    Remove(change::RemoveArgs),
    /// Shows everything that is known of a server
    Show(show::ShowArgs),
    /// Asks the local network which servers are there
    Discover(discover::DiscoverArgs),
    /// Measures all servers, and asks them which others they know
    Update(update::UpdateArgs),
    /// Measures how far and how fast a host is
    Measure(measure::MeasureArgs),
    /// Shows which server is the best for a need
    Best(best::BestArgs),
    /// Takes in a table from a file
    Import(change::ImportArgs),
    /// Prints the table for others, without what was measured
    Export(change::ExportArgs),
}

pub(crate) async fn run(args: PeersArgs, context: &Context<'_>) -> Result {
    match args.command {
        None => list::run(args.list, context),
        Some(PeersCommand::List(args)) => list::run(args, context),
        Some(PeersCommand::Add(args)) => change::add(args, context).await,
        Some(PeersCommand::Remove(args)) => change::remove(args, context),
        Some(PeersCommand::Show(args)) => show::run(args, context),
        Some(PeersCommand::Discover(args)) => discover::run(args, context).await,
        Some(PeersCommand::Update(args)) => update::run(args, context).await,
        Some(PeersCommand::Measure(args)) => measure::run(args, context).await,
        Some(PeersCommand::Best(args)) => best::run(args, context),
        Some(PeersCommand::Import(args)) => change::import(args, context),
        Some(PeersCommand::Export(args)) => change::export(args, context),
    }
}

/// Returns the servers that are known, by what they are called.
pub(crate) fn known() -> Vec<CompletionCandidate> {
    completions::ask(async |context| {
        let settings = context.settings()?;
        let infos = peers::infos(&*peers::open(&settings, context.out)?, &settings)?;
        let candidate = |info: peers::PeerInfo| {
            let address = info.addresses.first().map(ToString::to_string).unwrap_or_default();
            CompletionCandidate::new(info.title()).help(Some(address.into()))
        };
        Ok(infos.into_iter().map(candidate).collect())
    })
}

/// Reads a file, or standard input for `-`.
fn read(file: &std::path::Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| CliError::io(format!("cannot read {}", file.display()), &error))?;
    String::from_utf8(bytes).map_err(|_| CliError::failed(format!("{} is not UTF-8", file.display())))
}
