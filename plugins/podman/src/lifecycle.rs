//! Starts, ends and removes containers.
//!
//! Podman's own stop is not used: the signal cannot be chosen, its time-out is in whole seconds, and the client
//! crate's spelling of it is ignored, so that each stop would take ten.

use std::time::Duration;

use gx_core::plugin::*;
use podman_api::opts::ContainerDeleteOpts;

use crate::container::Inspected;
use crate::engine::{Engine, EngineError, again};
use crate::{conmon, error};

/// How often the engine looks whether a container that was told to end has done so. It costs the engine about a
/// millisecond of CPU each time.
const STOP_POLL: &str = "20ms";
/// The same for a container that is waited for, perhaps for days.
const WAIT_POLL: &str = "100ms";
/// How long a killed process may take to be gone; one in an uninterruptible call can outlive this.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Returns what the engine knows of a container.
pub(crate) async fn inspect(engine: &Engine, id: &ContainerId) -> Result<Inspected> {
    look_at(engine, id.as_str()).await.map_err(|error| error::about(id, "inspect", &error))
}

/// Asks the engine for a container of this id or name.
///
/// Podman reads the control group of the main process, and fails where that is gone while its end is not yet noted.
pub(crate) async fn look_at(engine: &Engine, container: &str) -> Result<Inspected, EngineError> {
    let path = format!("/containers/{container}/json");
    again(error::is_ending, || engine.get_json(&path, &[])).await
}

/// Starts a container; a running one is well.
pub(crate) async fn start(engine: &Engine, id: &ContainerId) -> Result<()> {
    match engine.container(id).start(None).await {
        Err(error) if error::said(&error).is_none_or(|(status, _)| status != 304) => {
            Err(not_started(id, &error).await)
        }
        _ => Ok(()),
    }
}

/// Returns why a container was not started or initialised, once what Podman began for it is taken down.
pub(crate) async fn not_started(id: &ContainerId, error: &EngineError) -> RuntimeError {
    if error::said(error).is_some() {
        conmon::gone(id).await;
    }
    error::of_start(id, error)
}

/// Waits until the main process has ended.
pub(crate) async fn wait(engine: &Engine, id: &ContainerId) -> Result<Exit> {
    let inspected = inspect(engine, id).await?;
    if inspected.state() == ContainerState::Created {
        let message = format!("container {id} was never started");
        return Err(RuntimeError::new(ErrorCode::FailedPrecondition, message));
    }
    if let Some(exit) = inspected.exit() {
        return Ok(exit);
    }
    let code = ended(engine, id, WAIT_POLL).await.map_err(|error| error::about(id, "wait", &error))?;
    // Between the end and this look it may have been started anew; then only the code is known.
    Ok(inspect(engine, id).await?.exit().unwrap_or_else(|| Exit::from_code(code)))
}

/// Waits for the end of a container that was started, and returns the exit code.
pub(crate) async fn ended(engine: &Engine, id: &ContainerId, poll: &str) -> Result<i32, EngineError> {
    engine.post_json(&format!("/containers/{id}/wait"), &[("interval", poll)], None::<&()>).await
}

/// As [`ended`], with the calm poll of those who only watch.
pub(crate) async fn watched_end(engine: &Engine, id: &ContainerId) -> Result<i32, EngineError> {
    ended(engine, id, WAIT_POLL).await
}

