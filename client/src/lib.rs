//! The HTTP client of a gx host: one method for each endpoint, with the shapes of the host's own methods.
//!
//! A call ends when its future is dropped: the connection is closed, and the host drops the call.

use std::future::Future;
use std::net::Ipv6Addr;
use std::time::Duration;

use gx_core::api::path;
use reqwest::Url;

mod body;
mod calls;
mod error;
mod exec;
mod socket;
mod tunnel;

pub use error::{ClientError, Result};
pub use tunnel::Tunnel;

/// The port of a host, where nobody says another.
pub const DEFAULT_PORT: u16 = 7467;

/// How long it may take to reach a host.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a host may be silent. A streamed answer has a sign of life every ten seconds.
const IDLE: Duration = Duration::from_secs(60);
/// Shorter than a host keeps an idle connection.
const POOL_IDLE: Duration = Duration::from_secs(10);

/// A host as its clients see it. Cloned handles share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    address: String,
}

impl Client {
    /// Makes a client of the host at `HOST[:PORT]`; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(address: &str) -> Result<Self> {
        let bad = || ClientError::Address { text: address.chars().take(80).collect() };
        let authority = authority(address).ok_or_else(bad)?;
        let base = Url::parse(&format!("http://{authority}")).map_err(|_| bad())?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy() // a host is a machine, not a web site
            .build()
            .map_err(|_| bad())?;
        Ok(Self { http, base, address: authority })
    }

    /// Returns the host's address, with the port.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    fn container_url(&self, reference: &str, action: &str) -> Url {
        let mut url = self.url(path::CONTAINERS);
        {
            let mut segments = url.path_segments_mut().expect("an http URL has a path");
            segments.push(reference);
            if !action.is_empty() {
                segments.push(action);
            }
        }
        url
    }

    /// Waits for a sign of the host.
    async fn patient<T>(&self, sign: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(IDLE, sign).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut { address: self.address.clone(), seconds: IDLE.as_secs() }),
        }
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        let address = self.address.clone();
        if error.is_connect() && error.is_timeout() {
            return ClientError::TimedOut { address, seconds: CONNECT.as_secs() };
        }
        let source = Box::new(error.without_url());
        if source.is_connect() {
            return ClientError::Unreachable { address, source };
        }
        ClientError::Lost { address, source }
    }

    fn odd(&self, what: impl Into<String>) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), what: what.into() }
    }
}

/// Returns `HOST:PORT`, with the default port where none is given.
fn authority(address: &str) -> Option<String> {
    if address.is_empty() || address.contains(['/', '@', '?', '#', ' ', '\\']) {
        return None;
    }
    if address.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{address}]:{DEFAULT_PORT}"));
    }
    let host_end = address.rfind(']').map_or(0, |end| end + 1);
    match address[host_end..].split_once(':') {
        Some((_, port)) => port.parse::<u16>().ok().filter(|&port| port != 0).map(|_| address.to_owned()),
        None => Some(format!("{address}:{DEFAULT_PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("box", "box:7467"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("::1", "[::1]:7467"),
            ("[::1]", "[::1]:7467"),
            ("[::1]:99", "[::1]:99"),
        ] {
            assert_eq!(Client::new(text).unwrap().address(), address, "{text}");
        }
        for bad in ["", "http://x", "x:", "x:0", "x:70000", "a b", "x:1:2", "user@x", "[::1"] {
            assert!(Client::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reference_cannot_leave_its_place_in_the_path() {
        let client = Client::new("box").unwrap();
        let url = client.container_url("../../x?force=true", "logs");
        assert_eq!(url.path(), "/v1/containers/..%2F..%2Fx%3Fforce=true/logs");
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::new(&address.to_string()).unwrap().specs().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }
}
