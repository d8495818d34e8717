//! What can go wrong on a host, and one table of it: variant → code, what the caller is told.
//!
//! The status of an answer follows from the code, in `routes`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use gx_core::api::{ApiError, Service};
use gx_core::config::{PortRange, closest};
use gx_core::units::Span;
use gx_core::{ContainerState, ErrorCode, Gpus, ImageRef, PluginName, RuntimeError, Timestamp, os_error};
use gx_host::HostError;
use gx_identity::KeyError;

use crate::node::{Good, Origin, Whose};

mod chat;
mod trust;
pub use chat::ChatError;
pub use trust::TrustError;

/// How many containers a hint names.
const NAMED_MAX: usize = 5;

/// The result of a method of [`Node`](crate::Node).
pub type Result<T, E = ServerError> = std::result::Result<T, E>;

/// Why a host could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No enabled plugin has this name.
    #[error("no runtime {name}")]
    UnknownRuntime {
        /// What was asked for.
        name: PluginName,
        /// What there is.
        known: Vec<PluginName>,
    },
    /// A plugin is there and cannot be used.
    #[error("{error}")]
    Plugin {
        /// The plugin.
        runtime: PluginName,
        /// Why.
        #[source]
        error: Box<HostError>,
    },
    /// The plugins' own state cannot be used.
    #[error("{0}")]
    Plugins(#[source] Box<HostError>),
    /// Nobody said which runtime, and none is healthy.
    #[error("no runtime is healthy{}", list_of(.why))]
    NoHealthyRuntime {
        /// Each runtime with the reason.
        why: Vec<(PluginName, String)>,
        /// What to do about the first of them.
        hint: Option<String>,
    },
    /// An engine refused.
    #[error("{runtime}: {error}")]
    Runtime {
        /// The runtime.
        runtime: PluginName,
        /// What it said.
        #[source]
        error: Box<RuntimeError>,
    },
    /// An engine does not answer in time.
    #[error("{runtime} did not answer within {seconds} s")]
    Slow {
        /// The runtime.
        runtime: PluginName,
        /// How long it was given.
        seconds: u64,
    },
    /// No container fits the reference.
    #[error("no container {reference}")]
    NoContainer {
        /// What was asked for.
        reference: String,
        /// A name that was probably meant.
        near: Option<String>,
    },
    /// No container fits the reference among those that could be looked at.
    #[error("no container {reference} is known, and {runtime} could not be asked: {why}")]
    Unlisted {
        /// What was asked for.
        reference: String,
        /// The runtime that does not answer.
        runtime: PluginName,
        /// Why it does not.
        why: Box<ApiError>,
    },
    /// More than one container fits the reference.
    #[error("{reference} fits more than one container: {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What it fits, each as `id (name)`.
        candidates: Vec<String>,
    },
    /// A container that must run for this does not.
    #[error("{name} is {state}, not running")]
    NotRunning {
        /// Its name.
        name: String,
        /// What it is instead.
        state: ContainerState,
    },
    /// A container has no such service.
    #[error("{name} has no {}", noun_of(*.service))]
    NoService {
        /// The container's name.
        name: String,
        /// What it lacks.
        service: Service,
    },
    /// A service that no port of the host leads to.
    #[error("port {port} of {name} is not published")]
    Unpublished {
        /// The container's name.
        name: String,
        /// The port in the container.
        port: u16,
    },
    /// A service that does not answer at its published port.
    #[error("the {} of {name} does not answer", noun_of(*.service))]
    NoAnswer {
        /// The container's name.
        name: String,
        /// What does not answer.
        service: Service,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image is neither there nor to be had.
    #[error("no image {image} in {runtime}{}", pull_failure(.image, .pull))]
    NoImage {
        /// What was asked for.
        image: ImageRef,
        /// Where it was looked for.
        runtime: PluginName,
        /// Why it could not be fetched; `None` when nobody tried.
        pull: Option<Box<RuntimeError>>,
        /// A name the engine has, that was probably meant.
        near: Option<String>,
    },
    /// A request goes beyond what the host lends.
    #[error("{}", over_limit(*.good, *.origin, *.asked, *.allowed))]
    OverLimit {
        /// Of what.
        good: Good,
        /// What bounds it.
        origin: Origin,
        /// How much was asked for.
        asked: u64,
        /// How much is allowed.
        allowed: u64,
    },
    /// A request for which not enough is left.
    #[error("{}", over_total(*.good, *.whose, *.asked, *.used, *.limit))]
    OverTotal {
        /// Of what.
        good: Good,
        /// Who has not enough of it left.
        whose: Whose,
        /// How much was asked for.
        asked: u64,
        /// How much containers have.
        used: u64,
        /// How much there is in all.
        limit: u64,
    },
    /// A runtime that cannot bound what a container writes.
    #[error("{runtime} cannot bound what a container writes here")]
    NoDiskLimit {
        /// The runtime.
        runtime: PluginName,
    },
    /// A container that nothing ends.
    #[error("{name} has no lease that could end")]
    NoLease {
        /// Its name.
        name: String,
    },
    /// A lease that cannot be made longer any more.
    #[error("the lease of {name} ended at {end}")]
    LeaseOver {
        /// The container's name.
        name: String,
        /// When.
        end: Timestamp,
    },
    /// A lease that would be longer than the host lends.
    #[error("an extension of {asked} is more than this host has left to give, {to_give}")]
    LeaseLimit {
        /// By how much it should be longer.
        asked: Span,
        /// The longest lease, counted from now.
        limit: Span,
        /// By how much it can be longer.
        to_give: Span,
    },
    /// The host, or the member who asks, has as many containers as may be.
    #[error("{} {limit} of at most {limit} containers", match .whose { Whose::Host => "this host has", Whose::Member => "you have" })]
    Full {
        /// The limit.
        limit: u64,
        /// Who has them.
        whose: Whose,
    },
    /// More than the host lets members have.
    #[error("members of this host may not have {what}")]
    OverPolicy {
        /// The request's field.
        field: &'static str,
        /// The key in `[server.policy]`.
        key: &'static str,
        /// What was asked for.
        what: String,
    },
    /// The host wants members' containers to have users of their own, and the runtime gives none.
    #[error("{runtime} cannot give members' containers users of their own")]
    NoUserNamespaces {
        /// The runtime.
        runtime: PluginName,
    },
    /// Members' containers cannot be closed off from the host and from one another.
    #[error("members' containers cannot be closed off here: {why}")]
    NoFirewall {
        /// Why.
        why: String,
    },
    /// A port on the host that containers may not have.
    #[error("host port {port} is outside the range of this host, {}-{}", .range.first, .range.last)]
    PortOutside {
        /// What was asked for.
        port: u16,
        /// What is allowed.
        range: PortRange,
    },
    /// An address on the host that containers may not listen on.
    #[error("ports are published on {allowed} on this host, not on {asked}")]
    AddressOutside {
        /// What was asked for.
        asked: std::net::IpAddr,
        /// What is allowed.
        allowed: std::net::IpAddr,
    },
    /// No port in the range is free.
    #[error("{wanted} ports are wanted and fewer are free between {} and {}", .range.first, .range.last)]
    NoFreePort {
        /// How many were asked for.
        wanted: usize,
        /// The range.
        range: PortRange,
    },
    /// GPUs that are not there.
    #[error("{} asked for, and this host has {}", wanted_gpus(.asked), there_gpus(.asked, .there))]
    NoGpu {
        /// What was asked for.
        asked: Gpus,
        /// The uuids of those there are.
        there: Vec<String>,
    },
    /// Containers have the GPUs already.
    #[error("{} asked for, and {}", wanted_gpus(.asked), free_gpus(.asked, *.free, *.there))]
    GpusTaken {
        /// What was asked for.
        asked: Gpus,
        /// How many are free.
        free: usize,
        /// How many there are.
        there: usize,
        /// The names of containers that have them, as far as the caller may know.
        names: Vec<String>,
        /// How many containers beside have them.
        others: usize,
    },
    /// Which GPUs there are, or which are free, cannot be told now.
    #[error("cannot tell which GPUs are free: {why}")]
    GpusUnknown {
        /// Why.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An image for another kind of machine.
    #[error("the image {image} is for {platform}, and this host is {host}")]
    ForeignImage {
        /// The image.
        image: ImageRef,
        /// What it is for.
        platform: String,
        /// What this host is.
        host: String,
    },
    /// SSH is a must, and the container cannot have it.
    #[error("the container cannot have SSH: {why}")]
    NoSsh {
        /// Why.
        why: String,
    },
    /// The guest does not take what it is told.
    #[error("the guest of {name} ended with {code}: {said}")]
    Refused {
        /// The container.
        name: String,
        /// How the guest's program ended.
        code: i32,
        /// What it said.
        said: String,
    },
    /// A field of a request is wrong in itself.
    #[error("{message}")]
    Invalid {
        /// The field, dotted.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The name belongs to another container.
    #[error("the name {name} is taken in {runtime}")]
    NameTaken {
        /// The name.
        name: String,
        /// Where.
        runtime: PluginName,
    },
    /// A container of this name is being made by another request.
    #[error("the name {name} is being taken just now")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// The idempotency key belongs to another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Who asks may not.
    #[error("not allowed to {what}")]
    NotAllowed {
        /// What was asked for, as a verb.
        what: &'static str,
    },
    /// Somebody is not let in, or cannot be.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It is about the chat.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A file of the node cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    State {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key file is there and is not a key of this node.
    #[error("the key file {} {fault}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Another server has this data folder.
    #[error("another gx serve uses the data folder {}", .data.display())]
    Locked {
        /// The folder.
        data: PathBuf,
    },
    /// An address that others can reach, without TLS.
    #[error("{address} is not a loopback address, and without TLS only this machine may connect")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The listening socket is of no use.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// The host is on its way down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// A fault of gx itself; the details are in the log only.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl From<KeyError> for ServerError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::File { what, path, source } => Self::State { what, path, source },
            KeyError::Damaged { path, fault } => Self::Key { path, fault },
        }
    }
}

