//! The HTTP contract: paths, request and response bodies, errors.
//!
//! Server and client share these types; the OpenAPI document is checked against them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::container::{ContainerState, Exit, Gpus, PortMapping, PortRequest, Protocol};
use crate::id::{ContainerId, ContainerName, NodeId, PluginName, Timestamp};
use crate::image::{Image, ImageRef};
use crate::network::NetworkMode;
use crate::runtime::{Capabilities, ErrorCode, EventAction, Health, RuntimeInfo};
use crate::secret::Secret;

mod chat;
pub mod frame;
pub mod speedtest;
mod trust;

pub use chat::{ChatStarted, ChatStopped, ChatUser, ChatUserRequest, ChatUsers};
pub use trust::{
    AllowRequest, Fate, IdentityInfo, InviteInfo, InviteList, InviteRequest, Invited, JoinRequest,
    LeftContainer, MemberInfo, MemberList, Origin, Removal, RemoveMember, Role, Rotation, Whoami,
};

/// The first byte of a binary message of exec's WebSocket. Before any of them the client sends one text message, an
/// [`ExecSpec`](crate::runtime::ExecSpec).
pub mod exec {
    /// Client: bytes of standard input.
    pub const STDIN: u8 = 0;
    /// Host: bytes of standard output.
    pub const STDOUT: u8 = 1;
    /// Host: bytes of standard error.
    pub const STDERR: u8 = 2;
    /// Client: the terminal has another size: [`Size`] as JSON.
    pub const RESIZE: u8 = 3;
    /// Client: standard input is at its end.
    pub const EOF: u8 = 4;
    /// Host: the last message, an [`End`](super::End) with an [`Exit`](crate::Exit) as JSON.
    pub const END: u8 = 5;

    /// The size of a terminal, in characters.
    #[derive(
        Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
    )]
    pub struct Size {
        /// Width.
        pub columns: u16,
        /// Height.
        pub rows: u16,
    }
}

/// Paths of the API; `{id}` is an id, a shortened id or a name.
pub mod path {
    /// `GET`: whether the server runs.
    pub const HEALTHZ: &str = "/healthz";
    /// `GET`: figures for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// `GET`: [`ServerSpecs`](super::ServerSpecs).
    pub const SERVER_SPECS: &str = "/server_specs";
    /// `GET ?after=&limit=`: [`TablePage`](crate::peers::file::TablePage); `POST` a form ([`form`](crate::peers::form)) with
    /// an [`Upload`](crate::peers::file::Upload): what it asks for, else the first page.
    pub const IP_TABLE: &str = "/ip_table";
    /// The same in the predecessor's spelling.
    pub const IP_TABLE_LEGACY: &str = "/IpTable";
    /// `GET`: this contract as OpenAPI 3.1.
    pub const OPENAPI: &str = "/openapi.json";
    /// `GET`: all [`RuntimeStatus`](super::RuntimeStatus).
    pub const RUNTIMES: &str = "/v1/runtimes";
    /// `GET ?runtime=`: all [`ImageInfo`](super::ImageInfo).
    pub const IMAGES: &str = "/v1/images";
    /// `POST` [`PullBody`](super::PullBody): frames of progress, at the end an [`ImageInfo`](super::ImageInfo).
    pub const IMAGES_PULL: &str = "/v1/images/pull";
    /// `POST` a tar archive, [`BuildQuery`](super::BuildQuery): frames of progress, at the end an
    /// [`ImageInfo`](super::ImageInfo).
    pub const IMAGES_BUILD: &str = "/v1/images/build";
    /// `POST` [`CreateRequest`](super::CreateRequest), `GET`: all [`ContainerInfo`](super::ContainerInfo).
    pub const CONTAINERS: &str = "/v1/containers";
    /// `GET ?since=`: each [`ContainerEvent`](super::ContainerEvent) as it happens.
    pub const EVENTS: &str = "/v1/events";
    /// `POST` [`JoinRequest`](super::JoinRequest): who the caller is from now on, [`Whoami`](super::Whoami).
    pub const JOIN: &str = "/v1/join";
    /// `GET`: [`Whoami`](super::Whoami).
    pub const WHOAMI: &str = "/v1/whoami";
    /// `POST` [`InviteRequest`](super::InviteRequest), `GET`: [`InviteList`](super::InviteList); below it `DELETE {id}`.
    pub const INVITES: &str = "/v1/invites";
    /// `GET`: [`MemberList`](super::MemberList); below it `PUT {id}` [`AllowRequest`](super::AllowRequest) and
    /// `DELETE {id}` [`RemoveMember`](super::RemoveMember).
    pub const MEMBERS: &str = "/v1/members";
    /// `GET`: [`IdentityInfo`](super::IdentityInfo), `POST` [`Rotation`](super::Rotation).
    pub const IDENTITY: &str = "/v1/identity";
    /// `GET`: the chat's WebSocket; what is said over it is in docs/chat/protocol.md.
    pub const CHAT: &str = "/v1/chat";
    /// `GET`: [`ChatUsers`](super::ChatUsers); below it `PUT {user}` [`ChatUserRequest`](super::ChatUserRequest).
    pub const CHAT_USERS: &str = "/v1/chat/users";
    /// `POST`: ends the chat in good order, [`ChatStopped`](super::ChatStopped); the rest of the server goes on.
    pub const CHAT_STOP: &str = "/v1/chat/stop";
    /// `POST`: serves the chat again, [`ChatStarted`](super::ChatStarted), after it was ended alone.
    pub const CHAT_START: &str = "/v1/chat/start";
    // Below /v1/containers/{id}:
    // GET, DELETE ?force= · POST start · POST stop (StopOptions) · POST wait · GET logs ?LogOptions
    // GET stats ?every_ms= · GET, PUT archive ?path= · GET exec, ssh, vnc (WebSocket) · POST passwd
    // POST extend (ExtendRequest)
}

