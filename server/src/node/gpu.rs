//! NVIDIA's GPUs, by NVML. Without the driver's library there are none.

use gx_core::api::GpuSpecs;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

/// Reads all GPUs; one that does not answer is left out.
pub(crate) fn read() -> Vec<GpuSpecs> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(error) => {
            tracing::trace!(%error, "no NVML");
            return Vec::new();
        }
    };
    let driver = nvml.sys_driver_version().unwrap_or_default();
    let count = nvml.device_count().unwrap_or(0);
    let one = |index| {
        let read = nvml.device_by_index(index).and_then(|device| specs(index, &device, &driver));
        read.inspect_err(|error| tracing::warn!(index, %error, "cannot read a GPU")).ok()
    };
    (0..count).filter_map(one).collect()
}

fn specs(index: u32, device: &Device<'_>, driver: &str) -> Result<GpuSpecs, NvmlError> {
    let memory = device.memory_info()?;
    Ok(GpuSpecs {
        index,
        name: device.name()?,
        uuid: device.uuid()?,
        memory_total_bytes: memory.total,
        memory_used_bytes: memory.used,
        utilisation_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        driver: driver.to_owned(),
    })
}