impl ServerError {
    /// Returns the stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownRuntime { .. } | Self::NoContainer { .. } => ErrorCode::NotFound,
            Self::Plugin { .. }
            | Self::Plugins(_)
            | Self::NoHealthyRuntime { .. }
            | Self::Unlisted { .. }
            | Self::NoAnswer { .. }
            | Self::GpusUnknown { .. }
            | Self::ShuttingDown => ErrorCode::Unavailable,
            Self::Runtime { error, .. } => error.code,
            Self::Trust(error) => error.code(),
            Self::Chat(error) => error.code(),
            Self::Slow { .. } => ErrorCode::DeadlineExceeded,
            Self::NoImage { pull, .. } => pull.as_ref().map_or(ErrorCode::NotFound, |error| error.code),
            Self::Ambiguous { .. } | Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::OverLimit { .. }
            | Self::OverPolicy { .. }
            | Self::LeaseLimit { .. }
            | Self::PortOutside { .. }
            | Self::AddressOutside { .. } => ErrorCode::PermissionDenied,
            Self::Full { .. } | Self::OverTotal { .. } | Self::NoFreePort { .. } | Self::GpusTaken { .. } => {
                ErrorCode::ResourceExhausted
            }
            Self::NoDiskLimit { .. } => ErrorCode::Unsupported,
            Self::NoGpu { .. }
            | Self::NoUserNamespaces { .. }
            | Self::NoFirewall { .. }
            | Self::ForeignImage { .. }
            | Self::NoSsh { .. }
            | Self::Refused { .. }
            | Self::NoLease { .. }
            | Self::LeaseOver { .. }
            | Self::Locked { .. }
            | Self::NotRunning { .. }
            | Self::NoService { .. }
            | Self::Unpublished { .. } => ErrorCode::FailedPrecondition,
            Self::NameTaken { .. } | Self::NameInUse { .. } | Self::KeyReused => ErrorCode::AlreadyExists,
            Self::NotAllowed { .. } | Self::NotLoopback { .. } => ErrorCode::PermissionDenied,
            Self::State { .. } | Self::Key { .. } | Self::Listen(_) | Self::Internal(_) => {
                ErrorCode::Internal
            }
        }
    }

    /// Returns the field of the request that is to blame, dotted.
    pub fn field(&self) -> Option<String> {
        match self {
            Self::UnknownRuntime { .. } => Some("runtime".to_owned()),
            Self::NoImage { .. } | Self::ForeignImage { .. } => Some("image".to_owned()),
            Self::NoSsh { .. } => Some("ssh_keys".to_owned()),
            Self::OverLimit { good, .. } | Self::OverTotal { good, .. } => Some(good.field().to_owned()),
            Self::OverPolicy { field, .. } => Some((*field).to_owned()),
            Self::NoDiskLimit { .. } => Some(Good::Disk.field().to_owned()),
            Self::LeaseLimit { .. } => Some("by_s".to_owned()),
            Self::PortOutside { .. } | Self::AddressOutside { .. } | Self::NoFreePort { .. } => {
                Some("ports".to_owned())
            }
            Self::NoGpu { .. } | Self::GpusTaken { .. } | Self::GpusUnknown { .. } => Some("gpus".to_owned()),
            Self::Invalid { field, .. } => Some(field.clone()),
            Self::NameTaken { .. } | Self::NameInUse { .. } => Some("name".to_owned()),
            Self::KeyReused => Some("key".to_owned()),
            Self::Runtime { error, .. } => error.field.clone(),
            Self::Trust(error) => error.field().map(str::to_owned),
            Self::Chat(error) => error.field().map(str::to_owned),
            Self::Plugin { .. }
            | Self::Plugins(_)
            | Self::NoHealthyRuntime { .. }
            | Self::Slow { .. }
            | Self::NoContainer { .. }
            | Self::Unlisted { .. }
            | Self::Ambiguous { .. }
            | Self::NoLease { .. }
            | Self::LeaseOver { .. }
            | Self::NoUserNamespaces { .. }
            | Self::NoFirewall { .. }
            | Self::NotRunning { .. }
            | Self::NoService { .. }
            | Self::Unpublished { .. }
            | Self::Refused { .. }
            | Self::NoAnswer { .. }
            | Self::Full { .. }
            | Self::NotAllowed { .. }
            | Self::State { .. }
            | Self::Key { .. }
            | Self::Locked { .. }
            | Self::NotLoopback { .. }
            | Self::Listen(_)
            | Self::ShuttingDown
            | Self::Internal(_) => None,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownRuntime { name, known } => Some(runtime_hint(name, known)),
            Self::Plugin { error, .. } | Self::Plugins(error) => error.hint(),
            Self::NoHealthyRuntime { hint, .. } => hint.clone(),
            Self::Runtime { error, .. } => runtime_error_hint(error),
            Self::Trust(error) => error.hint(),
            Self::Chat(error) => error.hint(),
            Self::NoContainer { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NoContainer { near: None, .. } => Some("gx list shows all containers".to_owned()),
            Self::Unlisted { why, .. } => why.hint.clone(),
            Self::Ambiguous { .. } => Some("give more of the id, or the name".to_owned()),
            Self::Refused { .. } => Some("a container made anew has a guest of its own".to_owned()),
            Self::NotRunning { name, .. } => Some(format!("gx start {name}")),
            Self::NoService { service: Service::Ssh, .. } => {
                Some("it was made with --no-guest, or its image can have no guest".to_owned())
            }
            Self::NoService { service: Service::Vnc, .. } => {
                Some("gx images shows which images have a desktop".to_owned())
            }
            Self::Unpublished { .. } => None,
            Self::NoAnswer { name, .. } => Some(format!("gx logs {name} may say why")),
            Self::NoImage { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NoImage { pull: Some(error), .. } => error.hint.clone(),
            Self::NoImage { image, .. } => Some(format!("fetch it with `gx pull {image}`")),
            Self::OverLimit { good, origin, allowed, .. } => Some(limit_hint(*good, *origin, *allowed)),
            Self::OverTotal { good, whose, used, limit, .. } => {
                Some(total_hint(*good, *whose, limit.saturating_sub(*used)))
            }
            Self::NoDiskLimit { .. } => Some(
                "leave out --disk; it takes an engine that stores on btrfs, on zfs, or on XFS mounted with pquota"
                    .to_owned(),
            ),
            Self::OverPolicy { key, .. } => {
                Some(format!("what members may have is `{key}` in [server.policy] on the host"))
            }
            Self::NoUserNamespaces { .. } => Some(
                "on the host: for docker `\"userns-remap\": \"default\"` in /etc/docker/daemon.json and a restart of it; \
                 for podman `containers:2147483647:2147483648` in /etc/subuid and /etc/subgid"
                    .to_owned(),
            ),
            Self::NoFirewall { .. } => Some(
                "the host needs nftables, an engine of its own, and gx serve as root; or `firewall = false` in \
                 [server.policy] where something else closes them off"
                    .to_owned(),
            ),
            Self::NoLease { .. } => {
                Some("it stays until it is removed: there is nothing to extend".to_owned())
            }
            Self::LeaseOver { .. } => Some("the host removes it; what was in it is lost".to_owned()),
            Self::LeaseLimit { limit, .. } => Some(format!(
                "a lease ends at most {limit} from now: `ttl` in [server.limits] on the host, or in what it allows you"
            )),
            Self::Full { whose: Whose::Host, .. } => {
                Some("remove one, or raise `containers` in [server.limits] on the host".to_owned())
            }
            Self::Full { whose: Whose::Member, .. } => {
                Some("remove one, or ask the host for more: gx list shows yours".to_owned())
            }
            Self::PortOutside { .. } => Some(
                "leave the host's port out, and the host chooses; or change `ports` in [server.limits]"
                    .to_owned(),
            ),
            Self::AddressOutside { .. } => {
                Some("leave the address out, or change `publish_address` in [server.limits]".to_owned())
            }
            Self::NoFreePort { .. } => {
                Some("ask for fewer, or widen `ports` in [server.limits] on the host".to_owned())
            }
            Self::NoGpu { .. } => Some("gx specs shows the GPUs of a host".to_owned()),
            Self::GpusTaken { names, others, .. } => Some(holders_of_gpus(names, *others)),
            Self::GpusUnknown { hint, .. } => hint.clone(),
            Self::ForeignImage { host, .. } => {
                Some(format!("pull or build one for {host}; or let the kernel emulate it (qemu-user-static)"))
            }
            Self::NoSsh { .. } => Some("leave out the keys, and it is made without SSH".to_owned()),
            Self::NameTaken { .. } | Self::NameInUse { .. } => {
                Some("choose another name, or leave it out".to_owned())
            }
            Self::KeyReused => Some("use a new key for a new request".to_owned()),
            Self::State { source, .. } => state_hint(source),
            Self::Key { .. } => Some("restore the file, or move it away to get a new identity".to_owned()),
            Self::Locked { .. } => {
                Some("stop the other one, or choose another folder with `data` in [server]".to_owned())
            }
            Self::NotLoopback { .. } => {
                Some("leave out `plain`, or listen on 127.0.0.1 or [::1]; `insecure = true` in [server] allows it, for strangers only".to_owned())
            }
            Self::Slow { .. } => Some("gx runtimes shows the state of each engine".to_owned()),
            Self::Invalid { .. }
            | Self::NotAllowed { .. }
            | Self::Listen(_)
            | Self::ShuttingDown
            | Self::Internal(_) => None,
        }
    }

    /// Returns the error as the API tells it, without the id of a request.
    pub fn api(&self) -> ApiError {
        let message = match self {
            Self::Internal(_) => "internal fault".to_owned(),
            Self::State { source, .. } | Self::NoAnswer { source, .. } => {
                format!("{self}: {}", os_error::text(source))
            }
            Self::Listen(source) => format!("{self}: {}", os_error::text(source)),
            _ => self.to_string(),
        };
        let retry_after_ms = match self {
            Self::Runtime { error, .. } => error.retry_after_ms,
            Self::Trust(TrustError::TooManyAttempts) => Some(2_000),
            _ => None,
        };
        ApiError {
            code: self.code(),
            message,
            hint: self.hint(),
            field: self.field(),
            retry_after_ms,
            request_id: None,
        }
    }

    /// Joins an engine's error and the runtime it is of.
    pub(crate) fn of(runtime: &PluginName) -> impl Fn(RuntimeError) -> Self {
        move |error| Self::Runtime { runtime: runtime.clone(), error: Box::new(error) }
    }

    pub(crate) fn state(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::State { what, path: path.to_owned(), source }
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }
}

fn list_of(why: &[(PluginName, String)]) -> String {
    match why {
        [] => ": no runtime plugin is enabled".to_owned(),
        why => {
            let each: Vec<String> = why.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            format!(" ({})", each.join("; "))
        }
    }
}

fn noun_of(service: Service) -> &'static str {
    match service {
        Service::Ssh => "SSH server",
        Service::Vnc => "desktop",
    }
}

