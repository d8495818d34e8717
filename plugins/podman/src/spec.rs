//! From gx's spec to libpod's, and from libpod's answers to gx's. Pure.
//!
//! libpod's side: `SpecGenerator` in Podman's pkg/specgen, and `InspectContainerData` in libpod/define.

use std::collections::BTreeMap;

use gx_core::plugin::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The label that keeps an image's name as it was asked for: Podman itself keeps only what it became
/// (`busybox` → `localhost/busybox:latest`). It is left out of what gx is told.
const ASKED_IMAGE: &str = "gx.podman.image";

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
    devices: Vec<Device>,
    no_new_privileges: bool,
    cap_drop: &'static [&'static str],
    cap_add: &'a [String],
    read_only_filesystem: bool,
    restart_policy: &'static str,
    log_configuration: LogConfiguration,
    /// Podman would hand the host's proxy, its password included, to every container.
    httpproxy: bool,
    /// Podman would treat an image whose command is `init` or systemd in a way of its own.
    systemd: &'static str,
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
            devices: devices(&spec.gpus),
            no_new_privileges: spec.security.no_new_privileges,
            cap_drop: if capabilities.is_some() { &["ALL"] } else { &[] },
            cap_add: capabilities.unwrap_or_default(),
            read_only_filesystem: spec.security.read_only_root,
            restart_policy: "no",
            log_configuration: LogConfiguration { driver: "k8s-file", size: log_max_bytes },
            httpproxy: false,
            systemd: "false",
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

fn port(port: &PortRequest) -> SpecPort {
    SpecPort {
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_address.map(|address| address.to_string()),
        protocol: port.protocol.to_string(),
    }
}

/// Names GPUs as the Container Device Interface does: nvidia-ctk describes each by index and by uuid.
fn devices(gpus: &Gpus) -> Vec<Device> {
    let device = |which: &str| Device { path: format!("nvidia.com/gpu={which}") };
    match gpus {
        Gpus::None => Vec::new(),
        Gpus::All => vec![device("all")],
        Gpus::Count(count) => (0..*count).map(|index| device(&index.to_string())).collect(),
        Gpus::Ids(ids) => ids.iter().map(|id| device(id)).collect(),
    }
}

/// A container as inspect answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    id: String,
    name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    image_name: String,
    pub(crate) state: State,
    config: InspectedConfig,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: NetworkSettings,
}

/// A container's state as inspect answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct State {
    status: String,
    exit_code: i32,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    pub(crate) pid: i32,
    started_at: String,
    finished_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedConfig {
    labels: Option<BTreeMap<String, String>>,
    /// A number in Podman 4, a name in Podman 5.
    stop_signal: Value,
    stop_timeout: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    memory: u64,
    log_config: LogConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    r#type: String,
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<HostPort>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostPort {
    #[serde(default)]
    host_ip: String,
    host_port: String,
}

impl Inspected {
    /// Returns the container's id.
    pub(crate) fn id(&self) -> Result<ContainerId> {
        self.id.parse().map_err(|error| odd(&format!("{error}")))
    }

    pub(crate) fn state(&self) -> ContainerState {
        state(&self.state.status)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the signal that asks the main process to end, as a name or a number.
    pub(crate) fn stop_signal(&self) -> String {
        match &self.config.stop_signal {
            Value::String(name) if !name.is_empty() => name.clone(),
            Value::Number(number) if number.as_u64() != Some(0) => number.to_string(),
            _ => "SIGTERM".to_owned(),
        }
    }

    /// Returns how long a stop waits before it kills, in seconds.
    pub(crate) fn stop_grace_s(&self) -> u32 {
        self.config.stop_timeout.unwrap_or(10)
    }

    /// Returns the bound on memory that was asked for, in bytes.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        Some(self.host_config.memory).filter(|&limit| limit > 0)
    }

    /// Returns the log's driver and file.
    pub(crate) fn log(&self) -> (&str, &str) {
        (&self.host_config.log_config.r#type, &self.host_config.log_config.path)
    }

    /// Returns how the main process ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        (self.state() == ContainerState::Exited).then(|| Exit {
            oom_killed: self.state.oom_killed,
            // Podman notes a start a moment late, so that a short process would have ended before it began.
            finished_at: time(&self.state.finished_at).max(time(&self.state.started_at)),
            ..Exit::from_code(self.state.exit_code)
        })
    }

    /// Returns the container in gx's terms.
    pub(crate) fn container(self) -> Result<Container> {
        let mut ports: Vec<_> = self.network_settings.ports.iter().flatten().flat_map(mapped).collect();
        ports.sort();
        let id = self.id()?;
        let (state, exit) = (self.state(), self.exit());
        let mut labels = self.config.labels.unwrap_or_default();
        Ok(Container {
            id,
            name: self.name,
            image: labels.remove(ASKED_IMAGE).unwrap_or(self.image_name),
            state,
            created_at: time(&self.created),
            started_at: time(&self.state.started_at),
            exit,
            labels,
            ports,
        })
    }
}

fn mapped((port, hosts): (&String, &Option<Vec<HostPort>>)) -> Vec<PortMapping> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let Ok(container_port) = number.parse() else { return Vec::new() };
    let hosts = hosts.iter().flatten();
    hosts
        .filter_map(|host| {
            let host_address = host_address(&host.host_ip)?;
            Some(PortMapping {
                container_port,
                protocol: transport(protocol),
                host_address,
                host_port: host.host_port.parse().ok()?,
            })
        })
        .collect()
}

