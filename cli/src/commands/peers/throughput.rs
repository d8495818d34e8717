//! How fast the nearest servers are: by the measurement plugin, one after the other, as two at a time would measure this
//! machine's own line.

use std::sync::Arc;

use clap::ValueEnum;
use gx_core::measurement::{BitsPerSecond, Budget, Measurement, Target, Thoroughness, Throughput};
use gx_core::peers::Freshness;
use gx_core::runtime::{Progress, Result as Measured};
use gx_core::stream::Output;
use gx_core::{Endpoint, PluginName};
use gx_peers::Peers;

use crate::commands::Context;
use crate::error::Result;
use crate::peers::{self, PeerInfo};

/// The bundled plugin.
const PLUGIN: &str = "speedtest";
/// Servers that are measured.
const FEW: usize = 10;

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
    fn budget(self) -> Option<Budget> {
        match self {
            Self::None => None,
            Self::Quick => Some(Thoroughness::Quick.budget()),
            Self::Full => Some(Thoroughness::Full.budget()),
            Self::Metered => Some(Thoroughness::Metered.budget()),
        }
    }
}

/// Measures the first few of these that answer, and notes in the table what came of it.
pub(super) async fn measure(
    peers: &Arc<Peers>,
    best_first: &[PeerInfo],
    how: Measure,
    context: &Context<'_>,
) -> Result {
    let Some(budget) = how.budget() else { return Ok(()) };
    let plugins = context.plugins()?;
    let configured = context.settings()?.config.client.measurement;
    let name: PluginName = configured.map_or_else(|| PLUGIN.parse(), Ok)?;
    let plugin = plugins.measurement(&name).await?;
    context.at_end(async move { plugins.shutdown().await });
    let live = best_first.iter().filter(|info| info.state == Freshness::Live && info.node_id.is_some());
    let chosen: Vec<&PeerInfo> = live.take(FEW).collect();
    let mut steps = context.out.steps();
    for (at, info) in chosen.iter().enumerate() {
        let (Some(node), Some(address)) = (info.node_id, info.addresses.first()) else { continue };
        steps.step(&Progress {
            id: "throughput".to_owned(),
            message: info.title(),
            current: Some(at as u64),
            total: Some(chosen.len() as u64),
        });
        let target = Target {
            address: Endpoint::from(*address).to_string(),
            node_id: Some(node),
            plain: false,
            token: None,
        };
        let (down, up) = both_ways(&*plugin, &target, budget).await;
        for failed in [&down, &up].into_iter().filter_map(|way| way.as_ref().err()) {
            context.out.warn(&format!("{}: {}", info.title(), failed.message), failed.hint.as_deref());
        }
        peers.change(|table| table.observe(node, |seen| seen.measured(rate(down), rate(up), peers::now())));
    }
    Ok(())
}

async fn both_ways(
    plugin: &dyn Measurement,
    target: &Target,
    budget: Budget,
) -> (Measured<Throughput>, Measured<Throughput>) {
    let down = plugin.download(target.clone(), budget, Output::null()).await;
    (down, plugin.upload(target.clone(), budget, Output::null()).await)
}

/// Returns the estimate, where there is one: nothing moved is no rate.
fn rate(measured: Measured<Throughput>) -> Option<BitsPerSecond> {
    measured.ok().filter(|measured| measured.bytes > 0).map(|measured| measured.goodput_bps)
}
