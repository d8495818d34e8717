//! Starting a container with the guest in it: the settings are handed over, and the volume with the program is filled
//! where it is not.
//!
//! Nobody looks for the volume before: an engine makes it, empty, with the first container that names it, and then that
//! container cannot start. So the ordinary way costs nothing, and a volume that was removed or half filled heals.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gx_core::container::label;
use gx_core::guest;
use gx_core::runtime::RemoveOptions;
use gx_core::stream::input;
use gx_core::{ContainerId, ContainerSpec, ErrorCode, ImageRef, NodeId, PluginName, Runtime, Timestamp};
use tokio::sync::Mutex;

use super::guest::{Package, filler, filling, send, stale};
use super::names::new_key;
use crate::error::{Result, ServerError};

/// How long a volume stays that nobody uses: two versions that are used in turn on one machine do not undo each other's
/// work all the time.
const OTHERS_STAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One of a process fills at a time.
static FILLING: Mutex<()> = Mutex::const_new(());

/// A container that is made and was never started.
pub(super) struct Install<'a> {
    pub(super) name: &'a PluginName,
    pub(super) runtime: &'a Arc<dyn Runtime>,
    pub(super) id: &'a ContainerId,
    pub(super) image: &'a ImageRef,
    /// Whose host this is.
    pub(super) host: NodeId,
    /// `None` leaves the container as it is.
    pub(super) package: Option<&'a Package>,
}

impl Install<'_> {
    /// Puts the guest in, where there is to be one, and starts the container.
    pub(super) async fn start(&self) -> Result<()> {
        match self.once().await {
            Err(error) if self.package.is_some_and(Package::is_shared) && cannot_run(&error) => {}
            done => return done,
        }
        let filled = match FILLING.try_lock() {
            Ok(_turn) => self.fill().await,
            Err(_) => {
                let _turn = FILLING.lock().await;
                // Whoever had the turn has most likely filled it.
                match self.once().await {
                    Ok(()) => return Ok(()),
                    Err(_) => self.fill().await,
                }
            }
        };
        // Two processes may be in each other's way while they fill, and it is full all the same.
        match (self.once().await, filled) {
            (Err(_), Err(error)) => Err(error),
            (done, _) => done,
        }
    }

    async fn once(&self) -> Result<()> {
        if let Some(package) = self.package {
            self.put(package).await?;
        }
        self.runtime.start(self.id.clone()).await.map_err(ServerError::of(self.name))
    }

    async fn put(&self, package: &Package) -> Result<()> {
        if let Some((folder, archive)) = package.archive() {
            copy(self.name, self.runtime, self.id, folder, archive).await?;
        }
        let Some(line) = package.line() else { return Ok(()) };
        let (sender, told) = input();
        let (fed, ()) = tokio::join!(self.runtime.feed(self.id.clone(), told), send(vec![line], sender));
        match fed {
            // Somebody has started it meanwhile, after feeding it: an engine goes on with the start of a host that died.
            Err(error) if error.code == ErrorCode::FailedPrecondition => Ok(()),
            fed => fed.map_err(ServerError::of(self.name)),
        }
    }

    /// Fills the volume, through a container that is never started.
    async fn fill(&self) -> Result<()> {
        let of = ServerError::of(self.name);
        tracing::info!(runtime = %self.name, "putting the guest's program into its volume");
        let id = self.runtime.create(self.filler()).await.map_err(&of)?;
        let filled =
            copy(self.name, self.runtime, &id, guest::PROGRAM_FOLDER, filling(new_key().as_str())).await;
        let removed = self.runtime.remove(id, RemoveOptions { force: true }).await.map_err(&of);
        // A volume that had to be filled is most often that of a new version.
        sweep(self.name, self.runtime, SystemTime::now()).await;
        filled.and(removed)
    }

    fn filler(&self) -> ContainerSpec {
        let key = new_key();
        let name = format!("gx-guest-{}", &key.as_str()[..key.as_str().len().min(16)].to_lowercase());
        let name = name.parse().expect("letters, digits and '-' are a name");
        let mut spec = ContainerSpec::new(name, self.image.clone());
        filler(&mut spec);
        // So what a crash leaves of it is swept.
        spec.labels.insert(label::HOST.to_owned(), self.host.to_string());
        spec.labels.insert(label::OWNER.to_owned(), self.host.to_string());
        spec
    }
}

/// Removes the volumes of other versions that no container mounts any more. What fails is for the next time.
pub(super) async fn sweep(name: &PluginName, runtime: &Arc<dyn Runtime>, now: SystemTime) {
    let prune = stale(Timestamp::from(now - OTHERS_STAY));
    match runtime.prune_volumes(prune).await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!(runtime = %name, ?removed, "removed what older versions have left"),
        Err(error) if error.code == ErrorCode::Unsupported => {}
        Err(error) => tracing::warn!(runtime = %name, %error, "cannot remove what older versions have left"),
    }
}

async fn copy(
    name: &PluginName,
    runtime: &Arc<dyn Runtime>,
    id: &ContainerId,
    folder: &str,
    archive: Vec<Bytes>,
) -> Result<()> {
    let (sender, reader) = input();
    let copied = runtime.copy_in(id.clone(), folder.to_owned(), reader);
    let (copied, ()) = tokio::join!(copied, send(archive, sender));
    copied.map_err(ServerError::of(name))
}

/// Returns whether the engine says that it cannot run what it is to run, which is the guest.
fn cannot_run(error: &ServerError) -> bool {
    matches!(error, ServerError::Runtime { error, .. }
        if error.code == ErrorCode::InvalidArgument && error.field.as_deref() == Some("command"))
}
