//! The engine that runs containers: the trait every runtime plugin implements. What its methods take and give is in
//! the files beside.
//!
//! Policy (who may, how much, what name) is the host's; a runtime does what it is told. State lives in
//! the engine, so an implementation keeps none that a restart would lose.

use async_trait::async_trait;

use crate::container::{Container, ContainerSpec, Exit};
use crate::id::{ContainerId, Timestamp, VolumeName};
use crate::image::{Image, ImageRef};
use crate::stream::{Input, Output};

mod about;
mod error;
mod quota;
mod values;
pub use about::{Capabilities, Feature, Health, HealthStatus, RuntimeInfo};
pub use error::{ErrorCode, RuntimeError};
pub use quota::{has_project_quota, may_bound_disks};
pub use values::{
    BuildRequest, Event, EventAction, ExecSpec, ListFilter, LogOptions, Progress, PullRequest, RegistryAuth,
    RemoveOptions, Stats, StopOptions, VolumePrune,
};

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
    /// A network that is missing is made. One of the same name that is not ours, or not as it is asked for, is not used.
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

    /// Removes a network that [`create`](Runtime::create) has made, unless a container is attached to it, running or
    /// not. One that is in use or missing is `Ok`.
    async fn remove_network(&self, name: String) -> Result<()> {
        let _ = name;
        Err(RuntimeError::unsupported("remove_network"))
    }

    /// Removes volumes that no container mounts, running or not, and returns their names.
    ///
    /// # Errors
    /// `Unsupported` where the runtime removes none.
    async fn prune_volumes(&self, prune: VolumePrune) -> Result<Vec<VolumeName>> {
        let _ = prune;
        Err(RuntimeError::unsupported("prune_volumes"))
    }

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

    /// Writes what the main process will find on its standard input, to a container that is made to be
    /// [`fed`](ContainerSpec::fed), has no terminal, and was not started yet. Whole lines, 32 KiB at most; it returns
    /// when the engine has them. What comes after the last, an end or anything else, is not said.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` when it was started; what [`start`](Runtime::start) may say.
    async fn feed(&self, id: ContainerId, input: Input) -> Result<()> {
        let _ = (id, input);
        Err(RuntimeError::unsupported("feed"))
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
    /// the reader is gone. For one container `create` comes before `start`, `exit` and `remove`,
    /// and what is told is seen by [`list`](Self::list) too.
    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let _ = (since, out);
        Err(RuntimeError::unsupported("events"))
    }

    /// Lets go of the engine, once all that dropped calls still undo is undone. Containers keep running.
    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
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
