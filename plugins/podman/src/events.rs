//! What happens to containers, in the order in which the engine wrote it down.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use gx_core::plugin::*;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use crate::engine::Engine;
use crate::error;

/// What Podman adds to a container's labels in an event.
const ATTRIBUTES: [&str; 6] = ["containerExitCode", "image", "name", "podId", "execID", "gx.podman.image"];

/// How many of the last events are remembered, to tell none twice after the stream broke.
const REMEMBERED: usize = 256;
/// How often in a row the stream may break without having told anything, and how long half a line is left to become whole.
const BREAKS: u32 = 10;
const BREAK_PAUSE: Duration = Duration::from_millis(20);

/// Writes events until the reader is gone.
///
/// Podman 4 reads events from a file that others write at the same time, and breaks the stream off when it meets half a
/// line. It is then asked again, from the last event on.
pub(crate) async fn events(engine: &Engine, since: Option<Timestamp>, out: &Output) -> Result<()> {
    let mut place = Place { since, from: since, told: VecDeque::new() };
    let began = Timestamp::from(SystemTime::now());
    let mut breaks = 0;
    loop {
        let before = place.told.back().cloned();
        let Err(broken) = follow(engine, &mut place, out).await else { return Ok(()) };
        breaks = if place.told.back() == before.as_ref() { breaks + 1 } else { 0 };
        if breaks == BREAKS {
            return Err(broken);
        }
        place.from.get_or_insert(began);
        tokio::time::sleep(BREAK_PAUSE).await;
    }
}

/// How far the events have been told.
struct Place {
    /// What the caller wants to know.
    since: Option<Timestamp>,
    /// From when on the engine is asked; `None` is from now on.
    from: Option<Timestamp>,
    /// The last events told, newest last.
    told: VecDeque<(Timestamp, ContainerId, EventAction)>,
}

impl Place {
    /// Takes note of an event; returns whether it is to be told.
    fn is_new(&mut self, event: &Event) -> bool {
        let key = (event.at, event.id.clone(), event.action);
        if self.since.is_some_and(|since| event.at < since) || self.told.contains(&key) {
            return false;
        }
        self.from = self.from.max(Some(event.at));
        self.told.push_back(key);
        if self.told.len() > REMEMBERED {
            self.told.pop_front();
        }
        true
    }
}

/// Writes events until the reader is gone; an error says why there are no more.
async fn follow(engine: &Engine, place: &mut Place, out: &Output) -> Result<()> {
    let filters = json!({"type": ["container"]}).to_string();
    // Podman leaves out what is exactly as old, so it is asked for a little more.
    let asked = place.from.map(|from| unix(from.0 - time::Duration::MILLISECOND));
    let mut query = vec![("stream", "true"), ("filters", filters.as_str())];
    query.extend(asked.as_deref().map(|since| ("since", since)));
    let mut lines =
        engine.get_lines("/events", &query).await.map_err(|error| error::translated("events", &error))?;
    loop {
        let happened = tokio::select! {
            happened = lines.next::<Happened>() => happened,
            () = out.gone() => return Ok(()),
        };
        let Some(happened) = happened.map_err(|error| error::translated("events", &error))? else {
            return Err(RuntimeError::new(ErrorCode::Unavailable, "podman ended the stream of events"));
        };
        let Some(event) = happened.event().filter(|event| place.is_new(event)) else {
            continue;
        };
        if out.event(&event).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes a time as seconds with a fraction, as Podman reads it.
fn unix(at: OffsetDateTime) -> String {
    format!("{}.{:09}", at.unix_timestamp(), at.nanosecond())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Happened {
    action: String,
    actor: Actor,
    #[serde(rename = "timeNano")]
    nanoseconds: i64,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: ContainerId,
    #[serde(rename = "Attributes", default)]
    attributes: BTreeMap<String, String>,
}

impl Happened {
    /// Returns the event in gx's terms, where it is one that gx tells.
    fn event(self) -> Option<Event> {
        let action = match self.action.as_str() {
            "create" => EventAction::Create,
            "start" => EventAction::Start,
            "died" => EventAction::Exit,
            "remove" => EventAction::Remove,
            _ => return None,
        };
        let mut labels = self.actor.attributes;
        let code = labels.get("containerExitCode").and_then(|code| code.parse().ok());
        labels.retain(|key, _| !ATTRIBUTES.contains(&key.as_str()));
        Some(Event {
            action,
            id: self.actor.id,
            at: Timestamp(OffsetDateTime::from_unix_timestamp_nanos(self.nanoseconds.into()).ok()?),
            labels,
            exit_code: code.filter(|_| action == EventAction::Exit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(action: &str) -> Option<Event> {
        let happened: Happened = serde_json::from_value(json!({
            "Action": action, "timeNano": 1_795_302_411_397_562_992_i64,
            "Actor": {"ID": "c0ffee", "Attributes": {"containerExitCode": "137", "image": "x", "name": "a", "gx.key": "k"}},
        }))
        .unwrap();
        happened.event()
    }

    #[test]
    fn after_a_break_nothing_is_told_twice() {
        let mut place = Place { since: None, from: None, told: VecDeque::new() };
        let (start, died) = (happened("start").unwrap(), happened("died").unwrap());
        assert!(place.is_new(&start) && place.is_new(&died));
        assert!(!place.is_new(&start) && !place.is_new(&died));
        assert_eq!(place.from, Some(died.at));
    }

    #[test]
    fn an_exit_has_its_code_and_labels_are_only_the_containers() {
        let exit = happened("died").unwrap();
        assert_eq!((exit.action, exit.exit_code), (EventAction::Exit, Some(137)));
        assert_eq!(exit.labels, BTreeMap::from([("gx.key".to_owned(), "k".to_owned())]));
        assert_eq!(unix(exit.at.0), "1795302411.397562992");
        assert_eq!(happened("start").unwrap().exit_code, None);
        assert!(happened("mount").is_none());
    }
}
