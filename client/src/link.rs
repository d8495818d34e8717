//! A connection to a server of the table: who is there, how far it is, and what its table has. Whoever is at the other end
//! is not trusted with anything: every wait has an end, and so has every answer.
//!
//! It goes under no key of ours: whoever reads a table needs none, and strangers are not to learn who asks.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::GzDecoder;
use gx_core::api::{ApiError, path, speedtest};
use gx_core::measurement::Millis;
use gx_core::peers::file::{Reply, TablePage, Upload};
use gx_core::peers::{Page, form};
use gx_core::{Endpoint, NodeId};
use gx_identity::tls::{Connector, WrongNode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::{ClientError, Result, not_shaken};

/// How long it may take until somebody is there and has proved who it is.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the head of an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long all of an answer may take.
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer, as they come, and unpacked: a page, and the short ids of what else is in a large table.
const MAX_BYTES: usize = 1 << 20;
const MAX_UNPACKED: u64 = 2 << 20;
/// Pings for one latency, after one that does not count.
const PINGS: usize = 5;

/// A connection that is kept.
#[derive(Debug)]
pub struct PeerLink {
    node: NodeId,
    address: SocketAddr,
    connect: Duration,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    sent: u64,
    received: u64,
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PeerLink {
    /// Connects, to this node or, without one, to whoever is there.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::TimedOut`], [`ClientError::Handshake`], [`ClientError::WrongNode`].
    pub async fn open(address: SocketAddr, node: Option<NodeId>) -> Result<Self> {
        let begun = Instant::now();
        let connector = match node {
            Some(node) => Connector::to_node_as_nobody(node),
            None => Connector::to_anybody(),
        };
        let shown = Endpoint::from(address).to_string();
        let opening = async {
            let stream =
                TcpStream::connect(address).await.map_err(|error| crate::not_connected(&shown, error))?;
            stream.set_nodelay(true).map_err(|error| crate::not_connected(&shown, error))?;
            connector.connect(stream).await.map_err(|error| match WrongNode::behind(&error) {
                Some(wrong) => ClientError::WrongNode { address: shown.clone(), wrong, met: false },
                None => not_shaken(&shown, error),
            })
        };
        let timed_out =
            || ClientError::TimedOut { address: shown.clone(), seconds: CONNECT.as_secs(), sent: false };
        let (stream, node) = tokio::time::timeout(CONNECT, opening).await.map_err(|_| timed_out())??;
        let connect = begun.elapsed();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1_024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&shown, error))?;
        let driver = tokio::spawn(async move {
            let _ = connection.await; // whoever waits for an answer is told
        });
        Ok(Self { node, address, connect, sender, driver, sent: 0, received: 0 })
    }

    /// Returns who is there, as it has proved.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how long connecting took, the handshake included.
    pub fn connect_time(&self) -> Duration {
        self.connect
    }

    /// Returns the bytes of all bodies so far, there and back.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Measures the latency: the median of five round trips on this connection, after one that does not count.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn latency(&mut self) -> Result<Millis> {
        let first = self.ping(speedtest::PING).await;
        // A server of another kind has no such path, and says so as fast as it says anything.
        let path = if matches!(first, Err(ClientError::Host(_) | ClientError::Protocol { .. })) {
            self.ping(path::HEALTHZ).await?;
            path::HEALTHZ
        } else {
            first?;
            speedtest::PING
        };
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            times.push(self.ping(path).await?.as_secs_f64() * 1e3);
        }
        times.sort_unstable_by(f64::total_cmp);
        Ok(Millis(times[PINGS / 2]))
    }

    async fn ping(&mut self, path: &str) -> Result<Duration> {
        let begun = Instant::now();
        // Nobody who is there takes longer for this than for the head of an answer.
        let answer = tokio::time::timeout(ANSWER, self.call(Method::GET, path, None)).await;
        answer.map_err(|_| self.timed_out(ANSWER))??;
        Ok(begun.elapsed())
    }

    /// Asks for what this table lacks, and tells what that one may lack.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Protocol`] for more than one answer may have.
    pub async fn exchange(&mut self, upload: &Upload) -> Result<Reply> {
        let text = serde_json::to_string(upload).expect("our own types always become JSON");
        let reply: Reply = self.call_json(Method::POST, path::IP_TABLE, Some(form::encode(&text))).await?;
        if reply.records.len() > Page::MAX_RECORDS {
            return Err(self.odd(format!("{} records in one answer", reply.records.len())));
        }
        Ok(reply)
    }

    /// Returns a page of its table, in the order of node ids, with so many rows at most.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn table(&mut self, after: Option<NodeId>, limit: usize) -> Result<TablePage> {
        let after = after.map(|node| format!("&after={node}")).unwrap_or_default();
        self.call_json(Method::GET, &format!("{}?limit={limit}{after}", path::IP_TABLE), None).await
    }

    /// Returns whether the connection is of use still.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    async fn call_json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<T> {
        let body = self.call(method, path, body).await?;
        serde_json::from_slice(&body).map_err(|error| self.odd(error.to_string()))
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<(String, Vec<u8>)>) -> Result<Vec<u8>> {
        let whole = tokio::time::timeout(WHOLE, self.answered(method, path, body)).await;
        whole.map_err(|_| self.timed_out(WHOLE))?
    }

    async fn answered(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Vec<u8>> {
        let shown = Endpoint::from(self.address).to_string();
        let mut request = Request::builder().method(method).uri(path).header(HOST, &shown);
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, kind).header(ACCEPT_ENCODING, "gzip");
        }
        let body = Full::new(Bytes::from(body.map(|(_, body)| body).unwrap_or_default()));
        self.sent += hyper::body::Body::size_hint(&body).lower();
        let request = request.body(body).expect("a path and short headers are a request");
        let asked = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = tokio::time::timeout(ANSWER, asked).await;
        let response = response.map_err(|_| self.timed_out(ANSWER))?.map_err(|error| lost(&shown, error))?;
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| lost(&shown, error))?;
            bytes.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            if bytes.len() > MAX_BYTES {
                return Err(self.odd("a body without end"));
            }
        }
        self.received += bytes.len() as u64;
        let packed = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let bytes = if packed { self.unpacked(&bytes)? } else { bytes };
        match (head.status, serde_json::from_slice::<ApiError>(&bytes)) {
            (StatusCode::OK, _) => Ok(bytes),
            (_, Ok(error)) => Err(ClientError::Host(error)),
            (status, Err(_)) => Err(self.odd(format!("status {status}"))),
        }
    }

    fn unpacked(&self, packed: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = GzDecoder::new(packed).take(MAX_UNPACKED + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.odd(error.to_string()))?;
        if bytes.len() as u64 > MAX_UNPACKED {
            return Err(self.odd("a body that is far longer than it seems"));
        }
        Ok(bytes)
    }

    fn timed_out(&self, limit: Duration) -> ClientError {
        ClientError::TimedOut {
            address: Endpoint::from(self.address).to_string(),
            seconds: limit.as_secs(),
            sent: true,
        }
    }

    fn odd(&self, what: impl Into<String>) -> ClientError {
        ClientError::Protocol { address: Endpoint::from(self.address).to_string(), what: what.into() }
    }
}

fn lost(address: &str, error: hyper::Error) -> ClientError {
    ClientError::Lost { address: address.to_owned(), source: Box::new(error) }
}
