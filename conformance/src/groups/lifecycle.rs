//! From create to remove.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::container::ContainerState;
use gx_core::runtime::{RemoveOptions, StopOptions};
use gx_core::{ContainerId, ErrorCode};

use crate::trial::{Called, Case, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{argv, graceful, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("lifecycle/create", "create makes a container without starting it", [], create),
    case!(
        "lifecycle/create without the image",
        "NotFound with field image, and nothing is made",
        [],
        no_image
    ),
    case!("lifecycle/create under a taken name", "AlreadyExists with field name", [], taken_name),
    case!("lifecycle/start", "start runs the main process", [], start),
    case!("lifecycle/start twice", "a running one is Ok and is left as it is", [], start_twice),
    case!("lifecycle/start again", "a container that has ended can be started again", [], start_again),
    case!("lifecycle/start without the command", "InvalidArgument with field command", [], no_command),
    case!("lifecycle/wait", "wait returns when the main process ends, to all who wait", [], wait),
    case!("lifecycle/wait after the exit", "wait returns at once when it has ended already", [], wait_after),
    case!("lifecycle/wait before the start", "FailedPrecondition when it was never started", [], wait_before),
    case!(
        "lifecycle/wait and remove",
        "NotFound, or the exit, when it is removed meanwhile",
        [],
        wait_and_remove
    ),
    case!("lifecycle/stop", "stop sends the signal and leaves time to end", [], stop),
    case!("lifecycle/stop by another signal", "stop sends the signal it is told", [], stop_signal),
    case!("lifecycle/stop kills", "stop kills after the grace", [], stop_kills),
    case!(
        "lifecycle/stop after the container's grace",
        "without grace_ms the spec's stop_grace_s holds",
        [],
        stop_grace
    ),
    case!("lifecycle/stop what does not run", "a stopped or missing container is Ok", [], stop_stopped),
    case!("lifecycle/remove", "an ended or never started container is removed", [], remove),
    case!(
        "lifecycle/remove a running one",
        "FailedPrecondition without force, and it goes on",
        [],
        remove_running
    ),
    case!("lifecycle/remove by force", "force kills a running one", [], remove_force),
    case!("lifecycle/remove a missing one", "a missing one is Ok", [], remove_missing),
];

const RUNNING: RemoveOptions = RemoveOptions { force: true };
const PLAIN: RemoveOptions = RemoveOptions { force: false };

fn stop_within(grace_ms: u32) -> StopOptions {
    StopOptions { signal: None, grace_ms: Some(grace_ms) }
}

async fn create(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    spec.labels.insert("gx.conformance.odd".into(), "spaces, 'quotes\" and ünïcode = fine".into());
    let id = t.create(spec.clone()).await?;
    let container = t.inspect(&id).await?;
    same("the id", &container.id, &id)?;
    same("the name", container.name.as_str(), spec.name.as_str())?;
    same("the state", container.state, ContainerState::Created)?;
    same("started_at", container.started_at, None)?;
    same("exit", container.exit, None)?;
    check!(container.created_at.is_some(), "created_at is missing");
    check!(
        container.image.contains(spec.image.repository()),
        "the image is {}, not as it was asked for ({})",
        container.image,
        spec.image
    );
    for (key, value) in &spec.labels {
        same(&format!("label {key}"), container.labels.get(key), Some(value))?;
    }
    Ok(())
}

async fn no_image(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    let name = spec.name.clone();
    spec.image = "gx-conformance/no-such-image:none".parse().expect("a reference");
    spec.labels.insert("gx.conformance.case".into(), name.to_string());
    let made = soon("create", SOON, t.runtime.create(spec)).await?;
    made.iter().for_each(|id| t.made(id));
    refused("create", made, ErrorCode::NotFound, Some("image"))?;
    let left = t.listed(&[("gx.conformance.case", Some(name.as_str()))]).await?;
    same("what is left of it", left, Vec::new())
}

async fn taken_name(t: Arc<Trial>) -> Verdict {
    let spec = t.spec(stubborn());
    t.create(spec.clone()).await?;
    let second = soon("create", SOON, t.runtime.create(spec)).await?;
    refused("a second create", second, ErrorCode::AlreadyExists, Some("name"))
}

async fn start(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let container = t.inspect(&id).await?;
    same("the state", container.state, ContainerState::Running)?;
    check!(container.started_at.is_some(), "started_at is missing");
    check!(container.started_at >= container.created_at, "it was started before it was made");
    same("exit", container.exit, None)
}

async fn start_twice(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let before = t.inspect(&id).await?;
    t.start(&id).await?;
    same("the container", t.inspect(&id).await?, before)
}

async fn start_again(t: Arc<Trial>) -> Verdict {
    let (id, first) = t.ended(t.spec(sh("echo once; exit 4"))).await?;
    t.start(&id).await?;
    let second = t.wait(&id).await?;
    same("the exit code", (first.code, second.code), (4, 4))?;
    let said = t.logs(&id, Default::default()).await?;
    check!(said.stdout.ends_with("once\n"), "the logs are {:?}", said.stdout);
    Ok(())
}

async fn no_command(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(argv(&["/gx-conformance/no-such-program"]))).await?;
    let started = soon("start", SOON, t.runtime.start(id.clone())).await?;
    refused("start", started, ErrorCode::InvalidArgument, Some("command"))?;
    let state = t.inspect(&id).await?.state;
    check!(state != ContainerState::Running, "it counts as running");
    Ok(())
}

