//! Which network a container gets: members' containers are in one of their owner's, whose only roads are those of the
//! firewall; the host's own are in the engine's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gx_core::api::CreateRequest;
use gx_core::config::PolicyConfig;
use gx_core::container::label;
use gx_core::network::{Bridge, NetworkMode, NetworkSpec, Prefix};
use gx_core::runtime::{Capabilities, Feature};
use gx_core::{Container, ContainerSpec, ErrorCode, NodeId, PluginName, Runtime};
use sha2::{Digest, Sha256};

use super::Node;
use super::caller::Caller;
use super::firewall::{Firewall, roads};
use super::lock::Held;
use crate::error::{Result, ServerError};

/// How many bits all addresses of one network have in common.
const SUBNET: u8 = 24;
/// How many subnets an engine is given to choose from: another may have taken one a moment ago.
const CHOICE: usize = 16;
/// How long whoever makes or starts containers is waited for, and whoever removes the firewall.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The digits of RFC 4648's base32, in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Decides how far a container reaches.
///
/// # Errors
/// [`ServerError::OverPolicy`] when more is asked for than members get; [`ServerError::Invalid`] for ports of a
/// container that nobody reaches.
pub(crate) fn mode(caller: &Caller, request: &CreateRequest, policy: &PolicyConfig) -> Result<NetworkMode> {
    let most = if *caller == Caller::Host { NetworkMode::Full } else { policy.network };
    let mode = request.network.unwrap_or(most);
    if mode > most {
        return Err(ServerError::OverPolicy {
            field: "network",
            key: "network",
            what: format!("the network {mode}"),
        });
    }
    if mode == NetworkMode::Outbound && most != NetworkMode::Outbound {
        let message = "what outbound is, the host says for all members; here it says nothing";
        return Err(ServerError::invalid("network", message));
    }
    if mode == NetworkMode::None && (!request.ports.is_empty() || request.extra_ports > 0) {
        return Err(ServerError::invalid("ports", "a container without a network has no ports"));
    }
    Ok(mode)
}

/// Whether a container is in a network of its owner's.
pub(crate) fn has_own(caller: &Caller, mode: NetworkMode) -> bool {
    *caller != Caller::Host && mode != NetworkMode::None
}

