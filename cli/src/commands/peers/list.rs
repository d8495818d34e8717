//! `gx peers list`: the servers that are known, as a table.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use gx_core::measurement::{BitsPerSecond, Millis};
use gx_core::peers::{Freshness, Needs, PeerRecord, rank};
use serde::Serialize;

use crate::commands::Context;
use crate::error::Result;
use crate::output::{Show, Table, View, human};
use crate::peers::{self, PeerInfo};

const EXAMPLES: &str = "\
Examples:
  gx peers list                          the best first
  gx peers list --sort memory --reverse
  gx peers list --needs 'gpu>=1 latency<20ms'
  gx peers list --json | jq -r '.peers[].addresses[0]'";

/// What `gx peers list` takes.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// Sorts by this; without it the best is first
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<Column>,
    /// Turns the order round
    #[arg(short, long)]
    pub reverse: bool,
    /// Lists those that meet this only, as in 'gpu>=1 memory>=8G'
    #[arg(long, visible_alias = "filter", value_name = "NEEDS", value_parser = needs)]
    pub needs: Option<Needs>,
    /// Lists those too that have not answered for long, and those in quarantine
    #[arg(short, long)]
    pub all: bool,
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// The node id, or the address.
    Id,
    /// The first address.
    Address,
    /// The shortest round trip first.
    Latency,
    /// The fastest first.
    Down,
    /// The fastest first.
    Up,
    /// The most first.
    Cpus,
    /// The most first.
    Memory,
    /// The most first.
    Gpus,
    /// The last that answered first.
    Seen,
    /// Those that answer first.
    State,
}

pub(super) fn run(args: ListArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let listed = Listed::new(peers::infos(&peers, &settings)?, &args);
    context.out.show(&listed)?;
    if listed.peers.is_empty() && listed.hidden == 0 {
        context
            .out
            .note("no servers are known: `gx peers add HOST` adds one, and `gx join TICKET` joins one");
    } else if listed.hidden > 0 {
        context.out.note(&format!("{} that are not shown: gx peers list --all", listed.hidden));
    }
    Ok(())
}

/// Servers in an order.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) peers: Vec<PeerInfo>,
    /// How many are left out as they have not answered for long, or are in quarantine.
    pub(crate) hidden: usize,
}

impl Listed {
    /// Puts servers in the order that is asked for.
    pub(crate) fn new(infos: Vec<PeerInfo>, args: &ListArgs) -> Self {
        let all = infos.len();
        let shown = |info: &PeerInfo| args.all || (info.state < Freshness::Hidden && !info.quarantined);
        let infos: Vec<PeerInfo> = infos.into_iter().filter(shown).collect();
        let hidden = all - infos.len();
        let needs = args.needs.clone().unwrap_or_default();
        let fits = |info: &PeerInfo| needs.misses(info.record.as_ref(), &info.seen).is_empty();
        let mut peers = by_rank(infos.into_iter().filter(fits).collect());
        if let Some(column) = args.sort {
            peers.sort_by(|a, b| compare(column, a, b));
        }
        if args.reverse {
            peers.reverse();
        }
        Self { peers, hidden }
    }
}

fn by_rank(infos: Vec<PeerInfo>) -> Vec<PeerInfo> {
    let ranked = rank(infos.iter().map(PeerInfo::candidate).collect(), &Needs::default());
    let places = ranked.iter().enumerate().map(|(place, ranked)| {
        let candidate = &ranked.candidate;
        ((candidate.node_id, candidate.addresses.first().copied()), place)
    });
    let places: BTreeMap<_, usize> = places.collect();
    let place = |info: &PeerInfo| places.get(&(info.node_id, info.addresses.first().copied())).copied();
    let mut infos = infos;
    infos.sort_by_cached_key(place);
    infos
}

fn compare(column: Column, a: &PeerInfo, b: &PeerInfo) -> std::cmp::Ordering {
    // What is not known comes last.
    let least = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
    let most = |value: Option<f64>| -value.unwrap_or(f64::NEG_INFINITY);
    let said = |info: &PeerInfo, number: fn(&PeerRecord) -> f64| most(info.record.as_ref().map(number));
    let number = |info: &PeerInfo| match column {
        Column::Latency => least(info.seen.latency_ms.map(|ms| ms.0)),
        Column::Down => most(info.seen.download_bps.map(|bps| bps.0)),
        Column::Up => most(info.seen.upload_bps.map(|bps| bps.0)),
        Column::Cpus => said(info, |record| f64::from(record.cpus)),
        Column::Memory => said(info, |record| record.memory_bytes as f64),
        Column::Gpus => said(info, |record| record.gpus.len() as f64),
        Column::Seen => most(info.seen.last_seen.map(|at| at.unix() as f64)),
        Column::State => f64::from(info.state as u8),
        Column::Id | Column::Address => 0.0,
    };
    match column {
        Column::Id => a.node_id.is_none().cmp(&b.node_id.is_none()).then(a.node_id.cmp(&b.node_id)),
        Column::Address => a.addresses.first().cmp(&b.addresses.first()),
        _ => number(a).total_cmp(&number(b)),
    }
}

