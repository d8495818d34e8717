//! The node's own change of key. A server that runs has the old key in memory and in its certificate, so none may.

use std::path::Path;
use std::time::SystemTime;

use gx_core::Timestamp;
use gx_core::api::Rotation;

use super::lock::ServerLock;
use crate::error::Result;

/// Makes a new key for the node with this data folder, and returns what both keys have signed. The old one is kept.
///
/// # Errors
/// [`ServerError::Locked`](crate::ServerError::Locked) while a server runs; `State` and `Key` of the same.
pub fn rotate(data: &Path) -> Result<Rotation> {
    let _alone = ServerLock::take(data)?;
    Ok(gx_identity::rotate(data, Timestamp::from(SystemTime::now()))?)
}
