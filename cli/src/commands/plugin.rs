//! `gx plugin …`: which plugins there are, installing and checking them, and driving one by hand.

use clap::Subcommand;

use super::Context;
use crate::error::{Result, Status};

mod inspect;
mod install;
mod list;
mod new;
mod run;
mod switch;
mod test;
mod verify;

/// What `gx plugin` does.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Lists plugins and how they stand
    List(list::ListArgs),
    /// Shows what a file says of itself, running nothing of it
    Inspect(inspect::InspectArgs),
    /// Installs a plugin from a file
    Install(install::InstallArgs),
    /// Replaces an installed plugin by another version
    Upgrade(install::UpgradeArgs),
    /// Goes back to the version before the last upgrade
    Rollback(switch::RollbackArgs),
    /// Removes an installed plugin
    Remove(switch::RemoveArgs),
    /// Switches a plugin on
    Enable(switch::EnableArgs),
    /// Switches a plugin off
    Disable(switch::DisableArgs),
    /// Checks files, owners, digests and configuration, running nothing
    Verify(verify::VerifyArgs),
    /// Runs the conformance suite against a plugin
    Test(test::TestArgs),
    /// Calls one method of a plugin by hand
    Run(run::RunArgs),
    /// Makes the source of a plugin of your own
    New(new::NewArgs),
}

pub(crate) async fn run(command: PluginCommand, context: &Context<'_>) -> Result<Status> {
    let done = match command {
        PluginCommand::Test(args) => return test::run(args, context).await,
        PluginCommand::Verify(args) => return verify::run(&args, context),
        PluginCommand::List(args) => list::run(&args, context),
        PluginCommand::Inspect(args) => inspect::run(&args, context),
        PluginCommand::Install(args) => install::install(&args, context),
        PluginCommand::Upgrade(args) => install::upgrade(&args, context),
        PluginCommand::Rollback(args) => switch::rollback(&args, context),
        PluginCommand::Remove(args) => switch::remove(&args, context),
        PluginCommand::Enable(args) => switch::enable(&args, context),
        PluginCommand::Disable(args) => switch::disable(&args, context),
        PluginCommand::Run(args) => run::run(args, context).await,
        PluginCommand::New(args) => new::run(&args, context),
    };
    done.map(|()| Status::DONE)
}

/// Returns the first digits of a digest, as tables show them.
fn short(sha256: &str) -> String {
    sha256.get(..12).unwrap_or(sha256).to_owned()
}

/// Completes the names of plugins.
fn names() -> Vec<clap_complete::CompletionCandidate> {
    super::completions::ask(async |context| {
        let reports = context.plugins()?.reports();
        Ok(reports.into_iter().map(|report| report.name.to_string().into()).collect())
    })
}
