//! HTTP/1.1 (RFC 9112) as far as a speed test needs it: one request after another on a connection of one's own, and bodies
//! that are read into one buffer that is used again. A general client copies each body once, which on a fast link is
//! what it then measures.
//!
//! A peer is not trusted: heads are at most [`MAX_HEAD`] long, bodies have a length, and everything has a time-out.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gx_core::measurement::Target;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::wire::Wire;

/// Header lines of a request that moves bytes: nothing on the way is to keep or shorten them.
pub(crate) const UNTOUCHED: &str =
    "user-agent: gx-speedtest/1\r\naccept-encoding: identity\r\ncache-control: no-store\r\n";
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The longest answer that is kept in memory.
const MAX_JSON: u64 = 512 << 10;
/// How long a peer may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a peer.
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) about: About,
}

/// What is known of a connection.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// How long it took to make, its handshake included.
    pub(crate) took: Duration,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) congestion_control: Option<String>,
    pub(crate) tls: bool,
}

/// The reading end.
pub(crate) struct Reader {
    wire: ReadHalf<Wire>,
    /// What came with the head of an answer and is not of it.
    rest: Vec<u8>,
}

/// The writing end.
pub(crate) struct Writer {
    pub(crate) wire: WriteHalf<Wire>,
    host: String,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    pub(crate) retry_after_s: Option<u32>,
    /// A cache says how old its copy is (RFC 9111 §5.1).
    pub(crate) cached: bool,
    /// The connection ends after the body.
    pub(crate) close: bool,
}

impl Connection {
    /// Connects to a peer.
    ///
    /// # Errors
    /// [`Fault::Address`], [`Fault::Name`], [`Fault::Connect`], [`Fault::Slow`].
    pub(crate) async fn open(target: &Target, patience: Duration) -> Result<Self, Fault> {
        let connecting = async {
            let address = resolve(&target.address).await?;
            let began = Instant::now();
            let stream = TcpStream::connect(address)
                .await
                .map_err(|source| Fault::Connect { address: target.address.clone(), source })?;
            stream.set_nodelay(true)?;
            let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
            let congestion_control = rustix::net::sockopt::tcp_congestion(&stream).ok();
            let wire = Wire::new(stream, target).await?;
            let about = About { took: began.elapsed(), local, peer, congestion_control, tls: wire.is_tls() };
            Ok(Self::over(wire, target.address.clone(), about))
        };
        timeout(patience, connecting).await.map_err(|_| Fault::Slow { what: "let a connection be made" })?
    }

    fn over(wire: Wire, host: String, about: About) -> Self {
        let (reader, writer) = tokio::io::split(wire);
        Self {
            reader: Reader { wire: reader, rest: Vec::new() },
            writer: Writer { wire: writer, host },
            about,
        }
    }

    /// Asks for something, and returns the answer with its body, which is JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<(Head, T), Fault> {
        self.writer.head("GET", path, "").await?;
        self.reader.json().await
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#');
    if port.is_none_or(|port| port == 0) || address.contains(odd) {
        return Err(Fault::Address(address.chars().filter(|c| !c.is_control()).take(80).collect()));
    }
    let unknown = || Fault::Name(address.chars().take(80).collect());
    tokio::net::lookup_host(address).await.map_err(|_| unknown())?.next().ok_or_else(unknown)
}

impl Writer {
    /// Sends the head of a request, and no more than it needs: on a slow link each line of a ping takes its time. `more` are
    /// further header lines, each with its end.
    pub(crate) async fn head(&mut self, method: &str, path: &str, more: &str) -> Result<(), Fault> {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{more}\r\n", self.host);
        self.all(head.as_bytes()).await
    }

    /// Sends all of this.
    pub(crate) async fn all(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let write = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        timeout(PATIENCE, write)
            .await
            .map_err(|_| Fault::Slow { what: "take a request" })?
            .map_err(Fault::Broken)
    }
}

impl Reader {
    /// Reads the head of the next answer.
    pub(crate) async fn head(&mut self) -> Result<Head, Fault> {
        timeout(PATIENCE, self.next_head()).await.map_err(|_| Fault::Slow { what: "answer" })?
    }

