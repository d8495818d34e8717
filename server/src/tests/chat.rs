//! The chat over its WebSocket, as the network sees it: what it is told that is wrong, and how it ends.

use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use gx_chat::frames::{Auth, ClientFrame, ErrorCode, Hello, ServerFrame, WhyClosing};
use gx_core::api::ChatUserRequest;
use gx_core::audit::{AuditEntry, AuditEvent};
use gx_identity::tls::Connector;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use super::door::{key, node, refused, request, socket};
use super::whole::Served;
use super::{Host, until};
use crate::node::{Caller, Identity};

fn army() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat/army.toml")
}

/// A host with a chat in which these users have the key of node 1.
async fn host(users: &[&str]) -> Host {
    let host = Host::with(&["mock"], |config| config.chat.policy = Some(army())).await;
    host.node.open_chat().unwrap();
    accounts(&host, users).await;
    host
}

async fn accounts(host: &Host, users: &[&str]) {
    for user in users {
        let request = ChatUserRequest { node: Some(node(1)), ..ChatUserRequest::default() };
        host.node.put_chat_user(&Caller::Host, user, request).await.unwrap();
    }
}

fn hello(user: &str) -> Message {
    Message::text(
        ClientFrame::Hello(Hello {
            v: 1,
            user: user.parse().unwrap(),
            auth: Auth::Key {},
            device: "d".parse().unwrap(),
            resume: Default::default(),
            chain: Default::default(),
        })
        .to_text(),
    )
}

fn send(cid: &str, text: &str) -> Message {
    let (cid, g, text) = (cid.to_owned(), "r".to_owned(), text.to_owned());
    Message::text(ClientFrame::Send { cid, g, text }.to_text())
}

type Socket<S> = WebSocketStream<S>;

/// Returns the next frame; nothing at the end, however it comes.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> Option<ServerFrame> {
    loop {
        match tokio::time::timeout(super::PATIENCE, socket.next()).await.expect("there is something") {
            Some(Ok(Message::Text(text))) => return Some(ServerFrame::parse(text.as_bytes()).unwrap()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_) | Err(_)) | None => return None,
        }
    }
}

