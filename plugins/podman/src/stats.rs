//! What a container uses, asked for each time: the engine's own stream cannot go faster than once a second.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use gx_core::plugin::*;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::container::Inspected;
use crate::engine::Engine;
use crate::{error, lifecycle};

/// The shortest time between two looks; each costs the engine some milliseconds.
const LEAST_INTERVAL: Duration = Duration::from_millis(20);

/// Writes what a container uses until it ends or the reader is gone; 0 writes just one.
pub(crate) async fn stats(engine: &Engine, id: &ContainerId, every_ms: u32, out: &Output) -> Result<()> {
    let inspected = lifecycle::inspect(engine, id).await?;
    if inspected.state() != ContainerState::Running {
        let message = format!("container {id} does not run");
        return Err(RuntimeError::new(ErrorCode::FailedPrecondition, message));
    }
    let swapped = swaps_traffic(engine).await?;
    let Some(first) = sample(engine, id).await? else { return Err(no_figures(engine, id).await) };
    let mut last = (first.cpu_ns, Instant::now());
    if out.event(&told(first, &inspected, swapped)).await.is_err() || every_ms == 0 {
        return Ok(());
    }
    let mut clock = interval(Duration::from_millis(every_ms.into()).max(LEAST_INTERVAL));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await; // at once
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = out.gone() => return Ok(()),
        }
        let next = match sample(engine, id).await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = (next.cpu_ns, Instant::now());
        let cpu_milli = Some(milli(now.0.saturating_sub(last.0), now.1 - last.1));
        last = now;
        if out.event(&Stats { cpu_milli, ..told(next, &inspected, swapped) }).await.is_err() {
            return Ok(());
        }
    }
}

/// Returns CPU time over real time, in thousandths of one CPU.
fn milli(cpu_ns: u64, over: Duration) -> u32 {
    let milli = u128::from(cpu_ns) * 1_000 / over.as_nanos().max(1);
    u32::try_from(milli).unwrap_or(u32::MAX)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    stats: Option<Vec<Sample>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sample {
    #[serde(rename = "CPUNano")]
    cpu_ns: u64,
    mem_usage: u64,
    #[serde(rename = "PIDs")]
    pids: u64,
    net_input: u64,
    net_output: u64,
    /// By interface; Podman 5 has this instead.
    network: Option<BTreeMap<String, Interface>>,
    block_input: u64,
    block_output: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Interface {
    rx_bytes: u64,
    tx_bytes: u64,
}

impl Sample {
    /// Returns the bytes received and sent.
    fn network(&self) -> (u64, u64) {
        match &self.network {
            Some(interfaces) => {
                interfaces.values().fold((0, 0), |sum, one| (sum.0 + one.rx_bytes, sum.1 + one.tx_bytes))
            }
            None => (self.net_input, self.net_output),
        }
    }
}

/// Returns what the container uses now, or `None` when it no longer runs.
async fn sample(engine: &Engine, id: &ContainerId) -> Result<Option<Sample>> {
    let query = [("containers", id.as_str()), ("stream", "false")];
    let report: Report = engine
        .get_json("/containers/stats", &query)
        .await
        .map_err(|error| error::about(id, "stats", &error))?;
    // A container that does not run is reported with all figures 0.
    Ok(report.stats.and_then(|stats| stats.into_iter().next()).filter(|sample| sample.pids > 0))
}

/// Returns whether the engine takes what comes in for what goes out, as Podman did before 4.4 (its issue 16618).
async fn swaps_traffic(engine: &Engine) -> Result<bool> {
    let ping = engine.podman().ping().await.map_err(|error| error::translated("ping", &error))?;
    Ok(is_before_4_4(&ping.libpod_api_version))
}

fn is_before_4_4(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
    (parts.next(), parts.next()) < (Some(4), Some(4))
}

fn told(sample: Sample, inspected: &Inspected, swapped: bool) -> Stats {
    let (one, other) = sample.network();
    let (network_in_bytes, network_out_bytes) = if swapped { (other, one) } else { (one, other) };
    Stats {
        read_at: Some(SystemTime::now().into()),
        cpu_ns: sample.cpu_ns,
        cpu_milli: None,
        memory_bytes: sample.mem_usage,
        memory_limit_bytes: inspected.memory_limit(),
        pids: sample.pids,
        network_in_bytes,
        network_out_bytes,
        block_in_bytes: sample.block_input,
        block_out_bytes: sample.block_output,
    }
}

/// Tells why a container that ran a moment ago has no figures.
async fn no_figures(engine: &Engine, id: &ContainerId) -> RuntimeError {
    match lifecycle::inspect(engine, id).await {
        Err(error) => error,
        Ok(inspected) if inspected.state() == ContainerState::Running => {
            RuntimeError::new(ErrorCode::Unsupported, "podman has no figures for this container")
                .hint("rootless Podman needs cgroup v2 for them")
        }
        Ok(_) => RuntimeError::new(ErrorCode::FailedPrecondition, format!("container {id} does not run")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cpu_use_is_time_over_time() {
        assert_eq!(milli(1_500_000_000, Duration::from_secs(1)), 1_500);
        assert_eq!(milli(1, Duration::ZERO), 1_000);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_before_4_4("4.3.1") && is_before_4_4("3.4.4"));
        assert!(!is_before_4_4("4.4.0") && !is_before_4_4("4.10.1") && !is_before_4_4("5.0.0-dev"));
    }

    #[test]
    fn traffic_is_read_from_podman_4_and_5() {
        let four: Sample = serde_json::from_value(json!({"NetInput": 1, "NetOutput": 2})).unwrap();
        let five: Sample =
            serde_json::from_value(json!({"Network": {"eth0": {"RxBytes": 1, "TxBytes": 2}}})).unwrap();
        assert_eq!((four.network(), five.network()), ((1, 2), (1, 2)));
    }
}