/// Ends a container: a signal, and after the grace a kill.
pub(crate) async fn stop(engine: &Engine, id: &ContainerId, options: &StopOptions) -> Result<()> {
    let inspected = match inspect(engine, id).await {
        Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
        inspected => inspected?,
    };
    match inspected.state() {
        ContainerState::Created | ContainerState::Exited => return Ok(()),
        // A frozen process cannot handle a signal.
        ContainerState::Paused => thaw(engine, id).await?,
        ContainerState::Running | ContainerState::Removing | ContainerState::Unknown => {}
    }
    let signal = options.signal.clone().unwrap_or_else(|| inspected.stop_signal());
    let grace = match options.grace_ms {
        Some(ms) => Duration::from_millis(ms.into()),
        None => Duration::from_secs(inspected.stop_grace_s().into()),
    };
    if !told(engine, id, &signal).await? || is_ended_within(engine, id, grace).await? {
        return Ok(());
    }
    if !told(engine, id, "SIGKILL").await? || is_ended_within(engine, id, KILL_LIMIT).await? {
        return Ok(());
    }
    let message = format!("container {id} still runs {} s after it was killed", KILL_LIMIT.as_secs());
    Err(RuntimeError::new(ErrorCode::DeadlineExceeded, message))
}

/// Sends a signal to the main process.
pub(crate) async fn signal(engine: &Engine, id: &ContainerId, signal: &str) -> Result<()> {
    if !may_be_signal(signal) {
        let message = format!("{signal:?} is no signal");
        return Err(RuntimeError::new(ErrorCode::InvalidArgument, message).field("signal"));
    }
    engine.container(id).send_signal(signal).await.map_err(|error| of_signal(id, signal, &error))
}

/// Removes a container. For a running one this is a single request, as the engine's removal kills too and two would
/// take longer.
pub(crate) async fn remove(engine: &Engine, id: &ContainerId, options: RemoveOptions) -> Result<()> {
    let delete = ContainerDeleteOpts::builder().volumes(true);
    let delete = (if options.force { delete.force(true).timeout(0) } else { delete }).build();
    match again(error::is_busy, || async { engine.container(id).delete(&delete).await }).await {
        Err(error) if error::is_missing(&error) => Ok(()),
        Err(error) => Err(of_remove(id, &error)),
        Ok(_) => Ok(()),
    }
}

/// Podman takes nothing for SIGKILL and any number for a signal; names it knows better. Linux has 64 (signal(7)).
fn may_be_signal(signal: &str) -> bool {
    match signal.parse::<i64>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => !signal.is_empty(),
    }
}

fn of_remove(id: &ContainerId, error: &EngineError) -> RuntimeError {
    match error::said(error) {
        Some((_, text)) if text.contains("as it is running") || text.contains("as it is paused") => {
            let message = format!("container {id} runs; it is removed only by force or once it is stopped");
            RuntimeError::new(ErrorCode::FailedPrecondition, message).backend(text)
        }
        _ => error::about(id, "remove", error),
    }
}

fn of_signal(id: &ContainerId, signal: &str, error: &EngineError) -> RuntimeError {
    let translated = error::about(id, "signal", error);
    match translated.code {
        ErrorCode::InvalidArgument => RuntimeError {
            message: format!("{signal:?} is no signal"),
            field: Some("signal".to_owned()),
            ..translated
        },
        ErrorCode::FailedPrecondition => {
            RuntimeError { message: format!("container {id} does not run"), ..translated }
        }
        _ => translated,
    }
}

/// Sends a signal on the way to the end; `false` says that there is nothing left to end.
async fn told(engine: &Engine, id: &ContainerId, name: &str) -> Result<bool> {
    match signal(engine, id, name).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::FailedPrecondition) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn is_ended_within(engine: &Engine, id: &ContainerId, limit: Duration) -> Result<bool> {
    match tokio::time::timeout(limit, ended(engine, id, STOP_POLL)).await {
        Err(_) => Ok(false),
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) if error::is_missing(&error) => Ok(true),
        Ok(Err(error)) => Err(error::about(id, "wait", &error)),
    }
}

async fn thaw(engine: &Engine, id: &ContainerId) -> Result<()> {
    match engine.container(id).unpause().await {
        Err(error) if !error::is_missing(&error) => Err(error::about(id, "unpause", &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_signals_are_those_of_the_kernel() {
        assert!(["1", "64", "SIGHUP", "hup"].into_iter().all(may_be_signal));
        assert!(!["", "0", "-1", "65", "99999999999"].into_iter().any(may_be_signal));
    }
}