async fn wait_for<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    fits: impl Fn(&ServerFrame) -> bool,
) -> ServerFrame {
    loop {
        let frame = next(socket).await.expect("the connection lasts");
        if fits(&frame) {
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_a_policy_has_no_chat() {
    let host = Host::new().await;
    host.node.open_chat().unwrap();
    let (status, told) = refused(&host, Identity::ThisMachine, request("GET", "/v1/chat/users")).await;
    assert_eq!((status.as_u16(), told.hint.is_some()), (404, true));
    let (status, _) = socket(&host, key(1), "/v1/chat").await.map(drop).unwrap_err();
    assert_eq!(status.as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_no_websocket_is_told_so() {
    let host = host(&[]).await;
    let (status, _) = refused(&host, key(1), request("GET", "/v1/chat")).await;
    assert_eq!(status.as_u16(), 426);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_the_key_talks_and_nobody_else() {
    let host = host(&["Army1"]).await;
    let mut army = socket(&host, key(1), "/v1/chat").await.unwrap();
    army.send(hello("Army1")).await.unwrap();
    let welcome = next(&mut army).await.unwrap();
    assert!(
        matches!(&welcome, ServerFrame::Welcome { server, .. } if *server == host.node.id()),
        "{welcome:?}"
    );
    army.send(send("1", "to all")).await.unwrap();
    // Which of the two comes first nobody promises.
    let (mut acked, mut told) = (false, false);
    while !(acked && told) {
        let frame = next(&mut army).await.unwrap();
        acked |= matches!(frame, ServerFrame::Ack { .. });
        told |= matches!(frame, ServerFrame::Msgs { .. });
    }

    for who in [key(2), Identity::Unknown, Identity::ThisMachine] {
        let mut other = socket(&host, who, "/v1/chat").await.unwrap();
        other.send(hello("Army1")).await.unwrap();
        let told = next(&mut other).await.unwrap();
        assert!(matches!(told, ServerFrame::Error { code: ErrorCode::Auth, fatal: true, .. }), "{told:?}");
        assert_eq!(next(&mut other).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_ends_nothing_but_the_connection() {
    let host = host(&["Army1"]).await;
    let mut army = socket(&host, key(1), "/v1/chat").await.unwrap();
    army.send(hello("Army1")).await.unwrap();
    army.send(Message::binary(vec![0xff; 100])).await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Error { code: ErrorCode::BadFrame, .. })).await;
    // In fragments of one byte, it is a frame like any other.
    let text = send("1", "in pieces").into_text().unwrap();
    let (last, bytes) = (text.len() - 1, text.as_bytes());
    for (number, byte) in bytes.iter().enumerate() {
        let code = if number == 0 { Data::Text } else { Data::Continue };
        let header =
            FrameHeader { is_final: number == last, opcode: OpCode::Data(code), ..FrameHeader::default() };
        army.feed(Message::Frame(Frame::from_payload(header, vec![*byte].into()))).await.unwrap();
    }
    army.flush().await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Ack { .. })).await;

    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    let mut broken = socket(&host, key(1), "/v1/chat").await.unwrap();
    broken.send(Message::Frame(Frame::from_payload(header, vec![0xff, 0xfe].into()))).await.unwrap();
    assert_eq!(next(&mut broken).await, None, "it is not UTF-8");
    let mut long = socket(&host, key(1), "/v1/chat").await.unwrap();
    long.send(hello("Army1")).await.unwrap();
    wait_for(&mut long, |frame| matches!(frame, ServerFrame::Welcome { .. })).await;
    let _ = long.send(Message::text("x".repeat(70_000))).await;
    while next(&mut long).await.is_some() {}

    army.send(send("2", "still here")).await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Ack { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_made_with_a_password_that_is_told_once() {
    let host = host(&[]).await;
    let made = host.node.put_chat_user(&Caller::Host, "Navy7", ChatUserRequest::default()).await.unwrap();
    let password = made.password.expect("it was made up");
    let listed = host.node.chat_users(&Caller::Host).await.unwrap().users;
    assert_eq!(
        listed.iter().map(|user| (user.user.as_str(), user.has_password)).collect::<Vec<_>>(),
        [("Navy7", true)]
    );
    assert!(listed[0].password.is_none());
    let mut navy = socket(&host, Identity::Unknown, "/v1/chat").await.unwrap();
    let auth = json!({ "by": "password", "password": password.reveal() });
    let hello = json!({ "t": "hello", "v": 1, "user": "Navy7", "auth": auth, "device": "d" });
    navy.send(Message::text(hello.to_string())).await.unwrap();
    let welcome = next(&mut navy).await.unwrap();
    assert!(matches!(welcome, ServerFrame::Welcome { token: Some(_), .. }), "{welcome:?}");
    for (user, field) in [("Navy51", "user"), ("a b", "user")] {
        let error =
            host.node.put_chat_user(&Caller::Host, user, ChatUserRequest::default()).await.unwrap_err();
        assert_eq!(error.api().field.as_deref(), Some(field), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_broken_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("army.toml");
    let text = std::fs::read_to_string(army()).unwrap();
    std::fs::write(&file, &text).unwrap();
    let host = Host::with(&["mock"], |config| config.chat.policy = Some(file.clone())).await;
    host.node.open_chat().unwrap();
    accounts(&host, &["Army1"]).await;
    let mut army = socket(&host, key(1), "/v1/chat").await.unwrap();
    army.send(hello("Army1")).await.unwrap();
    for broken in ["[[group]]\nid = \"h\"\nwhat = 1\n", "no TOML", ""] {
        std::fs::write(&file, broken).unwrap();
        let error = host.node.reload_chat().unwrap_err();
        assert!(error.hint().is_some(), "{error}");
    }
    army.send(send("1", "as before")).await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Ack { .. })).await;
    std::fs::write(&file, text.replace("Army{1..50}", "Army{2..50}")).unwrap();
    host.node.reload_chat().unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
    assert_eq!(next(&mut army).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_keeps_the_server_from_starting_and_says_so() {
    let host = Host::with(&["mock"], |config| config.chat.policy = Some(army())).await;
    let folder = host.node.data().join("chat");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("chat.db"), "not a database, whatever else it may be ".repeat(100)).unwrap();
    let error = host.node.open_chat().unwrap_err();
    assert!(error.to_string().contains("damaged") && error.hint().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_acknowledges_what_it_took_and_says_when_to_come_back() {
    let host = Host::with(&["mock"], |config| config.chat.policy = Some(army())).await;
    let served = Served::of(host).await;
    until("the chat is there", async || served.client.chat_users().await.is_ok()).await;
    accounts(&served.host, &["Army1"]).await;
    let key = served.host.node.key();
    let request = ChatUserRequest { node: Some(key.id()), ..ChatUserRequest::default() };
    served.client.put_chat_user("Army1", request).await.unwrap();
    let connector = Connector::to_node(key.id(), key);
    let stream = connector.connect(TcpStream::connect(served.address).await.unwrap()).await.unwrap().0;
    let (mut army, _) = tokio_tungstenite::client_async("ws://localhost/v1/chat", stream).await.unwrap();
    army.send(hello("Army1")).await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Welcome { .. })).await;
    for number in 0..30 {
        army.feed(send(&number.to_string(), "x")).await.unwrap();
    }
    army.flush().await.unwrap();
    // What has come before this was taken.
    army.send(Message::text(ClientFrame::Ping {}.to_text())).await.unwrap();
    let mut acks = 0;
    loop {
        match next(&mut army).await.unwrap() {
            ServerFrame::Pong { .. } => break,
            ServerFrame::Ack { .. } => acks += 1,
            _ => {}
        }
    }
    let data = served.host.node.data().to_owned();
    let (stopped, closing) = tokio::join!(served.stop_keeping(), async {
        loop {
            match next(&mut army).await.unwrap() {
                ServerFrame::Ack { .. } => acks += 1,
                ServerFrame::Closing { why, retry_ms } => break (why, retry_ms.is_some()),
                _ => {}
            }
        }
    });
    assert_eq!((acks, closing), (30, (WhyClosing::Stop, true)));
    until("the session is in the audit log", async || {
        let log = std::fs::read_to_string(data.join(gx_core::audit::FILE)).unwrap_or_default();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<AuditEntry>(line).ok());
        let mut ended = entries.filter(|e| e.event == AuditEvent::End && e.verb == "GET /v1/chat");
        ended.any(|entry| entry.user.as_deref() == Some("Army1"))
    })
    .await;
    drop(stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_can_be_ended_alone() {
    let host = host(&["Army1"]).await;
    let mut army = socket(&host, key(1), "/v1/chat").await.unwrap();
    army.send(hello("Army1")).await.unwrap();
    wait_for(&mut army, |frame| matches!(frame, ServerFrame::Welcome { .. })).await;
    let (stopped, _) = tokio::join!(host.node.stop_chat(&Caller::Host), async {
        wait_for(&mut army, |frame| matches!(frame, ServerFrame::Closing { why: WhyClosing::Stop, .. }))
            .await;
        assert_eq!(next(&mut army).await, None);
    });
    assert_eq!(stopped.unwrap().connections, 1);
    let gone = host.node.chat_users(&Caller::Host).await.unwrap_err();
    assert_eq!(gone.code(), gx_core::ErrorCode::NotFound);
}
