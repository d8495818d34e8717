//! Whether the engines are well. A server asks from time to time and remembers; in local use they are asked when
//! somebody wants to know.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use gx_core::PluginName;
use gx_core::api::RuntimeStatus;
use gx_core::runtime::{Capabilities, Health, HealthStatus};
use tokio::sync::watch;

use super::Node;
use super::caller::{Caller, Verb, authorize};
use super::containers::{PATIENCE, timely};
use super::network;
use crate::error::{Result, ServerError};

/// How long a healthy engine is left alone.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon an engine that is not well is asked again, doubling up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(120);

/// What is remembered of the engines that are watched, `None` before the first answer; empty unless a server runs.
#[derive(Debug, Default)]
pub(crate) struct Watched(watch::Sender<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    engines: BTreeMap<PluginName, Option<RuntimeStatus>>,
    /// Grows with each change.
    version: u64,
}

impl Watched {
    fn get(&self, name: &PluginName) -> Option<RuntimeStatus> {
        self.0.borrow().engines.get(name).cloned().flatten()
    }

    /// Returns which state of it this is, where engines are watched and all have answered.
    pub(crate) fn version(&self) -> Option<u64> {
        let all = self.0.borrow();
        let known = !all.engines.is_empty() && all.engines.values().all(Option::is_some);
        known.then_some(all.version)
    }

    fn begin(&self, name: &PluginName) {
        self.0.send_modify(|all| _ = all.engines.entry(name.clone()).or_default());
    }

    /// Remembers the state of an engine, where it is watched.
    fn set(&self, status: RuntimeStatus) {
        self.0.send_if_modified(|all| match all.engines.get_mut(&status.name) {
            Some(known) => {
                *known = Some(status);
                all.version += 1;
                true
            }
            None => false,
        });
    }

    /// Returns what is remembered of an engine, after its first answer; `None` when it is not watched.
    async fn first(&self, name: &PluginName) -> Option<RuntimeStatus> {
        let mut changes = self.0.subscribe();
        if !changes.borrow().engines.contains_key(name) {
            return None;
        }
        let answered = changes.wait_for(|all| all.engines.get(name).is_some_and(Option::is_some));
        let _ = tokio::time::timeout(PATIENCE, answered).await; // whether it came shows in the next line
        Some(self.get(name).unwrap_or_else(|| unanswered(name)))
    }
}

fn unanswered(name: &PluginName) -> RuntimeStatus {
    RuntimeStatus {
        name: name.clone(),
        default: false,
        health: Health { status: HealthStatus::Unhealthy, why: "no answer yet".to_owned(), hint: None },
        info: None,
        capabilities: Capabilities::default(),
    }
}

impl Node {
    /// Returns the state of every enabled runtime, by name; the first healthy one is the default.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`].
    pub async fn runtimes(&self, caller: &Caller) -> Result<Vec<RuntimeStatus>> {
        authorize(caller, Verb::Look, None)?;
        let names = self.runtimes.names();
        Ok(with_default(join_all(names.iter().map(|name| self.known_status(name))).await))
    }

    /// As [`runtimes`](Self::runtimes), without asking an engine that is watched: anybody may want the specs, as often
    /// as they like.
    pub(crate) async fn remembered_statuses(&self) -> Vec<RuntimeStatus> {
        let names = self.runtimes.names();
        let remembered = names.iter().map(async |name| match self.watched.first(name).await {
            Some(status) => status,
            None => self.ask_status(name).await,
        });
        with_default(join_all(remembered).await)
    }

    /// Returns the runtime asked for, or the first healthy one.
    ///
    /// # Errors
    /// [`ServerError::UnknownRuntime`], [`ServerError::NoHealthyRuntime`] with the reasons.
    pub(crate) async fn runtime_or_default(&self, asked: Option<PluginName>) -> Result<PluginName> {
        if let Some(name) = asked {
            let known = self.runtimes.names();
            return if known.contains(&name) {
                Ok(name)
            } else {
                Err(ServerError::UnknownRuntime { name, known })
            };
        }
        let (mut why, mut hint) = (Vec::new(), None);
        for name in self.runtimes.names() {
            let health = match self.watched.get(&name).filter(is_healthy) {
                Some(status) => status.health,
                None => self.health_of(&name).await,
            };
            if health.status == HealthStatus::Healthy {
                return Ok(name);
            }
            hint = hint.or(health.hint);
            why.push((name, health.why));
        }
        Err(ServerError::NoHealthyRuntime { why, hint })
    }

