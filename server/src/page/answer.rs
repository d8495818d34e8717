//! How a page answers its requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use warp::Filter;
use warp::http::header::{CONTENT_TYPE, ORIGIN};
use warp::http::{HeaderMap, Method, Response as HttpResponse, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::ws::{Message, WebSocket, Ws};

use super::guard::{below, from_the_page, guarded};
use super::{Answer, Ask, File, Intent, Site};
use crate::bridge::{Cut, MAX_MESSAGE_BYTES, Pulse, bridge};
use crate::serve::closed;

/// The last part of a WebSocket's address.
const SOCKET: &str = "socket";
/// Connections through a page at a time.
const MAX_SOCKETS: usize = 8;
/// Answers of a page that have no end of their own, at a time.
const MAX_STREAMS: usize = 32;
/// The longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The code of a WebSocket's close for a connection that could not be made; the reason says why.
const NOT_MADE: u16 = 4000;
/// How much of a reason fits into a close (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 120;

/// What every request needs.
struct Shared<S> {
    site: S,
    address: SocketAddr,
    /// The beginning of every path: `/TOKEN/`.
    prefix: String,
    sockets: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

/// A request as far as its head says it.
struct Head {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
}

/// Returns the filter that answers every request.
pub(super) fn routes<S: Site>(
    site: S,
    address: SocketAddr,
    token: &str,
    closing: watch::Receiver<bool>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let shared = Arc::new(Shared {
        site,
        address,
        prefix: format!("/{token}/"),
        sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        closing,
    });
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let socket = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    let head = warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned()).map(
        |method, path: FullPath, query, headers| Head {
            method,
            path: path.as_str().to_owned(),
            query,
            headers,
        },
    );
    let all = head.and(socket).and(warp::body::stream()).then(move |head: Head, socket, body| {
        let shared = shared.clone();
        async move {
            let answer = answer(&shared, head, socket, body).await;
            guarded(answer.unwrap_or_else(Reply::into_response), shared.address)
        }
    });
    all.recover(async |_| Ok::<_, Infallible>(StatusCode::BAD_REQUEST.into_response())).unify()
}

async fn answer<S: Site>(
    shared: &Arc<Shared<S>>,
    head: Head,
    socket: Option<Ws>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, StatusCode> {
    if !from_the_page(&head.headers, shared.address) {
        return Err(StatusCode::FORBIDDEN);
    }
    let path = below(&shared.prefix, &head.path).ok_or(StatusCode::NOT_FOUND)?.to_owned();
    // A browser always says which page opens a WebSocket, or sends what may change something.
    let from_a_page = head.headers.contains_key(ORIGIN);
    if path.rsplit('/').next() == Some(SOCKET) {
        return match socket.filter(|_| from_a_page) {
            Some(socket) => upgrade(shared.clone(), path, socket),
            None => Err(StatusCode::UPGRADE_REQUIRED),
        };
    }
    let intent = match head.method {
        Method::GET => Intent::Read,
        Method::POST => Intent::Change,
        Method::DELETE => Intent::Remove,
        _ => return Err(StatusCode::METHOD_NOT_ALLOWED),
    };
    if intent == Intent::Read {
        if let Some(file) = shared.site.file(&path) {
            return Ok(sent(&file));
        }
    } else if !from_a_page {
        return Err(StatusCode::FORBIDDEN);
    }
    let ask = Ask { intent, path, query: head.query, body: collected(body).await? };
    told(shared, shared.site.ask(ask).await)
}

fn sent(file: &File) -> Response {
    let kind = match file.path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let answer = HttpResponse::builder().header(CONTENT_TYPE, kind).body(file.bytes.into());
    answer.expect("a fixed header and bytes are an answer")
}

/// Returns the whole body.
async fn collected(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Bytes, StatusCode> {
    let mut body = std::pin::pin!(body);
    let mut collected = BytesMut::new();
    while let Some(some) = body.next().await {
        let mut some = some.map_err(|_| StatusCode::BAD_REQUEST)?;
        if collected.len() + some.remaining() > MAX_BODY_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        collected.extend_from_slice(&some.copy_to_bytes(some.remaining()));
    }
    Ok(collected.freeze())
}

fn told<S: Site>(shared: &Arc<Shared<S>>, answer: Answer) -> Result<Response, StatusCode> {
    match answer {
        Answer::Missing => Err(StatusCode::NOT_FOUND),
        Answer::Json(status, value) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Ok(warp::reply::with_status(warp::reply::json(&value), status).into_response())
        }
        Answer::Events(events) => {
            let event = |value: serde_json::Value| Bytes::from(format!("data: {value}\n\n"));
            streamed(shared, "text/event-stream", events, event)
        }
        Answer::Text(text) => streamed(shared, "text/plain; charset=utf-8", text, |bytes| bytes),
    }
}

/// Answers with what comes, until there is no more, or the page is asked to end.
fn streamed<S: Site, T: Send + 'static>(
    shared: &Arc<Shared<S>>,
    kind: &'static str,
    items: mpsc::Receiver<T>,
    bytes: fn(T) -> Bytes,
) -> Result<Response, StatusCode> {
    let permit = shared.streams.clone().try_acquire_owned().map_err(|_| StatusCode::TOO_MANY_REQUESTS)?;
    let going = (items, shared.closing.clone(), permit);
    let body = stream::unfold(going, move |going: (_, _, OwnedSemaphorePermit)| async move {
        let (mut items, mut closing, permit) = going;
        let item = tokio::select! {
            item = mpsc::Receiver::recv(&mut items) => item?,
            () = closed(&mut closing) => return None,
        };
        Some((Ok::<_, Infallible>(bytes(item)), (items, closing, permit)))
    });
    let response = warp::reply::stream(body).into_response();
    Ok(warp::reply::with_header(response, CONTENT_TYPE, kind).into_response())
}

fn upgrade<S: Site>(shared: Arc<Shared<S>>, path: String, socket: Ws) -> Result<Response, StatusCode> {
    let permit = shared.sockets.clone().try_acquire_owned().map_err(|_| StatusCode::TOO_MANY_REQUESTS)?;
    let join = move |socket: WebSocket| async move {
        let mut closing = shared.closing.clone();
        match shared.site.dial(&path).await {
            Ok(stream) => {
                let cut = async {
                    closed(&mut closing).await;
                    Cut::CLOSING
                };
                bridge(socket, stream, cut, Pulse::default()).await;
            }
            Err(why) => not_made(socket, &why).await,
        }
        drop(permit);
    };
    let socket = socket.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    Ok(socket.on_upgrade(join).into_response())
}

async fn not_made(mut socket: WebSocket, why: &str) {
    let mut reason = why.to_owned();
    while reason.len() > MAX_REASON_BYTES {
        reason.pop();
    }
    let _ = socket.send(Message::close_with(NOT_MADE, reason)).await;
    let _ = socket.close().await;
}
