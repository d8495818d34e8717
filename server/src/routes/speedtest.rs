//! `/speedtest/*`: the measured side of a speed test, and what LibreSpeed's clients call it.
//!
//! What is sent are slices of one piece of random bytes: a random number for each byte, or a copy of it, would measure
//! this machine's memory. What comes is counted and dropped. Nothing is ever built in memory.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use gx_core::api::speedtest::{
    self as api, Address, DownQuery, MAX_BYTES, MAX_SECONDS, MAX_STREAMS, Pong, Received, SpeedtestConfig,
    SpeedtestToken,
};
use gx_core::measurement::{Millis, Sample};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::AbortHandle;
use warp::http::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::answer::json;
use super::bulk::{Part, Payer};
use super::failure::Failure;
use super::request::{Body, Request};
use super::{Gives, Route, State, Takes, handler, schema};
use crate::counters::Counters;
use crate::node::{Verb, authorize};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: api::CONFIG,
        about: "What this host lets itself be measured with.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<SpeedtestConfig>),
        handler: handler!(config),
    },
    Route {
        method: "GET",
        path: api::PING,
        about: "Says what it was asked with, for round trips.",
        query: Some(schema::<PingQuery>),
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<Pong>),
        handler: handler!(ping),
    },
    Route {
        method: "GET",
        path: api::DOWN,
        about: "Random bytes, at most 1 GiB and 12 s.",
        query: Some(schema::<DownQuery>),
        takes: Takes::Nothing,
        gives: Gives::Bytes,
        handler: handler!(down),
    },
    Route {
        method: "POST",
        path: api::UP,
        about: "Counts what it is sent, at most 1 GiB and 12 s, and says what had arrived when.",
        query: Some(schema::<UpQuery>),
        takes: Takes::Bytes,
        gives: Gives::Json(200, schema::<Received>),
        handler: handler!(up),
    },
    Route {
        method: "POST",
        path: api::TOKEN,
        about: "A token by which a program without the caller's key may measure this host for the caller.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<SpeedtestToken>),
        handler: handler!(token),
    },
    Route {
        method: "GET",
        path: api::GET_IP,
        about: "Where the request came from.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<Address>),
        handler: handler!(get_ip),
    },
    Route {
        method: "GET",
        path: "/garbage",
        about: "Random bytes, as LibreSpeed asks for them.",
        query: Some(schema::<GarbageQuery>),
        takes: Takes::Nothing,
        gives: Gives::Bytes,
        handler: handler!(garbage),
    },
    Route {
        method: "GET",
        path: "/empty",
        about: "Nothing, as LibreSpeed asks for round trips.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Nothing,
        handler: handler!(empty),
    },
    Route {
        method: "POST",
        path: "/empty",
        about: "Drops what it is sent, as LibreSpeed uploads.",
        query: None,
        takes: Takes::Bytes,
        gives: Gives::Nothing,
        handler: handler!(swallow),
    },
    Route {
        method: "GET",
        path: "/getIP",
        about: "Where the request came from, as LibreSpeed asks.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<Address>),
        handler: handler!(get_ip),
    },
];

/// Returns whether a route is for round trips, which are not counted with other requests.
pub(super) fn is_ping(route: &Route) -> bool {
    route.method == "GET" && [api::PING, "/empty"].contains(&route.path)
}

/// Returns whether a route is of a test that moves bytes: it changes nothing, whatever the method.
pub(super) fn is_bulk(method: &str, path: &str) -> bool {
    matches!((method, path), (_, api::DOWN | api::UP | api::TOKEN | "/garbage") | ("POST", "/empty"))
}

/// The random bytes that are sent again and again. More than fits a compressor's window, less than a CPU's cache.
const RING_BYTES: usize = 1 << 20;
/// What is sent at a time; it divides the ring.
const PIECE_BYTES: usize = 256 << 10;
/// What is sent to those who do not say how much.
const DEFAULT_BYTES: u64 = 4 << 20;
/// How far apart the readings of an upload are.
const READING: Duration = Duration::from_millis(20);
/// The longest word of a client's own.
const MAX_WORD: usize = 32;

#[derive(Deserialize, JsonSchema)]
struct PingQuery {
    /// What to say: up to 32 letters, digits and `-`.
    #[serde(default)]
    n: String,
}

