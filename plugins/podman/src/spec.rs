//! From gx's spec to libpod's (`SpecGenerator` in Podman's pkg/specgen). Pure.

use std::collections::BTreeMap;

use gx_core::plugin::*;
use serde::Serialize;

use crate::network::Attached;

/// The label that keeps an image's name as it was asked for: Podman itself keeps only what it became
/// (`busybox` → `localhost/busybox:latest`). It is left out of what gx is told.
pub(crate) const ASKED_IMAGE: &str = "gx.podman.image";

/// The period over which CPU time is counted, in microseconds: the kernel's default, or, where the quota would be
/// below the kernel's least of 1 ms, its longest.
const CPU_PERIODS_US: [u64; 2] = [100_000, 1_000_000];

/// The body of a create.
#[derive(Debug, Serialize)]
pub(crate) struct SpecGenerator<'a> {
    name: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    env: &'a BTreeMap<String, String>,
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_dir: Option<&'a str>,
    create_working_dir: bool,
    terminal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<u32>,
    resource_limits: LinuxResources,
    portmappings: Vec<SpecPort>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<NamedVolume<'a>>,
    stdin: bool,
    devices: Vec<Device>,
    no_new_privileges: bool,
    cap_drop: &'static [&'static str],
    cap_add: &'a [String],
    read_only_filesystem: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    userns: Option<UserNamespace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idmappings: Option<IdMappings>,
    restart_policy: &'static str,
    log_configuration: LogConfiguration,
    /// Podman would hand the host's proxy, its password included, to every container.
    httpproxy: bool,
    /// Podman would treat an image whose command is `init` or systemd in a way of its own.
    systemd: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_opts: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    pub(crate) network: Attached<'a>,
}

/// With `auto` a container gets a range of ids that no other has (`podman create --userns`); the service passes over it
/// where the mappings do not say so too (4.3).
#[derive(Debug, PartialEq, Serialize)]
struct UserNamespace {
    nsmode: &'static str,
}

/// `IDMappingOptions` in containers/storage's types.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdMappings {
    auto_user_ns: bool,
    auto_user_ns_opts: AutoUserNsOptions,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AutoUserNsOptions {
    size: u32,
}

impl IdMappings {
    /// As many ids as a system has of its own: Podman would count those that the image names, and programs use others.
    const AUTO: Self = Self { auto_user_ns: true, auto_user_ns_opts: AutoUserNsOptions { size: 65_536 } };
}

#[derive(Debug, Default, Serialize)]
struct LinuxResources {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    pids: Pids,
}

#[derive(Debug, PartialEq, Serialize)]
struct Cpu {
    quota: u64,
    period: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    limit: u64,
    /// Memory and swap together.
    swap: u64,
}

#[derive(Debug, Default, Serialize)]
struct Pids {
    limit: i64,
}

#[derive(Debug, Serialize)]
struct SpecPort {
    container_port: u16,
    host_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_ip: Option<String>,
    protocol: String,
}

/// `specgen.NamedVolume`; without a name it is an anonymous one.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NamedVolume<'a> {
    name: &'a str,
    dest: &'a str,
    options: Vec<&'static str>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Device {
    path: String,
}

#[derive(Debug, Serialize)]
struct LogConfiguration {
    driver: &'static str,
    /// In bytes.
    size: u64,
}

impl<'a> SpecGenerator<'a> {
    /// Returns the body that asks for this container, with a log of at most so many bytes.
    pub(crate) fn new(spec: &'a ContainerSpec, log_max_bytes: u64) -> Self {
        let labels = spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let capabilities = spec.security.capabilities.as_deref();
        Self {
            name: spec.name.as_str(),
            image: spec.image.as_str(),
            entrypoint: spec.entrypoint.as_deref(),
            command: &spec.command,
            env: &spec.env,
            labels: labels.chain([(ASKED_IMAGE, spec.image.as_str())]).collect(),
            user: spec.user.as_deref(),
            work_dir: spec.workdir.as_deref(),
            create_working_dir: spec.workdir.is_some(),
            terminal: spec.tty,
            stop_timeout: spec.stop_grace_s,
            resource_limits: resources(&spec.resources),
            portmappings: spec.ports.iter().map(port).collect(),
            volumes: spec.mounts.iter().map(volume).collect(),
            stdin: spec.fed,
            devices: devices(&spec.gpus),
            no_new_privileges: spec.security.no_new_privileges,
            cap_drop: if capabilities.is_some() { &["ALL"] } else { &[] },
            cap_add: capabilities.unwrap_or_default(),
            read_only_filesystem: spec.security.read_only_root,
            userns: spec.security.user_namespace.then_some(UserNamespace { nsmode: "auto" }),
            idmappings: spec.security.user_namespace.then_some(IdMappings::AUTO),
            restart_policy: "no",
            log_configuration: LogConfiguration { driver: "k8s-file", size: log_max_bytes },
            httpproxy: false,
            systemd: "false",
            storage_opts: spec
                .resources
                .disk_bytes
                .map(|bytes| ("size", bytes.to_string()))
                .into_iter()
                .collect(),
            network: Attached::default(),
        }
    }
}

