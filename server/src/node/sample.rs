//! What the machine is and has, read from the system. A server samples from time to time; in local use the
//! machine is read when somebody asks.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gx_core::Timestamp;
use gx_core::api::{CpuSpecs, GpuSpecs, SpaceSpecs};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::aside::Aside;
use super::nvml::Nvidia;
use super::policy::Machine;

/// How often a server samples.
const INTERVAL: Duration = Duration::from_secs(15);
/// How old a sample may be before whoever asks waits for a new one.
const FRESH: Duration = Duration::from_secs(45);

/// The machine at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) hostname: String,
    pub(crate) platform: String,
    pub(crate) kernel: String,
    pub(crate) cpu: CpuSpecs,
    pub(crate) memory: SpaceSpecs,
    pub(crate) disk: SpaceSpecs,
    pub(crate) load: [f64; 3],
    pub(crate) gpus: Vec<GpuSpecs>,
    /// When the machine was read; `None` when it does not answer.
    pub(crate) at: Option<Timestamp>,
}

/// Reads the machine, and its GPUs apart: their driver hangs more easily than the rest.
#[derive(Debug)]
pub(crate) struct Sampler {
    data: PathBuf,
    machine: Aside<Sample>,
    gpus: Aside<Vec<GpuSpecs>>,
    last: Mutex<Last>,
}

/// The last sample, and when it was whole.
#[derive(Debug, Clone, Default)]
struct Last {
    at: Option<Instant>,
    sample: Sample,
    /// Grows with each change of the sample.
    version: u64,
}

impl Sampler {
    /// Makes one that reads the size of the disk with this folder.
    pub(crate) fn new(data: &Path) -> Self {
        let (machine, gpus) = (Aside::new("gx-machine"), Aside::new("gx-nvml"));
        Self { data: data.to_owned(), machine, gpus, last: Mutex::default() }
    }

    /// Samples for ever.
    pub(crate) async fn keep(&self) {
        loop {
            self.now().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Returns the last sample while it is fresh, else a new one.
    pub(crate) async fn recent(&self) -> Sample {
        let Last { at, sample, .. } = self.last().clone();
        if is_fresh(at) { sample } else { self.now().await }
    }

    /// Reads the machine where the last sample is not fresh any more, and returns which sample there is now.
    pub(crate) async fn refresh(&self) -> u64 {
        let at = self.last().at;
        if !is_fresh(at) {
            self.now().await;
        }
        self.last().version
    }

    /// Reads the machine. What does not answer in time remains as it was, but GPUs that do not are none.
    async fn now(&self) -> Sample {
        tokio::join!(self.read_machine(), self.gpus());
        let mut last = self.last();
        last.at = Some(Instant::now());
        last.sample.clone()
    }

    async fn read_machine(&self) {
        let data = self.data.clone();
        match self.machine.read(move || move || read(&data)).await {
            Some(read) => {
                let mut last = self.last();
                let gpus = std::mem::take(&mut last.sample.gpus);
                last.sample = Sample { gpus, ..read };
                last.version += 1;
            }
            None => tracing::warn!("the machine cannot be read: a file system does not answer"),
        }
    }

    /// Reads the GPUs; `None` when their driver does not answer in time.
    pub(crate) async fn gpus(&self) -> Option<Vec<GpuSpecs>> {
        let nvidia = || {
            let mut nvidia = Nvidia::default();
            move || nvidia.read()
        };
        let gpus = self.gpus.read(nvidia).await;
        if gpus.is_none() {
            tracing::warn!("the driver of the GPUs does not answer");
        }
        let mut last = self.last();
        last.sample.gpus = gpus.clone().unwrap_or_default();
        last.version += 1;
        gpus
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at.elapsed() < FRESH)
}

/// Returns what the machine has, for the limits.
pub(crate) fn machine() -> Machine {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // What cannot be read is no limit.
    let memory_bytes = System::new_with_specifics(memory).map_or(u64::MAX, |system| system.total_memory());
    Machine { milli_cpus: threads.saturating_mul(1_000), memory_bytes }
}

fn read(data: &Path) -> Sample {
    let what = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(what)
        .inspect_err(|error| tracing::warn!(%error, "cannot read the CPUs and the memory"))
        .ok();
    let memory = |system: &System| SpaceSpecs {
        total_bytes: system.total_memory(),
        free_bytes: system.available_memory(),
    };
    Sample {
        hostname: System::host_name().unwrap_or_default(),
        platform: platform(),
        kernel: System::kernel_version().unwrap_or_default(),
        cpu: system.as_ref().map(cpu).unwrap_or_default(),
        memory: system.as_ref().map(memory).unwrap_or_default(),
        disk: disk(data),
        load: System::load_average().map_or([0.0; 3], |load| [load.one, load.five, load.fifteen]),
        gpus: Vec::new(),
        at: Some(Timestamp::from_unix(Timestamp::from(SystemTime::now()).unix())),
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
    let distribution = System::long_os_version().unwrap_or_default();
    format!("{} {distribution}", image_platform()).trim_end().to_owned()
}

/// Returns the platform of images whose programs run here without an emulator: `linux/amd64`.
pub(super) fn image_platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machine_is_read() {
        let sampler = Sampler::new(Path::new("/"));
        let sample = sampler.now().await;
        assert!(sample.cpu.threads > 0);
        assert!(sample.memory.total_bytes > sample.memory.free_bytes);
        assert!(sample.disk.total_bytes >= sample.disk.free_bytes && sample.disk.total_bytes > 0);
        assert!(sample.platform.starts_with("linux/"), "{}", sample.platform);
        assert!(!sample.hostname.is_empty() && !sample.kernel.is_empty());
    }

    #[tokio::test]
    async fn whoever_asks_soon_again_gets_the_same_sample() {
        let sampler = Sampler::new(Path::new("/"));
        sampler.recent().await;
        let first = sampler.last().at;
        sampler.recent().await;
        assert_eq!(sampler.last().at, first);
        sampler.now().await;
        assert_ne!(sampler.last().at, first);
    }
}
