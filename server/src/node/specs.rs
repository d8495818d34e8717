//! What this machine is and lends, put together from what is known already: the last sample, and what is remembered of
//! the engines. A server does no work for a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gx_core::NodeId;
use gx_core::api::{LimitSpecs, ServerSpecs};
use gx_core::config::LimitConfig;
use gx_core::member::Member;

use super::Node;
use super::caller::Caller;
use super::policy::Machine;

/// How many callers' answers are kept.
const KEPT: usize = 256;

/// The specs as they were told, for as long as nothing of them changes: anybody may ask, as often as they like.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Option<NodeId>, Answer>>);

#[derive(Debug)]
struct Answer {
    of: State,
    member: Option<Arc<Member>>,
    json: Bytes,
}

/// Which state of everything that the specs are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    sample: u64,
    usage: u64,
    runtimes: u64,
}

impl Told {
    /// Returns what was told, where it holds still. A member whose allowance has changed is another value in memory.
    fn again(&self, member: Option<&Arc<Member>>, now: State) -> Option<Bytes> {
        let answers = self.answers();
        let answer = answers.get(&member.map(|member| member.id))?;
        let same = match (&answer.member, member) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        (same && answer.of == now).then(|| answer.json.clone())
    }

    fn keep(&self, member: Option<&Arc<Member>>, of: State, json: Bytes) {
        let mut answers = self.answers();
        if answers.len() >= KEPT {
            answers.clear();
        }
        let answer = Answer { of, member: member.cloned(), json };
        answers.insert(member.map(|member| member.id), answer);
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Option<NodeId>, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Returns the [`specs`](Node::specs) as JSON. A plugin that was installed meanwhile is there with the next sample.
    pub(crate) async fn specs_as_json(&self, caller: &Caller) -> Bytes {
        let member = match caller {
            Caller::Member(member) => Some(member),
            Caller::Host | Caller::Stranger(_) => None, // are told the same
        };
        let (sample, ()) = tokio::join!(self.sampler.refresh(), self.refresh_usage());
        let runtimes = self.watched.version();
        let now = runtimes.map(|runtimes| State { sample, usage: self.usage.version(), runtimes });
        if let Some(json) = now.and_then(|now| self.told.again(member, now)) {
            return json;
        }
        let specs = self.specs(caller).await;
        let json = Bytes::from(serde_json::to_vec(&specs).expect("our own types always become JSON"));
        // What has changed meanwhile makes the next one ask for another state.
        now.into_iter().for_each(|now| self.told.keep(member, now, json.clone()));
        json
    }

    /// Returns what this machine is and lends, and to a member what of it is theirs.
    pub async fn specs(&self, caller: &Caller) -> ServerSpecs {
        let (sample, runtimes, (totals, allowance)) =
            tokio::join!(self.sampler.recent(), self.remembered_statuses(), self.totals(caller));
        ServerSpecs {
            node_id: Some(self.id()),
            version: self.version.clone(),
            hostname: sample.hostname,
            platform: sample.platform,
            kernel: sample.kernel,
            cpu: sample.cpu,
            memory: sample.memory,
            disk: sample.disk,
            load: sample.load,
            gpus: sample.gpus,
            runtimes,
            limits: limits(&self.limits, self.machine),
            totals,
            allowance,
            sampled_at: sample.at,
        }
    }

    /// Samples the machine for ever.
    pub(crate) async fn keep_sampling(&self) {
        self.sampler.keep().await;
    }
}

fn limits(limits: &LimitConfig, machine: Machine) -> LimitSpecs {
    LimitSpecs {
        containers: Some(limits.containers),
        milli_cpus: Some(limits.milli_cpus.unwrap_or(machine.milli_cpus)),
        memory_bytes: Some(limits.memory.map_or(machine.memory_bytes, |memory| memory.0)),
        pids: Some(limits.pids),
        gpus: limits.gpus,
        disk_bytes: limits.disk.map(|disk| disk.0),
        ports: limits.container_ports,
        share_gpus: limits.share_gpus,
        ttl_s: limits.ttl.map(|ttl| ttl.0.as_secs()),
    }
}
