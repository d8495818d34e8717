//! A node: everything a host knows and does, one method for each use case. It knows nothing of HTTP; the command line
//! uses it in process, `gx serve` through the routes.
//!
//! The engines are the state: containers are found by their labels. A node keeps its key, its locks and its limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gx_core::api::{ContainerInfo, ContainerList, Rotation};
use gx_core::config::{Config, LimitConfig, PolicyConfig, ServerConfig};
use gx_core::container::label;
use gx_core::runtime::{ExecSpec, LogOptions, RemoveOptions, StopOptions};
use gx_core::stream::{Input, Output};
use gx_core::{Container, ContainerId, Endpoint, Exit, NodeId, PluginName, Runtime};
use gx_host::{HostOptions, PluginHost};
use gx_identity::NodeKey;

use crate::error::{Result, ServerError};

mod access;
mod admission;
mod amounts;
mod aside;
mod caller;
mod chat;
mod containers;
mod context;
mod create;
mod events;
mod extend;
mod firewall;
mod gpus;
mod guest;
mod guest_program;
mod health;
mod idle;
mod image_policy;
mod images;
mod install;
mod lease;
mod lock;
mod make;
mod measure;
mod members;
mod names;
mod network;
mod nvml;
mod passwd;
mod peers;
mod platform;
mod policy;
mod ports;
mod pulls;
mod recover;
mod replace;
mod resolve;
mod rotate;
mod runtimes;
mod sample;
mod secrets;
mod shipped;
mod specs;
mod tasks;
mod tunnel;
mod usage;
mod watch_folder;

pub use amounts::{Good, Whose};
pub(crate) use caller::Identity;
pub use caller::{Caller, Verb, authorize};
pub use firewall::{FirewallTable, firewall_tables};
pub use idle::Inside;
pub(crate) use lock::ServerLock;
pub(crate) use peers::TableQuery;
#[cfg(test)]
pub(crate) use platform::architecture;
pub use policy::Origin;
pub use recover::RecoverReport;
pub use rotate::rotate;

use containers::timely;
use usage::Room;

/// How long work that must come to its end is waited for.
const FINISH: Duration = Duration::from_secs(30);

/// What a node is opened with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The configuration; of it the node uses `[server]` and `[peers]`.
    pub config: Config,
    /// How plugins are found and kept.
    pub plugins: HostOptions,
    /// The folder for the key and the state; made when it is not there.
    pub data: PathBuf,
    /// The version of gx, for the specs.
    pub version: String,
}

/// A host: its identity, its limits and its runtimes.
///
/// A container is referred to by its id, the beginning of it while unique, or its name.
pub struct Node {
    key: NodeKey,
    /// The keys it had, the newest first: containers made under one are its own, their secrets derived of it.
    former: Vec<NodeKey>,
    rotations: Vec<Rotation>,
    server: ServerConfig,
    limits: LimitConfig,
    policy: Arc<PolicyConfig>,
    firewall: firewall::Firewall,
    machine: policy::Machine,
    /// Where the server listens, by the configuration.
    listen: SocketAddr,
    advertise: Vec<Endpoint>,
    members: members::Members,
    attempts: members::Attempts,
    data: PathBuf,
    version: String,
    runtimes: Arc<runtimes::Runtimes>,
    admission: admission::Admission,
    usage: usage::Usage,
    creating: lock::CreatingLock,
    ports: ports::Ports,
    pulls: pulls::Pulls,
    tasks: tasks::Tasks,
    leases: lease::Leases,
    idle: idle::Idle,
    extensions: extend::Extensions,
    watched: health::Watched,
    sampler: Arc<sample::Sampler>,
    told: specs::Told,
    gpus: lock::TurnLock,
    table: peers::Table,
    chat: chat::Chat,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens a node, making its folder and its key on first use. No plugin is loaded and no engine touched.
    ///
    /// # Errors
    /// [`ServerError::State`], [`ServerError::Key`]; [`ServerError::Plugins`] when the plugins' own state is damaged.
    pub async fn open(options: NodeOptions) -> Result<Arc<Self>> {
        Self::open_with(options, BTreeMap::new()).await
    }

