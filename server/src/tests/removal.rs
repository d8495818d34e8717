//! Removing members: what they do is cut at once, and their containers end as is said, also after a crash.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gx_core::ContainerState;
use gx_core::api::{AllowRequest, Fate, Removal, exec};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use warp::http::StatusCode;

use super::door::{key, node, request, send, socket, value};
use super::{Host, argv, named, until};
use crate::node::{Caller, Identity};

async fn lent() -> Host {
    let host = Host::new().await;
    for number in [1, 2] {
        host.node.allow(&Caller::Host, &node(number).to_string(), AllowRequest::default()).await.unwrap();
    }
    for (number, name) in [(1, "web"), (2, "db")] {
        let caller = host.node.caller(key(number));
        host.node.create(&caller, named(name), None, gx_core::stream::Output::null()).await.unwrap();
    }
    host
}

async fn remove(host: &Host, number: u8, how: &str) -> Removal {
    let path = format!("/v1/members/{}{how}", node(number));
    value(&send(host, Identity::ThisMachine, request("DELETE", &path)).await)
}

async fn state(host: &Host, name: &str) -> Option<ContainerState> {
    host.node.show(&Caller::Host, name).await.ok().map(|info| info.state)
}

#[tokio::test]
async fn a_removed_members_containers_are_stopped_and_others_go_on() {
    let host = lent().await;
    let removal = remove(&host, 1, "").await;
    assert_eq!((removal.fate, removal.containers.len()), (Fate::Stop, 1));
    assert_eq!(removal.containers[0].name.as_deref(), Some("web"));
    assert_eq!(state(&host, "web").await, Some(ContainerState::Exited));
    assert_eq!(state(&host, "db").await, Some(ContainerState::Running));
    let list = send(&host, key(1), request("GET", "/v1/containers")).await;
    assert_eq!(list.status(), StatusCode::FORBIDDEN);
    let later = remove(&host, 1, "?containers=remove").await;
    assert_eq!(later.containers.len(), 1, "what was stopped can be removed later");
    assert_eq!(state(&host, "web").await, None);
    let path = format!("/v1/members/{}", node(1));
    let gone = send(&host, Identity::ThisMachine, request("DELETE", &path)).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn containers_are_kept_or_removed_where_that_is_said() {
    let host = lent().await;
    assert!(remove(&host, 1, "?containers=keep").await.containers.is_empty());
    assert_eq!(state(&host, "web").await, Some(ContainerState::Running));
    remove(&host, 2, "?containers=remove").await;
    assert_eq!(state(&host, "db").await, None);
}

#[tokio::test]
async fn a_stream_is_cut_when_its_reader_is_removed() {
    let host = lent().await;
    let follow =
        request("GET", "/v1/containers/web/logs?follow=true").header("accept", gx_core::api::STREAM_TYPE);
    let (stream, ()) = tokio::join!(send(&host, key(1), follow), async {
        until("the log is followed", async || host.probe().under_way("logs") == 1).await;
        host.node.disallow(&Caller::Host, &node(1).to_string(), keep()).await.unwrap();
    });
    let text = String::from_utf8_lossy(stream.body()).into_owned();
    assert!(text.contains("the host lends to you no longer"), "{text}");
    until("the engine's call has ended", async || host.probe().under_way("logs") == 0).await;
}

fn keep() -> gx_core::api::RemoveMember {
    gx_core::api::RemoveMember { containers: Fate::Keep }
}

#[tokio::test]
async fn a_command_is_cut_when_its_caller_is_removed_by_another_process() {
    let host = lent().await;
    let mut socket = socket(&host, key(1), "/v1/containers/web/exec").await.unwrap();
    let spec = json!({ "argv": argv(&["sleep", "1000"]) }).to_string();
    socket.send(Message::text(spec)).await.unwrap();
    until("the command runs", async || host.probe().under_way("exec") == 1).await;
    // What `gx serve` does beside answering; the other process has the same folder and nothing else in common.
    let watching = tokio::spawn({
        let node = host.node.clone();
        async move { node.watch_members().await }
    });
    let other = super::open(host.data.path(), &host.config, &host.probes).await;
    let began = std::time::Instant::now();
    other.disallow(&Caller::Host, &node(1).to_string(), keep()).await.unwrap();
    let last = loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) if bytes[0] == exec::END => break bytes,
            Message::Binary(_) | Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let end: Value = serde_json::from_slice(&last[1..]).unwrap();
    assert_eq!(end["error"]["code"], "PermissionDenied");
    until("the engine's call has ended", async || host.probe().under_way("exec") == 0).await;
    watching.abort();
}

