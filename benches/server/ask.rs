//! Those who ask: as fast as they are answered, once for each connection, or at a steady rate.
//!
//! A request is a few bytes made once, and of an answer only the length is read: whoever asks runs beside the server on
//! the same machine, and what it takes itself must not hide what the server takes.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use gx_identity::NodeKey;
use gx_identity::tls::{ClientStream, Connector};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::{Result, Server};

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// Over how many connections a steady rate is spread.
const PACED: u32 = 8;

impl Server {
    /// Connects, showing this key.
    pub(crate) async fn line(self, key: &NodeKey) -> Result<Line> {
        self.line_with(&Connector::to_node(self.node, key)).await
    }

    async fn line_with(self, connector: &Connector) -> Result<Line> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream: connector.connect(stream).await?.0, answer: Vec::new() })
    }
}

/// A connection that is kept.
pub(crate) struct Line {
    stream: ClientStream<TcpStream>,
    answer: Vec<u8>,
}

/// Returns the bytes of a request.
pub(crate) fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: gx.invalid\r\n\r\n").into_bytes()
}

impl Line {
    /// Sends a request and returns the body of its answer, which is 200.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        // What is encrypted waits for its turn where tokio lets another go first.
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server has closed the connection".into());
            }
            if let Some((head, length)) = head(&self.answer)?
                && self.answer.len() >= head + length
            {
                return Ok(&self.answer[head..head + length]);
            }
            if self.answer.len() > MAX_ANSWER {
                return Err("the answer is too long".into());
            }
        }
    }
}

/// Returns how long the head of an answer is, and its body, once the head is there.
fn head(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&answer[..end])?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("the server answers {}", text.lines().next().unwrap_or_default()).into());
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
    });
    Ok(Some((end + 4, length.ok_or("the answer does not say how long it is")??)))
}

/// Asks so often over so many connections, each as soon as it is answered, and returns how long it took.
pub(crate) async fn load(
    server: Server,
    key: &NodeKey,
    path: &str,
    connections: usize,
    requests: usize,
) -> Result<Duration> {
    let connector = Connector::to_node(server.node, key);
    let request = request(path);
    let mut lines = try_join_all((0..connections).map(|_| server.line_with(&connector))).await?;
    // Each is warm.
    try_join_all(lines.iter_mut().map(|line| line.ask(&request))).await?;
    let began = Instant::now();
    let each = requests.div_ceil(connections);
    try_join_all(lines.iter_mut().map(async |line| -> Result<()> {
        for _ in 0..each {
            line.ask(&request).await?;
        }
        Ok(())
    }))
    .await?;
    Ok(began.elapsed())
}

/// Connects to each server in turn, so many times: until the client has shaken hands, and until it has its first answer,
/// which a server gives only after it has checked the client's key.
pub(crate) async fn handshakes(servers: &[(Server, &str)], key: &NodeKey, rounds: usize) -> Result<Value> {
    let connectors: Vec<_> = servers.iter().map(|(server, _)| Connector::to_node(server.node, key)).collect();
    let mut times = vec![(Vec::new(), Vec::new()); servers.len()];
    for round in 0..=rounds {
        for turn in 0..servers.len() {
            let which = (round + turn) % servers.len();
            let (server, path) = &servers[which];
            let request = request(path);
            let began = Instant::now();
            let mut line = server.line_with(&connectors[which]).await?;
            let shaken = began.elapsed();
            line.ask(&request).await?;
            let answered = began.elapsed();
            // The first round warms the caches.
            if round > 0 {
                times[which].0.push(shaken.as_secs_f64() * 1e3);
                times[which].1.push(answered.as_secs_f64() * 1e3);
            }
        }
    }
    let told = times.iter().map(|(shaken, answered)| json!({ "shaken_ms": shaken, "answered_ms": answered }));
    Ok(told.collect())
}

/// Asks at a steady rate, whatever it takes to be answered, and returns how long each answer took, in milliseconds.
///
/// A connection that is not answered in time asks late and not twice at once; the times are from when it asks.
pub(crate) async fn pace(
    server: Server,
    key: &NodeKey,
    path: &str,
    each_second: u32,
    seconds: u32,
) -> Result<Vec<f64>> {
    let connector = Connector::to_node(server.node, key);
    let request = request(path);
    let interval = Duration::from_secs(1) * PACED / each_second;
    let lines = (0..PACED).map(async |number| -> Result<Vec<f64>> {
        let mut line = server.line_with(&connector).await?;
        line.ask(&request).await?;
        // Each at a moment of its own.
        let first = tokio::time::Instant::now() + interval * number / PACED;
        let mut ticks = tokio::time::interval_at(first, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut times = Vec::new();
        for _ in 0..each_second * seconds / PACED {
            ticks.tick().await;
            let began = Instant::now();
            line.ask(&request).await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    });
    Ok(try_join_all(lines).await?.concat())
}
