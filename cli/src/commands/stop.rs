//! `gx stop`: ends the main process of containers; they stay and can be started again.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::ContainerInfo;
use gx_core::runtime::StopOptions;
use gx_core::units::Span;
use serde::Serialize;

use super::{Context, completions};
use crate::error::{CliError, Result, Told};
use crate::output::{Show, View, clean};

const EXAMPLES: &str = "\
Examples:
  gx stop web
  gx stop --grace 1m --signal SIGINT web db";

/// What `gx stop` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StopArgs {
    /// Ids, shortened as far as they are unique, or names
    #[arg(value_name = "ID", required = true, add = ArgValueCandidates::new(completions::containers))]
    pub ids: Vec<String>,
    /// How long to wait before it is killed, as in 30s; without it 10 seconds
    #[arg(short = 't', long, visible_alias = "time", value_name = "SPAN", value_parser = grace)]
    pub grace: Option<u32>,
    /// The signal to send; without it the image's own, else SIGTERM
    #[arg(short, long, value_name = "NAME")]
    pub signal: Option<String>,
}

pub(crate) async fn run(args: StopArgs, context: &Context<'_>) -> Result {
    let options = StopOptions { signal: args.signal, grace_ms: args.grace };
    let target = context.target().await?;
    let calls = args.ids.iter().map(|id| target.stop(id, options.clone()));
    let done = futures_util::future::join_all(calls).await;
    finish("stopped", &args.ids, done, context)
}

// A bare number is seconds, as with `docker stop --time`.
fn grace(text: &str) -> Result<u32, String> {
    let span = match text.parse::<u64>() {
        Ok(seconds) => Span(std::time::Duration::from_secs(seconds)),
        Err(_) => text.parse::<Span>().map_err(|error| error.to_string())?,
    };
    u32::try_from(span.0.as_millis()).map_err(|_| format!("{text} is longer than 49 days"))
}

/// Shows the containers that something was done to, and fails when it could not be done to all.
pub(crate) fn finish(
    verb: &str,
    ids: &[String],
    done: Vec<Result<ContainerInfo>>,
    context: &Context<'_>,
) -> Result {
    let (containers, errors): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let containers: Vec<_> = containers.into_iter().flatten().collect();
    if !containers.is_empty() {
        context.out.show(&Done { containers })?;
    }
    all_or_error(verb, ids.len(), errors.into_iter().filter_map(Result::err).collect())
}

/// Returns one error for several: the only one as it is, else how many failed and why each did.
pub(crate) fn all_or_error(verb: &str, all: usize, mut errors: Vec<CliError>) -> Result {
    if errors.len() <= 1 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let mut told = CliError::new(errors[0].kind, format!("{} of {all} are not {verb}", errors.len()));
    for Told { message, hints, .. } in errors.into_iter().map(Told::from) {
        let new: Vec<_> = hints.into_iter().filter(|hint| !told.hints.contains(hint)).collect();
        told.hints.extend(new);
        told.causes.push(message);
    }
    Err(told)
}

#[derive(Serialize)]
struct Done {
    containers: Vec<ContainerInfo>,
}

impl Show for Done {
    fn text(&self, _: &View) -> String {
        self.containers.iter().map(|container| format!("{}\n", clean::line(&container.name))).collect()
    }

    fn ids(&self, _: &View) -> String {
        self.containers.iter().map(|container| format!("{}\n", container.id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!((grace("5"), grace("0s"), grace("1m")), (Ok(5_000), Ok(0), Ok(60_000)));
        assert!(grace("50d").is_err() && grace("x").is_err());
    }

    #[test]
    fn several_errors_become_one_with_every_cause_and_each_hint_once() {
        assert!(all_or_error("stopped", 2, vec![]).is_ok());
        let error = |name: &str| CliError::failed(format!("no container {name}")).hint("gx list --all");
        assert_eq!(all_or_error("stopped", 2, vec![error("a")]).unwrap_err().message, "no container a");
        let told = all_or_error("stopped", 3, vec![error("a"), error("b")]).unwrap_err();
        assert_eq!(told.message, "2 of 3 are not stopped");
        assert_eq!((told.causes.len(), told.hints.len()), (2, 1));
    }
}
