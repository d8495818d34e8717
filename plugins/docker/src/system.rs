//! The engine itself: what it is, what it can do, and whether it is well.

use std::path::Path;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use gx_core::ErrorCode;
use gx_core::runtime::{Capabilities, Feature, Health, HealthStatus, RuntimeInfo, has_project_quota};

use crate::config::Endpoint;
use crate::engine::Engine;
use crate::kill;

/// What every engine can do.
const ALWAYS: [Feature; 15] = [
    Feature::Pull,
    Feature::Images,
    Feature::Build,
    Feature::Signal,
    Feature::Exec,
    Feature::ExecTty,
    Feature::Copy,
    Feature::Volumes,
    Feature::Feed,
    Feature::Stats,
    Feature::Events,
    Feature::Ports,
    Feature::Networks,
    Feature::BuildsApart,
    Feature::Processes,
];

/// Returns what this engine can do; of one that is down, what Docker can where it has its usual rights.
pub(crate) async fn capabilities(engine: &Engine) -> Capabilities {
    let info = engine.docker.info().await.ok();
    let limits = info.as_ref().is_none_or(|info| {
        [info.memory_limit, info.cpu_cfs_quota, info.pids_limit].iter().all(|limit| *limit == Some(true))
    });
    let mut capabilities: Capabilities = ALWAYS.into_iter().collect();
    if limits {
        capabilities.features.extend([Feature::Limits, Feature::OomReport]);
    }
    if info.as_ref().is_some_and(bounds_disks) {
        capabilities.features.insert(Feature::Disk);
    }
    if info.as_ref().is_some_and(remaps_users) {
        capabilities.features.insert(Feature::UserNamespaces);
    }
    // Whether there are GPUs, and the driver's hook, shows only when a container starts.
    capabilities.features.insert(Feature::Gpus);
    if kill::holds(engine).await {
        capabilities.features.insert(Feature::ExecCancel);
    }
    capabilities
}

/// Returns whether the engine can bound what a container writes: with overlay2 only on XFS with project quotas, which
/// the engine does not tell, so the machine's mounts are read (docs.docker.com, `docker run --storage-opt`).
fn bounds_disks(info: &SystemInfo) -> bool {
    match (info.driver.as_deref(), &info.docker_root_dir) {
        (Some("btrfs" | "zfs"), _) => true,
        (Some("overlay2"), Some(root)) => {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            has_project_quota(&mounts, Path::new(root))
        }
        _ => false,
    }
}

/// Returns whether the users of all containers are others than the machine's, by `userns-remap` or as the engine runs
/// without root.
pub(crate) fn remaps_users(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options.into_iter().any(|option| ["name=userns", "name=rootless"].contains(&option.as_str()))
}

/// Returns what the engine is.
pub(crate) async fn info(engine: &Engine) -> Result<RuntimeInfo, gx_core::RuntimeError> {
    let (info, version) = tokio::join!(engine.docker.info(), engine.docker.version());
    let info = info.map_err(|error| engine.error(error))?;
    let version = version.map_err(|error| engine.error(error))?;
    let options = info.security_options.as_deref().unwrap_or_default();
    Ok(RuntimeInfo {
        backend: "docker".to_owned(),
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        rootless: options.iter().any(|option| option == "name=rootless"),
        os: version.os.unwrap_or_default(),
        arch: version.arch.unwrap_or_default(),
        storage: info.driver.clone().unwrap_or_default(),
        endpoint: engine.endpoint.to_string(),
        notes: notes(&info),
    })
}

fn notes(info: &SystemInfo) -> Vec<String> {
    let groups = match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_1) => "control groups: version 1",
        Some(SystemInfoCgroupVersionEnum::_2) => "control groups: version 2",
        _ => "control groups: unknown",
    };
    let warnings = info.warnings.iter().flatten().map(|warning| {
        let text = warning.strip_prefix("WARNING: ").unwrap_or(warning);
        format!("the engine warns: {text}")
    });
    std::iter::once(groups.to_owned()).chain(warnings).collect()
}

/// Returns whether the engine is there and well.
pub(crate) async fn health(engine: &Engine) -> Health {
    let Err(error) = engine.docker.ping().await else {
        return Health { status: HealthStatus::Healthy, why: String::new(), hint: None };
    };
    let error = engine.error(error);
    let no_socket =
        matches!(&engine.endpoint, Endpoint::Unix(paths) if !paths.iter().any(|path| path.exists()));
    let undetected = error.code == ErrorCode::Unavailable && no_socket;
    let status = if undetected { HealthStatus::Undetected } else { HealthStatus::Unhealthy };
    Health { status, why: error.message, hint: error.hint }
}
