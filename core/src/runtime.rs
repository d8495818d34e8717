//! The engine that runs containers: the trait every runtime plugin implements, and what its methods
//! take and give.
//!
//! Policy (who may, how much, what name) is the host's; a runtime does what it is told. State lives in
//! the engine, so an implementation keeps none that a restart would lose.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerSpec, ContainerState, Exit};
use crate::id::{ContainerId, Timestamp};
use crate::image::{Image, ImageRef};
use crate::stream::{Input, Output};

/// The result of a method of [`Runtime`].
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// An engine that runs containers.
///
/// A method with a default body answers [`ErrorCode::Unsupported`]; what is there is said by
/// [`capabilities`](Runtime::capabilities). A future may be dropped at any await: what it was doing in
/// the engine is then undone or finished, never left half-made. When the reader of an [`Output`] is
/// gone the method returns soon, with `Ok`.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Returns what this runtime can do.
    async fn capabilities(&self) -> Result<Capabilities>;

    /// Returns what the engine is.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer, with a hint on how to start it.
    async fn info(&self) -> Result<RuntimeInfo>;

    /// Returns whether the engine is there and well. An engine that is down is an answer, not an error.
    async fn health(&self) -> Result<Health>;

    /// Fetches an image from a registry, writing [`Progress`] items, and returns it.
    ///
    /// # Errors
    /// `NotFound` when the registry has no such image, `Unauthenticated`, `Unavailable` when the
    /// registry cannot be reached.
    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        let _ = (request, out);
        Err(RuntimeError::unsupported("pull"))
    }

    /// Returns all images with at least one name.
    async fn images(&self) -> Result<Vec<Image>> {
        Err(RuntimeError::unsupported("images"))
    }

    /// Returns the image of this name, or `None` when the engine has none.
    async fn image(&self, image: ImageRef) -> Result<Option<Image>>;

    /// Builds an image from a tar archive of the context, writing [`Progress`] items, and returns it.
    ///
    /// # Errors
    /// `InvalidArgument` when the Containerfile or a step of it fails; the last lines are in the message.
    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        let _ = (request, context, out);
        Err(RuntimeError::unsupported("build"))
    }

    /// Removes a name of an image, and the image with its last name. A missing one is `Ok`.
    ///
    /// # Errors
    /// `FailedPrecondition` when a container uses it.
    async fn remove_image(&self, image: ImageRef) -> Result<()> {
        let _ = image;
        Err(RuntimeError::unsupported("remove_image"))
    }

    /// Makes a container without starting it and returns its id.
    ///
    /// With [`label::KEY`](crate::container::label::KEY) among the labels the call may be repeated: when a
    /// container with the same key exists, its id is returned if its
    /// [`label::SPEC`](crate::container::label::SPEC) is equal too.
    ///
    /// # Errors
    /// `NotFound` (field `image`) when the engine lacks the image; `AlreadyExists` with field `name` when the
    /// name is taken, with field `key` when the key belongs to another spec; `InvalidArgument`.
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId>;

    /// Starts a container; a running one is `Ok`.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` with field `ports` when a port is taken; `InvalidArgument` with field `command`
    /// when the command cannot be run.
    async fn start(&self, id: ContainerId) -> Result<()>;

    /// Waits until the main process has ended and returns how; at once when it already has.
    ///
    /// # Errors
    /// `NotFound`, also when it is removed meanwhile; `FailedPrecondition` when it was never started.
    async fn wait(&self, id: ContainerId) -> Result<Exit>;

    /// Ends the main process: sends `signal` (or the image's own), and kills after `grace_ms`. Returns when it
    /// has ended. A stopped or missing container is `Ok`.
    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()>;

    /// Sends a signal, by name (`SIGHUP`) or number, to the main process.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` when it does not run; `InvalidArgument` for an unknown signal.
    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        let _ = (id, signal);
        Err(RuntimeError::unsupported("signal"))
    }

    /// Removes a container and its anonymous volumes. A missing one is `Ok`; `force` kills a running one.
    ///
    /// # Errors
    /// `FailedPrecondition` when it runs and `force` is not set.
    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()>;

    /// Returns everything about one container.
    ///
    /// # Errors
    /// `NotFound`.
    async fn inspect(&self, id: ContainerId) -> Result<Container>;

    /// Writes every container that fits the filter as an event item ([`Container`]), in any order.
    async fn list(&self, filter: ListFilter, out: Output) -> Result<()>;

    /// Writes the output of the main process, standard output and error apart (a terminal has only standard
    /// output). Works after the exit. With `follow` it ends when the process ends.
    ///
    /// # Errors
    /// `NotFound`.
    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()>;

    /// Runs a command in a running container, and returns how it ended once its output is written.
    /// When the call is dropped or its time-out passes, the command is killed where the engine can.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` when the container does not run; `DeadlineExceeded`. A command that is not
    /// there or cannot be run is no error but the exit code 127 or 126, with a line on standard error.
    async fn exec(&self, id: ContainerId, spec: ExecSpec, input: Input, out: Output) -> Result<Exit> {
        let _ = (id, spec, input, out);
        Err(RuntimeError::unsupported("exec"))
    }

    /// Unpacks a tar archive below `path` (an existing folder); works on a created container too.
    ///
    /// # Errors
    /// `NotFound`, with field `path` when the folder is missing; `InvalidArgument` when the archive is damaged.
    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        let _ = (id, path, archive);
        Err(RuntimeError::unsupported("copy_in"))
    }

    /// Writes a tar archive of the file or folder `path` as standard-output items; its entries begin with the
    /// last part of the path.
    ///
    /// # Errors
    /// `NotFound`, with field `path` when there is no such file.
    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        let _ = (id, path, out);
        Err(RuntimeError::unsupported("copy_out"))
    }

    /// Writes what a container uses as event items ([`Stats`]), one at once and then one each `every_ms`, until it
    /// ends or the reader is gone; 0 writes just one.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` when it does not run.
    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        let _ = (id, every_ms, out);
        Err(RuntimeError::unsupported("stats"))
    }

    /// Writes what happens to containers as event items ([`Event`]), from `since` on (`None`: from now on), until
    /// the reader is gone. For one container `create` comes before `start`, `exit` and `remove`.
    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let _ = (since, out);
        Err(RuntimeError::unsupported("events"))
    }

    /// Lets go of the engine, once all that dropped calls still undo is undone. Containers keep running.
    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}

