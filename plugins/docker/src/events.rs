//! What happens to containers.
//!
//! The engine keeps the last 256 of all its events (moby's `daemon/events`), so `since` reaches back no further.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::TryStreamExt;
use gx_core::runtime::{Event, EventAction};
use gx_core::stream::Output;
use gx_core::{RuntimeError, Timestamp};
use time::OffsetDateTime;

use crate::engine::Engine;
use crate::logs::seconds;

/// How long an engine may take to clean up after a container before its end is told all the same.
const SETTLED: Duration = Duration::from_secs(5);
/// What the engine puts among a container's labels.
const NOT_LABELS: [&str; 4] = ["image", "name", "exitCode", "signal"];

/// Writes events until the reader is gone.
pub(crate) async fn events(
    engine: &Engine,
    since: Option<Timestamp>,
    out: Output,
) -> Result<(), RuntimeError> {
    let filters =
        HashMap::from([("type", vec!["container"]), ("event", vec!["create", "start", "die", "destroy"])]);
    let mut options = EventsOptionsBuilder::default().filters(&filters);
    if let Some(since) = since {
        options = options.since(&seconds(since));
    }
    let mut messages = std::pin::pin!(engine.docker.events(Some(options.build())));
    loop {
        let next = tokio::select! {
            () = out.gone() => return Ok(()),
            next = messages.try_next() => next.map_err(|error| engine.error(error))?,
        };
        let Some(message) = next else {
            return Err(engine.error(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()));
        };
        let Some(event) = event(message) else { continue };
        if event.action == EventAction::Exit {
            settle(engine, event.id.as_str()).await;
        }
        if out.event(&event).await.is_err() {
            return Ok(());
        }
    }
}

/// Waits until the engine's list has a container as ended. The engine tells of the end before it has cleaned up, and lists
/// it as running until then, for some tenths of a second (moby's `handleContainerExit`); an inspect waits for that.
async fn settle(engine: &Engine, id: &str) {
    let inspected = engine.docker.inspect_container(id, None);
    let _ = tokio::time::timeout(SETTLED, inspected).await; // one that is gone by now has settled too
}

fn event(message: EventMessage) -> Option<Event> {
    let action = match message.action.as_deref()? {
        "create" => EventAction::Create,
        "start" => EventAction::Start,
        "die" => EventAction::Exit,
        "destroy" => EventAction::Remove,
        _ => return None,
    };
    let actor = message.actor?;
    let mut labels = actor.attributes.unwrap_or_default();
    let exit_code = labels.get("exitCode").and_then(|code| code.parse().ok());
    labels.retain(|key, _| !NOT_LABELS.contains(&key.as_str()));
    Some(Event {
        action,
        id: actor.id?.parse().ok()?,
        at: Timestamp(OffsetDateTime::from_unix_timestamp_nanos(message.time_nano?.into()).ok()?),
        labels: labels.into_iter().collect(),
        exit_code: exit_code.filter(|_| action == EventAction::Exit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_an_exit_with_its_code() {
        let message = serde_json::json!({
            "Type": "container", "Action": "die", "time": 1_700_000_000, "timeNano": 1_700_000_000_000_000_001_i64,
            "Actor": { "ID": "abc", "Attributes": { "exitCode": "3", "image": "x", "name": "y", "gx.name": "web" } },
        });
        let event = event(serde_json::from_value(message).unwrap()).unwrap();
        assert_eq!((event.action, event.exit_code), (EventAction::Exit, Some(3)));
        assert_eq!(event.labels, [("gx.name".to_owned(), "web".to_owned())].into());
        assert_eq!(seconds(event.at), "1700000000.000000001");
    }
}
