//! Containers: what is asked for ([`ContainerSpec`]) and what there is ([`Container`]).
//!
//! How one is made belongs to a [`Runtime`](crate::runtime::Runtime); who may make one, to the server.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{ContainerId, ContainerName, ParseIdError, Timestamp, VolumeName};
use crate::image::ImageRef;
use crate::network::NetworkSpec;

/// The labels by which containers of gx are known. **The engine is the state**: there is no second list.
pub mod label {
    /// The [`NodeId`](crate::NodeId) a container belongs to.
    pub const OWNER: &str = "gx.owner";
    /// The [`NodeId`](crate::NodeId) of the host that made it; a host looks after its own only, so that several
    /// data folders can share an engine.
    pub const HOST: &str = "gx.host";
    /// The [`Gpus`](super::Gpus) it was given, by uuid; `none` for a container without. It has them until it is removed.
    pub const GPUS: &str = "gx.gpus";
    /// Thousandths of a CPU it was given at most; without it, or with none in it, there is no bound. So with the next
    /// three.
    pub const CPUS: &str = "gx.cpus";
    /// Memory it was given at most, in bytes.
    pub const MEMORY: &str = "gx.memory";
    /// Processes and threads it may have at most.
    pub const PIDS: &str = "gx.pids";
    /// What it may write at most, in bytes.
    pub const DISK: &str = "gx.disk";
    /// How many ports were asked for; an engine may not tell them while it is stopped.
    pub const PORTS: &str = "gx.ports";
    /// The user in the container that SSH logs in as; a container without it, or with nothing in it, has no guest.
    pub const SSH_USER: &str = "gx.ssh.user";
    /// The public host key of its SSH server, as in `known_hosts`: `ssh-ed25519 AAAA…`.
    pub const SSH_HOSTKEY: &str = "gx.ssh.hostkey";
    /// Whom its main process runs as, where that is not root: the engine starts the guest as root.
    pub const USER: &str = "gx.user";
    /// The port of its desktop in the container, where it has one.
    pub const VNC: &str = "gx.vnc";
    /// After how many seconds without a session and without work it is stopped.
    pub const IDLE: &str = "gx.idle";
    /// Random, public: with the node's own secret it gives the container's passwords and keys, so that a repeated
    /// request is answered alike.
    pub const NONCE: &str = "gx.nonce";
    /// The names of the labels its owner gave it, as a JSON list; an engine mixes them with those of the image.
    pub const LABELS: &str = "gx.labels";
    /// The name its owner gave it (the engine's name has a prefix).
    pub const NAME: &str = "gx.name";
    /// The name of the network of its owner's that it is attached to; a container without it, or with nothing in it,
    /// is in the engine's own, or in none.
    pub const NETWORK: &str = "gx.network";
    /// When it was asked for, RFC 3339.
    pub const CREATED: &str = "gx.created";
    /// When its lease ends, RFC 3339.
    pub const EXPIRES: &str = "gx.expires";
    /// The [`IdempotencyKey`](crate::IdempotencyKey) of the request that made it.
    pub const KEY: &str = "gx.key";
    /// A digest of the spec, set by the host, by which a repeated request is told from another one
    /// under the same key.
    pub const SPEC: &str = "gx.spec";
}

/// Everything a runtime needs to make a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerSpec {
    /// The engine's name for it, unique within the engine.
    pub name: ContainerName,
    /// The image, which the engine already has.
    pub image: ImageRef,
    /// Replaces the image's entry point, and drops its command; `None` leaves both, an empty list removes the entry
    /// point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; empty leaves it.
    #[serde(default)]
    pub command: Vec<String>,
    /// Set on top of the image's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels, `gx.*` among them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; `None` leaves the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working folder; `None` leaves the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether the main process has a terminal.
    #[serde(default)]
    pub tty: bool,
    /// How long a stop waits before it kills, in seconds; `None` leaves the engine's default (10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_s: Option<u32>,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// The ports to publish.
    #[serde(default)]
    pub ports: Vec<PortRequest>,
    /// The GPUs it gets.
    #[serde(default)]
    pub gpus: Gpus,
    /// What it may do.
    #[serde(default)]
    pub security: Security,
    /// What it is attached to; `None` is the engine's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
    /// The volumes it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Whether [`feed`](crate::Runtime::feed) may write to the main process's standard input; else it is at its end.
    #[serde(default)]
    pub fed: bool,
}

impl ContainerSpec {
    /// Returns a spec with this name and image, and the defaults for everything else.
    pub fn new(name: ContainerName, image: ImageRef) -> Self {
        Self {
            name,
            image,
            entrypoint: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            user: None,
            workdir: None,
            tty: false,
            stop_grace_s: None,
            resources: Resources::default(),
            ports: Vec::new(),
            gpus: Gpus::None,
            security: Security::default(),
            network: None,
            mounts: Vec::new(),
            fed: false,
        }
    }

    /// Returns the idempotency key among the labels.
    pub fn key(&self) -> Option<&str> {
        self.labels.get(label::KEY).map(String::as_str)
    }
}

/// A volume of the engine's in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// The volume, which outlives the container and is made, empty, where there is none; `None` is one of the
    /// container's own, removed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeName>,
    /// The folder in the container; what the image has there is not seen, and not copied.
    pub path: String,
    /// Whether the container can only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// Upper bounds; `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    /// Thousandths of a CPU: 1500 is one and a half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Memory, in bytes; swap is not given on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// What it may write to its own file system, in bytes; only for runtimes with
    /// [`Feature::Disk`](crate::runtime::Feature::Disk).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// What the processes in a container may do. The default is an engine's own default without gain of