#[tokio::test]
async fn what_a_killed_remover_left_is_done_by_the_server() {
    let host = lent().await;
    // As `gx allow remove` writes it down, before it is killed.
    let path = host.data.path().join("data/members.json");
    let mut book: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    book["members"].as_array_mut().unwrap().retain(|entry| entry["member"]["id"] != node(1).to_string());
    book["leaving"] = json!([{ "id": node(1), "fate": "stop" }]);
    std::fs::write(&path, book.to_string()).unwrap();
    host.probe().fail("stop", gx_core::RuntimeError::new(gx_core::ErrorCode::Unavailable, "not now"));
    let host = host.restart().await;
    let node = host.node.clone();
    let serving = tokio::spawn(async move { node.keep_members().await });
    let left = |host: &Host| {
        let book: Value =
            serde_json::from_slice(&std::fs::read(host.data.path().join("data/members.json")).unwrap())
                .unwrap();
        book["leaving"].as_array().unwrap().len()
    };
    until("the container is stopped", async || state(&host, "web").await == Some(ContainerState::Exited))
        .await;
    until("nothing is left to do", async || left(&host) == 0).await;
    assert_eq!(state(&host, "db").await, Some(ContainerState::Running));
    serving.abort();
}

#[tokio::test]
async fn a_membership_ends_by_itself_and_its_containers_with_it() {
    let host = lent().await;
    let node_3 = node(3).to_string();
    let soon = AllowRequest { for_s: Some(1), ..AllowRequest::default() };
    host.node.allow(&Caller::Host, &node_3, soon).await.unwrap();
    let caller = host.node.caller(key(3));
    let request = named("soon");
    host.node.create(&caller, request, None, gx_core::stream::Output::null()).await.unwrap();
    let node = host.node.clone();
    let serving = tokio::spawn(async move { node.keep_members().await });
    host.node.dismissed(&caller).await;
    assert!(matches!(host.node.caller(key(3)), Caller::Stranger(Some(_))));
    until("it is stopped", async || state(&host, "soon").await == Some(ContainerState::Exited)).await;
    assert_eq!(state(&host, "web").await, Some(ContainerState::Running));
    serving.abort();
}

#[tokio::test]
async fn who_is_let_in_again_keeps_what_it_had() {
    let host = lent().await;
    remove(&host, 1, "").await;
    host.node.allow(&Caller::Host, &node(1).to_string(), AllowRequest::default()).await.unwrap();
    let caller = host.node.caller(key(1));
    assert_eq!(host.node.list(&caller).await.unwrap().containers.len(), 1);
    host.node.start(&caller, "web").await.unwrap();
}

#[tokio::test]
async fn telling_who_somebody_is_costs_next_to_nothing() {
    let host = lent().await;
    let watching = tokio::spawn({
        let node = host.node.clone();
        async move { node.watch_members().await }
    });
    until("the list is watched", async || host.node.members_are_watched()).await;
    let began = std::time::Instant::now();
    let rounds = 20_000;
    for _ in 0..rounds {
        assert!(matches!(host.node.caller(key(1)), Caller::Member(_)));
    }
    let each = began.elapsed() / rounds;
    println!("{} ns each", each.as_nanos());
    assert!(each < Duration::from_micros(20), "{each:?}, without optimisation and on a busy machine");
    watching.abort();
}

/// Makes a host whose configuration names a member, with a container of that one.
async fn configured() -> Host {
    let host = Host::with(&["mock"], |config| config.server.allow = vec![node(1), node(2)]).await;
    for (number, name) in [(1, "web"), (2, "db")] {
        let caller = host.node.caller(key(number));
        host.node.create(&caller, named(name), None, gx_core::stream::Output::null()).await.unwrap();
    }
    host
}

