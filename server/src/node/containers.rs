//! The containers of a node, over all runtimes it has used. The engines are the state; nothing is kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gx_core::api::{ContainerInfo, UnavailableRuntime};
use gx_core::container::label;
use gx_core::runtime::{ListFilter, RemoveOptions, list_all};
use gx_core::{Container, Gpus, NodeId, PluginName, Runtime};
use gx_identity::NodeKey;

use super::Node;
use super::access;
use super::caller::Caller;
use super::idle;
use super::network;
use crate::error::{Result, ServerError};

/// How long an engine may take for a list or another short answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A container and where it is.
pub(crate) struct Found {
    pub(crate) name: PluginName,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) container: Container,
}

impl Found {
    /// Removes the container, and the network of its owner's where it was the last one there.
    ///
    /// # Errors
    /// [`ServerError::Runtime`].
    pub(crate) async fn remove(&self, options: RemoveOptions) -> Result<()> {
        let removed = self.runtime.remove(self.container.id.clone(), options).await;
        removed.map_err(ServerError::of(&self.name))?;
        network::leave(&self.name, &self.runtime, &self.container.labels).await;
        Ok(())
    }
}

/// The containers of a node that fit, and the runtimes that did not answer.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    pub(crate) unavailable: Vec<UnavailableRuntime>,
}

impl Node {
    /// Lists this node's containers that have these labels beside, in all runtimes it has used.
    pub(crate) async fn ours(&self, labels: &[(&str, &str)]) -> Result<Listing> {
        let used = self.runtimes.used()?;
        Ok(self.ours_in(&used, labels).await)
    }

    /// Lists this node's containers in these runtimes.
    pub(crate) async fn ours_in(&self, names: &[PluginName], labels: &[(&str, &str)]) -> Listing {
        let answers = names.iter().map(async |name| (name, self.list_one(name, labels).await));
        let mut listing = Listing::default();
        for (name, answer) in join_all(answers).await {
            match answer {
                Ok(found) => listing.found.extend(found),
                Err(error) => {
                    tracing::warn!(runtime = %name, %error, "its containers cannot be listed");
                    let mut told = error.api();
                    if matches!(error, ServerError::UnknownRuntime { .. }) {
                        let mark = self.runtimes.used_mark(name);
                        told.hint = Some(format!(
                            "it was used and is no longer configured: configure it again, or forget its \
                             containers with `rm {}`",
                            mark.display()
                        ));
                    }
                    listing.unavailable.push(UnavailableRuntime { runtime: name.clone(), error: told });
                }
            }
        }
        listing
    }

    async fn list_one(&self, name: &PluginName, labels: &[(&str, &str)]) -> Result<Vec<Found>> {
        let whole = labels.is_empty();
        let answer = async {
            let runtime = self.runtimes.get(name).await?;
            let mut containers = Vec::new();
            // Most nodes have had one key.
            for key in self.keys() {
                let listed = list_all(&*runtime, filter(key.id(), labels)).await;
                containers.extend(listed.map_err(ServerError::of(name))?);
            }
            Ok((runtime, containers))
        };
        let (runtime, containers) = timely(name, answer).await?;
        let found = |container| Found { name: name.clone(), runtime: runtime.clone(), container };
        let found: Vec<Found> = containers.into_iter().map(found).collect();
        if whole {
            self.usage.learn(name, &found, self.machine);
        }
        Ok(found)
    }

    /// Lists those of this node's containers with these labels that the caller sees.
    pub(crate) async fn seen(&self, caller: &Caller, labels: &[(&str, &str)]) -> Result<Listing> {
        let used = self.runtimes.used()?;
        Ok(self.seen_in(&used, caller, labels).await)
    }

    /// Lists them in these runtimes.
    pub(crate) async fn seen_in(
        &self,
        names: &[PluginName],
        caller: &Caller,
        labels: &[(&str, &str)],
    ) -> Listing {
        let owners = match caller {
            Caller::Host => return self.ours_in(names, labels).await,
            Caller::Member(member) => self.members.keys_of(member.id),
            Caller::Stranger(_) => return Listing::default(),
        };
        let mut seen = Listing::default();
        for owner in owners {
            let owner = owner.to_string();
            let labels: Vec<_> = labels.iter().copied().chain([(label::OWNER, owner.as_str())]).collect();
            let some = self.ours_in(names, &labels).await;
            seen.found.extend(some.found);
            seen.unavailable = some.unavailable; // the same for each
        }
        seen
    }

    /// Returns whose a container is, by the key that stands for its owner now.
    pub(crate) fn owner_of(&self, container: &Container) -> Option<NodeId> {
        owner(container).map(|id| self.current(id))
    }

    /// Returns the first key that somebody had here, by which a repeated request is known also after a change of key.
    pub(crate) fn first_key(&self, id: NodeId) -> NodeId {
        let own = self.keys().last().filter(|_| id == self.id()).map(NodeKey::id);
        own.or_else(|| self.members.keys_of(id).pop()).unwrap_or(id)
    }

    /// Returns the key that stands for this one now: a member's, or this node's own.
    pub(crate) fn current(&self, id: NodeId) -> NodeId {
        let own = self.keys().any(|key| key.id() == id);
        if own { self.id() } else { self.members.current(id) }
    }
}

fn filter(host: NodeId, labels: &[(&str, &str)]) -> ListFilter {
    let ours = (label::HOST.to_owned(), Some(host.to_string()));
    let others = labels.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    ListFilter { labels: BTreeMap::from_iter(others.chain([ours])), ..ListFilter::default() }
}

/// Waits for an engine's short answer.
///
/// # Errors
/// [`ServerError::Slow`] after [`PATIENCE`].
pub(crate) async fn timely<T>(name: &PluginName, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let slow = || ServerError::Slow { runtime: name.clone(), seconds: PATIENCE.as_secs() };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(slow()))
}

/// Returns whose a container is.
pub(crate) fn owner(container: &Container) -> Option<NodeId> {
    container.labels.get(label::OWNER)?.parse().ok()
}

/// Returns the name its owner knows a container by.
pub(crate) fn name_of(container: &Container) -> &str {
    container.labels.get(label::NAME).unwrap_or(&container.name)
}

/// Returns the labels the owner gave, without those of the image and of gx.
fn own_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let names: Vec<String> =
        labels.get(label::LABELS).and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| labels.get_key_value(&name))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Returns what the API tells of a container; no secrets.
pub(crate) fn info(runtime: &PluginName, container: Container) -> ContainerInfo {
    let labels = &container.labels;
    let time = |key| labels.get(key).and_then(|text: &String| text.parse().ok());
    let gpus: Option<Gpus> = labels.get(label::GPUS).and_then(|text| text.parse().ok());
    ContainerInfo {
        name: name_of(&container).to_owned(),
        runtime: runtime.clone(),
        state: container.state,
        owner: owner(&container),
        created_at: container.created_at.or_else(|| time(label::CREATED)),
        started_at: container.started_at,
        expires_at: time(label::EXPIRES),
        gpus: gpus.unwrap_or_default(),
        labels: own_labels(labels),
        ports: access::ports(&container),
        ssh: access::ssh(&container),
        vnc: access::vnc(&container),
        idle_s: idle::limit_s(&container),
        id: container.id,
        image: container.image,
        exit: container.exit,
    }
}
