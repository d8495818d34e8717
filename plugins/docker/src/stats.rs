//! What a container uses. Works with both versions of control groups.

use std::time::Duration;

use bollard::models::{ContainerBlkioStats, ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::TryStreamExt;
use gx_core::runtime::Stats;
use gx_core::stream::Output;
use gx_core::{ContainerId, ContainerState, ErrorCode, RuntimeError};
use tokio::time::MissedTickBehavior;

use crate::engine::Engine;
use crate::{lifecycle, spec};

/// Writes what a container uses, at once and then in an interval.
///
/// The engine's own stream ticks each second and takes two for its first item, so it is asked for one item at a
/// time. While someone asks, moby 20.10 measures once a second; a shorter interval there is a second.
pub(crate) async fn stats(
    engine: &Engine,
    id: ContainerId,
    every_ms: u32,
    out: Output,
) -> Result<(), RuntimeError> {
    let container = engine.inspect(&id).await?;
    let state = spec::state_of(&container.state.unwrap_or_default());
    if !matches!(state, ContainerState::Running | ContainerState::Paused) {
        return Err(not_running(&id));
    }
    let limit =
        container.host_config.and_then(|host| host.memory).and_then(|bytes| u64::try_from(bytes).ok());
    let limit = limit.filter(|bytes| *bytes > 0);
    let mut last = read(engine, &id, limit).await?.ok_or_else(|| not_running(&id))?;
    if out.event(&last).await.is_err() || every_ms == 0 {
        return Ok(());
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(every_ms.into()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first is at once
    let mut ended = std::pin::pin!(lifecycle::ended(engine, &id, "not-running"));
    loop {
        tokio::select! {
            () = out.gone() => return Ok(()),
            _ = &mut ended => return Ok(()),
            _ = ticks.tick() => {}
        }
        let next = match read(engine, &id, limit).await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let next = Stats { cpu_milli: cpu_milli(&last, &next), ..next };
        if out.event(&next).await.is_err() {
            return Ok(());
        }
        last = next;
    }
}

fn not_running(id: &ContainerId) -> RuntimeError {
    RuntimeError::new(ErrorCode::FailedPrecondition, format!("container {id} is not running"))
}

async fn read(engine: &Engine, id: &ContainerId, limit: Option<u64>) -> Result<Option<Stats>, RuntimeError> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let answer = engine.docker.stats(id.as_str(), Some(options)).try_next().await;
    Ok(answer.map_err(|error| engine.error_of(id, error))?.and_then(|answer| usage(answer, limit)))
}

/// `None` for a container that does not run: the engine then answers with zeros, its time among them.
fn usage(answer: ContainerStatsResponse, limit: Option<u64>) -> Option<Stats> {
    let read_at = answer.read.as_deref().and_then(spec::timestamp)?;
    let networks = answer.networks.unwrap_or_default();
    let blocks = answer.blkio_stats.unwrap_or_default();
    Some(Stats {
        read_at: Some(read_at),
        cpu_ns: answer.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage).unwrap_or(0),
        cpu_milli: None,
        memory_bytes: memory(&answer.memory_stats.unwrap_or_default()),
        memory_limit_bytes: limit,
        pids: answer.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
        network_in_bytes: networks.values().filter_map(|network| network.rx_bytes).sum(),
        network_out_bytes: networks.values().filter_map(|network| network.tx_bytes).sum(),
        block_in_bytes: block_bytes(&blocks, "read"),
        block_out_bytes: block_bytes(&blocks, "write"),
    })
}

/// As the docker command counts it: without the part of the page cache that would go first. Its name is
/// `total_inactive_file` with version 1 of control groups, `inactive_file` with version 2.
fn memory(memory: &ContainerMemoryStats) -> u64 {
    let detail = |key| memory.stats.as_ref().and_then(|stats| stats.get(key)).copied();
    let cache = detail("total_inactive_file").or_else(|| detail("inactive_file")).unwrap_or(0);
    memory.usage.unwrap_or(0).saturating_sub(cache)
}

fn block_bytes(blocks: &ContainerBlkioStats, operation: &str) -> u64 {
    let entries = blocks.io_service_bytes_recursive.iter().flatten();
    let fits =
        entries.filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(operation)));
    fits.filter_map(|entry| entry.value).sum()
}

fn cpu_milli(last: &Stats, next: &Stats) -> Option<u32> {
    let span = next.read_at?.0 - last.read_at?.0;
    let span_ns = u128::try_from(span.whole_nanoseconds()).ok().filter(|ns| *ns > 0)?;
    let used_ns = u128::from(next.cpu_ns.saturating_sub(last.cpu_ns));
    u32::try_from(used_ns * 1_000 / span_ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(read: &str, cpu: u64) -> ContainerStatsResponse {
        serde_json::from_value(serde_json::json!({
            "read": read, "pids_stats": { "current": 2 },
            "cpu_stats": { "cpu_usage": { "total_usage": cpu } },
            "memory_stats": { "usage": 100, "stats": { "total_inactive_file": 30, "inactive_file": 10 } },
            "networks": { "eth0": { "rx_bytes": 7, "tx_bytes": 1 }, "eth1": { "rx_bytes": 3 } },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "op": "Read", "value": 5 }, { "op": "write", "value": 6 }, { "op": "Total", "value": 11 }] },
        }))
        .unwrap()
    }

    #[test]
    fn usage_is_summed() {
        let stats = usage(answer("2026-11-21T23:00:00Z", 9), Some(64)).unwrap();
        assert_eq!((stats.memory_bytes, stats.memory_limit_bytes, stats.pids), (70, Some(64), 2));
        assert_eq!((stats.network_in_bytes, stats.network_out_bytes), (10, 1));
        assert_eq!((stats.block_in_bytes, stats.block_out_bytes), (5, 6));
    }

    #[test]
    fn cpu_use_is_what_was_used_between_two_readings() {
        let first = usage(answer("2026-11-21T23:00:00Z", 0), None).unwrap();
        let second = usage(answer("2026-11-21T23:00:02Z", 1_000_000_000), None).unwrap();
        assert_eq!(cpu_milli(&first, &second), Some(500));
        assert_eq!(cpu_milli(&first, &first), None);
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing() {
        assert_eq!(usage(answer("0001-01-01T00:00:00Z", 0), None), None);
    }
}