/// privileges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Security {
    /// No process gains privileges by a set-uid file (`no-new-privileges`).
    pub no_new_privileges: bool,
    /// `Some`: exactly these capabilities, named as in capabilities(7) without `CAP_`; `None`: the engine's default.
    pub capabilities: Option<Vec<String>>,
    /// The root file system cannot be written.
    pub read_only_root: bool,
    /// Its users are others than the machine's, root among them (user_namespaces(7)). Asked for only where there is
    /// [`Feature::UserNamespaces`](crate::runtime::Feature::UserNamespaces); `false` leaves it to the engine.
    pub user_namespace: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self { no_new_privileges: true, capabilities: None, read_only_root: false, user_namespace: false }
    }
}

/// The GPUs a container gets. Text: `none`, `all`, a number, or uuids joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Gpus {
    /// None.
    #[default]
    None,
    /// Every GPU of the machine.
    All,
    /// So many, whichever the host chooses.
    Count(u32),
    /// These, by uuid.
    Ids(Vec<String>),
}

impl FromStr for Gpus {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let word = |w: &str| {
            !w.is_empty() && w.len() <= 64 && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match text {
            "none" | "0" | "" => Ok(Self::None),
            "all" => Ok(Self::All),
            _ => match text.parse() {
                Ok(count) => Ok(Self::Count(count)),
                Err(_) if text.split(',').all(|w| word(w) && w.contains('-')) => {
                    Ok(Self::Ids(text.split(',').map(str::to_owned).collect()))
                }
                Err(_) => Err(ParseIdError {
                    noun: "choice of GPUs",
                    value: text.chars().take(80).collect(),
                    rule: "it is a number, 'all', 'none', or uuids joined by commas",
                }),
            },
        }
    }
}

impl TryFrom<String> for Gpus {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Gpus> for String {
    fn from(gpus: Gpus) -> String {
        gpus.to_string()
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::All => f.pad("all"),
            Self::Count(count) => f.pad(&count.to_string()),
            Self::Ids(ids) => f.pad(&ids.join(",")),
        }
    }
}

/// The transport of a port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP (RFC 9293).
    #[default]
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port to publish. Text: `[HOST:]CONTAINER[/tcp|/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortRequest {
    /// The port inside.
    pub container_port: u16,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port on the host; `None` lets the host choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The address on the host to listen on; `None` is the host's configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_address: Option<IpAddr>,
}

impl FromStr for PortRequest {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            noun: "port to publish",
            value: text.chars().take(80).collect(),
            rule: "it is written CONTAINER, HOST:CONTAINER, or either with /tcp or /udp, each from 1 to 65535",
        };
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let port = |p: &str| p.parse::<u16>().ok().filter(|&p| p != 0).ok_or_else(bad);
        let (host_port, container_port) = match ports.split_once(':') {
            Some((host, container)) => (Some(port(host)?), port(container)?),
            None => (None, port(ports)?),
        };
        Ok(Self { container_port, protocol, host_port, host_address: None })
    }
}

/// A published port as the engine made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PortMapping {
    /// The port inside.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The address on the host.
    pub host_address: IpAddr,
    /// The port on the host.
    pub host_port: u16,
}

/// Where a container is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its main process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its main process has ended.
    Exited,
    /// On its way out.
    Removing,
    /// Anything else.
    #[default]
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Unknown => "unknown",
        })
    }
}

/// How a main process, or one run by exec, ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Exit {
    /// The exit code as a shell gives it: 128 + N for a process ended by signal N.
    pub code: i32,
    /// The signal, where the code says that one ended the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the engine says that memory ran out (not every engine does).
    pub oom_killed: bool,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl Exit {
    /// Returns the exit that a shell's code stands for.
    pub fn from_code(code: i32) -> Self {
        let signal = (129..=192).contains(&code).then(|| code - 128);
        Self { code, signal, ..Self::default() }
    }
}

/// A container as an engine describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// The engine's id.
    pub id: ContainerId,
    /// The engine's name, without a leading `/`.
    pub name: String,
    /// The image, as it was asked for.
    pub image: String,
    /// Where it is in its life.
    #[serde(default)]
    pub state: ContainerState,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When its main process last began; from `inspect` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How its main process ended; from `inspect` only, and only once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// All labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The published ports, sorted; while it does not run an engine may leave them out.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        let port: PortRequest = "8080:80/udp".parse().unwrap();
        assert_eq!((port.host_port, port.container_port), (Some(8080), 80));
        assert_eq!(port.protocol, Protocol::Udp);
        for bad in ["", "0", "70000", "80/sctp", "1:2:3", "a"] {
            assert!(bad.parse::<PortRequest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gpus_are_read_as_people_write_them() {
        assert_eq!("all".parse(), Ok(Gpus::All));
        assert_eq!("2".parse(), Ok(Gpus::Count(2)));
        assert_eq!("GPU-1a,GPU-2b".parse(), Ok(Gpus::Ids(vec!["GPU-1a".into(), "GPU-2b".into()])));
        assert!("some".parse::<Gpus>().is_err());
    }

    #[test]
    fn an_unknown_state_of_a_newer_engine_is_not_an_error() {
        assert_eq!(serde_json::from_str::<ContainerState>("\"frozen\"").unwrap(), ContainerState::Unknown);
    }

    proptest! {
        #[test]
        fn any_text_is_a_port_or_an_error(text in "\\PC{0,20}") {
            let _ = text.parse::<PortRequest>();
            let _ = text.parse::<Gpus>();
        }
    }
}
