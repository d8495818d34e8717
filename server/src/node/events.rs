//! What happens to containers, as the engines tell it: nobody has to ask again and again.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gx_core::api::ContainerEvent;
use gx_core::container::label;
use gx_core::runtime::Event;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Gone, Items, Kind, Output, pipe};
use gx_core::{ErrorCode, PluginName, RuntimeError, Timestamp};

use super::Node;
use super::caller::{Caller, Verb, authorize};
use crate::error::{Result, ServerError};

/// How long an engine whose events broke off is left alone, at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Node {
    /// Writes what happens to the caller's containers as event items ([`ContainerEvent`]), from a time on (`None`: from
    /// now on), until the reader is gone. An engine whose events break off, or that is not there, is asked again, from the
    /// last event on; how far back an engine remembers is its own.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`](crate::ServerError::NotAllowed), [`ServerError::State`](crate::ServerError::State).
    pub async fn events(&self, caller: &Caller, since: Option<Timestamp>, out: Output) -> Result<()> {
        authorize(caller, Verb::List, None)?;
        let since = since.unwrap_or_else(|| Timestamp::from(SystemTime::now()));
        // A runtime that is used for the first time leaves a mark, whichever process uses it.
        let marks = self.runtimes.watch_used()?;
        let mut watched = BTreeSet::new();
        let mut watches = FuturesUnordered::new();
        loop {
            let new = self.runtimes.used()?.into_iter().filter(|name| watched.insert(name.clone()));
            watches.extend(new.map(|name| self.tell(caller, name, since, &out)));
            tokio::select! {
                () = out.gone() => return Ok(()),
                changed = marks.changed() => changed.map_err(self.runtimes.unwatched())?,
                Some(()) = watches.next() => {}
            }
        }
    }

    /// Passes on the events of one runtime, for as long as somebody reads them.
    async fn tell(&self, caller: &Caller, name: PluginName, since: Timestamp, out: &Output) {
        let mut place = Place { since, last: None };
        let mut pause = FIRST_PAUSE;
        loop {
            let before = place.last.clone();
            match self.follow(caller, &name, &mut place, out).await {
                Ok(()) => return,
                Err(error) if error.code == ErrorCode::Unsupported => {
                    tracing::debug!(runtime = %name, "it tells no events");
                    return;
                }
                Err(error) => tracing::warn!(runtime = %name, %error, "its events broke off"),
            }
            pause = if place.last == before { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            tokio::time::sleep(pause).await;
        }
    }

    async fn follow(
        &self,
        caller: &Caller,
        name: &PluginName,
        place: &mut Place,
        out: &Output,
    ) -> Result<(), RuntimeError> {
        let lost = |error: ServerError| RuntimeError::new(ErrorCode::Unavailable, error.to_string());
        let runtime = self.runtimes.get(name).await.map_err(lost)?;
        let (told, items) = pipe(DEFAULT_WINDOW_BYTES);
        tokio::select! {
            ended = runtime.events(Some(place.since), told) => {
                ended?;
                Err(RuntimeError::new(ErrorCode::Unavailable, "the engine ended the stream of events"))
            }
            Gone = self.pass_on(caller, name, place, items, out) => Ok(()),
        }
    }

    /// Passes on those events that are about the caller's containers, until nobody reads them.
    async fn pass_on(
        &self,
        caller: &Caller,
        name: &PluginName,
        place: &mut Place,
        mut items: Items,
        out: &Output,
    ) -> Gone {
        while let Some(item) = items.next().await {
            if item.kind != Kind::Event {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Event>(&item.bytes) else { continue };
            if !place.is_new(&event) {
                continue;
            }
            let told = self.told_event(caller, name, event);
            if let Some(told) = told
                && out.event(&told).await.is_err()
            {
                return Gone;
            }
        }
        // The call has ended, and says why.
        std::future::pending().await
    }

    /// Returns what the caller is told of an event; `None` where it is not theirs to know.
    fn told_event(&self, caller: &Caller, runtime: &PluginName, event: Event) -> Option<ContainerEvent> {
        let Event { action, id, at, labels, exit_code } = event;
        let text = |key| labels.get(key).map(String::as_str);
        let host = text(label::HOST)?.parse().ok()?;
        let owner = text(label::OWNER).and_then(|owner| owner.parse().ok()).map(|owner| self.current(owner));
        let ours = self.keys().any(|key| key.id() == host);
        if !ours || authorize(caller, Verb::Use, owner).is_err() {
            return None;
        }
        let name = text(label::NAME).unwrap_or(id.short()).to_owned();
        Some(ContainerEvent { at, action, name, id, runtime: runtime.clone(), owner, exit_code })
    }
}

/// How far the events of a runtime have been told.
struct Place {
    since: Timestamp,
    last: Option<Event>,
}

impl Place {
    /// Takes note of an event; returns whether it is to be told. The last one comes again when an engine is asked again.
    fn is_new(&mut self, event: &Event) -> bool {
        if self.last.as_ref() == Some(event) {
            return false;
        }
        self.since = self.since.max(event.at);
        self.last = Some(event.clone());
        true
    }
}
