//! `gx start`: starts containers that have ended.

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::{Context, completions, stop};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  gx start web
  gx start $(gx list --all -q)";

/// What `gx start` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StartArgs {
    /// Ids, shortened as far as they are unique, or names
    #[arg(value_name = "ID", required = true, add = ArgValueCandidates::new(completions::containers))]
    pub ids: Vec<String>,
}

pub(crate) async fn run(args: StartArgs, context: &Context<'_>) -> Result {
    let target = context.target().await?;
    let done = futures_util::future::join_all(args.ids.iter().map(|id| target.start(id))).await;
    stop::finish("started", &args.ids, done, context)
}