fn resources(resources: &Resources) -> LinuxResources {
    LinuxResources {
        cpu: resources.milli_cpus.map(cpu),
        memory: resources.memory_bytes.map(|limit| Memory { limit, swap: limit }),
        // Podman bounds to 2048 where nothing is said; -1 is no bound.
        pids: Pids { limit: resources.pids.map_or(-1, i64::from) },
    }
}

fn cpu(milli: u32) -> Cpu {
    let period = CPU_PERIODS_US[usize::from(milli < 10)];
    Cpu { quota: u64::from(milli.max(1)) * period / 1_000, period }
}

/// Every address is none to Podman: given as one, its rules would be about packets to 0.0.0.0 (netavark 1.4).
fn port(port: &PortRequest) -> SpecPort {
    SpecPort {
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port
            .host_address
            .filter(|address| !address.is_unspecified())
            .map(|address| address.to_string()),
        protocol: port.protocol.to_string(),
    }
}

fn volume(mount: &Mount) -> NamedVolume<'_> {
    let name = mount.volume.as_ref().map(AsRef::as_ref).unwrap_or_default();
    let access = if mount.read_only { "ro" } else { "rw" };
    NamedVolume { name, dest: &mount.path, options: vec![access, "nocopy"] }
}

/// Names GPUs as the Container Device Interface does: nvidia-ctk describes them by index, uuid or both, as it is told.
fn devices(gpus: &Gpus) -> Vec<Device> {
    let device = |which: &str| Device { path: format!("nvidia.com/gpu={which}") };
    match gpus {
        Gpus::None => Vec::new(),
        Gpus::All => vec![device("all")],
        Gpus::Count(count) => (0..*count).map(|index| device(&index.to_string())).collect(),
        Gpus::Ids(ids) => ids.iter().map(|id| device(id)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> ContainerSpec {
        ContainerSpec::new("gx-a".parse().unwrap(), "gx-busybox".parse().unwrap())
    }

    fn body(spec: &ContainerSpec) -> Value {
        serde_json::to_value(SpecGenerator::new(spec, 1_000)).unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_left_to_the_image() {
        let body = body(&spec());
        for key in ["entrypoint", "command", "user", "work_dir", "stop_timeout"] {
            assert!(body.get(key).is_none(), "{key}");
        }
        assert_eq!(body["no_new_privileges"], json!(true));
        assert_eq!(body["resource_limits"], json!({"pids": {"limit": -1}}));
        assert_eq!(body["log_configuration"], json!({"driver": "k8s-file", "size": 1000}));
    }

    #[test]
    fn a_container_has_users_of_its_own_where_that_is_asked_for() {
        assert!(body(&spec()).get("userns").is_none());
        let security = Security { user_namespace: true, ..Security::default() };
        let body = body(&ContainerSpec { security, ..spec() });
        assert_eq!(body["userns"], json!({"nsmode": "auto"}));
        let mappings = json!({"AutoUserNs": true, "AutoUserNsOpts": {"Size": 65_536}});
        assert_eq!(body["idmappings"], mappings);
    }

    #[test]
    fn an_empty_entry_point_is_not_the_images() {
        let body = body(&ContainerSpec { entrypoint: Some(Vec::new()), ..spec() });
        assert_eq!(body["entrypoint"], json!([]));
    }

    #[test]
    fn limits_are_those_of_the_kernel() {
        assert_eq!(cpu(1_500), Cpu { quota: 150_000, period: 100_000 });
        assert_eq!(cpu(1), Cpu { quota: 1_000, period: 1_000_000 });
        let resources =
            Resources { milli_cpus: None, memory_bytes: Some(64), pids: Some(5), ..Resources::default() };
        let body = body(&ContainerSpec { resources, ..spec() });
        assert_eq!(
            body["resource_limits"],
            json!({"memory": {"limit": 64, "swap": 64}, "pids": {"limit": 5}})
        );
    }

    #[test]
    fn a_port_on_every_address_names_none() {
        let body = |address: &str| {
            let asked = PortRequest { host_address: address.parse().ok(), ..port_request() };
            serde_json::to_value(port(&asked)).unwrap()
        };
        assert_eq!(body("127.0.0.1")["host_ip"], json!("127.0.0.1"));
        for every in ["0.0.0.0", "::"] {
            assert!(body(every).get("host_ip").is_none(), "{every}");
        }
    }

    fn port_request() -> PortRequest {
        "80".parse().unwrap()
    }

    #[test]
    fn capabilities_are_exactly_those_named() {
        let security = Security { capabilities: Some(vec!["CHOWN".into()]), ..Security::default() };
        let body = body(&ContainerSpec { security, ..spec() });
        assert_eq!((&body["cap_drop"], &body["cap_add"]), (&json!(["ALL"]), &json!(["CHOWN"])));
    }

    #[test]
    fn gpus_are_devices_of_the_container_device_interface() {
        let paths = |gpus: &Gpus| devices(gpus).into_iter().map(|device| device.path).collect::<Vec<_>>();
        assert_eq!(paths(&Gpus::All), ["nvidia.com/gpu=all"]);
        assert_eq!(paths(&Gpus::Count(2)), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert_eq!(paths(&Gpus::Ids(vec!["GPU-1a".into()])), ["nvidia.com/gpu=GPU-1a"]);
        assert!(paths(&Gpus::None).is_empty());
    }
}