    /// Opens a node with runtimes of the program's own beside those of plugins, as a program that embeds a node, or a
    /// test, has them.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub async fn open_with(
        options: NodeOptions,
        built_in: BTreeMap<PluginName, Arc<dyn Runtime>>,
    ) -> Result<Arc<Self>> {
        let NodeOptions { config, plugins, data, version } = options;
        make_private_folder(&data)?;
        let plugins = PluginHost::open(plugins).map_err(|error| ServerError::Plugins(Box::new(error)))?;
        let key = gx_identity::open(&data)?;
        let former = gx_identity::former(&data)?;
        let policy = Arc::new(config.server.policy.clone());
        // By the first key: what stands in the kernel for containers made under it goes on holding.
        let first = former.last().unwrap_or(&key).id();
        Ok(Arc::new(Self {
            firewall: firewall::Firewall::new(first, policy.clone(), &data),
            policy,
            former,
            rotations: gx_identity::rotations(&data, key.id())?,
            key,
            members: members::Members::new(&data, config.server.allow.iter().copied()),
            attempts: Default::default(),
            listen: config.server.listen,
            advertise: config.server.advertise.clone(),
            limits: config.server.limits.clone(),
            server: config.server,
            machine: sample::machine(),
            runtimes: Arc::new(runtimes::Runtimes::new(built_in, plugins, &data)),
            creating: lock::CreatingLock::new(&data),
            admission: admission::Admission::new(&data),
            usage: Default::default(),
            ports: Default::default(),
            pulls: Default::default(),
            tasks: Default::default(),
            leases: Default::default(),
            idle: Default::default(),
            extensions: extend::Extensions::new(&data),
            watched: Default::default(),
            sampler: Arc::new(sample::Sampler::new(&data)),
            told: Default::default(),
            gpus: lock::TurnLock::new(&data, "gpus.lock"),
            table: peers::Table::new(config.peers),
            chat: chat::Chat::new(config.chat.policy),
            data,
            version,
        }))
    }

    /// Returns the node's identity.
    pub fn id(&self) -> NodeId {
        self.key.id()
    }

    /// Returns the node's key.
    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Returns all keys of the node, the one in force first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &NodeKey> {
        std::iter::once(&self.key).chain(&self.former)
    }

    /// Returns the key of this node under which a container was made, if it was made by this node.
    pub(crate) fn key_of(&self, container: &Container) -> Option<&NodeKey> {
        let host: NodeId = container.labels.get(label::HOST)?.parse().ok()?;
        self.keys().find(|key| key.id() == host)
    }

    /// Returns the node's plugins.
    pub fn plugins(&self) -> &Arc<PluginHost> {
        self.runtimes.plugins()
    }

    /// Returns the folder with the node's key and state.
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// Returns how the node is served.
    pub(crate) fn server_config(&self) -> &ServerConfig {
        &self.server
    }

    /// Returns the version of gx.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns the names of all enabled runtimes, sorted.
    pub(crate) fn runtime_names(&self) -> Vec<PluginName> {
        self.runtimes.names()
    }

    /// Lists the caller's containers in all runtimes this node has used, newest first.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`], [`ServerError::State`]; a runtime that does not answer is named in the list instead.
    pub async fn list(&self, caller: &Caller) -> Result<ContainerList> {
        authorize(caller, Verb::List, None)?;
        let listing = self.seen(caller, &[]).await?;
        let mut containers: Vec<ContainerInfo> =
            listing.found.into_iter().map(|found| self.told(&found.name, found.container)).collect();
        containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.name.cmp(&b.name)));
        Ok(ContainerList { containers, unavailable: listing.unavailable })
    }

    /// Returns everything about a container.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn show(&self, caller: &Caller, reference: &str) -> Result<ContainerInfo> {
        let found = self.resolve(caller, reference).await?;
        self.inspect(&found).await
    }

    /// Starts a container that is not running.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::OverTotal`]; [`ServerError::Runtime`].
    pub async fn start(&self, caller: &Caller, reference: &str) -> Result<ContainerInfo> {
        let found = self.resolve(caller, reference).await?;
        let _closed_off = self.close_off(&found.container).await?;
        let mut room = self.room_to_start(caller, &found).await?;
        found.runtime.start(found.container.id.clone()).await.map_err(ServerError::of(&found.name))?;
        room.iter_mut().for_each(Room::started);
        let started = self.inspect(&found).await?;
        self.idle.learn(&started);
        Ok(started)
    }

    /// Stops a container; one that is not running is as it should be.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn stop(
        &self,
        caller: &Caller,
        reference: &str,
        options: StopOptions,
    ) -> Result<ContainerInfo> {
        let found = self.resolve(caller, reference).await?;
        found
            .runtime
            .stop(found.container.id.clone(), options)
            .await
            .map_err(ServerError::of(&found.name))?;
        self.inspect(&found).await
    }

    /// Removes a container and returns its id.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`] with `FailedPrecondition` when it runs and `force` is not set.
    pub async fn remove(
        &self,
        caller: &Caller,
        reference: &str,
        options: RemoveOptions,
    ) -> Result<ContainerId> {
        let found = self.resolve(caller, reference).await?;
        let id = found.container.id.clone();
        found.remove(options).await?;
        self.extensions.forget(&found.name, &id);
        self.open_up(&found.container).await;
        tracing::info!(container = containers::name_of(&found.container), runtime = %found.name, "removed");
        Ok(id)
    }

    /// Waits until a container's main process has ended, and returns how.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn wait(&self, caller: &Caller, reference: &str) -> Result<Exit> {
        let found = self.resolve(caller, reference).await?;
        found.runtime.wait(found.container.id.clone()).await.map_err(ServerError::of(&found.name))
    }

    /// Writes the output of a container's main process.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn logs(
        &self,
        caller: &Caller,
        reference: &str,
        options: LogOptions,
        out: Output,
    ) -> Result<()> {
        let found = self.resolve(caller, reference).await?;
        found
            .runtime
            .logs(found.container.id.clone(), options, out)
            .await
            .map_err(ServerError::of(&found.name))
    }

    /// Writes what a container uses as event items, each `every_ms`; 0 writes just one.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn stats(&self, caller: &Caller, reference: &str, every_ms: u32, out: Output) -> Result<()> {
        let found = self.resolve(caller, reference).await?;
        found
            .runtime
            .stats(found.container.id.clone(), every_ms, out)
            .await
            .map_err(ServerError::of(&found.name))
    }

    /// Runs a command in a container and returns how it ended, once its output is written. Without a user it runs as
    /// whom the main process does.
    ///
    /// # Errors
    /// [`ServerError::Invalid`] without a command; those of a reference; [`ServerError::Runtime`].
    pub async fn exec(
        &self,
        caller: &Caller,
        reference: &str,
        spec: ExecSpec,
        input: Input,
        out: Output,
    ) -> Result<Exit> {
        if spec.argv.is_empty() {
            return Err(ServerError::invalid("argv", "no command is given"));
        }
        let found = self.resolve(caller, reference).await?;
        let _inside = self.idle.enter(&found);
        let id = found.container.id.clone();
        let spec = ExecSpec { user: spec.user.or_else(|| access::user(&found.container)), ..spec };
        found.runtime.exec(id, spec, input, out).await.map_err(ServerError::of(&found.name))
    }

    /// Unpacks a tar archive below a folder of a container.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn copy_in(&self, caller: &Caller, reference: &str, path: &str, archive: Input) -> Result<()> {
        check_path(path)?;
        let found = self.resolve(caller, reference).await?;
        let _inside = self.idle.enter(&found);
        let (id, path) = (found.container.id.clone(), path.to_owned());
        found.runtime.copy_in(id, path, archive).await.map_err(ServerError::of(&found.name))
    }

    /// Writes a tar archive of a file or folder of a container as standard-output items.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::Runtime`].
    pub async fn copy_out(&self, caller: &Caller, reference: &str, path: &str, out: Output) -> Result<()> {
        check_path(path)?;
        let found = self.resolve(caller, reference).await?;
        let _inside = self.idle.enter(&found);
        let (id, path) = (found.container.id.clone(), path.to_owned());
        found.runtime.copy_out(id, path, out).await.map_err(ServerError::of(&found.name))
    }

    /// Waits until containers that are being made or undone are done with, then lets go of the engines and plugins.
    /// Containers keep running.
    pub async fn shutdown(&self) {
        let left = self.tasks.finish(FINISH).await;
        if left > 0 {
            tracing::warn!(left, "containers are still being made or undone; the next start clears up");
        }
        self.runtimes.shutdown().await;
    }

    async fn inspect(&self, found: &containers::Found) -> Result<ContainerInfo> {
        let (name, id) = (&found.name, found.container.id.clone());
        let container =
            timely(name, async { found.runtime.inspect(id).await.map_err(ServerError::of(name)) });
        Ok(self.told(name, container.await?))
    }
}

/// Returns the time by this machine's clock.
fn now() -> gx_core::Timestamp {
    std::time::SystemTime::now().into()
}

/// Refuses a path that no file can have; engines fail at it in ways of their own.
fn check_path(path: &str) -> Result<()> {
    match path.contains('\0') {
        true => Err(ServerError::invalid("path", "a path has no zero in it")),
        false => Ok(()),
    }
}

fn make_private_folder(data: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(data).map_err(ServerError::state("make the folder", data))
}
