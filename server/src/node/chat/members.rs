//! The chat follows the list of members: who is a member no longer is out, and who has a new key is in with that one. A file
//! beside the messages says who was one when that was last looked at, so that it is no matter whether a server ran meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gx_chat::hub::Hub;
use gx_core::NodeId;

use crate::error::{ChatError, Result, ServerError};
use crate::node::Node;
use crate::node::replace::replace;

/// How soon what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(15);

impl Node {
    /// Follows the list of members for ever.
    pub(crate) async fn keep_chat(&self) {
        let mut changes = self.members.changes();
        let mut told = None;
        loop {
            let settled = self.settle_chat().await.map_err(|error| error.to_string()).err();
            if let Some(error) = settled.as_ref().filter(|_| settled != told) {
                tracing::error!(error, "the chat cannot follow the list of members; it is tried again");
            }
            told = settled;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if told.is_some() => {}
            }
        }
    }

    /// Lets nobody in any more who was a member and is not, and gives accounts the keys that their members have now.
    ///
    /// # Errors
    /// [`ChatError`], [`ServerError::State`]; what could not be done is done the next time.
    pub(crate) async fn settle_chat(&self) -> Result<()> {
        match self.chat.hub() {
            Some(hub) => self.follow_members(&hub).await,
            None => Ok(()),
        }
    }

    /// Does that for a chat. What fails keeps nothing else from being done.
    pub(super) async fn follow_members(&self, hub: &Arc<Hub>) -> Result<()> {
        let mut seen = self.chat.settling.lock().await;
        // A list that cannot be read says of nobody that they are gone.
        let Some(now) = self.members.ids() else { return Ok(()) };
        let path = self.data.join("chat").join("members");
        let mut failures: Vec<ServerError> = Vec::new();
        let written = match read(&path) {
            Ok(written) => Some(written),
            Err(error) => {
                failures.push(ServerError::state("read", &path)(error));
                None
            }
        };
        let before: BTreeSet<NodeId> = written.iter().flatten().chain(&*seen).copied().collect();
        // Should anything fail from here on, they are not forgotten.
        *seen = before.union(&now).copied().collect();

        let (members, here) = (self.members.clone(), now.clone());
        let current =
            move |node| Some(members.current(node)).filter(|new| here.contains(new)).unwrap_or(node);
        match hub.renew_keys(current.clone()).await {
            Ok(users) => {
                users.iter().for_each(
                    |user| tracing::info!(%user, "an account of the chat has its member's new key"),
                );
            }
            Err(error) => failures.push(ChatError::from(error).into()),
        }
        // Who has another key now is still the same member.
        for node in before.difference(&now).copied().filter(|node| current(*node) == *node) {
            match hub.dismiss(node).await {
                Ok(()) => tracing::info!(member = %node, "let in no more to the chat"),
                Err(error) => failures.push(ChatError::from(error).into()),
            }
        }
        if failures.is_empty() && written.is_some_and(|written| written != now) {
            failures.extend(write(&path, &now).map_err(ServerError::state("write", &path)).err());
        }
        match failures.into_iter().next() {
            Some(error) => Err(error),
            None => {
                *seen = now;
                Ok(())
            }
        }
    }
}

/// Returns who was a member; nobody where that was never looked at.
fn read(path: &Path) -> io::Result<BTreeSet<NodeId>> {
    match fs::read_to_string(path) {
        // What is no id is of nobody.
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, members: &BTreeSet<NodeId>) -> io::Result<()> {
    let text: String = members.iter().map(|node| format!("{node}\n")).collect();
    // Synced: else the loss of power could bring the old one back, and who left since then would not be missed.
    replace(&path.with_extension("new"), path, text.as_bytes())
}