    async fn next_head(&mut self) -> Result<Head, Fault> {
        loop {
            let end = loop {
                if let Some(end) = end_of_head(&self.rest) {
                    break end;
                }
                if self.rest.len() > MAX_HEAD {
                    return Err(Fault::Garbage("its head does not end"));
                }
                self.more().await?;
            };
            let head = parse(&self.rest[..end])?;
            self.rest.drain(..end);
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    async fn more(&mut self) -> Result<(), Fault> {
        let mut piece = [0; 4096];
        match self.wire.read(&mut piece).await? {
            0 => Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into())),
            read => {
                self.rest.extend_from_slice(&piece[..read]);
                Ok(())
            }
        }
    }

    /// Reads an answer whose body is JSON; one that is not 200 is a fault.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<(Head, T), Fault> {
        timeout(PATIENCE, self.answer()).await.map_err(|_| Fault::Slow { what: "answer" })?
    }

    /// As [`json`](Reader::json), however long it takes.
    pub(crate) async fn answer<T: DeserializeOwned>(&mut self) -> Result<(Head, T), Fault> {
        let head = self.next_head().await?;
        let length = head.length.ok_or(Fault::Garbage("it has no length"))?;
        if length > MAX_JSON {
            return Err(Fault::Garbage("it is too long"));
        }
        let length = length as usize;
        while self.rest.len() < length {
            self.more().await?;
        }
        let body: Vec<u8> = self.rest.drain(..length).collect();
        head.expect_ok()?;
        let value = serde_json::from_slice(&body)
            .map_err(|_| Fault::Garbage("it is not the JSON that was asked for"))?;
        Ok((head, value))
    }

    /// Reads the next bytes of a body into a buffer that is not empty, at most `left`; none are the end of the connection.
    pub(crate) async fn body(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if self.rest.is_empty() {
            return self.wire.read(&mut buffer[..most]).await;
        }
        let read = most.min(self.rest.len());
        buffer[..read].copy_from_slice(&self.rest[..read]);
        self.rest.drain(..read);
        Ok(read)
    }
}

impl Head {
    /// Returns what is wrong with an answer that is not 200.
    pub(crate) fn expect_ok(&self) -> Result<(), Fault> {
        match self.status {
            200 => Ok(()),
            429 => Err(Fault::Busy { retry_after_ms: self.retry_after_s.map(|s| s.min(86_400) * 1_000) }),
            status => Err(Fault::Status(status)),
        }
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes[..bytes.len().min(MAX_HEAD)].windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

fn parse(head: &[u8]) -> Result<Head, Fault> {
    let text = std::str::from_utf8(head).map_err(|_| Fault::Garbage("its head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(status_of).ok_or(Fault::Garbage("it is not HTTP/1.1"))?;
    let mut head = Head { status, length: None, retry_after_s: None, cached: false, close: false };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Fault::Garbage("its head is not one"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let length = value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse().ok()).flatten();
                let length = length.ok_or(Fault::Garbage("its length is none"))?;
                if head.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Fault::Garbage("it has two lengths"));
                }
            }
            "transfer-encoding" => return Err(Fault::Garbage("it has no length")),
            "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                return Err(Fault::Garbage("it is compressed"));
            }
            "retry-after" => head.retry_after_s = value.parse().ok(),
            "age" => head.cached = true,
            "connection" => head.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(head)
}

fn status_of(line: &str) -> Option<u16> {
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    status.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_read() {
        let head = parse(b"HTTP/1.1 429 Too Many\r\nRetry-After: 5\r\nContent-Length: 12\r\nAge: 3\r\nconnection: close\r\n\r\n");
        let read = Head { status: 429, length: Some(12), retry_after_s: Some(5), cached: true, close: true };
        assert_eq!(head.unwrap(), read);
        assert!(matches!(read.expect_ok(), Err(Fault::Busy { retry_after_ms: Some(5_000) })));
    }

    #[test]
    fn a_head_that_is_none_is_refused() {
        for bad in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 2000\r\ncontent-length: 1, 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"HTTP/1.1 200 \xff\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port() {
        for bad in ["", "host", ":1", "host:0", "host:70000", "a b:1", "a/b:1", "u@h:1"] {
            assert!(matches!(resolve(bad).await, Err(Fault::Address(_))), "{bad}");
        }
        assert_eq!(resolve("[::1]:80").await.unwrap(), "[::1]:80".parse().unwrap());
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_is_a_head_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let mut told = b"HTTP/1.1 200 OK\r\n".to_vec();
            told.extend(bytes);
            let _ = parse(&told);
        }
    }
}
