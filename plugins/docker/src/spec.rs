//! Our types as the engine's, and the engine's as ours. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState as EngineState, ContainerStateStatusEnum,
    ContainerSummary, ContainerSummaryStateEnum, DeviceRequest, HostConfig, HostConfigLogConfig,
    ImageInspect, Mount as EngineMount, MountType, MountVolumeOptions, PortBinding, PortMap,
    PortSummaryTypeEnum, RestartPolicy, RestartPolicyNameEnum,
};
use gx_core::image::{Image, ImageProcess};
use gx_core::runtime::ListFilter;
use gx_core::{
    Container, ContainerId, ContainerSpec, ContainerState, ErrorCode, Exit, Gpus, Mount, PortMapping,
    PortRequest, Protocol, RuntimeError, Timestamp,
};

use crate::config::Config;

/// Returns what the engine is asked to make.
pub(crate) fn create_body(spec: ContainerSpec, config: &Config) -> ContainerCreateBody {
    let exposed = spec.ports.iter().map(port_key).collect::<Vec<_>>();
    let host_config = host_config(&spec, config);
    ContainerCreateBody {
        image: Some(spec.image.to_string()),
        entrypoint: spec.entrypoint.map(entrypoint),
        cmd: some_unless_empty(spec.command),
        env: some_unless_empty(spec.env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(spec.labels.into_iter().collect()),
        user: spec.user,
        working_dir: spec.workdir,
        tty: Some(spec.tty),
        open_stdin: Some(spec.fed),
        stdin_once: Some(spec.fed), // it ends with what it was fed
        stop_timeout: spec.stop_grace_s.map(i64::from),
        exposed_ports: some_unless_empty(exposed),
        host_config: Some(host_config),
        ..Default::default()
    }
}

/// The engine resets the image's entry point on one empty string, and takes an empty list for none given.
fn entrypoint(words: Vec<String>) -> Vec<String> {
    if words.is_empty() { vec![String::new()] } else { words }
}

fn some_unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn host_config(spec: &ContainerSpec, config: &Config) -> HostConfig {
    let memory = spec.resources.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let security = &spec.security;
    HostConfig {
        nano_cpus: spec.resources.milli_cpus.map(|milli| i64::from(milli) * 1_000_000),
        memory,
        memory_swap: memory, // memory and swap together: no swap on top
        pids_limit: spec.resources.pids.map(i64::from),
        storage_opt: spec.resources.disk_bytes.map(|bytes| [("size".to_owned(), bytes.to_string())].into()),
        port_bindings: Some(port_bindings(&spec.ports)),
        device_requests: gpus(&spec.gpus).map(|request| vec![request]),
        security_opt: security.no_new_privileges.then(|| vec!["no-new-privileges".to_owned()]),
        cap_drop: security.capabilities.as_ref().map(|_| vec!["ALL".to_owned()]),
        cap_add: security.capabilities.clone(),
        readonly_rootfs: Some(security.read_only_root),
        mounts: some_unless_empty(spec.mounts.iter().map(mount).collect()),
        log_config: Some(log_config(config)),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..Default::default()
    }
}

fn port_key(port: &PortRequest) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

/// A port for which no address is asked listens on loopback: what is open to others is for the host to say.
fn port_bindings(ports: &[PortRequest]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let address = port.host_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let binding = PortBinding {
            host_ip: Some(address.to_string()),
            host_port: Some(port.host_port.map(|port| port.to_string()).unwrap_or_default()),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn mount(mount: &Mount) -> EngineMount {
    EngineMount {
        target: Some(mount.path.clone()),
        source: mount.volume.as_ref().map(ToString::to_string),
        typ: Some(MountType::VOLUME),
        read_only: Some(mount.read_only),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

fn gpus(gpus: &Gpus) -> Option<DeviceRequest> {
    let (count, ids) = match gpus {
        Gpus::None => return None,
        Gpus::All => (Some(-1), None),
        Gpus::Count(count) => (Some(i64::from(*count)), None),
        Gpus::Ids(ids) => (None, Some(ids.clone())),
    };
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    Some(DeviceRequest { count, device_ids: ids, capabilities, ..Default::default() })
}

/// The bound is kept in two files, of which the older is dropped as a whole.
fn log_config(config: &Config) -> HostConfigLogConfig {
    let bounded = config.log_driver != "journald" && config.log_max_size.0 > 0;
    let options = bounded.then(|| {
        let half = config.log_max_size.0.div_ceil(2);
        HashMap::from([("max-size".to_owned(), half.to_string()), ("max-file".to_owned(), "2".to_owned())])
    });
    HostConfigLogConfig { typ: Some(config.log_driver.clone()), config: options }
}

/// Returns the engine's filter for a list of containers.
pub(crate) fn list_filters(filter: &ListFilter) -> HashMap<String, Vec<String>> {
    let mut filters = HashMap::new();
    if !filter.labels.is_empty() {
        let label = |(key, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        };
        filters.insert("label".to_owned(), filter.labels.iter().map(label).collect());
    }
    if !filter.states.is_empty() {
        let states = filter.states.iter().flat_map(|state| engine_states(*state)).map(|s| (*s).to_owned());
        filters.insert("status".to_owned(), states.collect());
    }
    filters
}

fn engine_states(state: ContainerState) -> &'static [&'static str] {
    match state {
        ContainerState::Created => &["created"],
        ContainerState::Running => &["running"],
        ContainerState::Paused => &["paused"],
        ContainerState::Exited => &["exited"],
        ContainerState::Removing => &["removing"],
        ContainerState::Unknown => &["restarting", "dead"],
    }
}

/// Returns the container of a list.
pub(crate) fn listed(summary: ContainerSummary) -> Result<Container, RuntimeError> {
    let state = match summary.state {
        Some(ContainerSummaryStateEnum::CREATED) => ContainerState::Created,
        Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING) => {
            ContainerState::Running
        }
        Some(ContainerSummaryStateEnum::PAUSED) => ContainerState::Paused,
        Some(ContainerSummaryStateEnum::EXITED) => ContainerState::Exited,
        Some(ContainerSummaryStateEnum::REMOVING) => ContainerState::Removing,
        _ => ContainerState::Unknown,
    };
    let mut ports: Vec<_> = summary
        .ports
        .unwrap_or_default()
        .into_iter()
        .filter_map(|port| {
            Some(PortMapping {
                container_port: port.private_port,
                protocol: match port.typ {
                    Some(PortSummaryTypeEnum::TCP) => Protocol::Tcp,
                    Some(PortSummaryTypeEnum::UDP) => Protocol::Udp,
                    _ => return None,
                },
                host_address: port.ip?.parse().ok()?,
                host_port: port.public_port?,
            })
        })
        .collect();
    ports.sort_unstable();
    Ok(Container {
        id: container_id(summary.id.unwrap_or_default())?,
        name: bare_name(summary.names.unwrap_or_default().into_iter().next().unwrap_or_default()),
        image: summary.image.unwrap_or_default(),
        state,
        created_at: summary.created.map(Timestamp::from_unix),
        started_at: None,
        exit: None,
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ports,
    })
}

/// Returns the container of an inspection.
pub(crate) fn inspected(answer: ContainerInspectResponse) -> Result<Container, RuntimeError> {
    let config = answer.config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let exit = state_of(&state).eq(&ContainerState::Exited).then(|| exit(&state));
    Ok(Container {
        id: container_id(answer.id.unwrap_or_default())?,
        name: bare_name(answer.name.unwrap_or_default()),
        image: config.image.unwrap_or_default(),
        state: state_of(&state),
        created_at: answer.created.as_deref().and_then(timestamp),
        started_at: state.started_at.as_deref().and_then(timestamp),
        exit,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        ports: mappings(answer.network_settings.and_then(|network| network.ports).unwrap_or_default()),
    })
}

/// Returns where a container is in its life.
pub(crate) fn state_of(state: &EngineState) -> ContainerState {
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => {
            ContainerState::Running
        }
        Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
        Some(ContainerStateStatusEnum::EXITED) => ContainerState::Exited,
        Some(ContainerStateStatusEnum::REMOVING) => ContainerState::Removing,
        _ => ContainerState::Unknown,
    }
}

/// Returns how the main process ended.
pub(crate) fn exit(state: &EngineState) -> Exit {
    let at = |text: &Option<String>| text.as_deref().and_then(timestamp);
    Exit {
        oom_killed: state.oom_killed.unwrap_or(false),
        // The engine notes a start when it hears of it, which may be after the end of a short one.
        finished_at: at(&state.finished_at).max(at(&state.started_at)),
        ..Exit::from_code(exit_code(state.exit_code))
    }
}

/// Returns the engine's exit code as ours.
pub(crate) fn exit_code(code: Option<i64>) -> i32 {
    code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1)
}

fn mappings(ports: PortMap) -> Vec<PortMapping> {
    let mut mappings = Vec::new();
    for (key, bindings) in ports {
        let Some((container_port, protocol)) =
            key.parse::<PortRequest>().ok().map(|p| (p.container_port, p.protocol))
        else {
            continue; // SCTP
        };
        for binding in bindings.unwrap_or_default() {
            let address = binding.host_ip.and_then(|ip| ip.parse().ok());
            let port = binding.host_port.and_then(|port| port.parse().ok());
            if let (Some(host_address), Some(host_port)) = (address, port) {
                mappings.push(PortMapping { container_port, protocol, host_address, host_port });
            }
        }
    }
    mappings.sort_unstable();
    mappings
}

/// Returns an image of an inspection.
pub(crate) fn image(answer: ImageInspect) -> Image {
    let mut platform =
        format!("{}/{}", answer.os.unwrap_or_default(), answer.architecture.unwrap_or_default());
    if let Some(variant) = answer.variant.filter(|variant| !variant.is_empty()) {
        platform = format!("{platform}/{variant}");
    }
    let mut config = answer.config.unwrap_or_default();
    Image {
        id: answer.id.unwrap_or_default(),
        tags: tags(answer.repo_tags.unwrap_or_default()),
        size_bytes: answer.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        created_at: answer.created.as_deref().and_then(timestamp),
        platform,
        labels: config.labels.take().map(BTreeMap::from_iter).unwrap_or_default(),
        process: Some(ImageProcess {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            workdir: config.working_dir.unwrap_or_default(),
        }),
    }
}

/// Returns the names of an image without the engine's placeholder for none.
pub(crate) fn tags(tags: Vec<String>) -> Vec<String> {
    tags.into_iter().filter(|tag| tag != "<none>:<none>").collect()
}

/// Returns a point in time; `None` for the engine's zero, the first second of the year 1.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|at: &Timestamp| at.0.year() > 1)
}

/// Returns a container's id as ours.
pub(crate) fn container_id(id: String) -> Result<ContainerId, RuntimeError> {
    id.parse()
        .map_err(|_| RuntimeError::new(ErrorCode::Internal, format!("the docker engine gave the id `{id}`")))
}

fn bare_name(name: String) -> String {
    name.strip_prefix('/').map(str::to_owned).unwrap_or(name)
}

/// Returns a signal as the engine takes it: `SIGHUP`, `HUP` and `1` are the same.
pub(crate) fn signal(text: &str) -> Result<String, RuntimeError> {
    let bad =
        || RuntimeError::new(ErrorCode::InvalidArgument, format!("unknown signal `{text}`")).field("signal");
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=64).contains(&number) { Ok(number.to_string()) } else { Err(bad()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-'));
    if fits { Ok(format!("SIG{name}")) } else { Err(bad()) }
}

#[cfg(test)]
mod tests;
