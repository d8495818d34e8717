//! `gx peers update`: measures all servers, and asks them which others they know.

use std::time::Duration;

use clap::Args;
use gx_core::runtime::Progress as Step;
use gx_core::units::{Size, Span};
use gx_core::{Endpoint, NodeId};
use gx_peers::seed::seed;
use gx_peers::update::{Options, Progress, Updated, update};
use serde::Serialize;
use tokio::sync::watch;

use super::discover::look;
use super::list::{ListArgs, Listed};
use super::throughput::{self, Measure};
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::hosts::Hosts;
use crate::output::{Out, Show, View, human};
use crate::peers;
use crate::settings::Settings;

const EXAMPLES: &str = "\
Examples:
  gx peers update                  measures all, and asks three times which others there are
  gx peers update --hops 0         measures those that are known
  gx peers update --lan            those of the local network, too
  gx peers update --measure quick  how fast the ten best are, too
  gx peers update --measure metered --max-bytes 50MB
  gx peers update --sort latency --json

Ctrl-C keeps what was learned.";

/// How long the local network is waited for.
const LAN: Duration = Duration::from_secs(3);
/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// What `gx peers update` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UpdateArgs {
    /// How often servers are asked which others they know; without it as configured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=16))]
    pub hops: Option<u8>,
    /// Asks the local network first, as `lan = true` in [peers] always does
    #[arg(long)]
    pub lan: bool,
    /// How long all of it may take
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    pub deadline: Span,
    /// How closely to measure the throughput of the ten best
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub measure: Measure,
    /// How many bytes these measurements may move in all; without it 1 GB, 2.5 GB for full, 100 MB for metered
    #[arg(long, value_name = "SIZE", requires = "measure")]
    pub max_bytes: Option<Size>,
    /// How to list them
    #[command(flatten)]
    pub list: ListArgs,
}

pub(super) async fn run(args: UpdateArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let expected = seed(&peers, seeds(&settings)?).await;
    if (args.lan || settings.config.peers.lan)
        && let Err(error) = look(&peers, LAN).await
    {
        context.out.warn(&error.message, error.hints.first().map(String::as_str));
    }
    if peers.with(|table| {
        table.len() <= usize::from(table.get(peers.own()).is_some()) && table.legacy().next().is_none()
    }) {
        return Err(CliError::failed("no servers are known").hint(
            "`gx peers add HOST` adds one, `gx join TICKET` joins one, and `seeds` in [peers] names some",
        ));
    }
    let kept = peers.clone();
    context.at_end(async move {
        // Also after Ctrl-C; there is nobody any more to be told that it cannot be done.
        let _ = kept.save();
    });
    let options = Options {
        hops: args.hops.unwrap_or(settings.config.peers.hops),
        deadline: args.deadline.0,
        expected,
    };
    let (sender, watched) = watch::channel(Progress::default());
    let updated = tokio::select! {
        updated = update(&peers, &options, sender) => updated,
        never = follow(watched, options.hops, context.out) => match never {},
    };
    peers::save(&peers, context.out)?;
    if args.measure != Measure::None {
        let best = Listed::new(
            peers::infos(&peers, &settings)?,
            &ListArgs { sort: None, reverse: false, ..args.list.clone() },
        );
        throughput::measure(&peers, &best.peers, args.measure, args.max_bytes, context).await?;
        peers::save(&peers, context.out)?;
    }
    let listed = Listed::new(peers::infos(&peers, &settings)?, &args.list);
    let shown = Summary::new(updated, listed);
    context.out.show(&shown)?;
    context.out.note(&shown.words());
    if updated.progress.found > 0 && updated.progress.answered == 0 {
        context.out.warn("no server answered", Some("is this machine connected? the table is as it was"));
    }
    Ok(())
}

/// Returns the servers of the configuration and the hosts that were joined.
fn seeds(settings: &Settings) -> Result<Vec<(Endpoint, Option<NodeId>)>> {
    let joined = Hosts::of(&settings.data).all()?;
    let joined = joined.into_iter().flat_map(|host| {
        let node = host.node;
        host.addresses.into_iter().map(move |endpoint| (endpoint, Some(node)))
    });
    Ok(settings.config.peers.places().into_iter().chain(joined).collect())
}

/// Shows how far it is, for as long as it goes on.
async fn follow(watched: watch::Receiver<Progress>, hops: u8, out: &Out) -> std::convert::Infallible {
    let mut steps = out.steps();
    loop {
        let progress = *watched.borrow();
        steps.step(&Step {
            id: "servers".to_owned(),
            message: format!("hop {} of {hops}", progress.hops.saturating_add(1).min(hops.max(1))),
            current: Some(progress.done as u64),
            total: Some(progress.found as u64),
        });
        tokio::time::sleep(SHOWN_EVERY).await;
    }
}

#[derive(Serialize)]
struct Summary {
    servers: usize,
    answered: usize,
    new: usize,
    hops: u8,
    requests: usize,
    bytes: u64,
    /// Whether time was over before all was done.
    cut: bool,
    #[serde(flatten)]
    listed: Listed,
}

impl Summary {
    fn new(updated: Updated, listed: Listed) -> Self {
        let Updated { progress, new, requests, bytes, cut } = updated;
        let servers = listed.peers.len() + listed.hidden;
        Self { servers, answered: progress.answered, new, hops: progress.hops, requests, bytes, cut, listed }
    }

    fn words(&self) -> String {
        let Self { servers, answered, new, hops, requests, bytes, cut, .. } = self;
        let cut = if *cut { "; time was over before all was done" } else { "" };
        format!(
            "{servers} servers, {answered} answered, {new} new; {hops} hops, {requests} requests, {}{cut}",
            human::bytes(*bytes)
        )
    }
}

impl Show for Summary {
    fn text(&self, view: &View) -> String {
        self.listed.text(view)
    }

    fn ids(&self, view: &View) -> String {
        self.listed.ids(view)
    }
}