fn over_limit(good: Good, origin: Origin, asked: u64, allowed: u64) -> String {
    let bound = match origin {
        Origin::Limits => "the limit of this host",
        Origin::Totals => "all that this host lends",
        Origin::Allowance => "your allowance",
        Origin::Machine => "what this machine has",
    };
    let over = good.show(asked.saturating_sub(allowed));
    format!("{} of {} is {over} over {bound}, {}", good.noun(), good.show(asked), good.show(allowed))
}

fn limit_hint(good: Good, origin: Origin, allowed: u64) -> String {
    let ask = format!("ask for at most {}", good.show(allowed));
    // What the machine says of one container is written in a key of its own.
    let key = match (origin, good) {
        (Origin::Limits, Good::Ports) => "container_ports",
        _ => good.key(),
    };
    match origin {
        Origin::Limits => format!("{ask}, or raise `{key}` in [server.limits] on the host"),
        Origin::Totals if good == Good::Containers => format!("raise `{key}` in [server.limits] on the host"),
        Origin::Totals => format!("{ask}, or raise `{key}` in [server.totals] on the host"),
        Origin::Allowance => format!("{ask}, or ask the host for a larger allowance"),
        Origin::Machine => ask,
    }
}

fn over_total(good: Good, whose: Whose, asked: u64, used: u64, limit: u64) -> String {
    let left = limit.saturating_sub(used);
    let who = match whose {
        Whose::Host => "this host",
        Whose::Member => "your allowance",
    };
    let over = good.show(asked.saturating_sub(left));
    let (noun, asked, left, limit) = (good.noun(), good.show(asked), good.show(left), good.show(limit));
    format!("{noun} of {asked} is {over} over what {who} has left, {left} of {limit}")
}

