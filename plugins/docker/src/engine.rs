//! What all methods share: the client, the configuration, and work that is finished whoever asked for it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use gx_core::plugin::ConfigIssue;
use gx_core::{ContainerId, ErrorCode, RuntimeError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Config, Endpoint};
use crate::error::runtime_error;
use crate::turns::Turns;
use crate::wire::{self, Wire};

/// Longer than any call lasts.
const A_YEAR: Duration = Duration::from_secs(366 * 86_400);

/// A Docker engine, which may be down.
pub(crate) struct Engine {
    /// For calls that answer soon.
    pub(crate) docker: Docker,
    /// For calls whose answer takes as long as the work.
    pub(crate) patient: Docker,
    /// For raw streams.
    pub(crate) wire: Arc<Wire>,
    /// Where it listens.
    pub(crate) endpoint: Endpoint,
    /// The plugin's own table.
    pub(crate) config: Config,
    /// Who is making a container.
    pub(crate) creating: Turns,
    /// A folder for what does not fit into memory.
    pub(crate) scratch: PathBuf,
}

impl Engine {
    /// Makes the client; nothing is connected yet.
    pub(crate) fn new(config: Config, scratch: PathBuf) -> Result<Self, Vec<ConfigIssue>> {
        let endpoint = config.endpoint().map_err(|_| config.issues())?;
        if !config.issues().is_empty() {
            return Err(config.issues());
        }
        let wire = Arc::new(Wire::new(&endpoint, config.connect_timeout.0));
        let docker = wire::docker(&wire, &config)
            .map_err(|error| vec![ConfigIssue::new("host", error.to_string())])?;
        let patient = docker.clone().with_timeout(A_YEAR);
        Ok(Self { docker, patient, wire, endpoint, config, creating: Turns::default(), scratch })
    }

    /// Returns what an error of the client means.
    pub(crate) fn error(&self, error: Error) -> RuntimeError {
        runtime_error(error, &self.endpoint)
    }

    /// Returns what an error of a call about one container means.
    pub(crate) fn error_of(&self, id: &ContainerId, error: Error) -> RuntimeError {
        let error = self.error(error);
        if error.code == ErrorCode::NotFound && error.field.is_none() {
            return RuntimeError { backend: error.backend, ..RuntimeError::no_container(id) };
        }
        error
    }

    /// Returns what the engine says of a container.
    pub(crate) async fn inspect(&self, id: &ContainerId) -> Result<ContainerInspectResponse, RuntimeError> {
        let answer = self.docker.inspect_container(id.as_str(), None).await;
        answer.map_err(|error| self.error_of(id, error))
    }
}

/// Work whose call was dropped, and which still comes to its end.
static LEFT: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Does the work to its end, also when the future is dropped meanwhile: the engine may have begun it.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    let (done, result) = oneshot::channel();
    let mut task = Watched(Some(tokio::spawn(async move {
        // Where the call was dropped nobody wants the result.
        let _ = done.send(work.await);
    })));
    if let Ok(result) = result.await {
        return result;
    }
    match task.0.take().expect("only a drop takes it before").await {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => Err(RuntimeError::new(ErrorCode::Cancelled, "the docker plugin is shutting down")),
    }
}

/// Begins work that nobody waits for, except the plugin at its end.
pub(crate) fn leave(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(runtime.spawn(work));
    }
}

/// Waits until all that dropped calls have left is done.
pub(crate) async fn settled() {
    loop {
        let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
        if left.is_empty() {
            return;
        }
        for task in left {
            // A panic has been reported where it happened.
            let _ = task.await;
        }
    }
}

/// Work that goes on when its call is dropped.
struct Watched(Option<JoinHandle<()>>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = self.0.take().filter(|task| !task.is_finished()) {
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        }
    }
}
