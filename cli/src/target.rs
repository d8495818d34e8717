//! Where a command acts: this machine's own node, in process, or a host over HTTP. Both have the same methods.

use std::sync::Arc;

use gx_client::Client;
use gx_core::api::{
    AllowRequest, BuildQuery, ContainerInfo, ContainerList, CreateRequest, ExtendRequest, ImageInfo,
    ImageList, InviteInfo, InviteList, InviteRequest, Invited, MemberInfo, MemberList, PullBody, Removal,
    RemoveMember, RuntimeStatus, ServerSpecs, Service, Whoami,
};
use gx_core::runtime::{ExecSpec, LogOptions, RemoveOptions, StopOptions};
use gx_core::stream::{Input, Output};
use gx_core::{ContainerId, Exit, IdempotencyKey, PluginName, Timestamp};
use gx_host::HostOptions;
use gx_server::{Caller, Node, NodeOptions};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cli::{Environment, VERSION};
use crate::error::{CliError, Result};
use crate::output::Out;
use crate::road;
use crate::settings::Settings;

/// The word for this machine.
pub(crate) const LOCAL: &str = "local";
/// The word for the server that fits best.
pub(crate) const BEST: &str = "best";

/// Where a command acts.
#[derive(Clone)]
pub(crate) enum Target {
    /// This machine, in process.
    Local(Arc<Node>),
    /// A host.
    Host(Client),
}

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Calls the same method of either, the node's with the caller in front.
macro_rules! either {
    ($target:expr, $method:ident($($argument:expr),*)) => {
        match $target {
            Target::Local(node) => Ok(node.$method(&Caller::Host, $($argument),*).await?),
            Target::Host(client) => Ok(client.$method($($argument),*).await?),
        }
    };
}

impl Target {
    /// Opens what the configuration, the environment or `--on` says.
    /// People are told of a host that is met for the first time.
    pub(crate) async fn open(settings: &Settings, environment: &Environment, out: &Out) -> Result<Self> {
        match settings.config.client.on.as_str() {
            LOCAL => Ok(Self::Local(open_node(settings, environment).await?)),
            BEST => {
                Err(CliError::usage("`best` is a host for what is made, and there may be another each time")
                    .hint("`gx create --on best` chooses one and says which; `gx peers best` only shows it"))
            }
            host => Ok(Self::Host(road::open(host, &settings.data, out).await?)),
        }
    }

    /// Returns whether it is this machine, without a host in between.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Lets what was cancelled clean up after itself.
    pub(crate) async fn close(&self) {
        match self {
            Self::Local(node) => node.shutdown().await,
            // The host cleans up by itself when the connection goes.
            Self::Host(_) => {}
        }
    }

    pub(crate) async fn create(
        &self,
        request: CreateRequest,
        key: IdempotencyKey,
        progress: Output,
    ) -> Result<ContainerInfo> {
        either!(self, create(request, Some(key), progress))
    }

    pub(crate) async fn list(&self) -> Result<ContainerList> {
        either!(self, list())
    }

    pub(crate) async fn show(&self, id: &str) -> Result<ContainerInfo> {
        either!(self, show(id))
    }

    pub(crate) async fn start(&self, id: &str) -> Result<ContainerInfo> {
        either!(self, start(id))
    }

    pub(crate) async fn stop(&self, id: &str, options: StopOptions) -> Result<ContainerInfo> {
        either!(self, stop(id, options))
    }

    pub(crate) async fn extend(&self, id: &str, request: ExtendRequest) -> Result<ContainerInfo> {
        either!(self, extend(id, request))
    }

    pub(crate) async fn remove(&self, id: &str, options: RemoveOptions) -> Result<ContainerId> {
        either!(self, remove(id, options))
    }

