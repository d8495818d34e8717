//! Starting, waiting for, signalling, stopping and removing.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use gx_core::runtime::{RemoveOptions, StopOptions};
use gx_core::{ContainerId, ContainerState, ErrorCode, Exit, RuntimeError};

use crate::engine::{Engine, to_the_end};
use crate::{oom, spec};

/// How long a stop waits before it kills where nobody says; moby's own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Starts a container.
pub(crate) async fn start(engine: &Arc<Engine>, id: ContainerId) -> Result<(), RuntimeError> {
    let engine = engine.clone();
    to_the_end(async move {
        let started = engine.patient.start_container(id.as_str(), None).await;
        started.map_err(|error| engine.error_of(&id, error))
    })
    .await
}

/// Waits for the end of the main process.
pub(crate) async fn wait(engine: &Engine, id: ContainerId) -> Result<Exit, RuntimeError> {
    let state = oom::inspect(engine, &id).await?.state.unwrap_or_default();
    match spec::state_of(&state) {
        ContainerState::Created => {
            return Err(RuntimeError::new(
                ErrorCode::FailedPrecondition,
                format!("container {id} was never started"),
            ));
        }
        ContainerState::Exited => return Ok(spec::exit(&state)),
        _ => {}
    }
    let code = ended(engine, &id, "not-running").await?;
    let state = oom::inspect(engine, &id).await?.state.unwrap_or_default();
    match spec::state_of(&state) {
        ContainerState::Exited => Ok(spec::exit(&state)),
        ContainerState::Removing | ContainerState::Unknown => Err(RuntimeError::no_container(&id)),
        _ => Ok(Exit::from_code(code)), // started again meanwhile
    }
}

/// Waits for a condition of the engine's, and returns the exit code.
pub(crate) async fn ended(engine: &Engine, id: &ContainerId, condition: &str) -> Result<i32, RuntimeError> {
    let options = WaitContainerOptionsBuilder::default().condition(condition).build();
    let mut answers = std::pin::pin!(engine.patient.wait_container(id.as_str(), Some(options)));
    match answers.next().await {
        Some(Ok(answer)) => Ok(spec::exit_code(Some(answer.status_code))),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(spec::exit_code(Some(code))),
        Some(Err(error)) => Err(engine.error_of(id, error)),
        None => Err(RuntimeError::no_container(id)),
    }
}

/// Sends a signal to the main process.
pub(crate) async fn signal(engine: &Engine, id: ContainerId, signal: &str) -> Result<(), RuntimeError> {
    kill(engine, &id, &spec::signal(signal)?).await.map_err(|error| engine.error_of(&id, error))
}

async fn kill(engine: &Engine, id: &ContainerId, signal: &str) -> Result<(), Error> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    engine.patient.kill_container(id.as_str(), Some(options)).await
}

/// Ends the main process.
pub(crate) async fn stop(
    engine: &Arc<Engine>,
    id: ContainerId,
    options: StopOptions,
) -> Result<(), RuntimeError> {
    let signal = options.signal.as_deref().map(spec::signal).transpose()?;
    let engine = engine.clone();
    to_the_end(async move {
        let stopped = match (signal, options.grace_ms) {
            (None, None) => engine_stop(&engine, &id, None).await,
            (None, Some(ms)) if ms % 1_000 == 0 => engine_stop(&engine, &id, Some(ms / 1_000)).await,
            (signal, grace_ms) => signal_then_kill(&engine, &id, signal, grace_ms).await,
        };
        match stopped {
            Err(error) if is_over(&error) => Ok(()),
            other => other.map_err(|error| engine.error_of(&id, error)),
        }
    })
    .await
}

/// The engine's own stop counts whole seconds, and takes no signal before API 1.42.
async fn engine_stop(engine: &Engine, id: &ContainerId, seconds: Option<u32>) -> Result<(), Error> {
    let options = seconds.map(|seconds| {
        StopContainerOptionsBuilder::default().t(i32::try_from(seconds).unwrap_or(i32::MAX)).build()
    });
    engine.patient.stop_container(id.as_str(), options).await
}

async fn signal_then_kill(
    engine: &Engine,
    id: &ContainerId,
    signal: Option<String>,
    grace_ms: Option<u32>,
) -> Result<(), Error> {
    let config = engine.docker.inspect_container(id.as_str(), None).await?.config.unwrap_or_default();
    let own_signal = config.stop_signal.filter(|signal| !signal.is_empty());
    let signal = signal.or(own_signal).unwrap_or_else(|| "SIGTERM".to_owned());
    let own_grace =
        config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let grace = grace_ms.map(|ms| Duration::from_millis(ms.into())).or(own_grace).unwrap_or(DEFAULT_GRACE);
    kill(engine, id, &signal).await?;
    if tokio::time::timeout(grace, ended(engine, id, "not-running")).await.is_ok() {
        return Ok(());
    }
    kill(engine, id, "SIGKILL").await?;
    let _ = ended(engine, id, "not-running").await; // removed meanwhile is ended, too
    Ok(())
}

/// Whether the error says that there is nothing left to stop.
fn is_over(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        Error::DockerResponseServerError { status_code: 409, message } => message.contains("is not running"),
        _ => false,
    }
}

/// Removes a container with its anonymous volumes.
pub(crate) async fn remove(
    engine: &Arc<Engine>,
    id: ContainerId,
    options: RemoveOptions,
) -> Result<(), RuntimeError> {
    let engine = engine.clone();
    to_the_end(async move {
        let how = RemoveContainerOptionsBuilder::default().v(true).force(options.force).build();
        match engine.patient.remove_container(id.as_str(), Some(how)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(Error::DockerResponseServerError { status_code: 409, message })
                if message.contains("already in progress") =>
            {
                let _ = ended(&engine, &id, "removed").await; // gone before we asked is gone, too
                Ok(())
            }
            Err(error) => Err(engine.error_of(&id, error)),
        }
    })
    .await
}
