//! Idle stops: a container with a limit is stopped, not removed, when for so long nobody was in it and it did no work.
//!
//! The limit is in the container's label; what is kept here is in memory, so that a server counts anew when it starts.
//! Without such a container nothing is done at all. What cannot be found out never stops anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gx_core::api::ContainerInfo;
use gx_core::container::label;
use gx_core::guest::{self, Status};
use gx_core::runtime::{ExecSpec, Stats, StopOptions};
use gx_core::stream::{Input, pipe};
use gx_core::{Container, ContainerId, ContainerState, ErrorCode, PluginName, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::containers::{Found, PATIENCE, name_of, timely};
use super::policy::LEASE_MAX_S;
use super::{Node, access};
use crate::error::{Result, ServerError};
use quiet::{Quiet, Seen, interval};

mod quiet;

/// So many containers are looked at, or stopped, at a time.
const AT_A_TIME: usize = 8;
/// How long a container may take to stop; what is left then is tried again at the next look.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How much of a guest's answer is kept, in bytes.
const ANSWER_MAX: usize = 4_096;

type Place = (PluginName, ContainerId);

/// The containers that are to be stopped when they are idle, and who uses containers through this host.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    table: Arc<Mutex<Table>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    watched: BTreeMap<Place, Watched>,
    /// How many are in a container through this host; no more than there are connections.
    inside: BTreeMap<Place, usize>,
}

#[derive(Debug)]
struct Watched {
    limit: Duration,
    /// When it is looked at next; `None` while it is.
    next: Option<Instant>,
    quiet: Option<Quiet>,
}

/// As long as it lives, somebody is in a container through this host.
#[derive(Debug)]
pub struct Inside(Option<(Arc<Mutex<Table>>, Place)>);

impl Drop for Inside {
    fn drop(&mut self) {
        let Some((table, place)) = self.0.take() else { return };
        let mut table = lock(&table);
        if let Some(count) = table.inside.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                table.inside.remove(&place);
            }
        }
        if let Some(quiet) = table.watched.get_mut(&place).and_then(|watched| watched.quiet.as_mut()) {
            quiet.left(Instant::now());
        }
    }
}

impl Idle {
    /// Notes a container that runs, if it is to be stopped when it is idle.
    pub(crate) fn learn(&self, container: &ContainerInfo) {
        let Some(limit) = container.idle_s.filter(|_| container.state == ContainerState::Running) else {
            return;
        };
        let place = (container.runtime.clone(), container.id.clone());
        let fresh = Watched { limit: Duration::from_secs(limit), next: Some(Instant::now()), quiet: None };
        lock(&self.table).watched.entry(place).or_insert(fresh);
        self.changed.notify_one();
    }

    /// Notes that somebody is in a container, until what this returns is dropped.
    pub(crate) fn enter(&self, found: &Found) -> Inside {
        if limit_s(&found.container).is_none() {
            return Inside(None);
        }
        let place = (found.name.clone(), found.container.id.clone());
        *lock(&self.table).inside.entry(place.clone()).or_default() += 1;
        Inside(Some((self.table.clone(), place)))
    }

    /// Takes those that are to be looked at now, at most `room`, and returns when the next one is.
    fn due(&self, now: Instant, room: usize) -> (Vec<Place>, Option<Instant>) {
        let mut table = lock(&self.table);
        let is_due = |watched: &Watched| watched.next.is_some_and(|next| next <= now);
        let mut due = Vec::new();
        for (place, watched) in table.watched.iter_mut().filter(|(_, watched)| is_due(watched)).take(room) {
            watched.next = None;
            due.push(place.clone());
        }
        (due, table.watched.values().filter_map(|watched| watched.next).min())
    }

    /// Takes in what was seen, and returns whether the container is to be stopped.
    fn see(&self, place: &Place, seen: Seen, now: Instant) -> bool {
        let mut table = lock(&self.table);
        let session = seen.session || table.inside.contains_key(place);
        let Some(watched) = table.watched.get_mut(place) else { return false };
        let quiet = Quiet::after(watched.quiet.as_ref(), &Seen { session, ..seen }, now);
        watched.quiet.insert(quiet).lasts(watched.limit, now)
    }

    fn look_again(&self, place: &Place, now: Instant) {
        if let Some(watched) = lock(&self.table).watched.get_mut(place) {
            watched.next = Some(now + interval(watched.limit));
        }
    }

