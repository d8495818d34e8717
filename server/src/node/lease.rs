//! Leases: a container with an end is stopped and removed when it comes, by whichever server has its data folder.
//!
//! The end is in the container's label, or in a file where it was made later (`extend.rs`), so that it holds over
//! restarts. What is kept here is a queue in memory, and the next end in it is the only thing anybody waits for. Another
//! process may have made a lease longer: the file is read again when the end has come.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use gx_core::api::ContainerInfo;
use gx_core::runtime::{RemoveOptions, StopOptions};
use gx_core::{ContainerId, PluginName, Timestamp};
use tokio::sync::Notify;

use super::Node;
use super::containers::{Found, timely};
use super::extend::LOCK_PATIENCE;
use crate::error::{Result, ServerError};

/// The wall clock may be set, or the machine sleep: it is looked at again after so long at most.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// How long a container may take to stop before it is removed by force.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How soon an end is tried again where the engine did not do it.
const RETRY: Duration = Duration::from_secs(15);

/// The ends that are known.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    ends: Mutex<BTreeMap<(PluginName, ContainerId), Timestamp>>,
    changed: Notify,
}

impl Leases {
    /// Notes a container's end, if it has one.
    pub(crate) fn learn(&self, container: &ContainerInfo) {
        if let Some(end) = container.expires_at {
            self.set((container.runtime.clone(), container.id.clone()), end);
        }
    }

    fn set(&self, place: (PluginName, ContainerId), end: Timestamp) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(place, end);
        self.changed.notify_one();
    }

    /// Takes those whose end has come, and returns how long it is to the next.
    fn due(&self, now: Timestamp) -> (Vec<(PluginName, ContainerId)>, Option<Duration>) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let due = ends.extract_if(.., |_, end| *end <= now).map(|(place, _)| place).collect();
        let next = ends.values().min().map(|end| {
            let left = (end.unix_ms() - now.unix_ms()).max(0).unsigned_abs();
            Duration::from_millis(left)
        });
        (due, next)
    }
}

impl Node {
    /// Ends leases for ever, each when its time has come.
    pub(crate) async fn keep_leases(&self) {
        loop {
            let (due, next) = self.leases.due(Timestamp::from(SystemTime::now()));
            join_all(due.into_iter().map(|(name, id)| self.end_lease(name, id))).await;
            let wait = next.map_or(LOOK_AGAIN, |next| next.min(LOOK_AGAIN));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.leases.changed.notified() => {}
            }
        }
    }

    async fn end_lease(&self, name: PluginName, id: ContainerId) {
        if let Some(end) = self.later_end(&name, &id).await {
            return self.leases.set((name, id), end);
        }
        match self.stop_and_remove(&name, &id).await {
            Ok(()) => tracing::info!(runtime = %name, container = %id.short(), "its lease is over: removed"),
            Err(error) => {
                tracing::warn!(runtime = %name, container = %id.short(), %error, "its lease is over and it is still there");
                self.leases.set((name, id), Timestamp::from(SystemTime::now() + RETRY));
            }
        }
    }

    /// Returns the end of a lease that was made longer, or a later moment to look again.
    async fn later_end(&self, name: &PluginName, id: &ContainerId) -> Option<Timestamp> {
        // Whoever has the lock may be about to make this one longer; what is over stays over.
        let alone = self.extensions.lock().take(LOCK_PATIENCE).await;
        let now = Timestamp::from(SystemTime::now());
        match alone {
            Ok(_alone) => self.extensions.get(name, id).filter(|end| *end > now),
            Err(error) => {
                tracing::warn!(runtime = %name, container = %id.short(), %error, "cannot tell whether its lease is over");
                Some(Timestamp::from(SystemTime::now() + RETRY))
            }
        }
    }

    async fn stop_and_remove(&self, name: &PluginName, id: &ContainerId) -> Result<()> {
        let of = ServerError::of(name);
        let runtime = self.runtimes.get(name).await?;
        let there = timely(name, async { runtime.inspect(id.clone()).await.map_err(&of) }).await;
        // A stop takes as long as the container's own grace; removing by force ends what is left.
        let stop = runtime.stop(id.clone(), StopOptions::default());
        match tokio::time::timeout(STOP_PATIENCE, stop).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(runtime = %name, container = %id.short(), %error, "cannot stop it in peace");
            }
            Err(_) => tracing::warn!(runtime = %name, container = %id.short(), "it does not stop in peace"),
        }
        let force = RemoveOptions { force: true };
        match there {
            Ok(container) => {
                let found = Found { name: name.clone(), runtime, container };
                timely(name, found.remove(force)).await?;
                self.open_up(&found.container).await;
            }
            Err(_) => timely(name, async { runtime.remove(id.clone(), force).await.map_err(&of) }).await?,
        }
        self.extensions.forget(name, id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_once_and_the_next_end_is_told() {
        let leases = Leases::default();
        let place = |id: &str| ("mock".parse::<PluginName>().unwrap(), id.parse::<ContainerId>().unwrap());
        leases.set(place("a"), Timestamp::from_unix(100));
        leases.set(place("b"), Timestamp::from_unix(160));
        let (due, next) = leases.due(Timestamp::from_unix(100));
        assert_eq!((due, next), (vec![place("a")], Some(Duration::from_secs(60))));
        assert_eq!(leases.due(Timestamp::from_unix(99)).0, []);
    }

    #[test]
    fn a_clock_that_jumps_ends_leases_by_what_it_shows_now() {
        let leases = Leases::default();
        let place = ("mock".parse::<PluginName>().unwrap(), "a".parse::<ContainerId>().unwrap());
        leases.set(place.clone(), Timestamp::from_unix(1_000));
        assert_eq!(leases.due(Timestamp::from_unix(900)).1, Some(Duration::from_secs(100)));
        let (due, next) = leases.due(Timestamp::from_unix(100));
        assert_eq!((due.len(), next), (0, Some(Duration::from_secs(900))), "set back: it is longer again");
        assert_eq!(leases.due(Timestamp::from_unix(50_000_000)).0, [place], "set on: it is over");
    }
}