#[derive(Deserialize, JsonSchema)]
struct UpQuery {
    /// Which test this is part of: the same for all its connections, up to 32 letters, digits and `-`.
    #[serde(default)]
    test: String,
}

#[derive(Deserialize, JsonSchema)]
struct GarbageQuery {
    /// How many MiB, at most 1024; 4 without it.
    #[serde(rename = "ckSize")]
    chunks: Option<u32>,
}

async fn config(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    Ok(fresh(json(
        StatusCode::OK,
        &SpeedtestConfig {
            protocols: vec![api::PROTOCOL.to_owned()],
            max_bytes: MAX_BYTES,
            max_seconds: MAX_SECONDS,
            max_streams: MAX_STREAMS as u16,
            tests: state.bulk.tests(),
        },
    )))
}

async fn ping(_: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    let PingQuery { n } = request.query()?;
    word("n", &n)?;
    Ok(fresh(json(StatusCode::OK, &Pong { n })))
}

async fn token(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Measure, None)?;
    Ok(fresh(json(StatusCode::OK, &state.node.speedtest_token(&request.caller, SystemTime::now()))))
}

async fn get_ip(_: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    let address = request.connection.address().map(|address| address.to_string()).unwrap_or_default();
    Ok(fresh(json(StatusCode::OK, &Address { address, provider: String::new() })))
}

async fn empty(_: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    Ok(fresh(warp::reply().into_response()))
}

async fn down(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let query: DownQuery = request.query()?;
    let bytes = query.bytes.unwrap_or(DEFAULT_BYTES);
    if bytes > MAX_BYTES {
        return Err(Failure::field("bytes", format!("{bytes} is more than one request gives, {MAX_BYTES}")));
    }
    send(&state, &request, query.test.as_deref().unwrap_or_default(), bytes)
}

async fn garbage(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let GarbageQuery { chunks } = request.query()?;
    let bytes = chunks.map_or(DEFAULT_BYTES, |chunks| u64::from(chunks) << 20);
    send(&state, &request, "", bytes.min(MAX_BYTES))
}

async fn up(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let UpQuery { test } = request.query()?;
    let drained = drain(&state, &mut request, &test).await?;
    let mut response = fresh(json(StatusCode::OK, &drained.received));
    drained.close(&mut response);
    Ok(response)
}

async fn swallow(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let drained = drain(&state, &mut request, "").await?;
    let mut response = fresh(warp::reply().into_response());
    drained.close(&mut response);
    Ok(response)
}

/// Begins this request's part of a test.
fn begin(state: &State, request: &Request, test: &str) -> Result<Part, Failure> {
    let caller = match request.headers.get(AUTHORIZATION) {
        None => request.caller.clone(),
        Some(shown) => {
            let token = shown.to_str().ok().and_then(|shown| shown.strip_prefix("Bearer "));
            let caller = token.and_then(|token| state.node.caller_by_token(token, SystemTime::now()));
            caller.ok_or(Failure::Token)?
        }
    };
    authorize(&caller, Verb::Measure, None)?;
    word("test", test)?;
    state.bulk.begin(Payer::of(&caller, request.connection.address()), test, Instant::now())
}

fn send(state: &State, request: &Request, test: &str, bytes: u64) -> Result<Response, Failure> {
    let part = begin(state, request, test)?;
    let (connection, longest, taken) = (request.connection.clone(), state.longest, part.taken());
    // A reader that takes nothing is never asked whether it wants more: only from outside can it be ended.
    let end = tokio::spawn(async move {
        let _ = tokio::time::timeout(longest + longest / 4, taken).await;
        connection.cut();
    });
    let until = Instant::now() + longest;
    let counters = state.counters.clone();
    let sending = Sending { part, counters, left: bytes, at: 0, until, _end: Timer(end.abort_handle()) };
    let mut response = warp::reply::stream(sending.pieces()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(fresh(response))
}

/// An answer of random bytes on its way.
struct Sending {
    part: Part,
    counters: Arc<Counters>,
    left: u64,
    at: usize,
    until: Instant,
    _end: Timer,
}

/// What is to be done unless it is dropped before.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sending {
    fn pieces(self) -> impl Stream<Item = Result<Bytes, Failure>> + Send + Sync {
        stream::unfold(Some(self), async |sending| {
            let mut sending = sending?;
            match sending.next() {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => Some((Ok(piece), Some(sending))),
                Err(failure) => Some((Err(failure), None)), // which breaks the connection
            }
        })
    }

    fn next(&mut self) -> Result<Bytes, Failure> {
        if self.left == 0 {
            return Ok(Bytes::new());
        }
        let now = Instant::now();
        if now > self.until {
            return Err(Failure::BodySlow);
        }
        let length = (PIECE_BYTES as u64).min(self.left) as usize;
        self.part.spend(length as u64, now)?;
        self.counters.measured_down(length as u64);
        let piece = ring().slice(self.at..self.at + length);
        self.at = (self.at + PIECE_BYTES) % RING_BYTES;
        self.left -= length as u64;
        Ok(piece)
    }
}

