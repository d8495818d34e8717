//! `/v1/chat`: the chat's WebSocket, its accounts, and its end.
//!
//! The upgrade is taken from hyper itself and not by warp, whose WebSockets hold a buffer of 128 KiB each: here a connection
//! that says nothing takes some kilobytes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gx_chat::frames::{MAX_FRAME_BYTES, WhyClosing};
use gx_chat::hub::{Flow, Session};
use gx_core::api::{ChatStarted, ChatStopped, ChatUser, ChatUserRequest, ChatUsers, path};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use warp::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::answer::json;
use super::failure::Failure;
use super::request::Request;
use super::trail::Trail;
use super::{Gives, MAX_CHATS, Route, State, Takes, handler, schema};
use crate::serve::closed;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: path::CHAT,
        about: "The chat; docs/chat/protocol.md has the messages. Its accounts say who may talk.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::WebSocket,
        handler: handler!(chat),
    },
    Route {
        method: "GET",
        path: path::CHAT_USERS,
        about: "The accounts of the chat, by name.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ChatUsers>),
        handler: handler!(users),
    },
    Route {
        method: "PUT",
        path: "/v1/chat/users/{id}",
        about: "Makes or changes a user's account; whoever is signed in with it is cut off.",
        query: None,
        takes: Takes::MaybeJson(schema::<ChatUserRequest>),
        gives: Gives::Json(200, schema::<ChatUser>),
        handler: handler!(put_user),
    },
    Route {
        method: "POST",
        path: path::CHAT_STOP,
        about: "Ends the chat in good order; the rest of the server goes on.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ChatStopped>),
        handler: handler!(stop),
    },
    Route {
        method: "POST",
        path: path::CHAT_START,
        about: "Serves the chat again, after it was ended alone.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ChatStarted>),
        handler: handler!(start),
    },
];

/// How long somebody may take to sign in.
const SIGN_IN: Duration = Duration::from_secs(30);
/// How often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(20);
/// How long it may give none.
const SILENCE: Duration = Duration::from_secs(70);
/// How long what is sent may take to be taken.
const WRITE: Duration = Duration::from_secs(30);
/// How long the last messages may take.
const CLOSE: Duration = Duration::from_secs(5);
/// Frames that are sent together.
const TOGETHER: usize = 64;

async fn users(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.chat_users(&request.caller).await?))
}

async fn put_user(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: ChatUserRequest = request.json_or_default().await?;
    Ok(json(StatusCode::OK, &state.node.put_chat_user(&request.caller, &request.reference, body).await?))
}

async fn stop(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.stop_chat(&request.caller).await?))
}

async fn start(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.start_chat(&request.caller).await?))
}

async fn chat(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let (hub, peer) = state.node.chat(&request.caller)?;
    // What it says of itself was checked on the way here.
    request.socket.take().ok_or(Failure::NoWebSocket)?;
    let upgrade = request.upgrade.take().ok_or(Failure::NoWebSocket)?;
    let response = switching(&request.headers)?;
    let permit = state.chats.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Failure::TooManyChats { limit: MAX_CHATS })?;
    let session = hub.connect(gx_chat::hub::Peer { from: request.connection.address(), ..peer });
    let (trail, closing) = (request.trail.clone(), state.closing.clone());
    tokio::spawn(async move {
        serve(upgrade, session, &trail, closing).await;
        drop(permit);
    });
    Ok(response)
}

/// Returns the answer to who asks for a WebSocket (RFC 6455, section 4.2.2).
fn switching(headers: &HeaderMap) -> Result<Response, Failure> {
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Failure::NoWebSocket)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Failure::Malformed)?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Serves a connection to its end.
async fn serve(upgrade: OnUpgrade, mut session: Session, trail: &Trail, closing: watch::Receiver<bool>) {
    let Ok(Ok(upgraded)) = timeout(SIGN_IN, upgrade).await else { return };
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(4 << 20)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    if sign_in(&mut socket, &mut session, closing).await.is_some() {
        session.user().into_iter().for_each(|user| trail.signed_in(user.as_str()));
        // Whoever does not sign in leaves no more in the log than any other request.
        let _lasting = trail.session();
        if converse(&mut socket, &mut session).await.is_none() {
            return; // nobody is there any more
        }
    }
    let last = async {
        while let Some(text) = session.try_next() {
            socket.feed(message(text)).await?;
        }
        socket.close(None).await
    };
    let _ = timeout(CLOSE, last).await;
}

/// Waits for the first frame; `None` when nothing comes of it.
async fn sign_in(
    socket: &mut Socket,
    session: &mut Session,
    mut closing: watch::Receiver<bool>,
) -> Option<()> {
    let taken = async {
        loop {
            match socket.next().await?.ok()? {
                Message::Text(text) => break Some(session.take(text.as_bytes()).await),
                Message::Binary(_) => break Some(session.take_nonsense()),
                Message::Close(_) => break None,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    };
    let flow = tokio::select! {
        flow = timeout(SIGN_IN, taken) => flow.ok().flatten(),
        () = closed(&mut closing) => {
            session.close(WhyClosing::Stop);
            None
        }
    };
    flow.filter(|flow| *flow == Flow::Go).map(drop)
}

/// Passes frames on, both ways, until the session has come to its end; `None` when nobody is there any more.
async fn converse(socket: &mut Socket, session: &mut Session) -> Option<()> {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            next = session.next() => {
                let Some(text) = next else { return Some(()) };
                timeout(WRITE, write(socket, text, session)).await.ok()?.ok()?;
            }
            // Who takes no answers is not asked for more questions.
            message = socket.next(), if session.may_ask() => {
                heard = Instant::now();
                match message?.ok()? {
                    Message::Text(text) => drop(session.take(text.as_bytes()).await),
                    Message::Binary(_) => drop(session.take_nonsense()),
                    Message::Close(_) => return None,
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            }
            _ = pings.tick() => {
                if session.may_ask() && heard.elapsed() > SILENCE {
                    session.close(WhyClosing::Silent);
                }
                let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                timeout(WRITE, ping).await.ok()?.ok()?;
            }
        }
    }
}

/// Sends a frame, and with it those that wait behind it.
async fn write(
    socket: &mut Socket,
    first: bytes::Bytes,
    session: &Session,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    socket.feed(message(first)).await?;
    for _ in 1..TOGETHER {
        let Some(text) = session.try_next() else { break };
        socket.feed(message(text)).await?;
    }
    socket.flush().await
}

fn message(text: bytes::Bytes) -> Message {
    match Utf8Bytes::try_from(text) {
        Ok(text) => Message::Text(text),
        // JSON of ours always is.
        Err(_) => Message::Ping(bytes::Bytes::new()),
    }
}
