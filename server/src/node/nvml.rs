//! NVIDIA's GPUs, by NVML. Without the driver's library there are none.
//!
//! The library is opened once and kept. It is opened anew after it failed as a whole, or lost a GPU: a driver may be
//! loaded, unloaded or replaced, and a GPU fall off the bus, at any time.

use std::collections::{BTreeMap, BTreeSet};

use gx_core::Gpus;
use gx_core::api::GpuSpecs;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

/// More GPUs than any machine has: a number beyond that is a fault of the driver.
const MAX_GPUS: u32 = 256;

/// The driver's library, and what was seen through it.
#[derive(Default)]
pub(super) struct Nvidia {
    open: Option<Nvml>,
    seen: BTreeSet<String>,
    /// Why there is no library, as it was last logged.
    fault: Option<String>,
    /// Why a GPU cannot be read, by its index, as it was last logged.
    silent: BTreeMap<u32, String>,
}

impl Nvidia {
    /// Reads all GPUs. One that does not tell its uuid, or is lost, is left out, as it could not be given to anybody;
    /// what else it does not tell is left out of its specs.
    pub(super) fn read(&mut self) -> Vec<GpuSpecs> {
        let kept = self.open.is_some();
        let mut read = self.list();
        if read.is_err() && kept {
            self.open = None;
            read = self.list();
        }
        let gpus = match read {
            Ok(gpus) => {
                self.fault = None;
                gpus
            }
            Err(error) => {
                self.open = None;
                self.complain(&error);
                Vec::new()
            }
        };
        self.compare(&gpus);
        gpus
    }

    fn list(&mut self) -> Result<Vec<GpuSpecs>, NvmlError> {
        let nvml = match self.open.take() {
            Some(nvml) => nvml,
            None => Nvml::init()?,
        };
        let driver = nvml.sys_driver_version().unwrap_or_default();
        let (mut gpus, mut silent, mut lost) = (Vec::new(), BTreeMap::new(), false);
        for index in 0..nvml.device_count()?.min(MAX_GPUS) {
            match nvml.device_by_index(index).and_then(|device| specs(index, &device, &driver)) {
                Ok(gpu) if is_word(&gpu.uuid) => gpus.push(gpu),
                Ok(gpu) => tracing::warn!(index, uuid = ?gpu.uuid, "a GPU has a strange uuid"),
                Err(error) => {
                    lost |= is_lost(&error);
                    silent.insert(index, error.to_string());
                }
            }
        }
        for (index, error) in &silent {
            if self.silent.get(index) != Some(error) {
                tracing::warn!(index, error, "cannot read a GPU");
            }
        }
        self.silent = silent;
        self.open = (!lost).then_some(nvml);
        Ok(gpus)
    }

    /// A machine without a driver is nothing to complain of.
    fn complain(&mut self, error: &NvmlError) {
        let fault = error.to_string();
        if self.fault.as_ref() == Some(&fault) {
            return;
        }
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
                tracing::debug!(fault, "no NVML");
            }
            _ => tracing::warn!(fault, "NVML does not tell the GPUs"),
        }
        self.fault = Some(fault);
    }

    fn compare(&mut self, gpus: &[GpuSpecs]) {
        let now: BTreeSet<String> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        for uuid in now.difference(&self.seen) {
            tracing::info!(uuid, "a GPU is there");
        }
        for uuid in self.seen.difference(&now) {
            tracing::warn!(uuid, "a GPU is gone");
        }
        self.seen = now;
    }
}

/// Returns whether a text can be asked for as a uuid.
fn is_word(uuid: &str) -> bool {
    matches!(uuid.parse(), Ok(Gpus::Ids(ids)) if ids.len() == 1)
}

/// Returns whether NVML has to be opened anew before the GPU can be read again.
fn is_lost(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch
    )
}

fn specs(index: u32, device: &Device<'_>, driver: &str) -> Result<GpuSpecs, NvmlError> {
    let uuid = device.uuid()?;
    let memory = told(device.memory_info())?;
    let clock = |clock| told(device.clock_info(clock));
    let fastest = |clock| told(device.max_clock_info(clock));
    let computing = told(device.running_compute_processes_count())?;
    let drawing = told(device.running_graphics_processes_count())?;
    Ok(GpuSpecs {
        index,
        uuid,
        name: told(device.name())?.unwrap_or_default(),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used),
        utilisation_percent: told(device.utilization_rates())?.map(|rates| rates.gpu),
        temperature_celsius: told(device.temperature(TemperatureSensor::Gpu))?,
        graphics_clock_mhz: clock(Clock::Graphics)?,
        graphics_clock_max_mhz: fastest(Clock::Graphics)?,
        memory_clock_mhz: clock(Clock::Memory)?,
        memory_clock_max_mhz: fastest(Clock::Memory)?,
        processes: match (computing, drawing) {
            (None, None) => None,
            (computing, drawing) => Some(computing.unwrap_or(0).saturating_add(drawing.unwrap_or(0))),
        },
        driver: driver.to_owned(),
    })
}

/// Returns what a GPU tells; of one that is lost nothing can be told.
fn told<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_lost(&error) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "a GPU leaves something out");
            Ok(None)
        }
    }
}