    fn forget(&self, place: &Place) {
        lock(&self.table).watched.remove(place);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns after how many seconds a container is idle for too long, if ever.
pub(crate) fn limit_s(container: &Container) -> Option<u64> {
    container.labels.get(label::IDLE)?.parse().ok().filter(|limit| (1..=LEASE_MAX_S).contains(limit))
}

impl Node {
    /// Looks for ever whether containers are idle, and stops those that are for too long.
    pub(crate) async fn keep_idle(&self) {
        let mut looks = FuturesUnordered::new();
        loop {
            let (due, next) = self.idle.due(Instant::now(), AT_A_TIME - looks.len());
            looks.extend(due.into_iter().map(|place| self.look(place)));
            let next = next.filter(|_| looks.len() < AT_A_TIME);
            tokio::select! {
                () = at(next) => {}
                () = self.idle.changed.notified() => {}
                Some(()) = looks.next() => {}
            }
        }
    }

    async fn look(&self, place: Place) {
        let (name, id) = &place;
        match self.see(name, id).await {
            Ok(Some(seen)) if self.idle.see(&place, seen, Instant::now()) => {
                if self.stop_idle(name, id).await {
                    return self.idle.forget(&place);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return self.idle.forget(&place), // whoever starts it again makes it known again
            Err(error) if error.code() == ErrorCode::NotFound => return self.idle.forget(&place),
            Err(error) => {
                tracing::warn!(runtime = %name, container = %id.short(), %error, "cannot tell whether it is idle");
            }
        }
        self.idle.look_again(&place, Instant::now());
    }

    /// Returns what goes on in a container, if it runs.
    async fn see(&self, name: &PluginName, id: &ContainerId) -> Result<Option<Seen>> {
        let of = ServerError::of(name);
        let runtime = timely(name, self.runtimes.get(name)).await?;
        let container = timely(name, async { runtime.inspect(id.clone()).await.map_err(&of) }).await?;
        if container.state != ContainerState::Running {
            return Ok(None);
        }
        let seen = match access::nonce(&container) {
            Some(_) => timely(name, ask_guest(name, &*runtime, &container)).await?,
            None => timely(name, ask_engine(name, &*runtime, &container)).await?,
        };
        Ok(Some(Seen { started_at: container.started_at, ..seen }))
    }

    async fn stop_idle(&self, name: &PluginName, id: &ContainerId) -> bool {
        let stop = async {
            let runtime = self.runtimes.get(name).await?;
            runtime.stop(id.clone(), StopOptions::default()).await.map_err(ServerError::of(name))
        };
        match tokio::time::timeout(STOP_PATIENCE, stop).await {
            Ok(Ok(())) => {
                tracing::info!(runtime = %name, container = %id.short(), "it was idle: stopped");
                return true;
            }
            Ok(Err(error)) => {
                tracing::warn!(runtime = %name, container = %id.short(), %error, "it is idle and cannot be stopped");
            }
            Err(_) => {
                tracing::warn!(runtime = %name, container = %id.short(), "it is idle and does not stop")
            }
        }
        false
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Asks the guest, which knows of sessions.
async fn ask_guest(name: &PluginName, runtime: &dyn Runtime, container: &Container) -> Result<Seen> {
    let status = guest_status(name, runtime, container).await?;
    Ok(Seen {
        session: status.sessions > 0,
        ended: status.idle_s.map(Duration::from_secs),
        cpu_ms: status.cpu_ms,
        started_at: None,
    })
}

/// Asks the guest what goes on.
pub(super) async fn guest_status(
    name: &PluginName,
    runtime: &dyn Runtime,
    container: &Container,
) -> Result<Status> {
    let spec = ExecSpec {
        argv: vec![guest::PROGRAM.to_owned(), guest::word::STATUS.to_owned()],
        user: Some(super::guest::ROOT.to_owned()),
        timeout_ms: u32::try_from(PATIENCE.as_millis()).ok(),
        ..ExecSpec::default()
    };
    let (out, mut items) = pipe(0);
    let mut said = Vec::new();
    let read = async {
        while let Some(item) = items.next().await {
            let room = ANSWER_MAX.saturating_sub(said.len());
            said.extend_from_slice(&item.bytes[..item.bytes.len().min(room)]);
        }
    };
    let (exit, ()) = tokio::join!(runtime.exec(container.id.clone(), spec, Input::empty(), out), read);
    let code = exit.map_err(ServerError::of(name))?.code;
    match serde_json::from_slice::<Status>(&said) {
        Ok(status) if code == 0 => Ok(status),
        _ => {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            Err(ServerError::Refused { name: name_of(container).to_owned(), code, said })
        }
    }
}

/// Asks the engine, which knows of processor time alone.
async fn ask_engine(name: &PluginName, runtime: &dyn Runtime, container: &Container) -> Result<Seen> {
    let (out, mut items) = pipe(0);
    let mut first = None;
    let read = async {
        while let Some(item) = items.next().await {
            first.get_or_insert(item);
        }
    };
    let (told, ()) = tokio::join!(runtime.stats(container.id.clone(), 0, out), read);
    told.map_err(ServerError::of(name))?;
    let stats = first.and_then(|item| serde_json::from_slice::<Stats>(&item.bytes).ok());
    let stats = stats.ok_or_else(|| ServerError::Internal("the engine told no statistics".to_owned()))?;
    Ok(Seen { cpu_ms: stats.cpu_ns / 1_000_000, ..Seen::default() })
}
