//! `gx rm`: removes containers.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::runtime::RemoveOptions;
use gx_core::{ContainerId, ErrorCode};
use serde::Serialize;

use super::{Context, completions, ssh, stop};
use crate::error::Result;
use crate::output::{Show, View};

const EXAMPLES: &str = "\
Examples:
  gx rm web
  gx rm -f web db             those that run too
  gx rm -f $(gx list -q)      everything that runs";

/// What `gx rm` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RmArgs {
    /// Ids, shortened as far as they are unique, or names
    #[arg(value_name = "ID", required = true, add = ArgValueCandidates::new(completions::containers))]
    pub ids: Vec<String>,
    /// Kills those that run first
    #[arg(short, long)]
    pub force: bool,
}

pub(crate) async fn run(args: RmArgs, context: &Context<'_>) -> Result {
    let options = RemoveOptions { force: args.force };
    let target = context.target().await?;
    let done = futures_util::future::join_all(args.ids.iter().map(|id| target.remove(id, options))).await;
    let mut removed = Removed { removed: Vec::new() };
    let mut errors = Vec::new();
    for (result, given) in done.into_iter().zip(&args.ids) {
        match result {
            Ok(id) => removed.removed.push(One { id, given: given.clone() }),
            Err(mut error) if error.code == Some(ErrorCode::FailedPrecondition) && !args.force => {
                error.hints = vec!["gx rm -f removes those that run too".to_owned()];
                errors.push(error);
            }
            Err(error) => errors.push(error),
        }
    }
    if let Ok(settings) = context.settings() {
        removed.removed.iter().for_each(|one| ssh::forget(&settings.data, &one.id));
    }
    if !removed.removed.is_empty() {
        context.out.show(&removed)?;
    }
    stop::all_or_error("removed", args.ids.len(), errors)
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<One>,
}

#[derive(Serialize)]
struct One {
    id: ContainerId,
    given: String,
}

impl Show for Removed {
    fn text(&self, _: &View) -> String {
        self.removed.iter().map(|one| format!("{}\n", one.given)).collect()
    }

    fn ids(&self, _: &View) -> String {
        self.removed.iter().map(|one| format!("{}\n", one.id)).collect()
    }
}
