//! Volumes that nobody uses any more.

use bollard::errors::Error;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use gx_core::runtime::VolumePrune;
use gx_core::{RuntimeError, VolumeName};

use crate::engine::Engine;
use crate::spec::timestamp;

/// Removes what is asked for; the engine refuses where a container mounts it, running or not.
pub(crate) async fn prune(engine: &Engine, prune: &VolumePrune) -> Result<Vec<VolumeName>, RuntimeError> {
    let filters = [
        ("dangling".to_owned(), vec!["true".to_owned()]),
        ("name".to_owned(), vec![prune.prefix.to_string()]),
    ];
    let options = ListVolumesOptionsBuilder::default().filters(&filters.into()).build();
    let listed = engine.docker.list_volumes(Some(options)).await.map_err(|error| engine.error(error))?;
    let mut removed = Vec::new();
    for volume in listed.volumes.unwrap_or_default() {
        // What does not say when it was made stays.
        let made = volume.created_at.as_deref().and_then(timestamp);
        let Ok(name) = volume.name.parse::<VolumeName>() else { continue };
        if !made.is_some_and(|made| prune.is_about(name.as_str(), made)) {
            continue;
        }
        match engine.docker.remove_volume(name.as_str(), None::<RemoveVolumeOptions>).await {
            Ok(()) => removed.push(name),
            // Somebody else has removed it, or has begun to use it.
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            Err(error) => return Err(engine.error(error)),
        }
    }
    Ok(removed)
}
