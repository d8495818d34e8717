//! What becomes of those who were removed: their calls end at once, and their containers are stopped or removed, also
//! when whoever removed them was killed on the way, as the book says who is leaving.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use gx_core::api::{Fate, LeftContainer};
use gx_core::container::label;
use gx_core::runtime::{RemoveOptions, StopOptions};
use gx_core::{ContainerState, ErrorCode, NodeId, Timestamp};

use crate::error::{Result, ServerError};
use crate::node::containers::{Found, Listing, name_of};
use crate::node::watch_folder::FolderWatch;
use crate::node::{Caller, Node};

/// How many containers are stopped or removed at a time.
const AT_A_TIME: usize = 16;
/// How long a container may take to end by itself, in milliseconds: none, as somebody is in it who should not, by SSH at
/// a published port, and could catch the signal.
const GRACE_MS: u32 = 0;
/// How long an engine may take for one container.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon what could not be stopped is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// The wall clock may be set: it is looked at again after so long at most.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

impl Node {
    /// Waits until the caller, whom the host lends to now, is a member no longer. For all others it never ends.
    pub(crate) async fn dismissed(&self, caller: &Caller) {
        let Caller::Member(member) = caller else { return std::future::pending().await };
        let mut changes = self.members.changes();
        loop {
            changes.mark_unchanged();
            let Some(still) = self.members.member(member.id) else { return };
            let end = still.until.map(until);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(end.map_or(LOOK_AGAIN, |end| end.min(LOOK_AGAIN))) => {}
            }
        }
    }

    /// Returns whether the kernel tells of changes now.
    #[cfg(test)]
    pub(crate) fn members_are_watched(&self) -> bool {
        self.members.shared.watched.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Looks whether another process has changed the list of members.
    pub(crate) fn refresh_members(&self) {
        self.members.refresh();
    }

    /// Takes over whom the configuration names as members, where it was read again. Whoever it names no longer is cut off
    /// at once, and their containers are stopped by the server.
    pub fn configure_members(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.members.configure(nodes.into_iter().collect());
    }

    /// Notices for ever when another process changes the list of members.
    pub(crate) async fn watch_members(&self) {
        let shared = &self.members.shared;
        let watch = match FolderWatch::new(&shared.folder) {
            Ok(watch) => watch,
            Err(error) => {
                return tracing::warn!(%error, "cannot watch the data folder: the list of members is looked at for each request");
            }
        };
        let _watched = Watched::new(shared);
        loop {
            shared.refresh();
            if let Err(error) = watch.changed().await {
                return tracing::warn!(%error, "the data folder cannot be watched any more");
            }
        }
    }

    /// Ends memberships for ever, each when its time has come, and sees to what those leave who were removed.
    pub(crate) async fn keep_members(&self) {
        let mut changes = self.members.changes();
        loop {
            self.members.refresh();
            changes.mark_unchanged();
            let settled = self.settle_all().await;
            let next = self.members.list().ok().and_then(|list| list.next_end()).map(until);
            let next = next.map_or(LOOK_AGAIN, |next| next.min(LOOK_AGAIN));
            let wait = if settled { next } else { next.min(RETRY) };
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sweeps the book and does what is left to do; returns whether nothing is left.
    async fn settle_all(&self) -> bool {
        let Ok(list) = self.members.list() else { return false };
        let now = super::now();
        if list.next_end().is_some_and(|end| end <= now)
            && let Err(error) = self.members.change(|_, _| Ok(())).await
        {
            tracing::warn!(%error, "cannot end what has come to its end");
            return false;
        }
        if let Err(error) = self.members.note_configured().await {
            tracing::warn!(%error, "cannot note whom the configuration names");
            return false;
        }
        let Ok(list) = self.members.list() else { return false };
        let mut all = true;
        for leaving in list.book.leaving.clone() {
            match self.settle(leaving.id, leaving.fate).await {
                Ok(left) => all &= left.iter().all(|one| one.error.is_none()),
                Err(error) => {
                    tracing::warn!(member = %leaving.id, %error, "cannot stop what a removed member left");
                    all = false;
                }
            }
        }
        all
    }

    /// Stops or removes the containers of somebody who was removed, and notes when that is done.
    pub(super) async fn settle(&self, id: NodeId, fate: Fate) -> Result<Vec<LeftContainer>> {
        if fate == Fate::Keep || self.members.member(id).is_some() {
            return Ok(Vec::new());
        }
        let Listing { found, unavailable } = self.owned_by(id).await?;
        let work = found.into_iter().filter(|found| concerns(fate, found)).map(|found| self.end(found, fate));
        let mut left: Vec<LeftContainer> =
            futures_util::stream::iter(work).buffer_unordered(AT_A_TIME).collect().await;
        left.extend(unavailable.into_iter().map(|silent| LeftContainer {
            name: None,
            runtime: silent.runtime,
            error: Some(silent.error),
        }));
        if fate == Fate::Remove && !left.is_empty() {
            self.drop_firewall().await;
        }
        if left.iter().all(|one| one.error.is_none()) {
            self.members.change(move |book, _| book.has_left(id, fate)).await?;
        }
        left.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(left)
    }

    /// Lists the containers that were made under any of somebody's keys.
    pub(super) async fn owned_by(&self, id: NodeId) -> Result<Listing> {
        let mut all = Listing::default();
        for key in self.members.keys_of(id) {
            let some = self.ours(&[(label::OWNER, &key.to_string())]).await?;
            all.found.extend(some.found);
            all.unavailable = some.unavailable;
        }
        Ok(all)
    }

    async fn end(&self, found: Found, fate: Fate) -> LeftContainer {
        let name = name_of(&found.container).to_owned();
        let ended = tokio::time::timeout(PATIENCE, self.end_one(&found, fate)).await;
        let slow = || ServerError::Slow { runtime: found.name.clone(), seconds: PATIENCE.as_secs() };
        let error = match ended.unwrap_or_else(|_| Err(slow())) {
            // Somebody else, or its lease, was faster.
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => {
                tracing::warn!(container = name, %error, "cannot stop what a removed member left");
                Some(error.api())
            }
            Ok(()) => None,
        };
        LeftContainer { name: Some(name), runtime: found.name, error }
    }

    async fn end_one(&self, found: &Found, fate: Fate) -> Result<()> {
        let (of, id) = (ServerError::of(&found.name), found.container.id.clone());
        match fate {
            Fate::Keep => {}
            Fate::Stop => {
                let options = StopOptions { signal: None, grace_ms: Some(GRACE_MS) };
                found.runtime.stop(id, options).await.map_err(of)?;
            }
            Fate::Remove => {
                found.remove(RemoveOptions { force: true }).await?;
                self.extensions.forget(&found.name, &id);
            }
        }
        Ok(())
    }
}

/// Whether there is something to do about a container.
fn concerns(fate: Fate, found: &Found) -> bool {
    match fate {
        Fate::Keep => false,
        Fate::Remove => true,
        Fate::Stop => match found.container.state {
            ContainerState::Exited | ContainerState::Created | ContainerState::Removing => false,
            ContainerState::Running | ContainerState::Paused | ContainerState::Unknown => true,
        },
    }
}

/// Returns how long it is until then, and a moment more, so that it is over when that is waited for.
fn until(end: Timestamp) -> Duration {
    let now = Timestamp::from(SystemTime::now());
    Duration::from_millis((end.unix_ms() - now.unix_ms()).max(0).unsigned_abs() + 5)
}

/// While it lives the kernel tells of changes.
struct Watched<'a>(&'a super::Shared);

impl<'a> Watched<'a> {
    fn new(shared: &'a super::Shared) -> Self {
        shared.watched.store(true, std::sync::atomic::Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.watched.store(false, std::sync::atomic::Ordering::Relaxed);
    }
}