fn total_hint(good: Good, whose: Whose, left: u64) -> String {
    let free = match good {
        Good::Cpus | Good::Memory | Good::Pids => "stop or remove a container",
        Good::Containers | Good::Gpus | Good::Disk | Good::Ports | Good::Lease => "remove a container",
    };
    let ask = if left > 0 { format!("ask for at most {}, ", good.show(left)) } else { String::new() };
    match whose {
        Whose::Host => format!("{ask}{free}, or raise `{}` in [server.totals] on the host", good.key()),
        Whose::Member => format!("{ask}{free} of yours, or ask the host for a larger allowance"),
    }
}

fn wanted_gpus(asked: &Gpus) -> String {
    match asked {
        Gpus::Count(1) => "1 GPU is".to_owned(),
        Gpus::Ids(ids) if ids.len() == 1 => format!("{asked} is"),
        Gpus::Ids(_) => format!("{asked} are"),
        Gpus::None | Gpus::All | Gpus::Count(_) => format!("{asked} GPUs are"),
    }
}

fn there_gpus(asked: &Gpus, there: &[String]) -> String {
    match there {
        [] => "none".to_owned(),
        uuids if matches!(asked, Gpus::Ids(_)) => uuids.join(", "),
        uuids => uuids.len().to_string(),
    }
}

