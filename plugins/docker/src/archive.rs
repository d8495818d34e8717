//! Files in and out of a container, as tar archives that are never held whole.

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use gx_core::stream::{Input, Output};
use gx_core::{ContainerId, RuntimeError};

use crate::engine::Engine;

/// Unpacks an archive below a folder.
pub(crate) async fn copy_in(
    engine: &Engine,
    id: ContainerId,
    path: String,
    archive: Input,
) -> Result<(), RuntimeError> {
    let options = UploadToContainerOptionsBuilder::default().path(&path).build();
    let body = bollard::body_stream(bytes_of(archive));
    let copied = engine.patient.upload_to_container(id.as_str(), Some(options), body).await;
    copied.map_err(|error| engine.error_of(&id, error))
}

/// Writes a file or folder as an archive.
pub(crate) async fn copy_out(
    engine: &Engine,
    id: ContainerId,
    path: String,
    out: Output,
) -> Result<(), RuntimeError> {
    let options = DownloadFromContainerOptionsBuilder::default().path(&path).build();
    let mut bytes = engine.docker.download_from_container(id.as_str(), Some(options));
    loop {
        let next = tokio::select! {
            () = out.gone() => return Ok(()),
            next = bytes.try_next() => next.map_err(|error| engine.error_of(&id, error))?,
        };
        let Some(chunk) = next else { return Ok(()) };
        if out.stdout(&chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// Returns the bytes of an input as a stream.
pub(crate) fn bytes_of(input: Input) -> impl Stream<Item = Bytes> + Send + 'static {
    futures_util::stream::unfold(input, |mut input| async move {
        let bytes = input.next_data().await?;
        Some((bytes, input))
    })
}
