//! `gx stats`: what containers use, as it changes.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::ContainerInfo;
use gx_core::runtime::Stats;
use gx_core::stream::{Items, Kind, pipe};
use gx_core::{ContainerState, stream::Item};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Context, completions, stop};
use crate::error::Result;
use crate::output::{Out, Show, Table, View, human};
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  gx stats                      everything that runs, until Ctrl-C
  gx stats --no-stream web db   once
  gx stats --json web           one line of JSON a second";

/// How often, in milliseconds.
const EVERY_MS: u32 = 1_000;

/// What `gx stats` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// Ids, shortened as far as they are unique, or names; without any, everything that runs
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub ids: Vec<String>,
    /// Prints once and ends
    #[arg(long)]
    pub no_stream: bool,
}

pub(crate) async fn run(args: StatsArgs, context: &Context<'_>) -> Result {
    let target = context.target().await?;
    let containers = containers(&args.ids, target).await?;
    if containers.is_empty() {
        context.out.show(&Rows(Vec::new()))?;
        context.out.note("nothing runs");
        return Ok(());
    }
    let (sender, readings) = mpsc::channel(containers.len());
    let calls: Vec<_> =
        containers.iter().map(|container| read(container, args.no_stream, target, sender.clone())).collect();
    drop(sender);
    let (done, shown) = tokio::join!(
        futures_util::future::join_all(calls),
        show(readings, containers.len(), args.no_stream, context.out)
    );
    shown?;
    stop::all_or_error("read", containers.len(), done.into_iter().filter_map(Result::err).collect())
}

/// Shows readings as they come, `all` rows together where people read them.
async fn show(mut readings: mpsc::Receiver<Row>, all: usize, once: bool, out: &Out) -> Result {
    let mut rows = BTreeMap::new();
    while let Some(row) = readings.recv().await {
        if out.is_json() {
            out.item(&row)?;
            continue;
        }
        rows.insert(row.name.clone(), row);
        if !once && rows.len() == all {
            out.repaint(&Rows(rows.values().cloned().collect()))?;
        }
    }
    if once && !rows.is_empty() && !out.is_json() {
        out.show(&Rows(rows.into_values().collect()))?;
    }
    Ok(())
}

async fn containers(ids: &[String], target: &Target) -> Result<Vec<ContainerInfo>> {
    if ids.is_empty() {
        let mut list = target.list().await?.containers;
        list.retain(|container| container.state == ContainerState::Running);
        return Ok(list);
    }
    let found = futures_util::future::join_all(ids.iter().map(|id| target.show(id))).await;
    let (found, errors): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    stop::all_or_error("known", ids.len(), errors.into_iter().filter_map(Result::err).collect())?;
    Ok(found.into_iter().flatten().collect())
}

// CPU use needs two readings, so that one row takes the second.
async fn read(container: &ContainerInfo, once: bool, target: &Target, rows: mpsc::Sender<Row>) -> Result {
    let (output, items) = pipe(0);
    let every_ms = if once { EVERY_MS / 2 } else { EVERY_MS };
    let (call, ()) = tokio::join!(
        target.stats(container.id.as_str(), every_ms, output),
        pass_on(container, once, items, rows)
    );
    call.map_err(|error| error.or_start(&container.name))
}

async fn pass_on(container: &ContainerInfo, once: bool, mut items: Items, rows: mpsc::Sender<Row>) {
    let mut last = None;
    while let Some(item) = items.next().await {
        let Some(stats) = stats_of(&item) else { continue };
        let complete = stats.cpu_milli.is_some();
        let row = Row { id: container.id.to_string(), name: container.name.clone(), stats };
        match once {
            true => last = Some(row),
            false if rows.send(row).await.is_err() => return,
            false => {}
        }
        if once && complete {
            break;
        }
    }
    if let Some(row) = last {
        // Who printed is gone: there is nobody to tell.
        let _ = rows.send(row).await;
    }
}

fn stats_of(item: &Item) -> Option<Stats> {
    if item.kind == Kind::Event { serde_json::from_slice(&item.bytes).ok() } else { None }
}

/// What one container uses.
#[derive(Debug, Clone, Serialize)]
struct Row {
    id: String,
    name: String,
    stats: Stats,
}

impl Show for Row {
    fn text(&self, view: &View) -> String {
        Rows(vec![self.clone()]).text(view)
    }
}

/// What several use.
#[derive(Debug, Serialize)]
struct Rows(Vec<Row>);

impl Show for Rows {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new([
            "name", "cpu", "memory", "limit", "pids", "net in", "net out", "disk in", "disk out",
        ]);
        for Row { name, stats, .. } in &self.0 {
            table.row([
                name.clone(),
                stats.cpu_milli.map(|milli| format!("{:.1}%", f64::from(milli) / 10.0)).unwrap_or_default(),
                human::bytes(stats.memory_bytes),
                stats.memory_limit_bytes.map(human::bytes).unwrap_or_default(),
                stats.pids.to_string(),
                human::bytes(stats.network_in_bytes),
                human::bytes(stats.network_out_bytes),
                human::bytes(stats.block_in_bytes),
                human::bytes(stats.block_out_bytes),
            ]);
        }
        table.text(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_in_percent_of_one_and_unknown_at_first() {
        let mut row =
            Row { id: "1".into(), name: "web".into(), stats: Stats { pids: 3, ..Stats::default() } };
        assert!(!row.text(&View::plain()).contains('%'));
        row.stats.cpu_milli = Some(1_234);
        assert!(row.text(&View::plain()).contains("123.4%"));
    }
}