    /// Returns what is remembered; who is not known to be well is asked, for it may have come back.
    async fn known_status(&self, name: &PluginName) -> RuntimeStatus {
        match self.watched.get(name).filter(is_healthy) {
            Some(status) => status,
            None => {
                let status = self.ask_status(name).await;
                self.watched.set(status.clone());
                status
            }
        }
    }

    async fn ask_status(&self, name: &PluginName) -> RuntimeStatus {
        let mut status = RuntimeStatus {
            name: name.clone(),
            default: false,
            health: self.health_of(name).await,
            info: None,
            capabilities: Capabilities::default(),
        };
        if let Ok(runtime) = self.runtimes.get(name).await {
            status.capabilities = self.runtimes.ask_capabilities(name).await.unwrap_or_default();
            if is_healthy(&status) {
                let info = async { runtime.info().await.map_err(ServerError::of(name)) };
                status.info = timely(name, info).await.ok();
            } else {
                self.runtimes.forget_capabilities(name);
            }
        }
        status
    }

    async fn health_of(&self, name: &PluginName) -> Health {
        let answer = timely(name, async {
            let runtime = self.runtimes.get(name).await?;
            runtime.health().await.map_err(ServerError::of(name))
        });
        answer.await.unwrap_or_else(|error| Health {
            status: HealthStatus::Unhealthy,
            why: error.to_string(),
            hint: error.hint(),
        })
    }

    /// Watches one engine for ever. Whenever it has become healthy, what a crash may have left in it is cleared up.
    pub(crate) async fn watch(&self, name: &PluginName) {
        let mut pause = INTERVAL;
        let (mut was_healthy, mut tended) = (false, false);
        self.watched.begin(name);
        loop {
            let status = self.ask_status(name).await;
            let healthy = is_healthy(&status);
            if healthy != was_healthy {
                tracing::info!(runtime = %name, healthy, why = status.health.why, "the engine's health has changed");
            }
            self.watched.set(status);
            pause = match healthy {
                true => INTERVAL,
                false if was_healthy || pause == INTERVAL => BACKOFF_MIN,
                false => (pause * 2).min(BACKOFF_MAX),
            };
            tended = healthy && self.tend(name, !(was_healthy && tended)).await;
            was_healthy = healthy;
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks after the containers in an engine: clears up after a crash when it has just come (back), and learns of
    /// leases that other processes have given. Returns whether it could.
    async fn tend(&self, name: &PluginName, came_back: bool) -> bool {
        if came_back {
            match self.recover_in(name).await {
                Ok(report) if report.removed.is_empty() => {}
                Ok(report) => {
                    tracing::info!(runtime = %name, removed = report.removed.len(), "cleared up after a crash")
                }
                Err(error) => {
                    tracing::warn!(runtime = %name, %error, "cannot clear up");
                    return false;
                }
            }
        }
        if !self.runtimes.used().is_ok_and(|used| used.contains(name)) {
            return true;
        }
        let listing = self.ours_in(std::slice::from_ref(name), &[]).await;
        if listing.found.iter().any(|found| network::name_of(&found.container).is_some()) {
            if let Err(error) = self.firewall.ensure().await {
                tracing::error!(%error, hint = error.hint(), "members' containers are not closed off");
            }
        } else if self.firewall.is_written().await || (came_back && self.firewall.stands().await) {
            self.drop_firewall().await;
        }
        for found in listing.found {
            let told = self.told(&found.name, found.container);
            self.leases.learn(&told);
            self.idle.learn(&told);
        }
        listing.unavailable.is_empty()
    }
}

fn with_default(mut all: Vec<RuntimeStatus>) -> Vec<RuntimeStatus> {
    if let Some(first) = all.iter_mut().find(|status| is_healthy(status)) {
        first.default = true;
    }
    all
}

fn is_healthy(status: &RuntimeStatus) -> bool {
    status.health.status == HealthStatus::Healthy
}
