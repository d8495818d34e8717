//! Networks of owners: made with the first container, removed after the last one (Podman's own `podman network`).

use std::collections::BTreeMap;

use gx_core::plugin::*;
use serde::{Deserialize, Serialize};

use crate::create::{Turn, Turns};
use crate::engine::{Engine, EngineError};
use crate::error;

/// What the service says when a subnet is not free, among its networks or on the machine.
const SUBNET_TAKEN: &str = "is already used on the host or by another config";
/// What it says when another process has made the same network a moment ago.
const JUST_MADE: [&str; 2] = ["network already exists", "already in use"];

/// The network part of a create's body (`SpecGenerator`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Attached<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Namespace>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", rename = "networks")]
    bridges: BTreeMap<&'a str, Empty>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    nsmode: &'static str,
}

#[derive(Debug, Serialize)]
struct Empty {}

/// Returns what a container is attached to; `None` is the engine's default.
///
/// # Errors
/// `Unsupported` for a network this plugin does not know.
pub(crate) fn attached(network: Option<&NetworkSpec>) -> Result<Attached<'_>> {
    let netns = |nsmode| Some(Namespace { nsmode });
    match network {
        None => Ok(Attached::default()),
        Some(NetworkSpec::None) => Ok(Attached { netns: netns("none"), ..Attached::default() }),
        Some(NetworkSpec::Bridge(bridge)) => {
            let bridges = BTreeMap::from([(bridge.name.as_str(), Empty {})]);
            Ok(Attached { netns: netns("bridge"), bridges })
        }
        Some(NetworkSpec::Other) => {
            Err(RuntimeError::new(ErrorCode::Unsupported, "podman has no such network").field("network"))
        }
    }
}

/// A network as the service describes it, and as it is asked for.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Network {
    name: String,
    driver: String,
    network_interface: String,
    subnets: Vec<Subnet>,
    labels: BTreeMap<String, String>,
    ipv6_enabled: bool,
    /// Containers ask the machine's own resolvers: Podman's own server would be a process for each network.
    dns_enabled: bool,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Subnet {
    subnet: String,
}

impl Network {
    fn of(bridge: &Bridge) -> Self {
        Self {
            name: bridge.name.clone(),
            driver: "bridge".to_owned(),
            network_interface: bridge.name.clone(),
            labels: bridge.labels.clone(),
            ..Self::default()
        }
    }

    /// A network that leads elsewhere than it should would be out of the firewall's sight.
    fn is_ours(&self, bridge: &Bridge) -> bool {
        let subnets = Vec::new();
        let labels = bridge.labels.iter().all(|(key, value)| self.labels.get(key) == Some(value));
        let own = Self { subnets, ..Self::of(bridge) };
        labels
            && (&self.name, &self.driver, &self.network_interface)
                == (&own.name, &own.driver, &own.network_interface)
            && !self.ipv6_enabled
    }
}

/// Makes the network, unless it is there. It stays at least as long as the returned turn.
pub(crate) async fn ensure(
    engine: &Engine,
    network: Option<&NetworkSpec>,
    turns: &Turns,
) -> Result<Option<Turn>> {
    let Some(NetworkSpec::Bridge(bridge)) = network else { return Ok(None) };
    let stay = turns.take(&bridge.name).await?;
    if !is_there(engine, bridge).await? {
        make(engine, bridge).await?;
    }
    Ok(Some(stay))
}

async fn is_there(engine: &Engine, bridge: &Bridge) -> Result<bool> {
    match engine.get_json::<Network>(&format!("/networks/{}/json", bridge.name), &[]).await {
        Ok(there) if there.is_ours(bridge) => Ok(true),
        Ok(_) => Err(foreign(bridge)),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error::translated("inspect of the network", &error)),
    }
}

fn foreign(bridge: &Bridge) -> RuntimeError {
    let name = &bridge.name;
    RuntimeError::new(ErrorCode::FailedPrecondition, format!("podman has another network named {name}"))
        .field("network")
        .hint(format!("remove it: `podman network rm {name}`"))
}

async fn make(engine: &Engine, bridge: &Bridge) -> Result<()> {
    for subnet in &bridge.subnets {
        let subnets = vec![Subnet { subnet: subnet.to_string() }];
        let body = Network { subnets, ..Network::of(bridge) };
        let Err(error) = engine.post_json::<Network>("/networks/create", &[], Some(&body)).await else {
            return Ok(());
        };
        let said = error::said(&error).map_or("", |(_, text)| text);
        if said.contains(SUBNET_TAKEN) {
            continue;
        }
        if JUST_MADE.iter().any(|mark| said.contains(mark)) {
            return if is_there(engine, bridge).await? { Ok(()) } else { Err(foreign(bridge)) };
        }
        return Err(error::translated("making the network", &error));
    }
    let tried = bridge.subnets.len();
    let message = format!("no subnet is free for the network {}: {tried} were tried", bridge.name);
    Err(RuntimeError::new(ErrorCode::ResourceExhausted, message).field("network"))
}

/// Removes a network; the engine refuses while a container is attached to it, running or not.
pub(crate) async fn remove(engine: &Engine, name: &str, turns: &Turns) -> Result<()> {
    let _stay = turns.take(name).await?;
    match engine.delete(&format!("/networks/{name}")).await {
        Err(error) if !is_missing(&error) && !is_used(&error) => {
            Err(error::translated("removal of the network", &error))
        }
        _ => Ok(()),
    }
}

fn is_missing(error: &EngineError) -> bool {
    error::said(error).is_some_and(|(_, text)| text.contains("network not found"))
}

fn is_used(error: &EngineError) -> bool {
    error::said(error).is_some_and(|(_, text)| text.contains("network is being used"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bridge() -> Bridge {
        Bridge {
            name: "gxaaaa-bbbbbbbb".to_owned(),
            subnets: Vec::new(),
            labels: BTreeMap::from([("gx.host".to_owned(), "h".to_owned())]),
        }
    }

    #[test]
    fn a_network_is_ours_by_its_interface_and_labels() {
        let of = |interface: &str, host: &str| -> Network {
            serde_json::from_value(json!({
                "name": "gxaaaa-bbbbbbbb", "driver": "bridge", "network_interface": interface, "id": "1",
                "subnets": [{"subnet": "10.213.9.0/24", "gateway": "10.213.9.1"}], "labels": {"gx.host": host},
            }))
            .unwrap()
        };
        assert!(of("gxaaaa-bbbbbbbb", "h").is_ours(&bridge()));
        assert!(!of("podman7", "h").is_ours(&bridge()), "the firewall would not see it");
        assert!(!of("gxaaaa-bbbbbbbb", "other").is_ours(&bridge()));
    }

    #[test]
    fn an_unknown_network_is_refused_rather_than_widened() {
        assert_eq!(attached(Some(&NetworkSpec::Other)).unwrap_err().code, ErrorCode::Unsupported);
        let body = |network: Option<&NetworkSpec>| serde_json::to_value(attached(network).unwrap()).unwrap();
        assert_eq!(body(None), json!({}));
        assert_eq!(body(Some(&NetworkSpec::None)), json!({"netns": {"nsmode": "none"}}));
        let bridged = json!({"netns": {"nsmode": "bridge"}, "networks": {"gxaaaa-bbbbbbbb": {}}});
        assert_eq!(body(Some(&NetworkSpec::Bridge(bridge()))), bridged);
    }
}
