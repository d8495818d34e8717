//! What the machine is and has, read from the system. A server reads it from time to time; in local use it is read
//! when somebody asks.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use gx_core::Timestamp;
use gx_core::api::{CpuSpecs, GpuSpecs, LimitSpecs, ServerSpecs, SpaceSpecs};
use gx_core::config::LimitConfig;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::Node;
use super::gpu;
use super::policy::Machine;

/// How often a server reads the machine.
const INTERVAL: Duration = Duration::from_secs(15);

/// The last sample of the machine.
#[derive(Debug, Default)]
pub(crate) struct Sampled(Mutex<Option<Sample>>);

/// What changes, and what is read together with it.
#[derive(Debug, Clone)]
struct Sample {
    cpu: CpuSpecs,
    memory: SpaceSpecs,
    disk: SpaceSpecs,
    load: [f64; 3],
    gpus: Vec<GpuSpecs>,
    at: Timestamp,
}

impl Node {
    /// Returns what this machine is and lends.
    pub async fn specs(&self) -> ServerSpecs {
        let (sample, runtimes) = tokio::join!(self.sample(), self.statuses());
        ServerSpecs {
            node_id: Some(self.id),
            version: self.version.clone(),
            hostname: System::host_name().unwrap_or_default(),
            platform: platform(),
            kernel: System::kernel_version().unwrap_or_default(),
            cpu: sample.cpu,
            memory: sample.memory,
            disk: sample.disk,
            load: sample.load,
            gpus: sample.gpus,
            runtimes,
            limits: limits(&self.limits, self.machine),
            sampled_at: Some(sample.at),
        }
    }

    /// Returns the machine's GPUs.
    pub(crate) async fn gpus(&self) -> Vec<GpuSpecs> {
        match self.sampled.get() {
            Some(sample) => sample.gpus,
            None => blocking(gpu::read).await,
        }
    }

    async fn sample(&self) -> Sample {
        match self.sampled.get() {
            Some(sample) => sample,
            None => read_aside(self.data.clone()).await,
        }
    }

    /// Samples the machine for ever.
    pub(crate) async fn keep_sampling(&self) {
        loop {
            let sample = read_aside(self.data.clone()).await;
            self.sampled.set(sample);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Sampled {
    fn get(&self) -> Option<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, sample: Sample) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
    }
}

/// Returns what the machine has, for the limits.
pub(crate) fn machine() -> Machine {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // What cannot be read is no limit.
    let memory_bytes = System::new_with_specifics(memory).map_or(u64::MAX, |system| system.total_memory());
    Machine { milli_cpus: threads.saturating_mul(1_000), memory_bytes }
}

/// Reads the machine on a thread that may wait: a driver or a file system can be slow.
async fn read_aside(data: PathBuf) -> Sample {
    blocking(move || read(&data)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("reading the machine does not panic")
}

fn read(data: &Path) -> Sample {
    let what = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(what)
        .inspect_err(|error| tracing::warn!(%error, "cannot read the CPUs and the memory"))
        .ok();
    let load = System::load_average().map_or([0.0; 3], |load| [load.one, load.five, load.fifteen]);
    let memory = |system: &System| SpaceSpecs {
        total_bytes: system.total_memory(),
        free_bytes: system.available_memory(),
    };
    Sample {
        cpu: system.as_ref().map(cpu).unwrap_or_default(),
        memory: system.as_ref().map(memory).unwrap_or_default(),
        disk: disk(data),
        load,
        gpus: gpu::read(),
        at: Timestamp::from_unix(Timestamp::from(SystemTime::now()).unix()),
    }
}

fn cpu(system: &System) -> CpuSpecs {
    let cpus = system.cpus();
    CpuSpecs {
        model: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
        cores: System::physical_core_count().unwrap_or(0) as u32,
        threads: cpus.len() as u32,
    }
}

fn disk(data: &Path) -> SpaceSpecs {
    match rustix::fs::statvfs(data) {
        Ok(space) => SpaceSpecs {
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        },
        Err(error) => {
            tracing::debug!(%error, "cannot read the size of the disk");
            SpaceSpecs::default()
        }
    }
}

/// Returns the platform as images name it, and the distribution.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let distribution = System::long_os_version().unwrap_or_default();
    format!("{}/{arch} {distribution}", std::env::consts::OS).trim_end().to_owned()
}

fn limits(limits: &LimitConfig, machine: Machine) -> LimitSpecs {
    LimitSpecs {
        containers: Some(limits.containers),
        milli_cpus: Some(limits.milli_cpus.unwrap_or(machine.milli_cpus)),
        memory_bytes: Some(limits.memory.map_or(machine.memory_bytes, |memory| memory.0)),
        pids: Some(limits.pids),
        gpus: None,
        ttl_s: limits.ttl.map(|ttl| ttl.0.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        let sample = read(Path::new("/"));
        assert!(sample.cpu.threads > 0);
        assert!(sample.memory.total_bytes > sample.memory.free_bytes);
        assert!(sample.disk.total_bytes >= sample.disk.free_bytes && sample.disk.total_bytes > 0);
        assert!(platform().starts_with("linux/"), "{}", platform());
    }
}