/// Returns the network of an owner in a runtime, of which it has one in each: two engines cannot share a bridge.
fn bridge(host: NodeId, owner: NodeId, runtime: &PluginName, firewall: &Firewall, within: Prefix) -> Bridge {
    let digest = Sha256::new().chain_update(owner.as_bytes()).chain_update(runtime.as_str()).finalize();
    let letters = digest[..8].iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
    let start = u64::from_be_bytes(digest[8..16].try_into().expect("eight bytes"));
    let roads = roads();
    let free = |subnet: &Prefix| !roads.iter().any(|road| road.overlaps(subnet));
    let labels = [(label::HOST, host.to_string()), (label::OWNER, owner.to_string())];
    Bridge {
        name: firewall.bridges().chars().chain(letters).collect(),
        subnets: within.parts(SUBNET, start).filter(free).take(CHOICE).collect(),
        labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

impl Node {
    /// Makes sure that members' containers could be closed off here, and changes nothing; `None` where the configuration
    /// wants no firewall of gx.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    pub async fn check_firewall(&self) -> Result<Option<()>> {
        if !self.policy.firewall {
            return Ok(None);
        }
        self.firewall.rehearse().await.map(Some)
    }

    /// Returns what a container is attached to, and makes sure that the firewall stands where it needs one. Where a
    /// runtime runs nothing, nothing has to be closed off.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`]; [`ServerError::Invalid`] where the runtime has no networks.
    pub(super) async fn network(
        &self,
        caller: &Caller,
        owner: NodeId,
        mode: NetworkMode,
        name: &PluginName,
    ) -> Result<Option<NetworkSpec>> {
        let own = has_own(caller, mode);
        if !own && mode != NetworkMode::None {
            return Ok(None);
        }
        let (can, stands) = tokio::join!(self.runtimes.capabilities(name), async {
            if own { self.firewall.ensure().await } else { Ok(()) }
        });
        match Gives::of(&can?) {
            Gives::Nothing => return Ok(None),
            Gives::None if own && self.policy.firewall => {
                let why = format!("{name} cannot give containers a network of their owner's");
                return Err(ServerError::NoFirewall { why });
            }
            Gives::None if own => return Ok(None),
            Gives::None => {
                let message = format!("{name} cannot make containers without a network");
                return Err(ServerError::invalid("network", message));
            }
            Gives::Networks => {}
        }
        stands?;
        if !own {
            return Ok(Some(NetworkSpec::None));
        }
        let bridge = bridge(self.id(), owner, name, &self.firewall, self.policy.subnets);
        Ok(Some(NetworkSpec::Bridge(bridge)))
    }

    /// Makes sure that the firewall stands before a container is started again, and while what is returned is held.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`]; [`ServerError::State`].
    pub(super) async fn close_off(&self, container: &Container) -> Result<Option<Held>> {
        if name_of(container).is_none() {
            return Ok(None);
        }
        let stands = self.creating.share(LOCK_PATIENCE).await?;
        self.firewall.ensure().await?;
        Ok(Some(stands))
    }

    /// Removes the firewall where the container that is gone was the last one that needed it.
    pub(super) async fn open_up(&self, gone: &Container) {
        if name_of(gone).is_some() {
            self.drop_firewall().await;
        }
    }

    /// Removes the firewall where no container needs it.
    pub(super) async fn drop_firewall(&self) {
        if !self.policy.firewall || self.firewall.has_bridges() {
            return;
        }
        if let Err(error) = self.try_drop_firewall().await {
            tracing::warn!(%error, "the firewall of members' containers stays, though there are none");
        }
    }

    async fn try_drop_firewall(&self) -> Result<()> {
        // Nobody makes or starts a container while this is held.
        let _alone = self.creating.alone(LOCK_PATIENCE).await?;
        let listing = self.ours(&[]).await?;
        let needed = listing.found.iter().any(|found| name_of(&found.container).is_some());
        if needed || !listing.unavailable.is_empty() {
            return Ok(());
        }
        self.firewall.remove().await
    }
}

/// What a runtime gives to containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// Networks.
    Networks,
    /// No networks but its own.
    None,
    /// Not even processes.
    Nothing,
}

impl Gives {
    fn of(can: &Capabilities) -> Self {
        match (can.has(Feature::Networks), can.has(Feature::Processes)) {
            (true, _) => Self::Networks,
            (false, true) => Self::None,
            (false, false) => Self::Nothing,
        }
    }
}

/// Attaches a container, and says so in its labels.
pub(super) fn attach(mut spec: ContainerSpec, network: Option<NetworkSpec>) -> ContainerSpec {
    if let Some(NetworkSpec::Bridge(bridge)) = &network {
        spec.labels.insert(label::NETWORK.to_owned(), bridge.name.clone());
    }
    spec.network = network;
    spec
}

/// Returns the network of its owner's that a container is in.
pub(super) fn name_of(container: &Container) -> Option<&str> {
    container.labels.get(label::NETWORK).map(String::as_str).filter(|name| !name.is_empty())
}

/// Removes the network of a container that is gone, if it was the last one there. What fails is for the next one.
pub(super) async fn leave(
    runtime_name: &PluginName,
    runtime: &Arc<dyn Runtime>,
    labels: &BTreeMap<String, String>,
) {
    let Some(network) = labels.get(label::NETWORK).filter(|name| !name.is_empty()) else { return };
    match runtime.remove_network(network.clone()).await {
        Err(error) if error.code != ErrorCode::Unsupported => {
            tracing::warn!(runtime = %runtime_name, network, %error, "cannot remove a network");
        }
        _ => {}
    }
}
