//! Ways in as anybody: requests and WebSockets from who proves this key, or none, without a socket.

use gx_core::NodeId;
use gx_core::api::ApiError;
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
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

/// Sends a request.
pub(super) async fn send(host: &Host, who: Identity, request: RequestBuilder) -> Response<Bytes> {
    let (_close, closing) = watch::channel(false);
    let connection = Connection { identity: who, from: String::new() };
    request.extension(connection).reply(&routes::all(State::new(host.node.clone(), closing))).await
}

/// Sends a request, and returns how it is answered, without waiting for the end of the answer.
pub(super) async fn begun(host: &Host, who: Identity, request: RequestBuilder) -> StatusCode {
    let (_close, closing) = watch::channel(false);
    let connection = Connection { identity: who, from: String::new() };
    let routes = routes::all(State::new(host.node.clone(), closing));
    request.extension(connection).filter(&routes).await.expect("every request is answered").status()
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
    let routes = TowerToHyperService::new(warp::service(routes::all(State::new(host.node.clone(), closing))));
    let connection = Connection { identity: who, from: String::new() };
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        routes.call(request)
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