/// The header that carries an [`IdempotencyKey`](crate::IdempotencyKey).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that carries the id of a request, in both directions.
pub const REQUEST_ID: &str = "x-request-id";
/// The content type of streamed answers.
///
/// Frames: one byte kind, three zero bytes, the length as 32 bits in network order, the payload. Kinds 1 to 4 are
/// those of [`Kind`](crate::stream::Kind); 5 is the last frame, an [`End`] as JSON; 0 has no payload and says, after
/// some seconds of silence, that the host is still there.
pub const STREAM_TYPE: &str = "application/vnd.gx.stream";

/// The last frame of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It went well; the value is what the call returns, `null` for nothing.
    Ok(serde_json::Value),
    /// It failed on the way.
    Error(ApiError),
}

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The stable code.
    pub code: ErrorCode,
    /// What failed: a lower-case fragment.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The field of the request that is to blame, dotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// The id under which the server's log has the details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateRequest {
    /// The image.
    pub image: ImageRef,
    /// The runtime; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PluginName>,
    /// The name; `None` lets the host choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ContainerName>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default)]
    pub command: Vec<String>,
    /// Set on top of the image's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels of the caller's own; none may begin with `gx.`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// As in [`ContainerSpec::user`](crate::ContainerSpec::user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Gives the main process a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Thousandths of a CPU; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Memory, in bytes; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What it may write to its own file system, in bytes; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Processes and threads; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Ports to publish.
    #[serde(default)]
    pub ports: Vec<PortRequest>,
    /// So many TCP ports beside, chosen by the host, the same number inside and outside.
    #[serde(default)]
    pub extra_ports: u16,
    /// GPUs.
    #[serde(default)]
    pub gpus: Gpus,
    /// How long the lease is, in seconds; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Stops it after so many seconds without a session and without work; `None` never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
    /// Leaves the image as it is: no SSH, the image's own entry point first.
    #[serde(default)]
    pub no_guest: bool,
    /// Lets nothing be written to the container's root.
    #[serde(default)]
    pub read_only: bool,
    /// Public keys that may log in, a line each as in `authorized_keys`, without options.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// Makes nothing where the container could not be logged in to by SSH; else it is then made without.
    #[serde(default)]
    pub require_ssh: bool,
    /// How far it reaches; `None` is as far as the host allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMode>,
    /// When to fetch the image.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Checks everything and makes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl CreateRequest {
    /// Returns a request for this image with the defaults for everything else.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            runtime: None,
            name: None,
            entrypoint: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            user: None,
            workdir: None,
            tty: false,
            milli_cpus: None,
            memory_bytes: None,
            disk_bytes: None,
            pids: None,
            ports: Vec::new(),
            extra_ports: 0,
            gpus: Gpus::None,
            ttl_s: None,
            idle_s: None,
            no_guest: false,
            read_only: false,
            ssh_keys: Vec::new(),
            require_ssh: false,
            network: None,
            pull: PullPolicy::Missing,
            dry_run: false,
        }
    }
}

