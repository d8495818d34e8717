//! What a container uses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::ErrorCode;
use gx_core::runtime::{Feature, Stats};
use gx_core::stream::{Items, Output, pipe};

use super::lifecycle::missing;
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("stats/one", "0 writes just one", [Stats], one),
    case!(
        "stats/series",
        "one at once and then one each interval, until the container ends",
        [Stats],
        series
    ),
    case!("stats/not running", "NotFound; FailedPrecondition when it does not run", [Stats], not_running),
    case!(
        "stats/reader gone",
        "when the reader is gone the method returns soon, with Ok",
        [Stats],
        reader_gone
    ),
];

async fn next(items: &mut Items) -> Verdict<Option<Stats>> {
    let Some(item) = soon("the next item", SOON, items.next()).await? else { return Ok(None) };
    let stats = serde_json::from_slice(&item.bytes);
    stats.map(Some).map_err(|error| Failure::new(format!("an item is no statistic: {error}")))
}

async fn one(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    spec.resources.memory_bytes = Some(64 << 20);
    let id = t.running_spec(spec).await?;
    let (out, mut items) = pipe(0);
    soon("stats", SOON, t.runtime.stats(id, 0, out)).await?.of("stats")?;
    let Some(stats) = next(&mut items).await? else { return Err(Failure::new("there is none")) };
    same("what follows it", next(&mut items).await?, None)?;
    check!(stats.read_at.is_some(), "read_at is missing");
    check!(stats.pids > 0, "there is no process");
    check!(stats.cpu_milli.is_none(), "cpu_milli is there without an interval");
    if t.capabilities.has(Feature::Limits) {
        same("the memory limit", stats.memory_limit_bytes, Some(64 << 20))?;
        check!(stats.memory_bytes > 0 && stats.memory_bytes < 64 << 20, "memory is {}", stats.memory_bytes);
    }
    Ok(())
}

async fn series(t: Arc<Trial>) -> Verdict {
    let id = t.running(sh("sleep 3600")).await?;
    let (out, mut items) = pipe(0);
    let call = tokio::spawn({
        let (t, id) = (t.clone(), id.clone());
        async move { t.runtime.stats(id, 300, out).await.of("stats") }
    });
    let mut seen = Vec::new();
    let began = Instant::now();
    while seen.len() < 4 {
        let Some(stats) = next(&mut items).await? else {
            return Err(Failure::new(format!("they end after {} while it runs", seen.len())));
        };
        seen.push(stats);
    }
    let took = began.elapsed();
    check!(took >= Duration::from_millis(700), "four come within {took:?}, at 300 ms each");
    check!(took < 2 * SOON, "four come within {took:?}, at 300 ms each");
    check!(seen[0].cpu_milli.is_none(), "the first has a cpu_milli");
    check!(seen[3].cpu_milli.is_some(), "the fourth has no cpu_milli");
    check!(
        seen.is_sorted_by_key(|stats| (stats.read_at, stats.cpu_ns)),
        "time or CPU time goes back: {seen:?}"
    );
    t.kill(&id).await?;
    while next(&mut items).await?.is_some() {}
    soon("stats", SOON, call).await?.expect("the task is not aborted")
}

async fn not_running(t: Arc<Trial>) -> Verdict {
    let stats = |id| soon("stats", SOON, t.runtime.stats(id, 0, Output::null()));
    refused("stats of a missing one", stats(missing()).await?, ErrorCode::NotFound, None)?;
    let created = t.create(t.spec(stubborn())).await?;
    refused("stats of a created one", stats(created).await?, ErrorCode::FailedPrecondition, None)?;
    let (ended, _) = t.ended(t.spec(sh("true"))).await?;
    refused("stats of an ended one", stats(ended).await?, ErrorCode::FailedPrecondition, None)
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let (out, mut items) = pipe(0);
    let reading = async move {
        let first = next(&mut items).await;
        drop(items);
        first
    };
    let call = t.runtime.stats(id, 60_000, out);
    let both = async { tokio::join!(call, reading) };
    let (ended, first) = soon("stats without a reader", SOON, both).await?;
    check!(first?.is_some(), "there is none");
    ended.of("stats")
}