async fn wait(t: Arc<Trial>) -> Verdict {
    let id = t.running(graceful("TERM", 6)).await?;
    t.until_said(&id, "ready").await?;
    let both = async { tokio::join!(t.wait(&id), t.wait(&id)) };
    tokio::pin!(both);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut both).await;
    check!(early.is_err(), "wait did not wait");
    let (ended, (first, second)) = tokio::join!(t.ask_to_end(&id), both);
    ended?;
    same("the exit code", (first?.code, second?.code), (6, 6))?;
    same("the state", t.inspect(&id).await?.state, ContainerState::Exited)
}

async fn wait_after(t: Arc<Trial>) -> Verdict {
    let (id, _) = t.ended(t.spec(sh("exit 6"))).await?;
    let exit = soon("a second wait", Duration::from_secs(5), t.runtime.wait(id)).await?.of("wait")?;
    same("the exit code", exit.code, 6)
}

async fn wait_before(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    let waited = soon("wait", SOON, t.runtime.wait(id)).await?;
    refused("wait", waited, ErrorCode::FailedPrecondition, None)
}

async fn wait_and_remove(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let removal = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        t.remove(&id).await
    };
    let both = async { tokio::join!(t.runtime.wait(id.clone()), removal) };
    let (waited, removed) = soon("wait", 2 * SOON, both).await?;
    removed?;
    match waited {
        // Whether the exit or the removal is seen first is a matter of luck.
        Ok(exit) => same("the exit code", exit.code, 137),
        refusal => refused("wait", refusal, ErrorCode::NotFound, None),
    }
}

async fn stop(t: Arc<Trial>) -> Verdict {
    let id = t.running(graceful("TERM", 7)).await?;
    t.until_said(&id, "ready").await?;
    soon("stop", SOON, t.runtime.stop(id.clone(), stop_within(60_000))).await?.of("stop")?;
    same("the state", t.inspect(&id).await?.state, ContainerState::Exited)?;
    same("the exit code", t.wait(&id).await?.code, 7)
}

async fn stop_signal(t: Arc<Trial>) -> Verdict {
    let id = t.running(graceful("USR1", 9)).await?;
    t.until_said(&id, "ready").await?;
    let options = StopOptions { signal: Some("SIGUSR1".into()), grace_ms: Some(60_000) };
    soon("stop", SOON, t.runtime.stop(id.clone(), options)).await?.of("stop")?;
    same("the exit code", t.wait(&id).await?.code, 9)
}

async fn stop_kills(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let began = Instant::now();
    soon("stop", SOON, t.runtime.stop(id.clone(), stop_within(600))).await?.of("stop")?;
    let took = began.elapsed();
    same("the state when stop returns", t.inspect(&id).await?.state, ContainerState::Exited)?;
    same("the exit code", t.wait(&id).await?.code, 137)?;
    check!(took >= Duration::from_millis(550), "it was killed after {} ms, not 600", took.as_millis());
    check!(took < Duration::from_secs(8), "it was killed after {} ms, not 600", took.as_millis());
    Ok(())
}

async fn stop_grace(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    spec.stop_grace_s = Some(1);
    let id = t.running_spec(spec).await?;
    let began = Instant::now();
    soon("stop", 2 * SOON, t.runtime.stop(id.clone(), StopOptions::default())).await?.of("stop")?;
    let took = began.elapsed();
    same("the exit code", t.wait(&id).await?.code, 137)?;
    check!((950..8000).contains(&took.as_millis()), "it was killed after {} ms, not 1000", took.as_millis());
    Ok(())
}

async fn stop_stopped(t: Arc<Trial>) -> Verdict {
    let stop = |id| soon("stop", SOON, t.runtime.stop(id, stop_within(0)));
    let (ended, _) = t.ended(t.spec(sh("exit 5"))).await?;
    stop(ended.clone()).await?.of("stop of an ended one")?;
    same("the exit code after stop", t.wait(&ended).await?.code, 5)?;
    let created = t.create(t.spec(stubborn())).await?;
    stop(created).await?.of("stop of a created one")?;
    stop(missing()).await?.of("stop of a missing one")
}

async fn remove(t: Arc<Trial>) -> Verdict {
    let (ended, _) = t.ended(t.spec(sh("true"))).await?;
    let created = t.create(t.spec(stubborn())).await?;
    for id in [ended, created] {
        soon("remove", SOON, t.runtime.remove(id.clone(), PLAIN)).await?.of("remove")?;
        gone(&t, &id).await?;
    }
    Ok(())
}

async fn remove_running(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    let removed = soon("remove", SOON, t.runtime.remove(id.clone(), PLAIN)).await?;
    refused("remove", removed, ErrorCode::FailedPrecondition, None)?;
    same("the state", t.inspect(&id).await?.state, ContainerState::Running)
}

async fn remove_force(t: Arc<Trial>) -> Verdict {
    let id = t.running(stubborn()).await?;
    soon("remove", SOON, t.runtime.remove(id.clone(), RUNNING)).await?.of("remove")?;
    gone(&t, &id).await
}

async fn remove_missing(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    for options in [PLAIN, PLAIN, RUNNING] {
        soon("remove", SOON, t.runtime.remove(id.clone(), options)).await?.of("remove")?;
    }
    soon("remove", SOON, t.runtime.remove(missing(), PLAIN)).await?.of("remove of one that never was")
}

async fn gone(t: &Trial, id: &ContainerId) -> Verdict {
    let inspected = soon("inspect", SOON, t.runtime.inspect(id.clone())).await?;
    refused("inspect of a removed one", inspected, ErrorCode::NotFound, None)?;
    let listed = t.listed(&[(crate::LABEL, Some(&t.options.run_id))]).await?;
    check!(listed.iter().all(|container| container.id != *id), "a removed container is listed");
    Ok(())
}

/// Returns an id no engine has.
pub(super) fn missing() -> ContainerId {
    "00000000000000000000000000000000000000000000000000000000deadbeef".parse().expect("64 hexadecimal digits")
}
