//! Whether the kernel ended a container for want of memory.
//!
//! An engine learns of that beside the end itself. Where it learns of it later, it tells so in an event and never in the
//! container's state (moby's `handleContainerExit` takes what is known by then): on a busy machine 3 of 120 were without it,
//! the event 0.1 to 0.2 s behind the end. The engine keeps its last 256 events: who waits for the end is told, who looks long
//! after it perhaps not any more.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use gx_core::{ContainerId, RuntimeError, Timestamp};

use crate::engine::Engine;
use crate::logs::seconds;
use crate::spec;

/// What the exit code is of a process that was killed.
const KILLED: i64 = 137;
/// How long after the end the engine may still learn why.
const LATE: Duration = Duration::from_secs(1);

/// Returns what the engine says of a container, and whether it ended for want of memory also where its state has not been told.
pub(crate) async fn inspect(
    engine: &Engine,
    id: &ContainerId,
) -> Result<ContainerInspectResponse, RuntimeError> {
    let mut answer = engine.inspect(id).await?;
    if let Some((began, ended)) = in_doubt(&answer)
        && was_told(engine, id, began, ended).await
    {
        answer.state.get_or_insert_default().oom_killed = Some(true);
    }
    Ok(answer)
}

/// Returns from when to when a container ran that was killed, may have no more than some memory, and is not said to have had it all.
fn in_doubt(answer: &ContainerInspectResponse) -> Option<(Timestamp, Timestamp)> {
    let state = answer.state.as_ref()?;
    let is_killed = state.exit_code == Some(KILLED) && state.oom_killed != Some(true);
    let is_limited = answer.host_config.as_ref()?.memory.is_some_and(|bytes| bytes > 0);
    let (began, ended) = (state.started_at.as_deref(), state.finished_at.as_deref());
    (is_killed && is_limited).then_some((spec::timestamp(began?)?, spec::timestamp(ended?)?))
}

/// Looks into what the engine has told of a container, until it has had time to tell.
async fn was_told(engine: &Engine, id: &ContainerId, began: Timestamp, ended: Timestamp) -> bool {
    let filters = HashMap::from([
        ("type", vec!["container"]),
        ("container", vec![id.as_str()]),
        ("event", vec!["oom", "kill"]),
    ]);
    let options = EventsOptionsBuilder::default()
        .filters(&filters)
        .since(&seconds(began))
        .until(&seconds(Timestamp(ended.0 + LATE)))
        .build();
    // Also the engine's clock may stand still.
    let mut told =
        std::pin::pin!(engine.docker.events(Some(options)).take_until(tokio::time::sleep(2 * LATE)));
    while let Some(Ok(message)) = told.next().await {
        if let Some(verdict) = verdict(&message) {
            return verdict;
        }
    }
    false
}

/// Returns whether an event says that memory was the reason; nothing where it says nothing about that.
fn verdict(message: &EventMessage) -> Option<bool> {
    match message.action.as_deref()? {
        "oom" => Some(true),
        // Somebody has killed it: there is nothing to wait for.
        "kill" => {
            let signal = message.actor.as_ref()?.attributes.as_ref()?.get("signal")?;
            matches!(signal.as_str(), "9" | "KILL" | "SIGKILL").then_some(false)
        }
        _ => None,
    }
}
