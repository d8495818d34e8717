//! Networks of owners: made with the first container, removed after the last one.

use std::sync::Arc;

use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::ListContainersOptionsBuilder;
use gx_core::network::{Bridge, NetworkSpec, Prefix};
use gx_core::{ErrorCode, RuntimeError};
use tokio::sync::OwnedMutexGuard;

use crate::engine::{Engine, to_the_end};

/// The engine's option that names the bridge on the machine.
const INTERFACE: &str = "com.docker.network.bridge.name";

/// What the engine says when a subnet is not free, here or among its other networks.
const SUBNET_TAKEN: [&str; 2] = ["Pool overlaps with other one", "networks have overlapping"];
/// What it says when another process has made the same network a moment ago.
const JUST_MADE: [&str; 2] = ["networks have same bridge name", "already exists"];

/// Holds off the removal of a network, until it is dropped.
pub(crate) type Stay = OwnedMutexGuard<()>;

/// Returns the engine's name for what a container is attached to; `None` is its own default.
///
/// # Errors
/// `Unsupported` for a network this plugin does not know.
pub(crate) fn mode(network: Option<&NetworkSpec>) -> Result<Option<String>, RuntimeError> {
    match network {
        None => Ok(None),
        Some(NetworkSpec::None) => Ok(Some("none".to_owned())),
        Some(NetworkSpec::Bridge(bridge)) => Ok(Some(bridge.name.clone())),
        Some(NetworkSpec::Other) => {
            Err(RuntimeError::new(ErrorCode::Unsupported, "docker has no such network").field("network"))
        }
    }
}

/// Makes the network, unless it is there. It stays at least as long as the returned value.
pub(crate) async fn ensure(
    engine: &Engine,
    network: Option<&NetworkSpec>,
) -> Result<Option<Stay>, RuntimeError> {
    let Some(NetworkSpec::Bridge(bridge)) = network else { return Ok(None) };
    let stay = engine.creating.take(turn(&bridge.name)).await;
    if !is_there(engine, bridge).await? {
        make(engine, bridge).await?;
    }
    Ok(Some(stay))
}

fn turn(name: &str) -> String {
    format!("network {name}")
}

async fn is_there(engine: &Engine, bridge: &Bridge) -> Result<bool, RuntimeError> {
    match engine.docker.inspect_network(&bridge.name, None).await {
        Ok(there) if is_ours(&there, bridge) => Ok(true),
        Ok(_) => Err(foreign(bridge)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(engine.error(error)),
    }
}

/// A network that leads elsewhere than it should would be out of the firewall's sight.
fn is_ours(there: &NetworkInspect, bridge: &Bridge) -> bool {
    let interface = there.options.as_ref().and_then(|options| options.get(INTERFACE));
    let labels = there.labels.clone().unwrap_or_default();
    there.name.as_deref() == Some(&bridge.name)
        && there.driver.as_deref() == Some("bridge")
        && interface == Some(&bridge.name)
        && bridge.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn foreign(bridge: &Bridge) -> RuntimeError {
    let name = &bridge.name;
    RuntimeError::new(ErrorCode::FailedPrecondition, format!("docker has another network named {name}"))
        .field("network")
        .hint(format!("remove it: `docker network rm {name}`"))
}

async fn make(engine: &Engine, bridge: &Bridge) -> Result<(), RuntimeError> {
    for subnet in &bridge.subnets {
        match engine.docker.create_network(request(bridge, *subnet)).await {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError { message, .. }) if says(&message, &SUBNET_TAKEN) => {}
            Err(Error::DockerResponseServerError { message, .. }) if says(&message, &JUST_MADE) => {
                return if is_there(engine, bridge).await? { Ok(()) } else { Err(foreign(bridge)) };
            }
            Err(error) => return Err(engine.error(error)),
        }
    }
    let tried = bridge.subnets.len();
    let message = format!("no subnet is free for the network {}: {tried} were tried", bridge.name);
    Err(RuntimeError::new(ErrorCode::ResourceExhausted, message).field("network"))
}

fn says(message: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| message.contains(mark))
}

fn request(bridge: &Bridge, subnet: Prefix) -> NetworkCreateRequest {
    let pool = IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() };
    NetworkCreateRequest {
        name: bridge.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![pool]), ..Ipam::default() }),
        options: Some([(INTERFACE.to_owned(), bridge.name.clone())].into()),
        labels: Some(bridge.labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// Removes a network, unless a container is attached to it. The engine itself counts only those that run.
pub(crate) async fn remove(engine: &Arc<Engine>, name: String) -> Result<(), RuntimeError> {
    let engine = engine.clone();
    to_the_end(async move {
        let _stay = engine.creating.take(turn(&name)).await;
        let filters = [("network".to_owned(), vec![name.clone()])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let attached = engine.docker.list_containers(Some(options)).await;
        if !attached.map_err(|error| engine.error(error))?.is_empty() {
            return Ok(());
        }
        match engine.docker.remove_network(&name).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(Error::DockerResponseServerError { message, .. }) if message.contains("active endpoints") => {
                Ok(())
            }
            other => other.map_err(|error| engine.error(error)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn bridge() -> Bridge {
        Bridge {
            name: "gxaaaa-bbbbbbbb".to_owned(),
            subnets: vec!["10.213.4.0/24".parse().unwrap()],
            labels: [("gx.host".to_owned(), "h".to_owned())].into(),
        }
    }

    #[test]
    fn a_network_is_ours_by_its_interface_and_labels() {
        let of = |interface: &str, host: &str| NetworkInspect {
            name: Some("gxaaaa-bbbbbbbb".to_owned()),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(INTERFACE.to_owned(), interface.to_owned())])),
            labels: Some(HashMap::from([("gx.host".to_owned(), host.to_owned())])),
            ..NetworkInspect::default()
        };
        assert!(is_ours(&of("gxaaaa-bbbbbbbb", "h"), &bridge()));
        assert!(!is_ours(&of("br-0", "h"), &bridge()), "the firewall would not see it");
        assert!(!is_ours(&of("gxaaaa-bbbbbbbb", "other"), &bridge()));
        assert!(!is_ours(&NetworkInspect::default(), &bridge()));
    }

    #[test]
    fn an_unknown_network_is_refused_rather_than_widened() {
        assert_eq!(mode(Some(&NetworkSpec::Other)).unwrap_err().code, ErrorCode::Unsupported);
        assert_eq!(mode(Some(&NetworkSpec::None)).unwrap().as_deref(), Some("none"));
        assert_eq!(mode(None).unwrap(), None);
    }
}
