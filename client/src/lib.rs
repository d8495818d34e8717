//! The HTTP client of a gx host: one method for each endpoint, with the shapes of the host's own methods.
//!
//! A call ends when its future is dropped: the connection is closed, and the host drops the call.

use std::future::Future;
use std::time::Duration;

use gx_core::api::path;
use gx_core::{Address, Endpoint, NodeId};
use gx_identity::tls::{self, Connector, WrongNode};
use gx_identity::{KnownHosts, Met, NodeKey};
use reqwest::Url;
use tokio::net::TcpStream;

mod accounts;
mod body;
mod calls;
mod chat;
mod error;
mod exec;
mod link;
mod public;
mod socket;
mod trust;
mod tunnel;

pub use chat::ChatSocket;
pub use error::{ClientError, Result};
pub use link::PeerLink;
pub use public::{PublicAddressError, public_address};
pub use tunnel::Tunnel;

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
    trust: Trust,
    node: Option<NodeId>,
}

/// How it is known who the host is.
#[derive(Debug, Clone)]
enum Trust {
    /// The caller says so.
    Named(Connector),
    /// It is who answered first.
    Met(Connector),
    /// There is no encryption: this machine is trusted.
    Plain,
}

impl Trust {
    fn connector(&self) -> Option<&Connector> {
        match self {
            Self::Named(connector) | Self::Met(connector) => Some(connector),
            Self::Plain => None,
        }
    }
}

/// A client, and whom it has met.
#[derive(Debug)]
pub struct Opened {
    /// The client.
    pub client: Client,
    /// Who answered, where that was not known before; people are told.
    pub first_met: Option<NodeId>,
}

impl Client {
    /// Makes a client of the host at an address, as the node with this key. Where nobody is known at the address, the host
    /// is asked to prove who it is; else nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Known`], and what there is when a host cannot be met: [`ClientError::Unreachable`],
    /// [`ClientError::TimedOut`], [`ClientError::Handshake`].
    pub async fn open(address: &Address, key: &NodeKey, known: &KnownHosts) -> Result<Opened> {
        let (client, first_met) = match address {
            Address::Plain(endpoint) => (Self::plain(endpoint), None),
            Address::Node(node, endpoint) => (Self::to_node(endpoint, *node, key), None),
            Address::Bare(endpoint) => {
                let (node, first_met) = meet(endpoint, known).await?;
                (Self::new(endpoint, Some(node), Trust::Met(Connector::to_node(node, key))), first_met)
            }
        };
        Ok(Opened { client, first_met })
    }

    /// Makes a client of this node, as the node with this key; nothing is sent yet.
    pub fn to_node(endpoint: &Endpoint, node: NodeId, key: &NodeKey) -> Self {
        Self::new(endpoint, Some(node), Trust::Named(Connector::to_node(node, key)))
    }

    /// Makes a client without encryption; nothing is sent yet. Only for a host on this machine.
    pub fn plain(endpoint: &Endpoint) -> Self {
        Self::new(endpoint, None, Trust::Plain)
    }

    fn new(endpoint: &Endpoint, node: Option<NodeId>, trust: Trust) -> Self {
        let address = endpoint.to_string();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy(); // a host is a machine, not a web site
        let scheme = match trust.connector() {
            Some(connector) => {
                builder = builder.tls_backend_preconfigured(connector.config()).https_only(true);
                "https"
            }
            None => {
                // Nobody is asked for certificates, and so none of the system's are looked for.
                builder = builder.tls_backend_preconfigured(Connector::to_anybody().config());
                "http"
            }
        };
        let base = Url::parse(&format!("{scheme}://{address}")).expect("an endpoint is part of a URL");
        Self { http: builder.build().expect("the settings fit together"), base, address, trust, node }
    }

