//! Which GPUs a container gets.
//!
//! The engines are the state here too: a container has the GPUs that its label names until it is removed, running or
//! not, so that it can always be started again. Whoever chooses does so alone, from the look at the labels until the
//! engine has the new container; then two never get the same one, in this process or in another on the data folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use gx_core::api::GpuSpecs;
use gx_core::config::LimitConfig;
use gx_core::container::label;
use gx_core::runtime::{ListFilter, list_all};
use gx_core::{Container, ContainerSpec, Gpus, NodeId, PluginName};

use super::caller::Caller;
use super::containers::{name_of, owner, timely};
use super::lock::{Turn, TurnLock};
use super::policy;
use super::runtimes::Runtimes;
use super::sample::Sampler;
use crate::error::{Result, ServerError};

/// How long another process may keep the turn: its engine makes a container meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request for GPUs, and all that is needed to choose them.
pub(super) struct GpuOrder {
    pub(super) asked: Gpus,
    pub(super) caller: Caller,
    /// The keys this node has had, and those of the caller.
    pub(super) hosts: Vec<NodeId>,
    pub(super) owners: Vec<NodeId>,
    /// The key of the request: what was made under it is the very container.
    pub(super) key: String,
    pub(super) limits: LimitConfig,
    pub(super) runtime: PluginName,
    pub(super) runtimes: Arc<Runtimes>,
    pub(super) sampler: Arc<Sampler>,
    /// Held from the choice until the engine has the container, so that nobody else chooses the same ones.
    pub(super) lock: TurnLock,
}

impl GpuOrder {
    /// Waits for the turn, chooses, and writes the choice into the spec. The turn is to be kept until the engine has
    /// the container.
    ///
    /// # Errors
    /// As [`look`](Self::look); [`ServerError::State`] when the turn cannot be had.
    pub(super) async fn settle(&self, mut spec: ContainerSpec) -> Result<(ContainerSpec, Turn)> {
        let turn = self.lock.take(PATIENCE).await?;
        spec.gpus = self.look().await?;
        spec.labels.insert(label::GPUS.to_owned(), spec.gpus.to_string());
        tracing::debug!(container = %spec.name, gpus = %spec.gpus, "chose GPUs");
        Ok((spec, turn))
    }

    /// Returns the GPUs that would be chosen now.
    ///
    /// # Errors
    /// [`ServerError::NoGpu`], [`ServerError::OverLimit`], [`ServerError::GpusTaken`];
    /// [`ServerError::GpusUnknown`] when the driver or an engine does not answer.
    pub(super) async fn look(&self) -> Result<Gpus> {
        let silent = || ServerError::GpusUnknown {
            why: "their driver does not answer".to_owned(),
            hint: Some("nvidia-smi on the host shows whether it hangs".to_owned()),
        };
        let (there, holders) = tokio::join!(self.sampler.gpus(), self.holders());
        let there = there.ok_or_else(silent)?;
        let holders = holders
            .map_err(|error| ServerError::GpusUnknown { hint: error.hint(), why: error.to_string() })?;
        if let Some(own) = holders.iter().find(|holder| holder.key.as_ref() == Some(&self.key)) {
            return Ok(own.gpus.clone());
        }
        choose(&self.asked, &there, &holders, &self.limits).map(Gpus::Ids)
    }

    /// Returns the containers that have GPUs, in every runtime this host has used. Those of another data folder count
    /// as well: the GPUs are the machine's.
    async fn holders(&self) -> Result<Vec<Holder>> {
        let mut names = self.runtimes.used()?;
        if !names.contains(&self.runtime) {
            names.push(self.runtime.clone());
        }
        let found = names.iter().map(|name| timely(name, self.holders_in(name)));
        Ok(try_join_all(found).await?.into_iter().flatten().collect())
    }

