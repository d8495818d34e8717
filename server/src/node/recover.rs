//! After a crash: what was made and never started is removed. Everything else is found again by its labels, so there is
//! nothing to restore.

use std::time::{Duration, SystemTime};

use gx_core::api::{ContainerInfo, UnavailableRuntime};
use gx_core::runtime::RemoveOptions;
use gx_core::{ContainerState, PluginName};

use super::Node;
use super::containers::{Found, info, timely};
use super::extend::LOCK_PATIENCE as LEASE_PATIENCE;
use super::{install, network};
use crate::error::Result;

/// How long the makers of containers are waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What was found after a start.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RecoverReport {
    /// Containers that were made and never started, now removed.
    pub removed: Vec<ContainerInfo>,
    /// How many containers are there and stay.
    pub kept: usize,
    /// Runtimes that could not be asked.
    pub unavailable: Vec<UnavailableRuntime>,
}

impl Node {
    /// Removes what a crash between create and start has left, in every enabled runtime.
    ///
    /// # Errors
    /// [`ServerError::State`] when containers are being made all the time, or the lock cannot be had.
    pub async fn recover(&self) -> Result<RecoverReport> {
        let mut report = RecoverReport::default();
        for name in self.runtimes.names() {
            let one = self.recover_in(&name).await?;
            report.removed.extend(one.removed);
            report.unavailable.extend(one.unavailable);
            report.kept += one.kept;
        }
        Ok(report)
    }

    pub(crate) async fn recover_in(&self, name: &PluginName) -> Result<RecoverReport> {
        // With the lock held alone nobody is between create and start.
        let _alone = self.creating.alone(LOCK_PATIENCE).await?;
        let listing = self.ours_in(std::slice::from_ref(name), &[]).await;
        if listing.unavailable.is_empty() {
            let there = listing.found.iter().map(|found| found.container.id.as_str()).collect();
            // Else the draft of an end that is just being written is swept.
            let _alone = self.extensions.lock().take(LEASE_PATIENCE).await?;
            self.extensions.sweep(name, &there);
        }
        if listing.unavailable.is_empty() {
            install::sweep(name, &self.runtimes.get(name).await?, SystemTime::now()).await;
        }
        let mut report = RecoverReport { unavailable: listing.unavailable, ..RecoverReport::default() };
        if !listing.found.is_empty() {
            self.runtimes.mark_used(name)?; // the note may be lost where the engine is not
        }
        if listing.found.iter().any(|found| network::name_of(&found.container).is_some())
            && let Err(error) = self.firewall.ensure().await
        {
            tracing::error!(%error, hint = error.hint(), "members' containers are not closed off");
        }
        for found in listing.found {
            if found.container.state != ContainerState::Created {
                report.kept += 1;
                continue;
            }
            match remove(&found).await {
                Ok(()) => report.removed.push(info(&found.name, found.container)),
                Err(error) => {
                    tracing::warn!(runtime = %name, %error, "cannot remove what was half made");
                    report.kept += 1;
                }
            }
        }
        Ok(report)
    }
}

async fn remove(found: &Found) -> Result<()> {
    timely(&found.name, found.remove(RemoveOptions { force: true })).await
}
