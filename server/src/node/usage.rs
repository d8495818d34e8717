//! What the containers of a node have together: as last seen in each engine, so that one that does not answer does not
//! look empty; and the room that is kept for a container which is being started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gx_core::api::TotalSpecs;
use gx_core::{ContainerState, PluginName};

use super::Node;
use super::admission::Ticket;
use super::amounts::{Bounds, Holding, Scope, Whose};
use super::caller::Caller;
use super::containers::{Found, Listing};
use super::policy::{Frame, Machine};
use crate::error::Result;

/// How old what is known may be before somebody who asks has the engines asked again.
const FRESH: Duration = Duration::from_secs(5);
/// How long the engines may take then.
const LOOK: Duration = Duration::from_secs(1);

/// What was last seen of all containers of this node.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    seen: Mutex<BTreeMap<PluginName, Seen>>,
    /// Grows with each change of that.
    version: AtomicU64,
    /// When all engines were last asked; held while they are, so that many who want to know ask once.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// The containers of one engine.
type Seen = Vec<(ContainerState, Holding)>;

impl Usage {
    /// Remembers all of this node's containers in an engine.
    pub(crate) fn learn(&self, name: &PluginName, found: &[Found], machine: Machine) {
        let one = |found: &Found| (found.container.state, Holding::of(&found.container, machine));
        let seen: Seen = found.iter().map(one).collect();
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(name) != Some(&seen) {
            all.insert(name.clone(), seen);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns which state of it this is.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn of(&self, name: &PluginName) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    fn all(&self) -> BTreeMap<PluginName, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Room for a container that is being started, until this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    ticket: Ticket,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Room {
    /// Says that it runs.
    pub(crate) fn started(&mut self) {
        self.ticket.made();
    }
}

impl Node {
    /// Returns what bounds the requests of a caller.
    pub(crate) fn frame(&self, caller: &Caller) -> Frame<'_> {
        let allowance = match caller {
            Caller::Host => None,
            Caller::Member(member) => Some(member.allowance.or(self.server.member)),
            Caller::Stranger(_) => Some(self.server.member),
        };
        Frame { limits: &self.limits, totals: &self.server.totals, allowance, machine: self.machine }
    }

    /// Returns what the containers of a listing have, and those of engines that did not answer as they were last seen.
    pub(crate) fn holdings(&self, listing: &Listing) -> Vec<Holding> {
        let listed = listing.found.iter().map(|found| Holding::of(&found.container, self.machine));
        let silent = listing.unavailable.iter().flat_map(|silent| self.usage.of(&silent.runtime));
        listed.chain(silent.map(|(_, holding)| holding)).map(|holding| self.owned(holding)).collect()
    }

    /// Counts what was made under an earlier key of somebody to the key that stands for it now.
    fn owned(&self, holding: Holding) -> Holding {
        Holding { owner: holding.owner.map(|id| self.current(id)), ..holding }
    }

    /// Keeps room for a container that is to be started; nothing where it runs already.
    ///
    /// # Errors
    /// [`ServerError::OverTotal`](crate::ServerError::OverTotal), [`ServerError::State`](crate::ServerError::State).
    pub(crate) async fn room_to_start(&self, caller: &Caller, found: &Found) -> Result<Option<Room>> {
        match found.container.state {
            ContainerState::Running | ContainerState::Paused => return Ok(None),
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Removing
            | ContainerState::Unknown => {}
        }
        let wanted = self.owned(Holding::running(&found.container, self.machine));
        let turn = self.admission.one_at_a_time(&format!("start {}", wanted.name)).await;
        let owner = wanted.owner.unwrap_or_else(|| self.id());
        let ticket = self.admission.enter_to_start(wanted).await?;
        let listing = self.ours(&[]).await?;
        ticket.admit(&self.holdings(&listing), &self.frame(caller).scopes(owner)).await?;
        Ok(Some(Room { ticket, _turn: turn }))
    }

    /// Returns what all containers have and may have, and, to a member, the same of its own. Engines are asked at most
    /// every few seconds, whoever wants to know; while they are, what was last seen is told.
    pub(crate) async fn totals(&self, caller: &Caller) -> (TotalSpecs, Option<TotalSpecs>) {
        let used = self.used_now().await;
        let holdings: Vec<Holding> =
            used.into_values().flatten().map(|(_, holding)| self.owned(holding)).collect();
        let told = |scope: Scope| scope.told(holdings.iter());
        let frame = self.frame(caller);
        let host = Bounds::of_host(frame.limits, frame.totals);
        let own = match caller {
            Caller::Member(member) => {
                frame.scopes(member.id).into_iter().find(|scope| scope.whose == Whose::Member)
            }
            Caller::Host | Caller::Stranger(_) => None,
        };
        (told(Scope { whose: Whose::Host, owner: None, bounds: host }), own.map(told))
    }

    /// Returns the containers in each engine.
    pub(crate) async fn used_now(&self) -> BTreeMap<PluginName, Seen> {
        self.refresh_usage().await;
        self.usage.all()
    }

    /// Has the engines asked for their containers where that was some time ago.
    pub(crate) async fn refresh_usage(&self) {
        if let Ok(mut asked) = self.usage.asked.try_lock()
            && asked.is_none_or(|asked| asked.elapsed() >= FRESH)
        {
            *asked = Some(Instant::now());
            // What does not answer stays as it was last seen.
            let _ = tokio::time::timeout(LOOK, self.ours(&[])).await;
        }
    }
}
