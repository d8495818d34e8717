//! `gx chat tail`: messages as they come, from all groups or one.

use clap::Args;
use gx_chat::frames::ServerFrame;

use super::history::Told;
use super::link::AsArgs;
use super::remote::Remote;
use crate::commands::Context;
use crate::error::Result;

/// What `gx chat tail` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat tail\n  gx chat tail --group navy\n  gx chat tail --json | jq -r '.from + \": \" + .text'\n\n\
                        It ends with Ctrl-C, or when the connection does; what was missed is in `gx chat history`."
)]
pub struct TailArgs {
    /// This group only, by its id, name or command
    #[arg(long)]
    pub group: Option<String>,
    /// Who reads
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn run(args: TailArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let only = match &args.group {
        Some(named) => Some(remote.group(Some(named))?.g.clone()),
        None => None,
    };
    loop {
        match remote.wait().await? {
            ServerFrame::Msgs { g, m } if only.as_ref().is_none_or(|only| *only == g) => {
                m.iter().try_for_each(|message| context.out.item(&Told::new(&g, message)))?;
            }
            ServerFrame::Lag { g, from } => {
                context.out.warn(
                    &format!(
                        "messages of {g} from {from} on were left out, as they are not read fast enough"
                    ),
                    Some("`gx chat history` has them"),
                );
            }
            _ => {}
        }
    }
}