    async fn holders_in(&self, name: &PluginName) -> Result<Vec<Holder>> {
        let filter = ListFilter { labels: [(label::GPUS.to_owned(), None)].into(), ..ListFilter::default() };
        let runtime = self.runtimes.get(name).await?;
        let containers = list_all(&*runtime, filter).await.map_err(ServerError::of(name))?;
        Ok(containers.iter().filter_map(|container| self.holder(container)).collect())
    }

    fn holder(&self, container: &Container) -> Option<Holder> {
        let gpus: Gpus =
            container.labels.get(label::GPUS)?.parse().ok().filter(|gpus| *gpus != Gpus::None)?;
        let host: Option<NodeId> = container.labels.get(label::HOST).and_then(|host| host.parse().ok());
        let ours = host.is_some_and(|host| self.hosts.contains(&host));
        let seen = match &self.caller {
            Caller::Host => ours,
            Caller::Member(_) => ours && owner(container).is_some_and(|owner| self.owners.contains(&owner)),
            Caller::Stranger(_) => false,
        };
        Some(Holder {
            gpus,
            key: ours.then(|| container.labels.get(label::KEY).cloned()).flatten(),
            name: seen.then(|| name_of(container).to_owned()),
        })
    }
}

/// A container that has GPUs.
#[derive(Debug)]
struct Holder {
    gpus: Gpus,
    key: Option<String>,
    /// Its name, where the caller may know it.
    name: Option<String>,
}

impl Holder {
    /// Returns whether it has this GPU. What is not told by uuid may be any.
    fn has(&self, uuid: &str) -> bool {
        match &self.gpus {
            Gpus::None => false,
            Gpus::All | Gpus::Count(_) => true,
            Gpus::Ids(ids) => ids.iter().any(|id| id == uuid),
        }
    }
}

/// Chooses among the machine's GPUs: first those that no container has, then those that no process uses.
fn choose(asked: &Gpus, there: &[GpuSpecs], holders: &[Holder], limits: &LimitConfig) -> Result<Vec<String>> {
    let all: Vec<String> = there.iter().map(|gpu| gpu.uuid.clone()).collect();
    policy::check_gpus(asked, &all, limits)?;
    let count = |gpu: &GpuSpecs| holders.iter().filter(|holder| holder.has(&gpu.uuid)).count();
    let mut order: BTreeMap<_, &str> = BTreeMap::new();
    for gpu in there {
        let held = count(gpu);
        if held == 0 || limits.share_gpus {
            order.insert((held, gpu.processes.unwrap_or(0), gpu.index), &gpu.uuid);
        }
    }
    let free: Vec<&str> = order.into_values().collect();
    let chosen: Option<Vec<&str>> = match asked {
        Gpus::None => Some(Vec::new()),
        Gpus::All => (free.len() == there.len()).then(|| free.clone()),
        Gpus::Count(count) => free.get(..*count as usize).map(<[_]>::to_vec),
        Gpus::Ids(ids) => ids.iter().map(|id| free.iter().find(|uuid| *uuid == id).copied()).collect(),
    };
    match chosen {
        Some(chosen) => Ok(chosen.into_iter().map(str::to_owned).collect()),
        None => Err(taken(asked, free.len(), &all, holders)),
    }
}