/// How much longer a lease is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtendRequest {
    /// Added to the end of the lease, in seconds.
    pub by_s: u64,
}

/// When to fetch an image before a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the engine lacks it.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// A container as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerInfo {
    /// The engine's id.
    pub id: ContainerId,
    /// The name its owner gave it.
    pub name: String,
    /// The runtime it is in.
    pub runtime: PluginName,
    /// The image.
    pub image: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeId>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When its main process last began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How its main process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The published ports.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
    /// The GPUs it has, by uuid.
    #[serde(default)]
    pub gpus: Gpus,
    /// The owner's own labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The way in by SSH, where it has a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// The way to its desktop, where the image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc: Option<VncAccess>,
    /// After how many seconds without a session and without work it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
}

/// A published port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPort {
    /// What gx itself has there: `ssh` or `vnc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port inside.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The address on the host.
    pub host_address: IpAddr,
    /// The port on the host.
    pub host_port: u16,
}

impl PublishedPort {
    /// Returns a port of the container's own.
    pub fn of(mapping: PortMapping) -> Self {
        let PortMapping { container_port, protocol, host_address, host_port } = mapping;
        Self { name: None, container_port, protocol, host_address, host_port }
    }

    /// Returns the address and port on the host.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host_address, self.host_port)
    }
}

/// The way into a container by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SshAccess {
    /// Whom to log in as.
    pub user: String,
    /// The password: told by create and by a change of it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The server's public key, as in `known_hosts`: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The key's fingerprint, as `ssh` shows it: `SHA256:…`.
    pub fingerprint: String,
    /// The host's address and port that lead to it, while it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The command by which an ordinary client logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The way to the desktop of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VncAccess {
    /// Whose desktop it is.
    pub user: String,
    /// The password, 8 characters: told by create and by a change of it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The port in the container.
    pub port: u16,
    /// The host's address and port that lead to it, while it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What an ordinary client takes: `vnc://ADDRESS:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What of a container the host leads a connection to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The guest's SSH server.
    Ssh,
    /// The desktop, by RFB.
    Vnc,
}

impl Service {
    /// Returns the word for it: the last part of the path, and the name of its port.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Vnc => "vnc",
        }
    }
}

/// Containers of all runtimes; one that does not answer is named instead of hiding its containers in silence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContainerList {
    /// Newest first.
    pub containers: Vec<ContainerInfo>,
    /// Runtimes whose containers could not be listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<UnavailableRuntime>,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: EventAction,
    /// The container's name.
    pub name: String,
    /// The engine's id of it.
    pub id: ContainerId,
    /// The runtime it is in.
    pub runtime: PluginName,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeId>,
    /// How its main process ended, with `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A runtime that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnavailableRuntime {
    /// Its name.
    pub runtime: PluginName,
    /// Why.
    pub error: ApiError,
}

/// An image and the runtime that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInfo {
    /// The runtime.
    pub runtime: PluginName,
    /// The image.
    pub image: Image,
    /// What a container of it offers there.
    #[serde(default)]
    pub offers: Vec<Offer>,
}

/// What a container of an image offers beside its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// A login by SSH: the image is for the host's architecture, and its runtime can put the guest into it.
    Ssh,
    /// A desktop.
    Desktop,
    /// Programs that use a GPU, where the container is given one.
    Gpu,
}

impl Offer {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Desktop => "desktop",
            Self::Gpu => "gpu",
        }
    }
}

