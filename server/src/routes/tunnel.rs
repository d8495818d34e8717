//! `/v1/containers/{id}/ssh` and `…/vnc`: a service of a container, through the host, as a WebSocket.
//!
//! What keeps a connection from being made is told before it is a WebSocket, as to any other request.

use std::sync::Arc;

use gx_core::api::Service;
use warp::reply::{Reply, Response};

use super::failure::Failure;
use super::request::Request;
use super::{Gives, MAX_TUNNELS, Route, State, Takes, handler};
use crate::bridge::{Cut, MAX_MESSAGE_BYTES, Pulse, bridge};
use crate::serve::closed;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/v1/containers/{id}/ssh",
        about: "A connection to the container's SSH server; binary messages carry its bytes.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::WebSocket,
        handler: handler!(ssh),
    },
    Route {
        method: "GET",
        path: "/v1/containers/{id}/vnc",
        about: "A connection to the container's desktop (RFB); binary messages carry its bytes.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::WebSocket,
        handler: handler!(vnc),
    },
];

async fn ssh(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    tunnel(state, request, Service::Ssh).await
}

async fn vnc(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    tunnel(state, request, Service::Vnc).await
}

async fn tunnel(state: Arc<State>, mut request: Request, service: Service) -> Result<Response, Failure> {
    let socket = request.socket.take().ok_or(Failure::NoWebSocket)?;
    let permit = state.tunnels.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Failure::TooManyTunnels { limit: MAX_TUNNELS })?;
    let (stream, inside) = state.node.tunnel(&request.caller, &request.reference, service).await?;
    let socket = socket.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    let lasting = request.trail.session();
    let (mut closing, node, caller) = (state.closing.clone(), state.node.clone(), request.caller);
    let serve = |socket| async move {
        let cut = async {
            tokio::select! {
                () = closed(&mut closing) => Cut::CLOSING,
                () = node.dismissed(&caller) => Cut::DISMISSED,
            }
        };
        bridge(socket, stream, cut, Pulse::default()).await;
        drop((permit, inside, lasting));
    };
    Ok(socket.on_upgrade(serve).into_response())
}
