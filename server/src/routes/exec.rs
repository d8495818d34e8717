//! `/v1/containers/{id}/exec`: a WebSocket, because bytes go both ways while the command runs.
//!
//! The client's first message is text, an `ExecSpec`. All others are binary; what their first byte means is in
//! [`gx_core::api::exec`]. A slow client makes the command wait; a client that goes away ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use gx_core::Exit;
use gx_core::api::{End, exec as tag};
use gx_core::runtime::ExecSpec;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Gone, InputChunk, InputSender, Items, Kind, input, pipe};
use warp::reply::{Reply, Response};
use warp::ws::{Message, WebSocket};

use super::failure::Failure;
use super::request::{MAX_JSON_BYTES, Request, parse};
use super::{Gives, MAX_EXECS, Route, State, Takes, handler};
use crate::error::{ServerError, TrustError};
use crate::node::Caller;
use crate::serve::closed;

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: "/v1/containers/{id}/exec",
    about: "Runs a command in a container; docs/protocol.md has the messages.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::WebSocket,
    handler: handler!(exec),
}];

/// The longest message a client may send, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// How long the first message may take.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How often a client is asked for a sign of life while nothing else is sent.
const PING: Duration = Duration::from_secs(5);
/// How long the client may take for the last message.
const CLOSE: Duration = Duration::from_secs(5);

async fn exec(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let socket = request.socket.take().ok_or(Failure::NoWebSocket)?;
    let permit =
        state.execs.clone().try_acquire_owned().map_err(|_| Failure::TooManyExecs { limit: MAX_EXECS })?;
    let (reference, caller, lasting) = (request.reference, request.caller, request.trail.session());
    let socket = socket.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    let serve = |socket| async move {
        session(&state, &caller, &reference, socket).await;
        drop((permit, lasting));
    };
    Ok(socket.on_upgrade(serve).into_response())
}

async fn session(state: &State, caller: &Caller, reference: &str, socket: WebSocket) {
    let (mut sink, mut messages) = socket.split();
    let result = match first(&mut messages).await {
        Ok(spec) => {
            let (sender, input) = input();
            let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
            let mut closing = state.closing.clone();
            let call = async {
                tokio::select! {
                    exit = state.node.exec(caller, reference, spec, input, out) => Ok(exit),
                    () = closed(&mut closing) => Ok(Err(ServerError::ShuttingDown)),
                    () = state.node.dismissed(caller) => Ok(Err(TrustError::Dismissed.into())),
                }
            };
            tokio::select! {
                served = async { tokio::try_join!(call, write(&mut sink, items)) } => match served {
                    Ok((exit, ())) => exit.map_err(Failure::from),
                    Err(Gone) => return,
                },
                () = read(messages, sender) => return, // the client is gone, and with it the call
            }
        }
        Err(failure) => Err(failure),
    };
    let last = async {
        let _ = sink.send(message(tag::END, &end(result))).await;
        let _ = sink.close().await;
    };
    let _ = tokio::time::timeout(CLOSE, last).await;
}

async fn first(
    messages: &mut (impl Stream<Item = Result<Message, warp::Error>> + Unpin),
) -> Result<ExecSpec, Failure> {
    let next = tokio::time::timeout(FIRST_MESSAGE, messages.next()).await.map_err(|_| Failure::BodySlow)?;
    let message = next.and_then(Result::ok).ok_or(Failure::BodyLost)?;
    let text = message.to_str().map_err(|()| Failure::field(".", "the first message is not text"))?;
    if text.len() > MAX_JSON_BYTES {
        return Err(Failure::TooLarge { limit: MAX_JSON_BYTES });
    }
    parse(text.as_bytes())
}

/// Passes on what the client sends, and returns when it is gone.
async fn read(mut messages: impl Stream<Item = Result<Message, warp::Error>> + Unpin, sender: InputSender) {
    let mut sender = Some(sender);
    while let Some(Ok(message)) = messages.next().await {
        if message.is_close() {
            return;
        }
        if !message.is_binary() {
            continue;
        }
        let bytes = message.into_bytes();
        let payload = bytes.slice(1.min(bytes.len())..);
        let chunk = match bytes.first() {
            Some(&tag::STDIN) => InputChunk::Data(payload),
            Some(&tag::RESIZE) => match serde_json::from_slice(&payload) {
                Ok(tag::Size { columns, rows }) => InputChunk::Resize { columns, rows },
                Err(_) => continue,
            },
            Some(&tag::EOF) => {
                sender = None;
                continue;
            }
            _ => continue, // of a newer version
        };
        // A command that reads no input any more may still write output.
        if let Some(open) = &sender
            && open.send(chunk).await.is_err()
        {
            sender = None;
        }
    }
}

/// Sends what the command writes.
///
/// # Errors
/// [`Gone`] when the client takes nothing any more. A ping finds that out also while the reading waits for a command
/// that takes no input.
async fn write(
    sink: &mut (impl Sink<Message, Error = warp::Error> + Unpin),
    mut items: Items,
) -> Result<(), Gone> {
    loop {
        let message = match tokio::time::timeout(PING, items.next()).await {
            Err(_) => Message::ping(Bytes::new()),
            Ok(None) => return Ok(()),
            Ok(Some(item)) => match item.kind {
                Kind::Stdout => message(tag::STDOUT, &item.bytes),
                Kind::Stderr => message(tag::STDERR, &item.bytes),
                Kind::Event | Kind::Progress => continue,
            },
        };
        if let Err(error) = sink.send(message).await {
            tracing::debug!(%error, "the client of a command is gone");
            return Err(Gone);
        }
    }
}

fn end(result: Result<Exit, Failure>) -> Vec<u8> {
    let end = match result {
        Ok(exit) => End::Ok(serde_json::to_value(exit).expect("our own types always become JSON")),
        Err(failure) => End::Error(failure.api().1),
    };
    serde_json::to_vec(&end).expect("our own types always become JSON")
}

fn message(tag: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(tag);
    bytes.put_slice(payload);
    Message::binary(bytes.freeze())
}
