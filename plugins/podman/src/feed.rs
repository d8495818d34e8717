//! What the main process will find on its standard input, handed over before it starts.
//!
//! The engine attaches to a container that is initialised: conmon and the runtime are there, the process is not. What
//! is written is then in the process's own pipe. An archive with the same bytes takes 30 to 50 ms, as the service runs
//! itself anew to unpack it; this takes 2, and 4 more that nobody waits for.

use std::time::Duration;

use containers_api::conn::hyper::upgrade::Upgraded;
use gx_core::plugin::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::engine::Engine;
use crate::tasks::Tasks;
use crate::{error, lifecycle};

/// Ctrl-Q: by this the service lets go of the connection. Closing it does not do: the service would hold its end, and
/// stay awake, for as long as the container runs.
const DETACH: (&str, &[u8]) = ("ctrl-q", &[0x11]);
/// The service takes the key for one only where it reads it alone; until it has, it is sent again.
const DETACH_PAUSE: Duration = Duration::from_millis(2);
const DETACH_LIMIT: Duration = Duration::from_secs(2);

/// Writes to the standard input of a container that was not started yet.
pub(crate) async fn feed(engine: &Engine, id: &ContainerId, mut input: Input, tasks: &Tasks) -> Result<()> {
    let mut bytes = Vec::new();
    while let Some(more) = input.next_data().await {
        bytes.extend_from_slice(&more);
    }
    initialise(engine, id).await?;
    let path = format!("/containers/{id}/attach");
    let query = [
        ("stream", "true"),
        ("stdin", "true"),
        ("stdout", "false"),
        ("stderr", "false"),
        ("detachKeys", DETACH.0),
    ];
    let attached = engine.upgrade(&path, &query, None::<&()>).await;
    let mut connection = attached.map_err(|error| error::about(id, "feed", &error))?;
    connection.write_all(&bytes).await.map_err(|error| {
        RuntimeError::new(ErrorCode::Unavailable, "podman did not take the input").backend(error.to_string())
    })?;
    // What is written is on its way: nobody waits until the service lets go, which takes it longer than all before.
    let running = tasks.begin();
    tokio::spawn(async move {
        // Where it does not, it stays awake for as long as the container runs, and no more comes of it.
        let _ = detach(&mut connection).await;
        drop(running);
    });
    Ok(())
}

async fn initialise(engine: &Engine, id: &ContainerId) -> Result<()> {
    let path = format!("/containers/{id}/init");
    let Err(error) = engine.post(&path).await else { return Ok(()) };
    match error::said(&error) {
        Some((304, _)) => {}
        _ => return Err(lifecycle::not_started(id, &error).await),
    }
    match lifecycle::inspect(engine, id).await?.state() {
        ContainerState::Created => Ok(()),
        _ => {
            let message = format!("container {id} was started already");
            Err(RuntimeError::new(ErrorCode::FailedPrecondition, message))
        }
    }
}

/// Ends the attachment.
async fn detach(connection: &mut Upgraded) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut answer = [0; 64];
    let ended = reader.read(&mut answer);
    let keys = async {
        loop {
            sleep(DETACH_PAUSE).await;
            if writer.write_all(DETACH.1).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let either = async {
        tokio::select! {
            ended = ended => ended.map(drop),
            () = keys => unreachable!("it never ends"),
        }
    };
    timeout(DETACH_LIMIT, either).await.unwrap_or_else(|late| Err(late.into()))
}
