//! `gx completions`: the script by which a shell completes; and the candidates the script asks for.

use clap::{Args, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;
use gx_core::Address;
use gx_identity::KnownHosts;

use super::Context;
use crate::cli::{COMPLETE, Globals};
use crate::error::{CliError, Result};
use crate::hosts::Hosts;
use crate::output::Out;
use crate::target;

const EXAMPLES: &str = "\
Examples:
  gx completions bash > /usr/share/bash-completion/completions/gx
  gx completions zsh > ~/.zfunc/_gx
  gx completions fish > ~/.config/fish/completions/gx.fish";

/// How long a shell waits for candidates, in milliseconds: somebody's fingers are on the keys.
const PATIENCE_MS: u64 = 700;

/// What `gx completions` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Elvish.
    Elvish,
    /// Fish.
    Fish,
    /// PowerShell.
    Powershell,
    /// Zsh.
    Zsh,
}

pub(crate) fn run(args: &CompletionsArgs, context: &Context<'_>) -> Result {
    context.out.write(&script(args.shell)?)
}

fn script(shell: Shell) -> Result<Vec<u8>> {
    let name = shell.to_possible_value().expect("no shell is hidden").get_name().to_owned();
    let shells = Shells::builtins();
    let completer = shells.completer(&name).expect("clap knows every shell it lists");
    let mut script = Vec::new();
    completer
        .write_registration(COMPLETE, "gx", "gx", "gx", &mut script)
        .map_err(|error| CliError::io("cannot write the script", &error))?;
    Ok(script)
}

/// Returns the names of all containers.
pub(crate) fn containers() -> Vec<CompletionCandidate> {
    ask(async |context| {
        let list = context.target().await?.list().await?;
        let candidate = |c: gx_core::api::ContainerInfo| {
            CompletionCandidate::new(c.name)
                .help(Some(format!("{} {} {}", c.state, c.runtime, c.image).into()))
        };
        Ok(list.containers.into_iter().map(candidate).collect())
    })
}

/// Returns the names of all images.
pub(crate) fn images() -> Vec<CompletionCandidate> {
    ask(async |context| {
        let list = context.target().await?.images(None).await?;
        let tags = list.images.into_iter().flat_map(|info| info.image.tags);
        Ok(tags.map(CompletionCandidate::new).collect())
    })
}

/// Returns the names of all runtimes.
pub(crate) fn runtimes() -> Vec<CompletionCandidate> {
    ask(async |context| {
        let runtimes = context.target().await?.runtimes().await?;
        Ok(runtimes.into_iter().map(|runtime| CompletionCandidate::new(runtime.name.to_string())).collect())
    })
}

/// Returns the names of the hosts that were joined.
pub(crate) fn hosts() -> Vec<CompletionCandidate> {
    ask(async |context| {
        let hosts = Hosts::of(&context.settings()?.data).all()?;
        Ok(hosts.into_iter().map(|host| CompletionCandidate::new(host.name.to_string())).collect())
    })
}

// Whatever goes wrong there are no candidates: a shell has no place for an error.
pub(super) fn ask(
    question: impl AsyncFnOnce(&Context<'_>) -> Result<Vec<CompletionCandidate>>,
) -> Vec<CompletionCandidate> {
    let out = Out::new(&Globals::default());
    let context = Context::new(Globals::default(), &out);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let patience = std::time::Duration::from_millis(PATIENCE_MS);
    let found =
        runtime.block_on(async { tokio::time::timeout(patience, ask_known(question, &context)).await });
    runtime.shutdown_background();
    let mut found = found.ok().and_then(Result::ok).unwrap_or_default();
    found.sort();
    found.dedup();
    found
}

/// Nobody is met for the first time by pressing a key.
async fn ask_known(
    question: impl AsyncFnOnce(&Context<'_>) -> Result<Vec<CompletionCandidate>>,
    context: &Context<'_>,
) -> Result<Vec<CompletionCandidate>> {
    let settings = context.settings()?;
    if let Ok(Address::Bare(endpoint)) = settings.config.client.on.parse()
        && settings.config.client.on != target::LOCAL
        && KnownHosts::of(&settings.data).at(&endpoint)?.is_none()
    {
        return Ok(Vec::new());
    }
    question(context).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_gx() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell).unwrap()).unwrap();
            assert!(script.contains(COMPLETE) && script.contains("gx"), "{shell:?}");
        }
    }
}