    /// Returns the host's address, with the port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the node that it speaks with, and with no other; `None` without TLS, where nobody proves anything.
    pub fn node(&self) -> Option<NodeId> {
        self.node
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
            Err(_) => Err(ClientError::TimedOut {
                address: self.address.clone(),
                seconds: IDLE.as_secs(),
                sent: true,
            }),
        }
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        let address = self.address.clone();
        if error.is_connect() && error.is_timeout() {
            return ClientError::TimedOut { address, seconds: CONNECT.as_secs(), sent: false };
        }
        let error = error.without_url();
        match WrongNode::behind(&error) {
            Some(wrong) => self.wrong(wrong),
            None if error.is_connect() => not_connected(&self.address, error),
            None => ClientError::Lost { address, source: Box::new(error) },
        }
    }

    fn wrong(&self, wrong: WrongNode) -> ClientError {
        let met = matches!(self.trust, Trust::Met(_));
        ClientError::WrongNode { address: self.address.clone(), wrong, met }
    }

    fn odd(&self, what: impl Into<String>) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), what: what.into() }
    }
}

/// Returns who is at an address, and that again if it was not known before.
async fn meet(endpoint: &Endpoint, known: &KnownHosts) -> Result<(NodeId, Option<NodeId>)> {
    if let Some(node) = known.at(endpoint)? {
        return Ok((node, None));
    }
    let address = endpoint.to_string();
    let stream = connect(&address).await?;
    // Only who has shaken hands has proved that the key is theirs; and nothing of ours is sent before.
    let shaken = Connector::to_anybody().connect(stream).await;
    let (_, found) = shaken.map_err(|error| not_shaken(&address, error))?;
    match known.meet(endpoint, found)? {
        Met::First => Ok((found, Some(found))),
        Met::Again => Ok((found, None)),
        Met::Other(expected) => {
            let wrong = WrongNode { expected, found };
            Err(ClientError::WrongNode { address, wrong, met: true })
        }
    }
}

/// Opens a connection to a host, not yet encrypted.
async fn connect(address: &str) -> Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address));
    let timed_out =
        |_| ClientError::TimedOut { address: address.to_owned(), seconds: CONNECT.as_secs(), sent: false };
    let stream = connecting.await.map_err(timed_out)?.map_err(|error| not_connected(address, error))?;
    stream.set_nodelay(true).map_err(|error| not_connected(address, error))?;
    Ok(stream)
}

fn not_shaken(address: &str, error: std::io::Error) -> ClientError {
    match error.kind() {
        std::io::ErrorKind::TimedOut => ClientError::TimedOut {
            address: address.to_owned(),
            seconds: tls::HANDSHAKE.as_secs(),
            sent: false,
        },
        _ => not_connected(address, error),
    }
}

fn not_connected(address: &str, error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    let (address, handshake) = (address.to_owned(), tls::is_handshake(&error));
    let source = Box::new(error);
    if handshake {
        ClientError::Handshake { address, source }
    } else {
        ClientError::Unreachable { address, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_cannot_leave_its_place_in_the_path() {
        let client = Client::plain(&"box".parse().unwrap());
        let url = client.container_url("../../x?force=true", "logs");
        assert_eq!(url.path(), "/v1/containers/..%2F..%2Fx%3Fforce=true/logs");
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::plain(&address.into()).specs().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }

    /// Answers the first connection with these bytes and closes it; with none it only listens.
    async fn met_by(answer: Option<&'static [u8]>) -> ClientError {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let data = tempfile::tempdir().unwrap();
        let key = gx_identity::open(data.path()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Bare(listener.local_addr().unwrap().into());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            let _ = stream.read(&mut hello).await;
            match answer {
                Some(answer) => drop(stream.write_all(answer).await),
                None => std::future::pending().await,
            }
        });
        let known = KnownHosts::of(data.path());
        let error = Client::open(&address, &key, &known).await.unwrap_err();
        assert!(known.all().unwrap().is_empty(), "nobody was met");
        answering.abort();
        error
    }

    #[tokio::test]
    async fn who_shakes_no_hands_is_not_met() {
        for answer in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-x\r\n", b"", &[0x15, 3, 3, 0, 2, 2, 40]]
        {
            let error = met_by(Some(answer)).await;
            assert!(matches!(error, ClientError::Handshake { .. }), "{answer:?}: {error:?}");
            assert!(error.hint().unwrap().contains("plain:127.0.0.1:"));
        }
        let error = met_by(None).await;
        assert!(matches!(error, ClientError::TimedOut { seconds: 5, .. }), "{error:?}");
    }
}