fn free_gpus(asked: &Gpus, free: usize, there: usize) -> String {
    match (asked, free) {
        (Gpus::Ids(ids), _) if ids.len() == 1 => "it is not free".to_owned(),
        (Gpus::Ids(_), _) => "not all of them are free".to_owned(),
        (_, 0) => format!("none of {there} is free"),
        (_, 1) => format!("1 of {there} is free"),
        (_, free) => format!("{free} of {there} are free"),
    }
}

fn holders_of_gpus(names: &[String], others: usize) -> String {
    let others = match (names, others) {
        (_, 0) => None,
        (_, 1) => Some("1 that is not yours".to_owned()),
        (_, others) => Some(format!("{others} that are not yours")),
    };
    let more = names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0).map(|more| format!("{more} more"));
    let others = others.map(|others| if names.is_empty() { others } else { format!("and {others}") });
    let all: Vec<String> = names.iter().take(NAMED_MAX).cloned().chain(more).chain(others).collect();
    format!("a container has its GPUs until it is removed: {}", all.join(", "))
}

fn pull_failure(image: &ImageRef, pull: &Option<Box<RuntimeError>>) -> String {
    match pull {
        Some(error) => format!(", and fetching it from {} failed: {error}", registry_of(image)),
        None => String::new(),
    }
}