/// Why a method failed; the stable codes that cross the plugin boundary and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is wrong in itself.
    InvalidArgument,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The thing is not in a state that allows it.
    FailedPrecondition,
    /// What would do it does not answer now.
    Unavailable,
    /// A limit is reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// Whoever asked no longer wants it.
    Cancelled,
    /// It cannot be done here.
    Unsupported,
    /// A fault of the program.
    #[serde(other)]
    Internal,
}

/// The error of a runtime or a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// The stable code.
    pub code: ErrorCode,
    /// What failed: a lower-case fragment without a full stop.
    pub message: String,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// The field of the request that is to blame, dotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the engine said, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl RuntimeError {
    /// Makes an error of this code. `Unavailable`, `ResourceExhausted` and `DeadlineExceeded` are retryable.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retryable = matches!(
            code,
            ErrorCode::Unavailable | ErrorCode::ResourceExhausted | ErrorCode::DeadlineExceeded
        );
        let message = message.into();
        Self { code, message, retryable, retry_after_ms: None, field: None, backend: None, hint: None }
    }

    /// Says that a method is not there.
    pub fn unsupported(method: &str) -> Self {
        Self::new(ErrorCode::Unsupported, format!("this runtime has no {method}"))
    }

    /// Says that a container is not there.
    pub fn no_container(id: &ContainerId) -> Self {
        Self::new(ErrorCode::NotFound, format!("no container {id}"))
    }

    /// Names the field that is to blame.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds what the engine said.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a runtime can do; a feature that is not listed answers `Unsupported`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Capabilities {
    /// The features.
    pub features: BTreeSet<Feature>,
}

impl Capabilities {
    /// Returns whether a feature is there.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

impl FromIterator<Feature> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self { features: features.into_iter().collect() }
    }
}

/// Something a runtime may or may not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// `pull`.
    Pull,
    /// `images` and `remove_image`.
    Images,
    /// `build`.
    Build,
    /// `signal`.
    Signal,
    /// `exec`.
    Exec,
    /// `exec` with a terminal.
    ExecTty,
    /// An exec is killed when the call is dropped or its time-out passes.
    ExecCancel,
    /// `copy_in` and `copy_out`.
    Copy,
    /// `stats`.
    Stats,
    /// `events`.
    Events,
    /// Published ports.
    Ports,
    /// GPUs.
    Gpus,
    /// Limits of CPU, memory and processes hold.
    Limits,
    /// `Exit::oom_killed` can be trusted.
    OomReport,
    /// Real processes: commands, exit codes and signals are those of a kernel (a mock's are scripted).
    Processes,
    /// One of a newer version.
    #[serde(other)]
    Other,
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuntimeInfo {
    /// Its name: `docker`.
    pub backend: String,
    /// Its own version.
    pub version: String,
    /// The version of its API that is spoken.
    pub api_version: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// The operating system of its containers: `linux`.
    pub os: String,
    /// The architecture, as images name it: `amd64`.
    pub arch: String,
    /// The storage driver.
    pub storage: String,
    /// Where it was reached: a socket's path or a URL.
    pub endpoint: String,
    /// Things worth knowing, a line each.
    pub notes: Vec<String>,
}

