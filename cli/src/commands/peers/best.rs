//! `gx peers best`: which server is the best for a need, and why; and making a container there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;
use gx_core::NodeId;
use gx_core::peers::{Needs, Ranked, rank};
use serde::Serialize;

use super::list::needs;
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, Table, View};
use crate::peers;
use crate::settings::Settings;

const EXAMPLES: &str = "\
Examples:
  gx peers best
  gx peers best --needs 'gpu>=1 memory>=8G runtime=podman'
  gx peers best --needs 'label.region=eu-* latency<50ms' --explain

Servers that fit are ranked by latency, then by throughput, as they were measured here, then by node id; `gx peers update` \
measures. What can be asked for: gpu, gpu.memory, gpu.model, cpus, memory, runtime, platform, version, label.NAME, latency, \
download, upload; with = != < <= > >=, * for anything, | for either.";

/// What `gx peers best` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BestArgs {
    /// What the server has to have
    #[arg(long, value_name = "NEEDS", value_parser = needs)]
    pub needs: Option<Needs>,
    /// Says of each server why it is where it is
    #[arg(long)]
    pub explain: bool,
}

pub(super) fn run(args: BestArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let ranked = ranked(&settings, &args.needs.unwrap_or_default(), context)?;
    let nobody = !ranked.first().is_some_and(|(_, ranked)| ranked.fits());
    if nobody && !args.explain {
        return Err(nobody_fits(&ranked));
    }
    let count = if args.explain { ranked.len() } else { 1 };
    let best = ranked.into_iter().take(count).map(|(name, ranked)| Place { name, ranked }).collect();
    context.out.show(&Best { best, explain: args.explain })?;
    if nobody {
        Err(CliError::failed("no server fits").hint("ask for less, or `gx peers update`"))
    } else {
        Ok(())
    }
}

/// Ranks all servers that could be chosen, each with what it is called.
pub(crate) fn ranked(
    settings: &Settings,
    needs: &Needs,
    context: &Context<'_>,
) -> Result<Vec<(String, Ranked)>> {
    let peers = peers::open(settings, context.out)?;
    let infos = peers::infos(&peers, settings)?;
    let key = |node: Option<NodeId>, addresses: &[SocketAddr]| (node, addresses.first().copied());
    let titles = infos.iter().map(|info| (key(info.node_id, &info.addresses), info.title()));
    let titles: BTreeMap<_, String> = titles.collect();
    let title = |ranked: &Ranked| {
        titles.get(&key(ranked.candidate.node_id, &ranked.candidate.addresses)).cloned().unwrap_or_default()
    };
    let ranked = rank(peers.with(|table| table.candidates(peers::now())), needs);
    Ok(ranked.into_iter().map(|ranked| (title(&ranked), ranked)).collect())
}

/// Returns the servers to try, the best first: those that fit and have a key.
pub(crate) fn choose(ranked: Vec<(String, Ranked)>) -> Result<Vec<(String, Ranked)>> {
    let fits = |(_, ranked): &(String, Ranked)| ranked.fits() && ranked.candidate.node_id.is_some();
    if !ranked.iter().any(fits) {
        return Err(nobody_fits(&ranked));
    }
    Ok(ranked.into_iter().filter(fits).collect())
}

fn nobody_fits(ranked: &[(String, Ranked)]) -> CliError {
    let Some((name, nearest)) = ranked.first() else {
        return CliError::failed("no servers are known")
            .hint("`gx peers add HOST` adds one, and `gx join TICKET` joins one");
    };
    let told = CliError::failed(match nearest.fits() {
        true => "no server with a key fits".to_owned(),
        false if ranked.len() == 1 => "the one server that is known does not fit".to_owned(),
        false => format!("none of {} servers fits", ranked.len()),
    });
    let misses = nearest.misses.iter().map(|miss| format!("{}: {}", miss.need, miss.because));
    let told = misses.fold(told, |told, miss| told.cause(format!("{name}: {miss}")));
    told.hint("`gx peers best --explain` says it of each; `gx peers update` measures and finds others")
}

#[derive(Serialize)]
struct Best {
    best: Vec<Place>,
    #[serde(skip)]
    explain: bool,
}

#[derive(Serialize)]
struct Place {
    name: String,
    #[serde(flatten)]
    ranked: Ranked,
}

impl Show for Best {
    fn text(&self, view: &View) -> String {
        if !self.explain {
            let lines =
                self.best.iter().map(|place| format!("{}   {}\n", view.bold(&place.name), place.ranked.why));
            return lines.collect();
        }
        let mut table = Table::new(["", "server", "address", "why"]);
        for (at, Place { name, ranked }) in self.best.iter().enumerate() {
            let place = if ranked.fits() { (at + 1).to_string() } else { "–".to_owned() };
            let address = ranked.candidate.addresses.first().map(ToString::to_string).unwrap_or_default();
            table.row([place, name.clone(), address, ranked.why.clone()]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        let id = |place: &Place| {
            place.ranked.candidate.node_id.map(|node| format!("{node}\n")).unwrap_or_default()
        };
        self.best.iter().map(id).collect()
    }
}