/// Returns the registry an image is fetched from; one without a host is looked for at the engine's default, which is
/// Docker Hub for both shipped engines.
fn registry_of(image: &ImageRef) -> &str {
    match image.repository().split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn runtime_hint(name: &PluginName, known: &[PluginName]) -> String {
    let names: Vec<&str> = known.iter().map(PluginName::as_str).collect();
    match closest(name.as_str(), names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "no runtime plugin is enabled here; gx plugin list shows why".to_owned(),
        None => format!("runtimes here: {}", names.join(", ")),
    }
}

fn runtime_error_hint(error: &RuntimeError) -> Option<String> {
    let ports_taken = error.code == ErrorCode::AlreadyExists && error.field.as_deref() == Some("ports");
    let own = ports_taken.then(|| "leave the host's port out, and the host chooses".to_owned());
    error.hint.clone().or(own)
}

fn state_hint(source: &io::Error) -> Option<String> {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on that file system and try again".to_owned())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(
            "choose a data folder that can be written, with GX_DATA_DIR or `data` in [server]".to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pull_names_the_registry() {
        let error = ServerError::NoImage {
            image: "quay.example:5000/a/b:1".parse().unwrap(),
            runtime: "podman".parse().unwrap(),
            pull: Some(Box::new(RuntimeError::new(ErrorCode::Unavailable, "connection refused"))),
            near: None,
        };
        assert_eq!(
            error.to_string(),
            "no image quay.example:5000/a/b:1 in podman, and fetching it from quay.example:5000 failed: \
             connection refused"
        );
        assert_eq!(error.code(), ErrorCode::Unavailable);
    }

    #[test]
    fn an_unknown_runtime_comes_with_a_suggestion_or_the_list() {
        let known: Vec<PluginName> = ["docker", "podman"].map(|name| name.parse().unwrap()).to_vec();
        let hint = |name: &str| {
            ServerError::UnknownRuntime { name: name.parse().unwrap(), known: known.clone() }.hint().unwrap()
        };
        assert_eq!(hint("podmn"), "did you mean `podman`?");
        assert_eq!(hint("kubernetes"), "runtimes here: docker, podman");
    }

    #[test]
    fn the_details_of_a_fault_of_our_own_stay_in_the_log() {
        assert_eq!(ServerError::Internal("secret".to_owned()).api().message, "internal fault");
    }
}
