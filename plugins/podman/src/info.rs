//! What the engine is, what it can do, and how it fares.

use std::path::Path;
use std::time::Duration;

use gx_core::plugin::*;
use gx_core::runtime::{has_project_quota, may_bound_disks};
use serde::Deserialize;

use crate::engine::Engine;
use crate::error;
use crate::service::{Service, ServiceError};

/// How long a healthy service may take to answer a ping; it takes about a millisecond.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// Returns what this runtime can do. What depends on the engine is read from the machine, as Podman runs here and as
/// this user, but for where it stores containers.
pub(crate) fn capabilities(store: Option<&Store>) -> Capabilities {
    use Feature as F;
    let always = [
        F::Pull,
        F::Images,
        F::Build,
        F::Signal,
        F::Exec,
        F::ExecTty,
        F::ExecCancel,
        F::Copy,
        F::Volumes,
        F::Feed,
        F::Events,
        F::Ports,
        F::Networks,
        F::Gpus,
        F::Processes,
    ];
    // Without root, cgroups of the first version are out of reach; Podman then runs containers without any.
    let with_cgroups = [F::Limits, F::Stats];
    let cgroups =
        rustix::process::getuid().is_root() || Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let disk = store.is_some_and(Store::bounds_disks).then_some(F::Disk);
    let users = has_ids_for_containers().then_some(F::UserNamespaces);
    always.into_iter().chain(with_cgroups.into_iter().filter(|_| cgroups)).chain(disk).chain(users).collect()
}

/// Returns whether there are ids to give to containers: those of the user `containers`, where Podman runs as root
/// (podman-create(1), `--userns=auto`).
fn has_ids_for_containers() -> bool {
    let given = |file: &str| lists(&std::fs::read_to_string(file).unwrap_or_default(), "containers");
    rustix::process::getuid().is_root() && given("/etc/subuid") && given("/etc/subgid")
}

/// Whether a subuid(5) has ids for a user.
fn lists(text: &str, user: &str) -> bool {
    text.lines().any(|line| line.split(':').next() == Some(user))
}

/// Returns whether Podman makes control groups itself, and may.
pub(crate) async fn makes_cgroups(engine: &Engine) -> Result<bool> {
    let host = asked(engine).await?.host;
    Ok(host.cgroup_manager == "cgroupfs" && !host.security.rootless)
}

/// Returns where a running engine stores containers, where that makes a difference: to say it the engine asks the
/// distribution's packages about its programs, which takes 0.3 s on Debian.
pub(crate) async fn store(engine: &Engine) -> Option<Store> {
    if !may_bound_disks(&mounts()) {
        return None;
    }
    Some(asked(engine).await.ok()?.store)
}

async fn asked(engine: &Engine) -> Result<Info> {
    engine.get_json("/info", &[]).await.map_err(|error| error::translated("info", &error))
}

/// Returns what the engine is.
pub(crate) async fn info(engine: &Engine, service: &Service) -> Result<RuntimeInfo> {
    let info = asked(engine).await?;
    let socket = service.socket().await;
    let own = socket.as_deref().is_some_and(|socket| service.is_own(socket));
    let notes = notes(&info, own);
    Ok(RuntimeInfo {
        backend: "podman".to_owned(),
        version: info.version.version,
        api_version: info.version.api_version,
        rootless: info.host.security.rootless,
        os: info.host.os,
        arch: info.host.arch,
        storage: info.store.graph_driver_name,
        endpoint: socket.map(|socket| format!("unix://{}", socket.display())).unwrap_or_default(),
        notes,
    })
}

fn notes(info: &Info, own: bool) -> Vec<String> {
    let host = &info.host;
    let first_cgroups = host.cgroup_version == "v1";
    let noted = [
        (own, "the service was started by gx and ends by itself when it is no longer used".to_owned()),
        (
            host.security.rootless && first_cgroups,
            "rootless on cgroup v1: limits of CPU, memory and processes do not hold, and there are no stats"
                .to_owned(),
        ),
        (
            host.security.rootless && !first_cgroups,
            "rootless: ports below 1024 cannot be published, and limits need cgroup delegation".to_owned(),
        ),
        (!host.oci_runtime.name.is_empty(), format!("containers are run by {}", host.oci_runtime.name)),
        (
            !host.cgroup_version.is_empty(),
            format!("cgroups {} by {}", host.cgroup_version, host.cgroup_manager),
        ),
    ];
    noted.into_iter().filter_map(|(holds, note)| holds.then_some(note)).collect()
}

/// Returns how the engine fares; one of the plugin's own is started for that.
pub(crate) async fn health(service: &Service) -> Health {
    let engine = match service.engine().await {
        Ok(engine) => engine,
        Err(error) => {
            let status = match error {
                ServiceError::NotInstalled(_) | ServiceError::NoAnswer(_) => HealthStatus::Undetected,
                _ => HealthStatus::Unhealthy,
            };
            return Health { status, why: error.to_string(), hint: Some(error.hint().to_owned()) };
        }
    };
    let unhealthy = |why: String| Health {
        status: HealthStatus::Unhealthy,
        why,
        hint: Some("start the service anew: systemctl restart podman.socket podman.service".to_owned()),
    };
    match tokio::time::timeout(PING_LIMIT, engine.podman().ping()).await {
        Ok(Ok(_)) => Health { status: HealthStatus::Healthy, why: String::new(), hint: None },
        Ok(Err(error)) => unhealthy(format!("podman answers a ping with an error: {error}")),
        Err(_) => unhealthy(format!("podman did not answer a ping within {} s", PING_LIMIT.as_secs())),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    host: Host,
    store: Store,
    version: Version,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Host {
    arch: String,
    os: String,
    cgroup_manager: String,
    cgroup_version: String,
    oci_runtime: OciRuntime,
    security: HostSecurity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OciRuntime {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HostSecurity {
    rootless: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Store {
    graph_driver_name: String,
    graph_root: String,
}

impl Store {
    /// Returns whether what a container writes can be bounded: with overlay only on XFS with project quotas
    /// (containers-storage.conf(5), `size`).
    fn bounds_disks(&self) -> bool {
        match self.graph_driver_name.as_str() {
            "btrfs" | "zfs" => true,
            "overlay" => has_project_quota(&mounts(), Path::new(&self.graph_root)),
            _ => false,
        }
    }
}

/// Returns what this process sees mounted.
fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    #[serde(rename = "APIVersion")]
    api_version: String,
    version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootless_is_told_with_what_it_means() {
        let mut info = Info::default();
        info.host.security.rootless = true;
        info.host.cgroup_version = "v1".to_owned();
        let notes = notes(&info, true);
        assert!(notes.iter().any(|note| note.contains("limits of CPU, memory and processes do not hold")));
        assert!(notes[0].contains("ends by itself"));
    }
}
