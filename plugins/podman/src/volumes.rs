//! Volumes that nobody uses any more.

use gx_core::VolumeName;
use gx_core::plugin::*;
use serde::Deserialize;
use serde_json::json;

use crate::container::time;
use crate::engine::{Engine, again};
use crate::error;

/// What the service lists.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    #[serde(default)]
    created_at: String,
}

/// Removes what is asked for; the service refuses where a container mounts it, running or not.
pub(crate) async fn prune(engine: &Engine, prune: &VolumePrune) -> Result<Vec<VolumeName>> {
    let filters = json!({"dangling": ["true"]}).to_string();
    let query = [("filters", filters.as_str())];
    let listing = again(error::is_volume_changing, || engine.get_json("/volumes/json", &query));
    let listed: Vec<Volume> =
        listing.await.map_err(|error| error::translated("the list of volumes", &error))?;
    let mut removed = Vec::new();
    for volume in listed {
        let Ok(name) = volume.name.parse::<VolumeName>() else { continue };
        // What does not say when it was made stays.
        if !time(&volume.created_at).is_some_and(|made| prune.is_about(name.as_str(), made)) {
            continue;
        }
        match engine.delete(&format!("/volumes/{name}")).await {
            Ok(()) => removed.push(name),
            // Somebody else has removed it, or has begun to use it.
            Err(error) if error::said(&error).is_some_and(|(status, _)| matches!(status, 404 | 409)) => {}
            Err(error) if error::is_volume_changing(&error) => {}
            Err(error) => return Err(error::translated("removal of a volume", &error)),
        }
    }
    Ok(removed)
}