impl Show for Listed {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new([
            "server", "address", "latency", "down", "up", "cpus", "memory", "gpus", "runtimes", "seen",
            "state",
        ]);
        for info in &self.peers {
            let said = |text: fn(&PeerRecord) -> String| info.record.as_ref().map(text).unwrap_or_default();
            table.row([
                info.title(),
                info.addresses.first().map(ToString::to_string).unwrap_or_default(),
                info.seen.latency_ms.map(latency).unwrap_or_default(),
                info.seen.download_bps.map(rate).unwrap_or_default(),
                info.seen.upload_bps.map(rate).unwrap_or_default(),
                said(|record| if record.cpus == 0 { String::new() } else { record.cpus.to_string() }),
                said(|record| match record.memory_bytes {
                    0 => String::new(),
                    bytes => human::bytes(bytes),
                }),
                said(gpus),
                said(|record| record.runtimes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
                info.seen.last_seen.map(|at| human::ago(at, view.now)).unwrap_or_default(),
                state(info),
            ]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        let id = |info: &PeerInfo| match info.node_id {
            Some(node) => format!("{node}\n"),
            None => info.addresses.first().map(|address| format!("{address}\n")).unwrap_or_default(),
        };
        self.peers.iter().map(id).collect()
    }
}

/// Returns how a server is to be taken, in a word or two.
pub(super) fn state(info: &PeerInfo) -> String {
    let word = match info.state {
        _ if info.quarantined => "in quarantine",
        Freshness::Live => "live",
        Freshness::Untested => "untested",
        Freshness::Stale => "stale",
        Freshness::Hidden | Freshness::Dropped => "silent",
    };
    if info.node_id.is_none() { format!("{word}, unverified") } else { word.to_owned() }
}

pub(super) fn latency(ms: Millis) -> String {
    if ms.0 < 10.0 { format!("{:.1} ms", ms.0) } else { format!("{:.0} ms", ms.0) }
}

pub(super) fn rate(bps: BitsPerSecond) -> String {
    format!("{:.1} Mbit/s", bps.0 / 1e6)
}

/// Returns the GPUs: `2 × NVIDIA A100`.
fn gpus(record: &PeerRecord) -> String {
    let mut models: Vec<(&str, usize)> = Vec::new();
    for gpu in &record.gpus {
        match models.iter_mut().find(|(model, _)| *model == gpu.model) {
            Some((_, count)) => *count += 1,
            None => models.push((&gpu.model, 1)),
        }
    }
    let one = |(model, count): (&str, usize)| {
        let model = if model.is_empty() { "GPU" } else { model };
        if count == 1 { model.to_owned() } else { format!("{count} × {model}") }
    };
    models.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Reads needs; the error says what is wrong, where, and what to do.
pub(crate) fn needs(text: &str) -> Result<Needs, String> {
    text.parse::<Needs>().map_err(|error| format!("{error}; {}", error.hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::peers::Observation;
    use gx_core::{NodeId, Timestamp};

    fn peer(number: u8, ms: Option<f64>, memory: u64) -> PeerInfo {
        let node = NodeId::from_bytes([number; 32]);
        let lease = PeerRecord::LEASE;
        let record = PeerRecord {
            memory_bytes: memory << 30,
            cpus: 4,
            ..PeerRecord::new(node, 1, Timestamp::from_unix(0), lease)
        };
        let last_seen = ms.map(|_| Timestamp::from_unix(-60));
        PeerInfo {
            node_id: Some(node),
            name: None,
            addresses: vec![([192, 168, 1, number], 7467).into()],
            state: if ms.is_some() { Freshness::Live } else { Freshness::Untested },
            quarantined: false,
            pinned: false,
            seen: Observation { latency_ms: ms.map(Millis), last_seen, ..Observation::default() },
            record: Some(record),
        }
    }

    fn order(args: &ListArgs) -> Vec<u8> {
        let infos = vec![peer(1, Some(30.0), 16), peer(2, Some(3.0), 4), peer(3, None, 64)];
        let listed = Listed::new(infos, args);
        listed.peers.iter().map(|info| info.node_id.unwrap().as_bytes()[0]).collect()
    }

    #[test]
    fn the_best_is_first_and_each_column_sorts() {
        let sorted = |column| ListArgs { sort: Some(column), ..ListArgs::default() };
        assert_eq!(order(&ListArgs::default()), [2, 1, 3]);
        assert_eq!(order(&sorted(Column::Memory)), [3, 1, 2]);
        assert_eq!(order(&sorted(Column::Latency)), [2, 1, 3]);
        assert_eq!(order(&ListArgs { reverse: true, ..sorted(Column::Id) }), [3, 2, 1]);
        let needs = needs("memory>=8G").ok();
        assert_eq!(order(&ListArgs { needs, ..ListArgs::default() }), [1, 3]);
    }

    #[test]
    fn what_is_silent_or_unsure_says_so() {
        let mut hidden = peer(1, Some(1.0), 1);
        hidden.state = Freshness::Hidden;
        let keyless = PeerInfo { node_id: None, record: None, ..peer(2, None, 0) };
        let listed = Listed::new(vec![hidden.clone(), keyless.clone()], &ListArgs::default());
        assert_eq!((listed.peers.len(), listed.hidden), (1, 1));
        assert_eq!((state(&hidden), state(&keyless)), ("silent".into(), "untested, unverified".into()));
        let text = Listed::new(vec![peer(3, Some(3.0), 64)], &ListArgs::default()).text(&View::plain());
        assert!(text.contains("192.168.1.3:7467   3.0 ms") && text.contains("64.0 GiB"), "{text}");
    }
}
