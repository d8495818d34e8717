//! Ways in as anybody: requests and WebSockets from who proves this key, or none, without a socket.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt;
use gx_core::NodeId;
use gx_core::api::ApiError;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use warp::Filter;
use warp::http::{Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::test::RequestBuilder;

use super::Host;
use crate::node::Identity;
use crate::routes::{self, Connection, State};

/// Returns the id of a node that exists by its number only.
pub(super) fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

pub(super) fn key(number: u8) -> Identity {
    Identity::Key(node(number))
}

pub(super) fn request(method: &str, path: &str) -> RequestBuilder {
    warp::test::request().method(method).path(path)
}

/// Sends a request to routes that are kept.
pub(super) async fn send_to(
    state: &Arc<State>,
    connection: Arc<Connection>,
    request: RequestBuilder,
) -> Response<Bytes> {
    let (head, body) = answer(state, connection, request).await.into_parts();
    Response::from_parts(head, body.collect().await.expect("an answer has an end").to_bytes())
}

/// Sends a request.
pub(super) async fn send(host: &Host, who: Identity, request: RequestBuilder) -> Response<Bytes> {
    let (_close, closing) = watch::channel(false);
    send_to(&State::new(host.node.clone(), closing), Connection::new(who, None), request).await
}

/// Sends a request, and returns how it is answered, without waiting for the end of the answer.
pub(super) async fn begun(host: &Host, who: Identity, request: RequestBuilder) -> StatusCode {
    let (_close, closing) = watch::channel(false);
    answer(&State::new(host.node.clone(), closing), Connection::new(who, None), request).await.status()
}

/// Has the routes answer what warp has made of a request for a test.
async fn answer(
    state: &Arc<State>,
    connection: Arc<Connection>,
    request: RequestBuilder,
) -> warp::reply::Response {
    let line = warp::method().and(warp::path::full());
    let query = warp::query::raw().map(|query| format!("?{query}")).or(warp::any().map(String::new)).unify();
    let all = line.and(query).and(warp::header::headers_cloned()).and(warp::body::bytes());
    let (method, path, query, headers, body) = request.filter(&all).await.expect("it is a request");
    let mut request = hyper::Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = format!("{}{query}", path.as_str()).parse().expect("a path and a query");
    *request.headers_mut() = headers;
    routes::answer(state.clone(), connection, request).await
}

/// Sends a request that is answered with a value.
#[track_caller]
pub(super) fn value<T: DeserializeOwned>(answer: &Response<Bytes>) -> T {
    let text = String::from_utf8_lossy(answer.body());
    assert!(answer.status().is_success(), "{}: {text}", answer.status());
    serde_json::from_slice(answer.body()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Sends a request that is refused.
pub(super) async fn refused(host: &Host, who: Identity, request: RequestBuilder) -> (StatusCode, ApiError) {
    let answer = send(host, who, request).await;
    let told = serde_json::from_slice(answer.body());
    (answer.status(), told.unwrap_or_else(|error| panic!("{error}: {:?}", answer.body())))
}

/// Opens a WebSocket; what refuses it is told instead.
pub(super) async fn socket(
    host: &Host,
    who: Identity,
    path: &str,
) -> Result<WebSocketStream<DuplexStream>, (StatusCode, ApiError)> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (close, closing) = watch::channel(false);
    let state = State::new(host.node.clone(), closing);
    let connection = Connection::new(who, None);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        routes::answer(state.clone(), connection.clone(), request).map(Ok::<_, Infallible>)
    });
    tokio::spawn(async move {
        let _close = close; // else the server would be on its way down
        let server = hyper::server::conn::http1::Builder::new();
        let _ = server.serve_connection(TokioIo::new(far), service).with_upgrades().await;
        std::future::pending::<()>().await;
    });
    match tokio_tungstenite::client_async(format!("ws://localhost{path}"), near).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let told = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap();
            Err((response.status(), told))
        }
        Err(error) => panic!("{error}"),
    }
}
