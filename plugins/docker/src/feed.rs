//! What the main process will find on its standard input, handed over before it starts.
//!
//! The engine takes an attachment to a container that does not run yet: it holds what was written in a pipe of its own
//! until the process is there, also when the connection is long closed. An archive with the same bytes takes it 10 to
//! 60 ms, as it mounts the container's root and runs itself anew to unpack there; this takes less than one.

use std::sync::Arc;

use gx_core::stream::Input;
use gx_core::{ContainerId, ContainerState, ErrorCode, RuntimeError};
use tokio::io::AsyncWriteExt;

use crate::engine::{Engine, to_the_end};
use crate::spec;

/// Writes to the standard input of a container that was not started yet.
pub(crate) async fn feed(
    engine: &Arc<Engine>,
    id: ContainerId,
    mut input: Input,
) -> Result<(), RuntimeError> {
    let mut bytes = Vec::new();
    while let Some(more) = input.next_data().await {
        bytes.extend_from_slice(&more);
    }
    let engine = engine.clone();
    to_the_end(async move {
        let state = engine.inspect(&id).await?.state.unwrap_or_default();
        if spec::state_of(&state) != ContainerState::Created {
            let message = format!("container {id} was started already");
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, message));
        }
        let path = format!("/containers/{id}/attach?stream=1&stdin=1");
        let connection = engine.wire.upgrade(&path, None).await;
        let mut connection = connection.map_err(|error| engine.error_of(&id, error))?;
        let written = async {
            connection.write_all(&bytes).await?;
            connection.shutdown().await
        };
        written.await.map_err(|error| engine.error(error.into()))
    })
    .await
}
