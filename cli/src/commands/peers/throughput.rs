//! How fast the nearest servers are: by the measurement plugin, one after the other, as two at a time would measure this
//! machine's own line; within a number of bytes and a time for all of them together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use gx_client::Client;
use gx_core::measurement::{BitsPerSecond, Budget, Measurement, Target, Thoroughness, Throughput};
use gx_core::peers::Freshness;
use gx_core::runtime::{Progress, Result as Measured};
use gx_core::secret::Secret;
use gx_core::stream::Output;
use gx_core::units::Size;
use gx_core::{Endpoint, NodeId, PluginName, Timestamp};
use gx_identity::NodeKey;
use gx_peers::Peers;

use super::measure::{bundled, token};
use crate::commands::Context;
use crate::error::Result;
use crate::hosts::Hosts;
use crate::output::human;
use crate::peers::{self, PeerInfo};
use crate::road;

/// Servers that are measured.
const FEW: usize = 10;
/// A figure younger than this is left as it is while there are servers without one.
const FRESH_S: i64 = 600;
/// With fewer bytes left no measurement is begun: it would tell nothing.
const LEAST_BYTES: u64 = 1_000_000;

/// How closely to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Measure {
    /// Latency only.
    #[default]
    None,
    /// About a second each way, at most 100 MB.
    Quick,
    /// Two to eight seconds each way, at most 250 MB.
    Full,
    /// At most 25 MB each way.
    Metered,
}

impl Measure {
    fn thoroughness(self) -> Option<Thoroughness> {
        match self {
            Self::None => None,
            Self::Quick => Some(Thoroughness::Quick),
            Self::Full => Some(Thoroughness::Full),
            Self::Metered => Some(Thoroughness::Metered),
        }
    }
}

/// What all measurements together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Total {
    bytes: u64,
    time: Duration,
}

impl Total {
    fn of(how: Thoroughness, bytes: Option<Size>) -> Self {
        let (most, seconds) = match how {
            Thoroughness::Quick => (1_000_000_000, 60),
            Thoroughness::Full => (2_500_000_000, 180),
            Thoroughness::Metered => (100_000_000, 60),
        };
        Self { bytes: bytes.map_or(most, |bytes| bytes.0), time: Duration::from_secs(seconds) }
    }

    /// Returns what one direction may still take; `None` is nothing that is of use.
    fn next(self, used: u64, each: Budget) -> Option<Budget> {
        let left = self.bytes.saturating_sub(used);
        (left >= LEAST_BYTES).then(|| Budget { bytes: each.bytes.min(left), ..each })
    }
}

/// Measures the first few of these that answer, and notes in the table what came of it.
pub(super) async fn measure(
    peers: &Arc<Peers>,
    best_first: &[PeerInfo],
    how: Measure,
    max_bytes: Option<Size>,
    context: &Context<'_>,
) -> Result {
    let Some(how) = how.thoroughness() else { return Ok(()) };
    let settings = context.settings()?;
    let plugins = context.plugins()?;
    let name: PluginName = settings.config.client.measurement.clone().unwrap_or_else(bundled);
    let plugin = plugins.measurement(&name).await?;
    context.at_end(async move { plugins.shutdown().await });
    let run = Run {
        plugin: &*plugin,
        key: road::own_key(&settings.data)?,
        // Strangers are measured as nobody: they are not to learn who asks.
        joined: Hosts::of(&settings.data).all()?.into_iter().map(|host| host.node).collect(),
        each: how.budget(),
        total: Total::of(how, max_bytes),
    };
    let chosen = choose(best_first, peers::now());
    let mut steps = context.out.steps();
    let (begun, mut used) = (Instant::now(), 0);
    for (at, info) in chosen.iter().enumerate() {
        if run.total.next(used, run.each).is_none() || begun.elapsed() > run.total.time {
            let left = chosen.len() - at;
            let told = format!(
                "{left} servers are not measured: {} and {} s are used up",
                human::bytes(used),
                begun.elapsed().as_secs()
            );
            context
                .out
                .warn(&told, Some("--max-bytes SIZE lets more be moved; the next update goes on with them"));
            break;
        }
        let (Some(node), Some(address)) = (info.node_id, info.addresses.first()) else { continue };
        steps.step(&Progress {
            id: "throughput".to_owned(),
            message: info.title(),
            current: Some(at as u64),
            total: Some(chosen.len() as u64),
        });
        let (down, up) = run.both_ways(node, &Endpoint::from(*address), &mut used).await;
        for failed in [&down, &up].into_iter().filter_map(|way| way.as_ref()?.as_ref().err()) {
            context.out.warn(&format!("{}: {}", info.title(), failed.message), failed.hint.as_deref());
        }
        let (down, up) = (down.and_then(rate), up.and_then(rate));
        if down.or(up).is_some() {
            peers.change(|table| table.observe(node, |seen| seen.measured(down, up, peers::now())));
        }
    }
    Ok(())
}

