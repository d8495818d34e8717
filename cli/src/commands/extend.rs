//! `gx extend`: makes a lease longer.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::{ContainerInfo, ExtendRequest};
use gx_core::units::Span;
use serde::Serialize;

use super::{Context, completions, show};
use crate::error::Result;
use crate::output::{Show, View, clean};

const EXAMPLES: &str = "\
Examples:
  gx extend web 1h            it ends an hour later than it would have
  gx extend 3f2a 1d12h --json | jq -r .expires_at";

/// What `gx extend` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExtendArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// What is added to the end of the lease, as in 30m or 2h
    #[arg(value_name = "SPAN")]
    pub by: Span,
}

pub(crate) async fn run(args: ExtendArgs, context: &Context<'_>) -> Result {
    let request = ExtendRequest { by_s: args.by.0.as_secs() };
    let extended = context.target().await?.extend(&args.id, request).await?;
    context.out.show(&Extended { container: extended })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Extended {
    container: ContainerInfo,
}

impl Show for Extended {
    fn text(&self, view: &View) -> String {
        let name = clean::line(&self.container.name);
        let end = self.container.expires_at.map(|end| show::lease(end, view)).unwrap_or_default();
        format!("the lease of {name} ends at {end}\n")
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.container.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::list::tests::container;
    use gx_core::ContainerState;

    #[test]
    fn the_new_end_is_told() {
        let extended = Extended { container: container("web", ContainerState::Running) };
        let expected = "the lease of web ends at 1970-01-01T01:59:59Z (1h 59m left)\n";
        assert_eq!(extended.text(&View::plain()), expected);
    }
}
