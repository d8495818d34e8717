//! The check of the GPUs: whether Podman can hand over those that the driver tells. Whether Docker can shows only when
//! a container starts.

use std::path::Path;

use gx_core::api::GpuSpecs;

use super::{Check, Verdict};

/// Where Podman looks for descriptions of devices (Container Device Interface).
const DESCRIPTIONS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Checks the GPUs of this machine, where it has any.
pub(super) fn gpus(gpus: &[GpuSpecs], podman: bool) -> Option<Check> {
    let driver = &gpus.first()?.driver;
    let missing: Vec<&str> = match podman {
        true => undescribed(gpus, &DESCRIPTIONS.map(Path::new)),
        false => Vec::new(),
    };
    if missing.is_empty() {
        return Some(Check::ok("gpus", format!("{} with the driver {driver}", gpus.len())));
    }
    let what = format!("podman has no description of {}", missing.join(", "));
    Some(Check::new("gpus", Verdict::Warn, what).hint(Some(
        "nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml".to_owned(),
    )))
}

/// Returns the GPUs that no file in these folders names.
fn undescribed<'g>(gpus: &'g [GpuSpecs], folders: &[&Path]) -> Vec<&'g str> {
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let texts: Vec<String> = files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let named = |uuid: &str| texts.iter().any(|text| text.contains(uuid));
    gpus.iter().map(|gpu| gpu.uuid.as_str()).filter(|uuid| !named(uuid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_no_file_names_is_told() {
        let gpu = |uuid: &str| GpuSpecs { uuid: uuid.to_owned(), ..GpuSpecs::default() };
        let (both, folder) = ([gpu("GPU-a"), gpu("GPU-b")], tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("nvidia.yaml"), "devices:\n- name: GPU-a\n").unwrap();
        let folders = [Path::new("/nonexistent"), folder.path()];
        assert_eq!(undescribed(&both, &folders), ["GPU-b"]);
        assert_eq!(undescribed(&both[..1], &folders), Vec::<&str>::new());
        assert!(gpus(&[], true).is_none());
    }
}