/// Returns whom to measure: of those that answer, the best without a fresh figure; where all have one, the best.
fn choose(best_first: &[PeerInfo], now: Timestamp) -> Vec<&PeerInfo> {
    let live = |info: &&PeerInfo| info.state == Freshness::Live && info.node_id.is_some();
    let fresh = |info: &&PeerInfo| {
        let age = info.seen.measured_at.map(|at| now.unix() - at.unix());
        age.is_some_and(|age| (0..FRESH_S).contains(&age))
    };
    let due: Vec<&PeerInfo> = best_first.iter().filter(live).filter(|info| !fresh(info)).take(FEW).collect();
    if due.is_empty() { best_first.iter().filter(live).take(FEW).collect() } else { due }
}

struct Run<'a> {
    plugin: &'a dyn Measurement,
    key: NodeKey,
    joined: Vec<NodeId>,
    each: Budget,
    total: Total,
}

type Way = Option<Measured<Throughput>>;

impl Run<'_> {
    /// Measures a server as long as there are bytes, and adds what was moved.
    async fn both_ways(&self, node: NodeId, at: &Endpoint, used: &mut u64) -> (Way, Way) {
        let token = self.token(node, at).await;
        let target = Target { address: at.to_string(), node_id: Some(node), plain: false, token };
        let Some(budget) = self.total.next(*used, self.each) else { return (None, None) };
        let down = self.plugin.download(target.clone(), budget, Output::null()).await;
        *used += moved(&down, budget);
        let Some(budget) = self.total.next(*used, self.each) else { return (Some(down), None) };
        let up = self.plugin.upload(target, budget, Output::null()).await;
        *used += moved(&up, budget);
        (Some(down), Some(up))
    }

    /// Returns a token of a host that was joined, so that a member's budget pays, and not a stranger's.
    async fn token(&self, node: NodeId, at: &Endpoint) -> Option<Secret> {
        if !self.joined.contains(&node) {
            return None;
        }
        let token = token(&Client::to_node(at, node, &self.key)).await;
        token.inspect_err(|error| tracing::debug!(error = %error.message, "measured as a stranger")).ok()?
    }
}

/// Returns the bytes of a measurement; of one that failed it is not known, and may have been all.
fn moved(measured: &Measured<Throughput>, budget: Budget) -> u64 {
    measured.as_ref().map_or(budget.bytes, |measured| measured.bytes)
}

/// Returns the estimate, where there is one: nothing moved is no rate.
fn rate(measured: Measured<Throughput>) -> Option<BitsPerSecond> {
    measured.ok().filter(|measured| measured.bytes > 0).map(|measured| measured.goodput_bps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::peers::Observation;

    #[test]
    fn bytes_are_for_all_measurements_together() {
        let each = Thoroughness::Metered.budget();
        let total = Total::of(Thoroughness::Metered, None);
        assert_eq!(total.next(0, each).map(|budget| budget.bytes), Some(each.bytes));
        assert_eq!(total.next(90_000_000, each).map(|budget| budget.bytes), Some(10_000_000));
        assert_eq!(total.next(99_500_000, each), None);
        assert_eq!(total.next(u64::MAX, each), None);
        assert_eq!(Total::of(Thoroughness::Quick, Some(Size(5))).bytes, 5);
    }

    #[test]
    fn the_best_without_a_fresh_figure_are_measured() {
        let now = Timestamp::from_unix(1_000_000);
        let peer = |number: u8, age: Option<i64>| PeerInfo {
            node_id: Some(NodeId::from_bytes([number; 32])),
            name: None,
            addresses: vec![([192, 168, 1, number], 7467).into()],
            state: Freshness::Live,
            quarantined: false,
            pinned: false,
            seen: Observation {
                measured_at: age.map(|age| Timestamp::from_unix(now.unix() - age)),
                ..Observation::default()
            },
            record: None,
        };
        let order = |all: &[PeerInfo]| -> Vec<u8> {
            choose(all, now).iter().filter_map(|info| Some(info.node_id?.as_bytes()[0])).collect()
        };
        let stale = PeerInfo { state: Freshness::Stale, ..peer(9, None) };
        let all = [peer(1, Some(10)), peer(2, None), stale, peer(3, Some(FRESH_S)), peer(4, Some(-5))];
        assert_eq!(order(&all), [2, 3, 4], "one of the future is not fresh");
        assert_eq!(order(&all[..1]), [1], "where all are fresh, the best again");
        let many: Vec<PeerInfo> = (0..40).map(|number| peer(number, None)).collect();
        assert_eq!(order(&many).len(), FEW);
    }
}
