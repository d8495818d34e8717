//! How to get into a container, read from its labels and ports; secrets are told once, to who made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gx_core::api::{ContainerInfo, PublishedPort, SshAccess, VncAccess};
use gx_core::container::label;
use gx_core::{Container, PortMapping, Protocol, guest};

use super::secrets::{Secrets, fingerprint};

/// Returns whom the main process runs as, where the guest stands in front of it and it is not root.
pub(crate) fn user(container: &Container) -> Option<String> {
    text(container, label::USER).map(str::to_owned)
}

/// Returns the nonce of a container with a guest.
pub(crate) fn nonce(container: &Container) -> Option<&str> {
    text(container, label::NONCE)
}

/// Returns the way in by SSH, without the password.
pub(crate) fn ssh(container: &Container) -> Option<SshAccess> {
    let user = text(container, label::SSH_USER)?;
    let host_key = text(container, label::SSH_HOSTKEY)?.parse().ok()?;
    let address = published_at(container, guest::SSH_PORT);
    Some(SshAccess {
        user: user.to_owned(),
        password: None,
        fingerprint: fingerprint(&host_key),
        host_key: host_key.to_string(),
        address,
        command: address
            .map(|address| format!("ssh -p {} {user}@{}", address.port(), reached_at(address.ip()))),
    })
}

/// Returns the way to the desktop, without the password.
pub(crate) fn vnc(container: &Container) -> Option<VncAccess> {
    let port = desktop(container)?;
    let address = published_at(container, port);
    let reached = |address: SocketAddr| SocketAddr::new(reached_at(address.ip()), address.port());
    Some(VncAccess {
        user: text(container, label::SSH_USER)?.to_owned(),
        password: None,
        port,
        address,
        url: address.map(|address| format!("vnc://{}", reached(address))),
    })
}

/// Returns the published ports, those of gx itself with their names and behind all others.
pub(crate) fn ports(container: &Container) -> Vec<PublishedPort> {
    let ssh = text(container, label::SSH_USER).map(|_| guest::SSH_PORT);
    let name = |port: &PortMapping| match Some(port.container_port) {
        _ if port.protocol != Protocol::Tcp => None,
        inside if inside == ssh => Some("ssh".to_owned()),
        inside if inside == desktop(container) => Some("vnc".to_owned()),
        _ => None,
    };
    let mut ports: Vec<_> = container
        .ports
        .iter()
        .map(|port| PublishedPort { name: name(port), ..PublishedPort::of(*port) })
        .collect();
    ports.sort_by_key(|port| port.name.is_some());
    ports
}

/// Adds what only who makes a container is told.
pub(crate) fn tell(info: &mut ContainerInfo, secrets: &Secrets<'_>) {
    if let Some(ssh) = &mut info.ssh {
        ssh.password = Some(secrets.ssh_password());
    }
    if let Some(vnc) = &mut info.vnc {
        vnc.password = Some(secrets.vnc_password());
    }
}

/// Leaves the passwords out of an answer.
pub(crate) fn keep_silent(info: &mut ContainerInfo) {
    info.ssh.iter_mut().for_each(|ssh| ssh.password = None);
    info.vnc.iter_mut().for_each(|vnc| vnc.password = None);
}

fn desktop(container: &Container) -> Option<u16> {
    text(container, label::VNC)?.parse().ok()
}

fn published_at(container: &Container, port: u16) -> Option<SocketAddr> {
    let leads = |mapping: &&PortMapping| (mapping.container_port, mapping.protocol) == (port, Protocol::Tcp);
    let mapping = container.ports.iter().find(leads)?;
    Some(SocketAddr::new(mapping.host_address, mapping.host_port))
}

/// Returns an address to connect to for one to listen on.
fn reached_at(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    }
}

/// Returns a label; one with nothing in it hides what the image says under the same name.
fn text<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.labels.get(key).map(String::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::ssh::PublicKey;

    fn container(labels: &[(&str, &str)], ports: &[(u16, u16)]) -> Container {
        let ports: Vec<_> = ports
            .iter()
            .map(|(inside, outside)| {
                serde_json::json!({
                    "container_port": inside, "protocol": "tcp", "host_address": "0.0.0.0", "host_port": outside,
                })
            })
            .collect();
        let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
        let value = serde_json::json!({
            "id": "0123456789abcdef", "name": "gx-x", "image": "x", "labels": labels, "ports": ports,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_way_in_is_in_labels_and_ports() {
        let key = PublicKey::ed25519(&[7; 32]).to_string();
        let labels = [(label::SSH_USER, "app"), (label::SSH_HOSTKEY, &key), (label::VNC, "5900")];
        let inside = container(&labels, &[(5900, 20_002), (7468, 20_001), (8080, 20_003)]);
        let ssh = ssh(&inside).unwrap();
        assert_eq!((ssh.user.as_str(), ssh.host_key, ssh.password), ("app", key.clone(), None));
        assert_eq!(ssh.address, Some("0.0.0.0:20001".parse().unwrap()));
        assert_eq!(ssh.command.as_deref(), Some("ssh -p 20001 app@127.0.0.1"));
        assert_eq!(vnc(&inside).unwrap().url.as_deref(), Some("vnc://127.0.0.1:20002"));
        let names: Vec<_> = ports(&inside).into_iter().map(|port| port.name).collect();
        assert_eq!(names, [None, Some("vnc".to_owned()), Some("ssh".to_owned())]);
    }

    #[test]
    fn without_a_guest_there_is_no_way_in_and_no_named_port() {
        let plain = container(&[(label::SSH_USER, ""), (label::VNC, "5900")], &[(7468, 20_001)]);
        assert_eq!((ssh(&plain), vnc(&plain), user(&plain)), (None, None, None));
        assert_eq!(ports(&plain)[0].name, None);
    }

    #[test]
    fn a_damaged_host_key_is_no_way_in() {
        assert_eq!(ssh(&container(&[(label::SSH_USER, "a"), (label::SSH_HOSTKEY, "x\ny")], &[])), None);
    }
}