fn taken(asked: &Gpus, free: usize, there: &[String], holders: &[Holder]) -> ServerError {
    let wanted: Vec<&String> = match asked {
        Gpus::Ids(ids) => ids.iter().collect(),
        Gpus::None | Gpus::All | Gpus::Count(_) => there.iter().collect(),
    };
    let in_the_way: Vec<&Holder> =
        holders.iter().filter(|holder| wanted.iter().any(|uuid| holder.has(uuid))).collect();
    let mut names: Vec<String> = in_the_way.iter().filter_map(|holder| holder.name.clone()).collect();
    names.sort();
    let others = in_the_way.len() - names.len();
    ServerError::GpusTaken { asked: asked.clone(), free, there: there.len(), names, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uuids: &[&str]) -> Vec<GpuSpecs> {
        let gpu = |(index, uuid): (usize, &&str)| GpuSpecs {
            index: index as u32,
            uuid: (*uuid).to_owned(),
            ..GpuSpecs::default()
        };
        uuids.iter().enumerate().map(gpu).collect()
    }

    fn holder(gpus: &str, name: Option<&str>) -> Holder {
        Holder { gpus: gpus.parse().unwrap(), key: None, name: name.map(str::to_owned) }
    }

    fn chosen(asked: &str, there: &[GpuSpecs], holders: &[Holder]) -> Result<Vec<String>> {
        choose(&asked.parse().unwrap(), there, holders, &LimitConfig::default())
    }

    #[test]
    fn what_somebody_has_is_not_given_again() {
        let there = machine(&["GPU-a", "GPU-b", "GPU-c"]);
        let holders = [holder("GPU-a", Some("train")), holder("none", None)];
        assert_eq!(chosen("1", &there, &holders).unwrap(), ["GPU-b"]);
        assert_eq!(chosen("2", &there, &holders).unwrap(), ["GPU-b", "GPU-c"]);
        assert_eq!(chosen("GPU-c,GPU-b", &there, &holders).unwrap(), ["GPU-c", "GPU-b"]);
        assert_eq!(chosen("all", &there, &[]).unwrap().len(), 3);
        for asked in ["3", "all", "GPU-a", "GPU-b,GPU-a"] {
            let error = chosen(asked, &there, &holders).unwrap_err();
            assert!(matches!(error, ServerError::GpusTaken { free: 2, there: 3, .. }), "{asked}: {error}");
        }
        assert!(chosen("1", &there, &[holder("all", None)]).is_err());
    }

    #[test]
    fn a_refusal_names_those_the_caller_may_know() {
        let there = machine(&["GPU-a", "GPU-b"]);
        let holders = [holder("GPU-a", Some("train")), holder("GPU-b", None)];
        let error = chosen("1", &there, &holders).unwrap_err();
        assert_eq!(error.to_string(), "1 GPU is asked for, and none of 2 is free");
        assert_eq!(
            error.hint().unwrap(),
            "a container has its GPUs until it is removed: train, and 1 that is not yours"
        );
        let error = chosen("GPU-b", &there, &holders).unwrap_err();
        assert_eq!(error.to_string(), "GPU-b is asked for, and it is not free");
        let error = chosen("all", &there, &holders[..1]).unwrap_err();
        assert_eq!(error.to_string(), "all GPUs are asked for, and 1 of 2 is free");
    }

    #[test]
    fn shared_gpus_are_given_evenly() {
        let limits = LimitConfig { share_gpus: true, ..LimitConfig::default() };
        let there = machine(&["GPU-a", "GPU-b"]);
        let mut holders = Vec::new();
        for expected in ["GPU-a", "GPU-b", "GPU-a", "GPU-b"] {
            let got = choose(&Gpus::Count(1), &there, &holders, &limits).unwrap();
            assert_eq!(got, [expected]);
            holders.push(holder(expected, None));
        }
        assert!(choose(&Gpus::Count(3), &there, &[], &limits).is_err());
    }

    #[test]
    fn one_that_no_process_uses_comes_first() {
        let mut there = machine(&["GPU-a", "GPU-b"]);
        there[0].processes = Some(2);
        assert_eq!(chosen("1", &there, &[]).unwrap(), ["GPU-b"]);
    }

    #[test]
    fn nobody_gets_more_than_the_limit() {
        let limits = LimitConfig { gpus: Some(1), ..LimitConfig::default() };
        let error = choose(&Gpus::All, &machine(&["GPU-a", "GPU-b"]), &[], &limits).unwrap_err();
        assert_eq!(error.to_string(), "a request of 2 GPUs is 1 GPU over the limit of this host, 1 GPU");
        assert!(error.hint().unwrap().contains("`gpus` in [server.limits]"));
    }
}
