//! What the machine is and has, read from the system on a thread of its own: a driver or a file system may hang, and
//! then nothing else must.
//!
//! A server samples from time to time; in local use the machine is read when somebody asks.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gx_core::Timestamp;
use gx_core::api::{CpuSpecs, GpuSpecs, SpaceSpecs};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tokio::sync::oneshot;

use super::nvml::Nvidia;
use super::policy::Machine;

/// How often a server samples.
const INTERVAL: Duration = Duration::from_secs(15);
/// How old a sample may be before whoever asks waits for a new one.
const FRESH: Duration = Duration::from_secs(45);
/// How long a new sample is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may wait for a new sample at a time.
const WAITING_MAX: usize = 64;

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
    /// When all this was read; `None` when the machine does not answer.
    pub(crate) at: Option<Timestamp>,
}

type Ask = oneshot::Sender<Sample>;

/// Reads the machine. The thread begins with the first sample and ends with this.
#[derive(Debug)]
pub(crate) struct Sampler {
    data: PathBuf,
    asks: OnceLock<SyncSender<Ask>>,
    last: Mutex<Option<(Instant, Sample)>>,
}

impl Sampler {
    /// Makes one that reads the size of the disk with this folder.
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), asks: OnceLock::new(), last: Mutex::default() }
    }

    /// Samples for ever.
    pub(crate) async fn keep(&self) {
        loop {
            if self.now().await.is_none() {
                tracing::warn!("the machine cannot be read: a driver or a file system does not answer");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Returns the last sample while it is fresh; else a new one, or what there is when the machine does not answer.
    pub(crate) async fn recent(&self) -> Sample {
        let last = self.last();
        match last {
            Some((at, sample)) if at.elapsed() < FRESH => sample,
            last => self.now().await.or(last.map(|(_, sample)| sample)).unwrap_or_default(),
        }
    }

    /// Reads the machine; `None` when it does not answer in time.
    pub(crate) async fn now(&self) -> Option<Sample> {
        let (answer, answered) = oneshot::channel();
        self.asks.get_or_init(|| start(self.data.clone())).try_send(answer).ok()?;
        let sample = tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), sample.clone()));
        Some(sample)
    }

    fn last(&self) -> Option<(Instant, Sample)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn start(data: PathBuf) -> SyncSender<Ask> {
    let (sender, asks) = mpsc::sync_channel(WAITING_MAX);
    let thread = std::thread::Builder::new().name("gx-sample".to_owned());
    if let Err(error) = thread.spawn(move || answer(&asks, &data)) {
        tracing::warn!(%error, "no thread to read the machine with");
    }
    sender
}

/// Answers all who ask by the time a sample begins with that one.
fn answer(asks: &Receiver<Ask>, data: &Path) {
    let mut nvidia = Nvidia::default();
    while let Ok(first) = asks.recv() {
        let waiting: Vec<Ask> = std::iter::once(first).chain(asks.try_iter()).collect();
        if waiting.iter().all(Ask::is_closed) {
            continue;
        }
        let sample = read(data, &mut nvidia);
        for ask in waiting {
            let _ = ask.send(sample.clone()); // who is gone needs no answer
        }
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

fn read(data: &Path, nvidia: &mut Nvidia) -> Sample {
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
        gpus: nvidia.read(),
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
        let sample = sampler.now().await.unwrap();
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
        let (first, _) = sampler.last().unwrap();
        sampler.recent().await;
        assert_eq!(sampler.last().unwrap().0, first);
        sampler.now().await.unwrap();
        assert_ne!(sampler.last().unwrap().0, first);
    }

    #[tokio::test]
    async fn whoever_asks_when_too_many_wait_is_not_held_up() {
        let sampler = Sampler::new(Path::new("/"));
        let (sender, _asks) = mpsc::sync_channel(0); // nobody is there to take it
        sampler.asks.set(sender).unwrap();
        assert!(sampler.now().await.is_none());
        assert_eq!(sampler.recent().await.at, None);
    }
}
