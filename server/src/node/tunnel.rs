//! Connections to what runs in a container, by the port that the engine has published for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use gx_core::api::Service;
use gx_core::container::{PortMapping, Protocol, label};
use gx_core::{Container, ContainerState, guest};
use tokio::net::TcpStream;

use super::Node;
use super::caller::Caller;
use super::containers::{name_of, timely};
use super::idle::Inside;
use crate::error::{Result, ServerError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a service may take for its first byte: right after a start it may not listen yet.
const GREETING: Duration = Duration::from_secs(10);
/// How soon a service that does not listen yet is tried again.
const PAUSE: Duration = Duration::from_millis(20);

impl Node {
    /// Connects to a service of a container. It has said something already, which is still to be read: servers of SSH
    /// (RFC 4253, section 4.2) and of RFB (RFC 6143, section 7.1.1) speak first. Beside it is what tells the host, while it lives, that somebody is in
    /// the container.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::NotRunning`], [`ServerError::NoService`], [`ServerError::Unpublished`],
    /// [`ServerError::NoAnswer`]; [`ServerError::Runtime`].
    pub async fn tunnel(
        &self,
        caller: &Caller,
        reference: &str,
        service: Service,
    ) -> Result<(TcpStream, Inside)> {
        let found = self.resolve(caller, reference).await?;
        let inside = self.idle.enter(&found);
        let id = found.container.id.clone();
        let inspected = async { found.runtime.inspect(id).await.map_err(ServerError::of(&found.name)) };
        let container = timely(&found.name, inspected).await?;
        let addresses = addresses(&container, service)?;
        let name = name_of(&container).to_owned();
        let greeted = greeted(&addresses, GREETING).await;
        let stream = greeted.map_err(|source| ServerError::NoAnswer { name, service, source })?;
        Ok((stream, inside))
    }
}

/// Returns where this machine reaches a service.
fn addresses(container: &Container, service: Service) -> Result<Vec<SocketAddr>> {
    let name = || name_of(container).to_owned();
    let port = port(container, service).ok_or_else(|| ServerError::NoService { name: name(), service })?;
    if container.state != ContainerState::Running {
        return Err(ServerError::NotRunning { name: name(), state: container.state });
    }
    let leads = |mapping: &&PortMapping| {
        (mapping.container_port, mapping.protocol) == (port, Protocol::Tcp) && mapping.host_port != 0
    };
    let addresses: Vec<_> = container.ports.iter().filter(leads).map(reached_at).collect();
    if addresses.is_empty() {
        return Err(ServerError::Unpublished { name: name(), port });
    }
    Ok(addresses)
}

/// Returns the port of a service in the container, if it has it.
fn port(container: &Container, service: Service) -> Option<u16> {
    // An empty label hides one of the image.
    let label = |key| container.labels.get(key).filter(|value| !value.is_empty());
    match service {
        Service::Ssh => label(label::SSH_USER).map(|_| guest::SSH_PORT),
        Service::Vnc => label(label::VNC)?.parse().ok(),
    }
}

fn reached_at(mapping: &PortMapping) -> SocketAddr {
    let address = match mapping.host_address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(address, mapping.host_port)
}

/// Connects until the other side says something. An engine's own proxy takes connections before anybody listens in the
/// container, and ends them at once, so that being connected says little.
async fn greeted(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let mut why = None;
    let attempts = async {
        loop {
            match attempt(addresses).await {
                Ok(stream) => return stream,
                Err(error) => why = Some(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(patience, attempts).await {
        Ok(stream) => Ok(stream),
        Err(_) => Err(why.unwrap_or_else(|| silent(patience))),
    }
}

async fn attempt(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let connect = tokio::time::timeout(CONNECT, TcpStream::connect(addresses));
    let stream = connect.await.unwrap_or_else(|_| Err(silent(CONNECT)))?;
    stream.set_nodelay(true)?;
    match stream.peek(&mut [0]).await? {
        0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "it ended the connection at once")),
        _ => Ok(stream),
    }
}

fn silent(waited: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it was silent for {} s", waited.as_secs()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_does_not_listen_yet_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [listener.local_addr().unwrap()];
        let service = async {
            for _ in 0..2 {
                drop(listener.accept().await.unwrap()); // as an engine's proxy to nobody
            }
            let mut stream = listener.accept().await.unwrap().0;
            stream.write_all(b"RFB").await.unwrap();
            stream
        };
        let (stream, _service) = tokio::join!(greeted(&addresses, GREETING), service);
        assert_eq!(stream.unwrap().peek(&mut [0; 3]).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn who_never_speaks_is_given_up_with_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let short = Duration::from_millis(100);
        assert_eq!(greeted(&[address], short).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(listener);
        assert_eq!(greeted(&[address], short).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