/// Images of all runtimes asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageList {
    /// By runtime and name.
    pub images: Vec<ImageInfo>,
    /// Runtimes whose images could not be listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<UnavailableRuntime>,
}

/// What to pull. Logins stay out of `Debug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullBody {
    /// The runtime; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PluginName>,
    /// What and for whom.
    pub pull: crate::runtime::PullRequest,
}

/// What to build, in the query of the request (`args` as JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildQuery {
    /// The runtime; `None` is the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PluginName>,
    /// What.
    pub build: crate::runtime::BuildRequest,
}

/// A runtime plugin and its engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeStatus {
    /// The plugin's name.
    pub name: PluginName,
    /// Whether it is the one used when nobody says.
    pub default: bool,
    /// Its engine's health, or why the plugin itself cannot be used.
    pub health: Health,
    /// Its engine, while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<RuntimeInfo>,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// What a machine is and lends. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerSpecs {
    /// The machine's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// The version of gx.
    pub version: String,
    /// The machine's name.
    pub hostname: String,
    /// `linux/amd64` and the distribution's name.
    pub platform: String,
    /// The kernel's version.
    pub kernel: String,
    /// The CPUs.
    pub cpu: CpuSpecs,
    /// The main memory.
    pub memory: SpaceSpecs,
    /// The disk with the data folder.
    pub disk: SpaceSpecs,
    /// Processes waiting to run, averaged over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// All GPUs; empty without a driver.
    pub gpus: Vec<GpuSpecs>,
    /// All runtimes.
    pub runtimes: Vec<RuntimeStatus>,
    /// What one container may have at most.
    pub limits: LimitSpecs,
    /// What all containers together have, and may have.
    pub totals: TotalSpecs,
    /// What the containers of the member who asks have together, and may have; `None` for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowance: Option<TotalSpecs>,
    /// When all this was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_at: Option<Timestamp>,
}

/// The CPUs of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CpuSpecs {
    /// The model's name.
    pub model: String,
    /// Physical cores; 0 when unknown.
    pub cores: u32,
    /// Threads the kernel schedules on.
    pub threads: u32,
}

/// A space with a size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SpaceSpecs {
    /// All of it.
    pub total_bytes: u64,
    /// What is free to use.
    pub free_bytes: u64,
}

/// A GPU, as NVML describes it; `None` is what it does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuSpecs {
    /// Its index on the machine.
    pub index: u32,
    /// Its uuid, by which a container can ask for it.
    pub uuid: String,
    /// Its model; empty when unknown.
    pub name: String,
    /// Its memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// What of its memory is used, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// How busy it is, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation_percent: Option<u32>,
    /// How hot it is, in degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
    /// The clock of its graphics cores now, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphics_clock_mhz: Option<u32>,
    /// The fastest that clock can be, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphics_clock_max_mhz: Option<u32>,
    /// The clock of its memory now, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_clock_mhz: Option<u32>,
    /// The fastest that clock can be, in MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_clock_max_mhz: Option<u32>,
    /// How many processes use it, computing or drawing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// The driver's version; empty when unknown.
    pub driver: String,
}

/// What one container may have at most; `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitSpecs {
    /// Containers on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
    /// Thousandths of a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// What it may write, in bytes, in the runtimes that can bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Published ports, without those of gx itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Whether several containers may have one GPU.
    pub share_gpus: bool,
    /// The longest lease, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// What several containers have together, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TotalSpecs {
    /// Containers.
    pub containers: Quota,
    /// Thousandths of a CPU, of those that run.
    pub milli_cpus: Quota,
    /// Memory of those that run, in bytes.
    pub memory_bytes: Quota,
    /// Processes and threads of those that run.
    pub pids: Quota,
    /// GPUs.
    pub gpus: Quota,
    /// What they may write, in bytes.
    pub disk_bytes: Quota,
    /// Published ports, without those of gx itself.
    pub ports: Quota,
}

/// How much is given of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Quota {
    /// What containers were given; one that was given no bound counts as all the machine has.
    pub used: u64,
    /// What there is to give; `None` is without a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}