fn ring() -> &'static Bytes {
    static RING: LazyLock<Bytes> = LazyLock::new(|| {
        let mut bytes = vec![0; RING_BYTES];
        for part in bytes.chunks_mut(256) {
            // Up to 256 bytes are always given whole (getrandom(2)).
            rustix::rand::getrandom(part, rustix::rand::GetRandomFlags::empty())
                .expect("the kernel has random bytes");
        }
        bytes.into()
    });
    &RING
}

/// An upload that has been dropped.
struct Drained {
    received: Received,
    /// Whether the body came to its end.
    whole: bool,
}

impl Drained {
    /// Says that the connection ends, where the rest of a body stands in the way of the next request.
    fn close(&self, response: &mut Response) {
        if !self.whole {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

async fn drain(state: &State, request: &mut Request, test: &str) -> Result<Drained, Failure> {
    let part = begin(state, request, test)?;
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MAX_BYTES) {
        return Err(Failure::TooLarge { limit: MAX_BYTES as usize });
    }
    let mut reading = Reading { clock: state.clock, received: Received::default(), last: None };
    let mut body = request.take_body();
    let whole = tokio::select! {
        read = tokio::time::timeout(state.longest, reading.all(&mut body, &part)) => {
            read.map_or(Ok(false), |read| read.map(|()| true))?
        }
        busy = part.taken() => return Err(busy),
    };
    reading.note(Instant::now());
    state.counters.measured_up(reading.received.bytes);
    Ok(Drained { received: reading.received, whole })
}

/// The readings of an upload.
struct Reading {
    clock: Clock,
    received: Received,
    last: Option<Instant>,
}

impl Reading {
    async fn all(&mut self, body: &mut Body, part: &Part) -> Result<(), Failure> {
        self.note(Instant::now());
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|_| Failure::BodyLost)?.len() as u64;
            let now = Instant::now();
            part.spend(bytes, now)?;
            self.received.bytes += bytes;
            if self.received.bytes > MAX_BYTES {
                return Err(Failure::TooLarge { limit: MAX_BYTES as usize });
            }
            if self.last.is_none_or(|last| now - last >= READING) {
                self.note(now);
            }
        }
        Ok(())
    }

    fn note(&mut self, now: Instant) {
        self.last = Some(now);
        self.received.timeline.push(Sample { at_ms: self.clock.at(now), bytes: self.received.bytes });
    }
}

/// One clock for the readings of all uploads. It begins anywhere, so that it does not tell how long the host is up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
    offset_ms: u32,
}

impl Clock {
    pub(super) fn new(origin: Instant) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { origin, offset_ms: (RandomState::new().hash_one(origin) >> 40) as u32 }
    }

    fn at(self, now: Instant) -> Millis {
        let micros = now.saturating_duration_since(self.origin).as_micros() as f64;
        Millis(f64::from(self.offset_ms) + micros / 1_000.0)
    }
}

/// Checks a word of a client's own.
fn word(field: &'static str, text: &str) -> Result<(), Failure> {
    if text.len() <= MAX_WORD && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err(Failure::field(field, format!("it is up to {MAX_WORD} letters, digits and `-`")))
}

/// Keeps an answer out of caches, and whoever is in between from compressing it.
fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    response
}
