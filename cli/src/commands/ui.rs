//! `gx ui`: a dashboard in the browser, served on this machine's loopback. It has this node's rights on every host it
//! shows, and lends them to nobody: its address has a random token.

use std::sync::Arc;

use clap::Args;
use gx_server::page::Page;

use super::Context;
use crate::error::Result;
use crate::target::BEST;
use crate::{browser, peers as table};
use fleet::Fleet;
use site::Dashboard;

mod files;
mod fleet;
mod history;
mod live;
mod peers;
mod site;

const EXAMPLES: &str = "\
Examples:
  gx ui                     this machine and all hosts that were joined, in the browser, until Ctrl-C
  gx ui --no-open           prints the link and opens nothing
  gx ui --on 192.168.1.7    that host too

The link works on this machine only, and for whoever has it: it has a random token. Over SSH: \
`ssh -L 7468:127.0.0.1:PORT machine`, with the PORT of the link on both sides.";

/// What `gx ui` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UiArgs {
    /// Prints the link, and opens no browser
    #[arg(long)]
    pub no_open: bool,
}

pub(crate) async fn run(args: UiArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    if settings.config.client.on != BEST {
        // A host that is met for the first time here is told before it is shown.
        context.target().await?;
    }
    let watched = Arc::new(peers::Watched::new(table::open(&settings, context.out)?, settings.clone()));
    let fleet = Arc::new(Fleet::of(settings, context.environment.clone(), watched.clone())?);
    let page = Page::listen().await?;
    let opened = browser::Opened { url: page.url() };
    context.out.item(&opened)?;
    if !args.no_open {
        browser::open(&context.environment, &opened.url, context.out);
    }
    let ending = fleet.clone();
    let measured = watched.clone();
    context.at_end(async move {
        ending.close().await;
        measured.save().await;
    });
    tokio::select! {
        () = page.serve(Dashboard::new(fleet), std::future::pending()) => Ok(()),
        never = watched.keep() => match never {},
    }
}
