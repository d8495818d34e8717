//! What this machine is and lends, put together from what is known already: the last sample, and what is remembered of
//! the engines. A server does no work for a request.

use gx_core::api::{LimitSpecs, ServerSpecs};
use gx_core::config::LimitConfig;

use super::Node;
use super::caller::Caller;
use super::policy::Machine;

impl Node {
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