fn keep_members(host: &Host) -> tokio::task::JoinHandle<()> {
    let node = host.node.clone();
    tokio::spawn(async move { node.keep_members().await })
}

#[tokio::test]
async fn who_is_taken_out_of_the_configuration_is_cut_off_when_it_is_read_again() {
    let host = configured().await;
    let keeping = keep_members(&host);
    let mut socket = socket(&host, key(1), "/v1/containers/web/exec").await.unwrap();
    let spec = json!({ "argv": argv(&["sleep", "1000"]) }).to_string();
    socket.send(Message::text(spec)).await.unwrap();
    until("the command runs", async || host.probe().under_way("exec") == 1).await;
    host.node.configure_members([node(2)]);
    assert_eq!(host.node.caller(key(1)), Caller::Stranger(Some(node(1))));
    until("the command has ended", async || host.probe().under_way("exec") == 0).await;
    until("it is stopped", async || state(&host, "web").await == Some(ContainerState::Exited)).await;
    assert_eq!(state(&host, "db").await, Some(ContainerState::Running));
    host.node.configure_members([node(1), node(2)]);
    host.node.start(&host.node.caller(key(1)), "web").await.expect("it is the member's again");
    host.node.configure_members([node(2)]);
    until("it is stopped again", async || state(&host, "web").await == Some(ContainerState::Exited)).await;
    keeping.abort();
}

#[tokio::test]
async fn who_was_taken_out_of_the_configuration_while_no_server_ran_is_cut_off_at_the_next_start() {
    let mut host = configured().await;
    let keeping = keep_members(&host);
    let written = host.data.path().join("data/members.json");
    until("it is written down", async || written.exists()).await;
    keeping.abort();
    host.node.allow(&Caller::Host, &node(3).to_string(), AllowRequest::default()).await.unwrap();
    host.config.server.allow.clear();
    let host = host.restart().await;
    // By a ticket or by name somebody may be a member beside the configuration.
    host.node.allow(&Caller::Host, &node(2).to_string(), AllowRequest::default()).await.unwrap();
    let keeping = keep_members(&host);
    until("it is stopped", async || state(&host, "web").await == Some(ContainerState::Exited)).await;
    assert_eq!(state(&host, "db").await, Some(ContainerState::Running));
    let left = std::fs::read_to_string(&written).unwrap();
    until("nobody is leaving", async || {
        serde_json::from_str::<Value>(&std::fs::read_to_string(&written).unwrap()).unwrap()["leaving"]
            == json!([])
    })
    .await;
    assert!(!left.contains("configured"), "{left}");
    keeping.abort();
}

#[tokio::test]
async fn a_tunnel_is_cut_when_its_user_is_removed() {
    let host = lent().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gx_core::container::PortMapping {
        container_port: gx_core::guest::SSH_PORT,
        protocol: gx_core::container::Protocol::Tcp,
        host_address: [127, 0, 0, 1].into(),
        host_port: listener.local_addr().unwrap().port(),
    };
    host.probe().publish(port, (gx_core::container::label::SSH_USER, "root".to_owned()));
    let greet = async || {
        let mut service = listener.accept().await.unwrap().0;
        tokio::io::AsyncWriteExt::write_all(&mut service, b"SSH-2.0-x\r\n").await.unwrap();
        service
    };
    let (mine, mut my_service) = tokio::join!(socket(&host, key(1), "/v1/containers/web/ssh"), greet());
    let (other, mut other_service) = tokio::join!(socket(&host, key(2), "/v1/containers/db/ssh"), greet());
    let (mut mine, mut other) = (mine.unwrap(), other.unwrap());
    for socket in [&mut mine, &mut other] {
        let greeting = socket.next().await.unwrap().unwrap().into_data();
        assert_eq!(&greeting[..], b"SSH-2.0-x\r\n");
    }
    let began = std::time::Instant::now();
    host.node.disallow(&Caller::Host, &node(1).to_string(), keep()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut my_service, &mut rest).await; // a reset is an end too
    while let Some(Ok(message)) = mine.next().await {
        assert!(!message.is_binary(), "{message:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    other.send(Message::binary(b"still".to_vec())).await.unwrap();
    let mut said = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut other_service, &mut said).await.unwrap();
    assert_eq!(&said, b"still", "another's goes on");
}
