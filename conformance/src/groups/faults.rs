//! What goes wrong around a runtime: callers that go away, crowds, crashes, an engine that is down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gx_core::ErrorCode;
use gx_core::container::{ContainerState, label};
use gx_core::runtime::{HealthStatus, StopOptions};

use super::lifecycle::missing;
use crate::Hook;
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::stubborn;

pub(super) const CASES: &[Case] = &[
    case!("faults/unknown container", "NotFound from inspect, start and wait", [], unknown),
    case!("faults/create dropped", "a dropped create leaves a whole container or none", [], create_dropped),
    case!("faults/stop dropped", "a dropped stop leaves a container that can be stopped", [], stop_dropped),
    case!("faults/wait dropped", "a call that is given up disturbs no other", [], wait_dropped),
    case!("faults/crowd", "a thousand inspects at once all answer, and alike", [], crowd, alone),
    case!(
        "faults/crash",
        "calls of a crashed runtime fail soon; it comes back and finds its containers",
        [Processes],
        crash,
        alone
    ),
    case!(
        "faults/engine down",
        "Unavailable with a hint while the engine is down; then it works again",
        [],
        down,
        alone
    ),
];

async fn unknown(t: Arc<Trial>) -> Verdict {
    let not_found = ErrorCode::NotFound;
    let inspected = soon("inspect", SOON, t.runtime.inspect(missing())).await?;
    refused("inspect", inspected, not_found, None)?;
    refused("start", soon("start", SOON, t.runtime.start(missing())).await?, not_found, None)?;
    refused("wait", soon("wait", SOON, t.runtime.wait(missing())).await?, not_found, None)
}

async fn create_dropped(t: Arc<Trial>) -> Verdict {
    let mark = t.unique();
    for after_us in [0, 100, 500, 1000, 2000, 4000, 8000, 16_000] {
        let mut spec = t.spec(stubborn());
        spec.labels.insert("gx.conformance.mark".into(), mark.clone());
        spec.labels.insert(label::KEY.into(), t.unique());
        spec.labels.insert(label::SPEC.into(), "digest".into());
        let creating = t.runtime.create(spec.clone());
        let dropped = tokio::time::timeout(Duration::from_micros(after_us), creating).await.is_err();
        // The engine may still be at it: the request is repeated, as the host would do.
        let again = t.create(spec.clone()).await?;
        let container = t.inspect(&again).await?;
        same("the state", container.state, ContainerState::Created)?;
        for (key, value) in &spec.labels {
            same(&format!("label {key} after a drop ({dropped})"), container.labels.get(key), Some(value))?;
        }
        let key = spec.key().unwrap_or_default();
        same("how many there are", t.listed(&[(label::KEY, Some(key))]).await?.len(), 1)?;
        t.start(&again).await?;
        t.remove(&again).await?;
    }
    let left = t.listed(&[("gx.conformance.mark", Some(&mark))]).await?;
    left.iter().for_each(|container| t.made(&container.id));
    check!(left.is_empty(), "{} are left", left.len());
    Ok(())
}

async fn stop_dropped(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let stopping = t.runtime.stop(id.clone(), StopOptions { signal: None, grace_ms: Some(60_000) });
    let dropped = tokio::time::timeout(Duration::from_millis(200), stopping).await.is_err();
    check!(dropped, "stop returns within 200 ms, though nothing ends");
    t.kill(&id).await?;
    same("the exit code", t.wait(&id).await?.code, 137)
}

async fn wait_dropped(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let waiting = async {
        for _ in 0..20 {
            let waiting = t.runtime.wait(id.clone());
            let given_up = tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err();
            check!(given_up, "wait returns while it runs");
        }
        Ok(())
    };
    waiting.await?;
    same("the state", t.inspect(&id).await?.state, ContainerState::Running)?;
    t.kill(&id).await?;
    same("the exit code", t.wait(&id).await?.code, 137)
}

async fn crowd(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let expected = t.inspect(&id).await?;
    let calls = join_all((0..1000).map(|_| t.runtime.inspect(id.clone())));
    for (number, answer) in soon("a thousand inspects", 4 * SOON, calls).await?.into_iter().enumerate() {
        let answer = answer.of(&format!("inspect {number} of 1000"))?;
        same("the answer", &answer, &expected)?;
    }
    Ok(())
}

async fn pull_hook(hook: &Option<Hook>, what: &str) -> Verdict {
    let Some(hook) = hook else { return Err(Failure::skip(format!("the caller cannot {what}"))) };
    hook().await.map_err(|why| Failure::new(format!("the caller could not {what}: {why}")))
}

async fn crash(t: Arc<Trial>) -> Verdict {
    if t.options.hooks.crash.is_none() {
        return Err(Failure::skip("the caller cannot end the runtime's process"));
    }
    let mark = t.unique();
    let mut spec = t.spec(stubborn());
    spec.labels.insert("gx.conformance.mark".into(), mark.clone());
    let id = t.running_spec(spec).await?;
    let waiting = tokio::spawn({
        let (t, id) = (t.clone(), id.clone());
        async move { t.runtime.wait(id).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    pull_hook(&t.options.hooks.crash, "end the runtime's process").await?;
    let waited = soon("a call that was under way", SOON, waiting).await?.expect("the task is not aborted");
    check!(waited.is_err(), "the call that was under way says {waited:?}");
    t.until("answer after the crash", || async { Ok(t.runtime.inspect(id.clone()).await.is_ok()) }).await?;
    let found = t.listed(&[("gx.conformance.mark", Some(&mark))]).await?;
    same("what is found by its label", found.iter().map(|c| c.id.clone()).collect(), vec![id.clone()])?;
    same("the state", found[0].state, ContainerState::Running)?;
    t.kill(&id).await?;
    same("the exit code", t.wait(&id).await?.code, 137)
}

async fn down(t: Arc<Trial>) -> Verdict {
    let hooks = &t.options.hooks;
    if hooks.engine_up.is_none() {
        return Err(Failure::skip("the caller cannot start the engine again"));
    }
    pull_hook(&hooks.engine_down, "make the engine unreachable").await?;
    let seen = while_down(&t).await;
    pull_hook(&hooks.engine_up, "make the engine reachable").await?;
    t.until("healthy engine after it is up", || async {
        Ok(t.runtime.health().await.is_ok_and(|health| health.status == HealthStatus::Healthy))
    })
    .await?;
    t.running(stubborn()).await?;
    seen
}

async fn while_down(t: &Trial) -> Verdict {
    let health = soon("health", SOON, t.runtime.health()).await?.of("health of an engine that is down")?;
    check!(health.status != HealthStatus::Healthy, "it counts as healthy");
    check!(!health.why.is_empty(), "health does not say why");
    let error = match soon("info", SOON, t.runtime.info()).await? {
        Ok(info) => return Err(Failure::new(format!("info gives {info:?}"))),
        Err(error) => error,
    };
    check!(error.code == ErrorCode::Unavailable, "info gives {:?}: {}", error.code, error.message);
    check!(error.retryable, "the error does not say that it may be tried again");
    check!(error.hint.is_some(), "the error has no hint on how to start it");
    let created = soon("create", SOON, t.runtime.create(t.spec(stubborn()))).await?;
    refused("create", created, ErrorCode::Unavailable, None)?;
    let inspected = soon("inspect", SOON, t.runtime.inspect(missing())).await?;
    refused("inspect", inspected, ErrorCode::Unavailable, None)
}
