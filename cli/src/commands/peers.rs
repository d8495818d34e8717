//! `gx peers`: how far and how fast other servers are.

use clap::{Args, Subcommand};

use super::Context;
use crate::error::Result;

mod measure;

/// What `gx peers` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx peers measure lab     latency, download and upload of a host")]
#[command(arg_required_else_help = true)]
pub struct PeersArgs {
    /// What to do
    #[command(subcommand)]
    pub command: PeersCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum PeersCommand {
    /// Measures how far and how fast a host is
    Measure(measure::MeasureArgs),
}

pub(crate) async fn run(args: PeersArgs, context: &Context<'_>) -> Result {
    match args.command {
        PeersCommand::Measure(args) => measure::run(args, context).await,
    }
}