    pub(crate) async fn passwd(&self, id: &str) -> Result<ContainerInfo> {
        either!(self, passwd(id))
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<Exit> {
        either!(self, wait(id))
    }

    pub(crate) async fn logs(&self, id: &str, options: LogOptions, out: Output) -> Result {
        either!(self, logs(id, options, out))
    }

    pub(crate) async fn stats(&self, id: &str, every_ms: u32, out: Output) -> Result {
        either!(self, stats(id, every_ms, out))
    }

    pub(crate) async fn events(&self, since: Option<Timestamp>, out: Output) -> Result {
        either!(self, events(since, out))
    }

    pub(crate) async fn exec(&self, id: &str, spec: ExecSpec, given: Input, out: Output) -> Result<Exit> {
        either!(self, exec(id, spec, given, out))
    }

    pub(crate) async fn copy_in(&self, id: &str, path: &str, archive: Input) -> Result {
        either!(self, copy_in(id, path, archive))
    }

    pub(crate) async fn copy_out(&self, id: &str, path: &str, out: Output) -> Result {
        either!(self, copy_out(id, path, out))
    }

    /// Connects to a service of a container: directly on this machine, else through the host.
    pub(crate) async fn tunnel(&self, id: &str, service: Service) -> Result<Box<dyn Duplex>> {
        match self {
            Self::Local(node) => Ok(Box::new(node.tunnel(&Caller::Host, id, service).await?.0)),
            Self::Host(client) => Ok(Box::new(client.tunnel(id, service).await?)),
        }
    }

    pub(crate) async fn images(&self, runtime: Option<&PluginName>) -> Result<ImageList> {
        either!(self, images(runtime))
    }

    pub(crate) async fn pull(&self, body: PullBody, progress: Output) -> Result<ImageInfo> {
        either!(self, pull(body, progress))
    }

    pub(crate) async fn build(
        &self,
        query: BuildQuery,
        context: Input,
        progress: Output,
    ) -> Result<ImageInfo> {
        either!(self, build(query, context, progress))
    }

    pub(crate) async fn whoami(&self) -> Result<Whoami> {
        either!(self, whoami())
    }

    pub(crate) async fn invite(&self, request: InviteRequest) -> Result<Invited> {
        either!(self, invite(request))
    }

    pub(crate) async fn invites(&self) -> Result<InviteList> {
        either!(self, invites())
    }

    pub(crate) async fn revoke_invite(&self, id: &str) -> Result<InviteInfo> {
        either!(self, revoke_invite(id))
    }

    pub(crate) async fn members(&self) -> Result<MemberList> {
        either!(self, members())
    }

    pub(crate) async fn allow(&self, id: &str, request: AllowRequest) -> Result<MemberInfo> {
        either!(self, allow(id, request))
    }

    pub(crate) async fn disallow(&self, reference: &str, how: RemoveMember) -> Result<Removal> {
        either!(self, disallow(reference, how))
    }

    pub(crate) async fn specs(&self) -> Result<ServerSpecs> {
        match self {
            Self::Local(node) => Ok(node.specs(&Caller::Host).await),
            Self::Host(client) => Ok(client.specs().await?),
        }
    }

    pub(crate) async fn runtimes(&self) -> Result<Vec<RuntimeStatus>> {
        either!(self, runtimes())
    }
}

/// Opens this machine's own node.
pub(crate) async fn open_node(settings: &Settings, environment: &Environment) -> Result<Arc<Node>> {
    let options = NodeOptions {
        config: settings.config.clone(),
        plugins: host_options(settings, environment)?,
        data: settings.data.clone(),
        version: VERSION.to_owned(),
    };
    Ok(Node::open(options).await?)
}

/// Returns what the plugins of this machine are opened with.
pub(crate) fn host_options(settings: &Settings, environment: &Environment) -> Result<HostOptions> {
    let program =
        std::env::current_exe().map_err(|error| CliError::io("cannot find the program itself", &error))?;
    let beside = program.parent().map(std::path::Path::to_owned).unwrap_or_default();
    Ok(HostOptions {
        config: settings.config.plugins.clone(),
        config_origin: settings.origin(),
        config_text: settings.text.clone(),
        bundled_dirs: vec![beside.clone(), beside.join("../lib/gx")],
        store: settings.data.join("plugins"),
        state: settings.data.join("plugin-state"),
        child_program: program,
        child_env: environment.child.clone(),
        host_version: VERSION.to_owned(),
    })
}
