//! Create and start as one piece of work that nobody's going away can leave half done: it runs in a task of its own,
//! learns when it is no longer wanted, and then removes what it has made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gx_core::config::LimitConfig;
use gx_core::network::NetworkSpec;
use gx_core::runtime::RemoveOptions;
use gx_core::{Container, ContainerId, ContainerSpec, ErrorCode, NodeId, PluginName, Runtime};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::admission::Ticket;
use super::create::seed;
use super::firewall::Firewall;
use super::gpus::GpuOrder;
use super::guest::Package;
use super::install::Install;
use super::lock::{CreatingLock, Turn};
use super::network;
use super::ports::{HostPort, PortWish, Ports};
use crate::error::{Result, ServerError};

/// How long whoever clears up after a crash may keep others from making containers.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// How often other ports are tried when the ones chosen turn out to be taken.
const ATTEMPTS: u64 = 4;

/// Everything that is needed to make one container.
pub(super) struct Making {
    pub(super) name: PluginName,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) spec: ContainerSpec,
    /// The GPUs that are asked for, where any are.
    pub(super) gpus: Option<GpuOrder>,
    /// Whose host this is.
    pub(super) host: NodeId,
    /// What is put into it before it starts.
    pub(super) package: Option<Package>,
    pub(super) wish: PortWish,
    pub(super) limits: LimitConfig,
    pub(super) ports: Ports,
    pub(super) taken: BTreeSet<HostPort>,
    pub(super) creating: CreatingLock,
    pub(super) firewall: Firewall,
    /// The turn of the key and the place among the pending, kept to the end.
    pub(super) held: (OwnedMutexGuard<()>, Ticket),
}

type Tell = oneshot::Sender<Result<Container>>;

impl Making {
    /// Makes the container and tells, or, when nobody listens any more, undoes it.
    pub(super) async fn run(mut self, mut tell: Tell) {
        let result = self.attempt(&mut tell).await;
        let id = result.as_ref().ok().map(|container| container.id.clone());
        if id.is_some() {
            self.held.1.made();
        }
        if tell.send(result).is_err()
            && let Some(id) = id
        {
            self.undo(&id).await;
        }
        drop(self.held);
    }

    async fn attempt(&mut self, tell: &mut Tell) -> Result<Container> {
        let key = self.spec.key().unwrap_or_default().to_owned();
        let mut attempt = 0;
        loop {
            let chosen =
                self.ports.choose(&self.wish, &self.limits, &self.taken, seed(&key).wrapping_add(attempt))?;
            self.spec.ports = chosen.ports.clone();
            attempt += 1;
            match self.once(tell).await {
                Err(error) if attempt < ATTEMPTS && self.wish.has_choice() && ports_taken(&error) => {
                    tracing::debug!(%error, "trying other ports");
                    self.taken.extend(
                        chosen.ports.iter().filter_map(|port| Some((port.protocol, port.host_port?))),
                    );
                }
                other => return other,
            }
        }
    }

    async fn once(&self, tell: &mut Tell) -> Result<Container> {
        let of = ServerError::of(&self.name);
        let unwanted = || Err(ServerError::Internal("nobody wants it any more".to_owned()));
        let (spec, choosing) = tokio::select! {
            settled = self.settle() => settled?,
            () = tell.closed() => return unwanted(),
        };
        let _creating = self.creating.share(LOCK_PATIENCE).await?;
        if tell.is_closed() {
            return unwanted();
        }
        // Not to be given up half way: an engine may make the container after nobody listens any more.
        let (created, closed_off) = tokio::join!(self.runtime.create(spec), self.close_off());
        let id = created.map_err(&of)?;
        drop(choosing); // from here on its label says which GPUs it has
        let started = match closed_off {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                started = self.start(&id) => started,
                () = tell.closed() => unwanted(),
            },
        };
        if started.is_err() {
            self.undo(&id).await;
        }
        started
    }

    /// Makes sure that the firewall stands: it may have gone with the last container since the request was checked, and
    /// does not go while others are kept from it.
    async fn close_off(&self) -> Result<()> {
        match &self.spec.network {
            Some(NetworkSpec::Bridge(_)) => self.firewall.ensure().await,
            Some(NetworkSpec::None | NetworkSpec::Other) | None => Ok(()),
        }
    }

    async fn settle(&self) -> Result<(ContainerSpec, Option<Turn>)> {
        match &self.gpus {
            None => Ok((self.spec.clone(), None)),
            Some(order) => {
                let (spec, turn) = order.settle(self.spec.clone()).await?;
                Ok((spec, Some(turn)))
            }
        }
    }

    async fn start(&self, id: &ContainerId) -> Result<Container> {
        let install = Install {
            name: &self.name,
            runtime: &self.runtime,
            id,
            image: &self.spec.image,
            host: self.host,
            package: self.package.as_ref(),
        };
        install.start().await?;
        if let Some(NetworkSpec::Bridge(bridge)) = &self.spec.network {
            self.firewall.check_bridge(&bridge.name)?;
        }
        self.runtime.inspect(id.clone()).await.map_err(ServerError::of(&self.name))
    }

    async fn undo(&self, id: &ContainerId) {
        match self.runtime.remove(id.clone(), RemoveOptions { force: true }).await {
            Ok(()) => {
                tracing::info!(container = %self.spec.name, "removed what was half made");
                network::leave(&self.name, &self.runtime, &self.spec.labels).await;
            }
            Err(error) => {
                tracing::warn!(container = %self.spec.name, %error, "cannot remove what was half made")
            }
        }
    }
}

fn ports_taken(error: &ServerError) -> bool {
    matches!(error, ServerError::Runtime { error, .. }
        if error.code == ErrorCode::AlreadyExists && error.field.as_deref() == Some("ports"))
}
