//! The routes: one table, of which each file here has a part, and the way of every request through it.
//!
//! The table is also what `/openapi.json` is made of, so a route that is not described does not exist.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use gx_core::api::REQUEST_ID;
use gx_core::api::speedtest::MAX_SECONDS;
use http_body_util::{BodyDataStream, Full};
use hyper::body::Body as HttpBody;
use hyper::service::Service as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::service::TowerToHyperService;
use schemars::{Schema, SchemaGenerator};
use tokio::sync::{Semaphore, watch};
use warp::Filter;
use warp::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use warp::http::{self, HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;
use warp::ws::Ws;

use crate::audit::Audit;
use crate::counters::Counters;
use crate::node::Node;
use crate::rates::Rates;

mod answer;
mod bulk;
mod chat;
mod containers;
mod events;
mod exec;
mod failure;
mod health;
mod images;
mod metrics;
mod openapi;
mod peers;
mod request;
mod runtimes;
mod specs;
mod speedtest;
mod trail;
mod trust;
mod tunnel;

use failure::Failure;
use request::{Body, BodyError, Request, refuse_browsers, request_id};

use trail::Trail;

pub(crate) use request::Connection;

/// Commands that run through this host at a time.
const MAX_EXECS: usize = 256;
/// Connections to services of containers that lead through this host at a time.
const MAX_TUNNELS: usize = 128;
/// Watches of what happens to containers at a time.
const MAX_WATCHES: usize = 64;
/// Connections to the chat at a time.
const MAX_CHATS: usize = 16_384;

/// What all routes share.
pub(crate) struct State {
    node: Arc<Node>,
    /// Turns true when the server is asked to end.
    closing: watch::Receiver<bool>,
    counters: Arc<Counters>,
    rates: Rates,
    audit: Audit,
    execs: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    chats: Arc<Semaphore>,
    bulk: Arc<bulk::Bulk>,
    clock: speedtest::Clock,
    /// How long one request of a speed test may take.
    pub(crate) longest: Duration,
}

impl State {
    pub(crate) fn new(node: Arc<Node>, closing: watch::Receiver<bool>) -> Arc<Self> {
        let execs = Arc::new(Semaphore::new(MAX_EXECS));
        let tunnels = Arc::new(Semaphore::new(MAX_TUNNELS));
        let watches = Arc::new(Semaphore::new(MAX_WATCHES));
        let chats = Arc::new(Semaphore::new(MAX_CHATS));
        let config = node.server_config();
        let now = Instant::now();
        let rates = Rates::new(&config.rates, now);
        let audit = Audit::new(node.data(), config.audit);
        let longest = Duration::from_secs(MAX_SECONDS.into());
        let (bulk, clock) = (bulk::Bulk::new(config.measure, now), speedtest::Clock::new(now));
        let counters = Arc::default();
        Arc::new(Self {
            node,
            closing,
            counters,
            rates,
            audit,
            execs,
            tunnels,
            watches,
            chats,
            bulk,
            clock,
            longest,
        })
    }

    /// Returns the server's figures.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

type Handler = fn(Arc<State>, Request) -> BoxFuture<'static, Result<Response, Failure>>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A route: what it does, and what is said of it.
struct Route {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    query: Option<SchemaOf>,
    takes: Takes,
    gives: Gives,
    handler: Handler,
}

/// The body of a request.
enum Takes {
    Nothing,
    Json(SchemaOf),
    MaybeJson(SchemaOf),
    /// A multipart form with this as its part `json`.
    Form(SchemaOf),
    Tar,
    /// Anything, of any type.
    Bytes,
}

/// The answer to a request.
enum Gives {
    Json(u16, SchemaOf),
    /// A stream for those who ask for frames; else the value as JSON.
    Value(u16, SchemaOf),
    /// A stream; else of this type.
    Stream(&'static str),
    Text,
    /// Bytes that mean nothing.
    Bytes,
    /// No body.
    Nothing,
    WebSocket,
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Makes a handler of an asynchronous function.
macro_rules! handler {
    ($function:path) => {
        |state, request| Box::pin($function(state, request))
    };
}
use handler;

/// Returns all routes.
fn table() -> impl Iterator<Item = &'static Route> {
    [
        health::ROUTES,
        metrics::ROUTES,
        openapi::ROUTES,
        specs::ROUTES,
        runtimes::ROUTES,
        images::ROUTES,
        containers::ROUTES,
        events::ROUTES,
        exec::ROUTES,
        tunnel::ROUTES,
        trust::ROUTES,
        speedtest::ROUTES,
        peers::ROUTES,
        chat::ROUTES,
    ]
    .into_iter()
    .flatten()
}

/// Returns the method and the path of every route.
#[cfg(test)]
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    table().map(|route| (route.method, route.path))
}

/// Answers a request that came on a connection.
///
/// It is taken apart once and by hand: a chain of warp's filters copies the head and moves it from link to link, which
/// costs more than everything else that is done here.
pub(crate) async fn answer(
    state: Arc<State>,
    connection: Arc<Connection>,
    request: http::Request<impl HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static>,
) -> Response {
    let (mut head, body) = request.into_parts();
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let socket = socket(&head, upgrade.as_ref()).await;
    let has_body = has_body(&head.headers);
    let trail = {
        let (id, caller) = (request_id(&head.headers), state.node.caller(connection.identity));
        Trail::begin(&state, id, caller, connection.clone())
    };
    let answer = async {
        let path = head.uri.path();
        let found = find(head.method.as_str(), path);
        if let Ok((route, reference)) = &found {
            trail.leads_to(route, reference);
        }
        // Before anything else is done for who asks too often.
        let is_ping = found.as_ref().is_ok_and(|(route, _)| speedtest::is_ping(route));
        let take = if is_ping { Rates::take_ping } else { Rates::take };
        let taken = take(&state.rates, trail.caller(), connection.address(), Instant::now());
        taken.map_err(|wait| Failure::TooFast { wait })?;
        refuse_browsers(&head, connection.identity)?;
        let (route, reference) = found?;
        let (caller, trail, body) = (trail.caller().clone(), trail.clone(), boxed(body));
        let (uri, headers) = (head.uri, head.headers);
        let request = Request { caller, connection, reference, uri, headers, body, socket, upgrade, trail };
        (route.handler)(state, request).await
    };
    let mut response = match answer.await {
        Ok(response) => {
            trail.answered(response.status(), None);
            response
        }
        Err(failure) => {
            let mut response = failure.response(trail.id());
            if has_body {
                // What was not read of the body is in the way of a next request: hyper closes the connection, and says so
                // only here.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            trail.answered(response.status(), Some(&failure));
            response
        }
    };
    let id = HeaderValue::from_str(trail.id()).expect("an id is visible ASCII");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Returns the WebSocket that a request asks for, if it says all that is to be said (RFC 6455, section 4.2.1): warp knows.
async fn socket(head: &http::request::Parts, upgrade: Option<&OnUpgrade>) -> Option<Ws> {
    type Place = Arc<Mutex<Option<Ws>>>;
    if !head.headers.contains_key(UPGRADE) {
        return None;
    }
    let place = Place::default();
    let mut asked = http::Request::new(Bytes::new());
    *asked.method_mut() = head.method.clone();
    *asked.headers_mut() = head.headers.clone();
    asked.extensions_mut().insert(place.clone());
    upgrade.map(|upgrade| asked.extensions_mut().insert(upgrade.clone()));
    let found = warp::ws().and(warp::ext::get::<Place>()).map(|socket, place: Place| {
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
        StatusCode::OK
    });
    let _ = TowerToHyperService::new(warp::service(found)).call(asked.map(Full::new)).await;
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn boxed(body: impl HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static) -> Body {
    if body.is_end_stream() {
        return Box::pin(futures_util::stream::empty());
    }
    Box::pin(BodyDataStream::new(body).map_err(Into::into))
}

/// Returns whether a request comes with a body (RFC 9112, section 6.3).
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// The routes without a reference, by their paths.
static PLAIN: LazyLock<HashMap<&'static str, Vec<&'static Route>>> = LazyLock::new(|| {
    let mut plain = HashMap::<_, Vec<_>>::new();
    for route in table().filter(|route| !route.path.contains('{')) {
        plain.entry(route.path).or_default().push(route);
    }
    plain
});

/// Finds the route of a request, and what it refers to.
fn find(method: &str, path: &str) -> Result<(&'static Route, String), Failure> {
    let plain = PLAIN.get(path).into_iter().flatten();
    if let Some(route) = plain.clone().find(|route| route.method == method) {
        return Ok((route, String::new()));
    }
    let with_reference = table().filter(|route| route.path.contains('{'));
    let fits = |route: &'static Route| Some((route, reference_in(route.path, path)?));
    let mut fitting: Vec<(&Route, String)> = with_reference.filter_map(fits).collect();
    if let Some(at) = fitting.iter().position(|(route, _)| route.method == method) {
        return Ok(fitting.swap_remove(at));
    }
    let path = path.chars().take(200).collect();
    let allowed: Vec<_> = plain.copied().chain(fitting.into_iter().map(|(route, _)| route)).collect();
    match allowed.is_empty() {
        true => Err(Failure::NoRoute { path }),
        false => Err(Failure::Method { path, allowed: allowed.iter().map(|route| route.method).collect() }),
    }
}

/// Returns what a path has in the place of a pattern's `{id}`, or nothing for a pattern without; `None` when it does
/// not fit.
fn reference_in(pattern: &str, path: &str) -> Option<String> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut reference = String::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(reference),
            (Some("{id}"), Some(part)) if !part.is_empty() => reference = decoded(part)?,
            (Some(pattern), Some(part)) if pattern == part => {}
            _ => return None,
        }
    }
}

/// Undoes percent-encoding (RFC 3986).
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}
