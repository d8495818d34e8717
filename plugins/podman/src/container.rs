//! From libpod's containers to gx's (`InspectContainerData` and `ListContainer` in Podman's sources). Pure.

use std::collections::BTreeMap;

use gx_core::plugin::*;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::ASKED_IMAGE;

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