/// Whether an engine is there and well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Why, where it is not healthy.
    #[serde(default)]
    pub why: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The verdict on an engine's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// There is none.
    Undetected,
    /// It works.
    Healthy,
    /// It is there and does not work.
    #[serde(other)]
    Unhealthy,
}

/// What to pull.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullRequest {
    /// The image; without tag or digest, `latest`.
    pub image: ImageRef,
    /// `linux/arm64`; `None` is the engine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Who pulls, where the registry asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
}

impl std::fmt::Debug for PullRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullRequest").field("image", &self.image).finish_non_exhaustive()
    }
}

/// A login at a registry. It has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryAuth {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

/// What to build; the context comes as a tar archive beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRequest {
    /// The name of the result.
    pub tag: ImageRef,
    /// The Containerfile's path within the context; `None` is `Containerfile`, else `Dockerfile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerfile: Option<String>,
    /// Values for `ARG`.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Uses nothing of earlier builds.
    #[serde(default)]
    pub no_cache: bool,
}

/// A step of a pull or a build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Progress {
    /// What it is about: a layer's id, a step; empty for the whole.
    pub id: String,
    /// What happens, as people read it.
    pub message: String,
    /// Bytes done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StopOptions {
    /// The signal; `None` is the image's own, else SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long to wait before it is killed, in milliseconds; `None` is the spec's `stop_grace_s`, else 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u32>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RemoveOptions {
    /// Kills a running one first.
    pub force: bool,
}

/// Which containers to list; empty parts let everything through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListFilter {
    /// Labels a container must have; `None` as value: any value.
    pub labels: BTreeMap<String, Option<String>>,
    /// States, one of which it must be in.
    pub states: BTreeSet<ContainerState>,
}

/// Which part of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogOptions {
    /// Goes on until the main process ends.
    pub follow: bool,
    /// Only the last so many lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Only what was written at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only what was written before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Begins every line with the time it was written, RFC 3339, and a space.
    pub timestamps: bool,
}

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Set on top of the container's environment.
    pub env: BTreeMap<String, String>,
    /// As in [`ContainerSpec::user`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working folder; `None` is the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Gives it a terminal; output is then all standard output.
    pub tty: bool,
    /// Whether standard input is passed on; else it is at its end.
    pub stdin: bool,
    /// The terminal's first size: columns and rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
    /// Kills it after so long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

/// What a container uses at one moment. Sizes in bytes, times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Stats {
    /// When it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// CPU time used since the start, all CPUs together.
    pub cpu_ns: u64,
    /// CPU use over the last interval, in thousandths of one CPU; `None` in the first item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory in use, without the page cache where the engine tells.
    pub memory_bytes: u64,
    /// The bound on memory; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Received over all interfaces.
    pub network_in_bytes: u64,
    /// Sent over all interfaces.
    pub network_out_bytes: u64,
    /// Read from block devices.
    pub block_in_bytes: u64,
    /// Written to block devices.
    pub block_out_bytes: u64,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// What happened.
    pub action: EventAction,
    /// To which.
    pub id: ContainerId,
    /// When.
    pub at: Timestamp,
    /// The container's labels, as far as the engine tells.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it ended, with `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What may happen to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventAction {
    /// It was made.
    Create,
    /// Its main process began.
    Start,
    /// Its main process ended.
    Exit,
    /// It was removed.
    Remove,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Collects a streamed list.
///
/// # Errors
/// Those of [`Runtime::list`].
pub async fn list_all(runtime: &dyn Runtime, filter: ListFilter) -> Result<Vec<Container>> {
    let (out, items) = crate::stream::pipe(crate::stream::DEFAULT_WINDOW_BYTES);
    let (listed, containers) = tokio::join!(runtime.list(filter, out), items.events());
    listed.map(|()| containers)
}