/// A container as a list answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    created: Value,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ports: Option<Vec<ListedPort>>,
}

#[derive(Debug, Deserialize)]
struct ListedPort {
    #[serde(default)]
    host_ip: String,
    container_port: u16,
    host_port: u16,
    /// Neighbouring ports come as one, with how many there are.
    #[serde(default)]
    range: u16,
    #[serde(default)]
    protocol: String,
}

impl Listed {
    /// Returns the container in gx's terms.
    pub(crate) fn container(self) -> Result<Container> {
        let mut ports: Vec<_> = self.ports.iter().flatten().flat_map(spread).collect();
        ports.sort();
        let mut labels = self.labels.unwrap_or_default();
        Ok(Container {
            id: self.id.parse().map_err(|error| odd(&format!("{error}")))?,
            name: self.names.and_then(|names| names.into_iter().next()).unwrap_or_default(),
            image: labels.remove(ASKED_IMAGE).unwrap_or(self.image),
            state: state(&self.state),
            created_at: self.created.as_str().and_then(time),
            started_at: None,
            exit: None,
            labels,
            ports,
        })
    }
}

fn spread(port: &ListedPort) -> Vec<PortMapping> {
    let Some(host_address) = host_address(&port.host_ip) else { return Vec::new() };
    let protocols = port.protocol.split(',');
    let one = |protocol: Protocol, step: u16| {
        Some(PortMapping {
            container_port: port.container_port.checked_add(step)?,
            protocol,
            host_address,
            host_port: port.host_port.checked_add(step)?,
        })
    };
    protocols
        .flat_map(|protocol| (0..port.range.max(1)).filter_map(move |step| one(transport(protocol), step)))
        .collect()
}

/// No address is every address.
fn host_address(text: &str) -> Option<std::net::IpAddr> {
    if text.is_empty() { Some(std::net::Ipv4Addr::UNSPECIFIED.into()) } else { text.parse().ok() }
}

fn transport(text: &str) -> Protocol {
    if text == "udp" { Protocol::Udp } else { Protocol::Tcp }
}

fn state(text: &str) -> ContainerState {
    match text {
        "created" | "configured" | "initialized" => ContainerState::Created,
        "running" | "stopping" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "exited" | "stopped" | "dead" => ContainerState::Exited,
        "removing" => ContainerState::Removing,
        _ => ContainerState::Unknown,
    }
}

/// Reads a time as Go writes it; its zero, in the year 1, is none.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.unix() > 0)
}

fn odd(why: &str) -> RuntimeError {
    RuntimeError::new(ErrorCode::Internal, format!("podman's answer makes no sense: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn an_empty_entry_point_is_not_the_images() {
        let body = body(&ContainerSpec { entrypoint: Some(Vec::new()), ..spec() });
        assert_eq!(body["entrypoint"], json!([]));
    }

    #[test]
    fn limits_are_those_of_the_kernel() {
        assert_eq!(cpu(1_500), Cpu { quota: 150_000, period: 100_000 });
        assert_eq!(cpu(1), Cpu { quota: 1_000, period: 1_000_000 });
        let resources = Resources { milli_cpus: None, memory_bytes: Some(64), pids: Some(5) };
        let body = body(&ContainerSpec { resources, ..spec() });
        assert_eq!(
            body["resource_limits"],
            json!({"memory": {"limit": 64, "swap": 64}, "pids": {"limit": 5}})
        );
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

    #[test]
    fn a_listed_container_has_each_port_and_the_image_that_was_asked_for() {
        let listed: Listed = serde_json::from_value(json!({
            "Id": "c0ffee", "Names": ["gx-a"], "Image": "localhost/gx-busybox:latest", "State": "running",
            "Created": "2026-11-21T23:03:30.782585877Z", "Labels": {"gx.podman.image": "gx-busybox", "a": "b"},
            "Ports": [{"host_ip": "", "container_port": 80, "host_port": 8080, "range": 2, "protocol": "tcp"}],
        }))
        .unwrap();
        let container = listed.container().unwrap();
        assert_eq!((container.image.as_str(), container.state), ("gx-busybox", ContainerState::Running));
        assert_eq!(container.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let ports: Vec<_> =
            container.ports.iter().map(|port| (port.container_port, port.host_port)).collect();
        assert_eq!(ports, [(80, 8080), (81, 8081)]);
    }

    #[test]
    fn an_inspected_container_is_read_from_podman_4_and_5() {
        let inspected = |signal: Value| -> Inspected {
            serde_json::from_value(json!({
                "Id": "c0ffee", "Name": "gx-a", "Created": "2026-11-21T23:03:30Z", "ImageName": "x",
                "State": {"Status": "exited", "ExitCode": 137, "FinishedAt": "2026-11-21T23:04:30Z",
                          "StartedAt": "0001-01-01T00:00:00Z", "OOMKilled": false, "Pid": 0},
                "Config": {"Labels": null, "StopSignal": signal, "StopTimeout": 3},
                "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "81/udp": null}},
            }))
            .unwrap()
        };
        assert_eq!(inspected(json!(15)).stop_signal(), "15");
        assert_eq!(inspected(json!("SIGQUIT")).stop_signal(), "SIGQUIT");
        assert_eq!(inspected(Value::Null).stop_signal(), "SIGTERM");
        let container = inspected(json!(15)).container().unwrap();
        let exit = container.exit.unwrap();
        assert_eq!((exit.code, exit.signal, container.started_at), (137, Some(9), None));
        assert_eq!(container.ports[0].host_port, 8080);
    }
}
