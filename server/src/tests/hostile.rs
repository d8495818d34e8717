//! What is sent to do harm: JSON without end, a flood beside work, and what others have sent, sent again.

use std::time::Duration;

use gx_client::Client;
use gx_core::api::{AllowRequest, IDEMPOTENCY_KEY};
use gx_identity::tls::Connector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use warp::http::StatusCode;

use super::door::{key, node, refused, request, send};
use super::whole::Served;
use super::{Host, named};
use crate::node::{Caller, Identity};

async fn lent() -> Host {
    let host = Host::new().await;
    for number in [1, 2] {
        host.node.allow(&Caller::Host, &node(number).to_string(), AllowRequest::default()).await.unwrap();
    }
    host
}

#[tokio::test]
async fn json_that_would_blow_up_is_refused_at_once() {
    let host = lent().await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(40_000), close.repeat(40_000));
    let many = |member: &dyn Fn(usize) -> String| (0..12_000).map(member).collect::<Vec<_>>().join(",");
    let bombs = [
        ("arrays in arrays", deep("[", "]")),
        ("objects in objects", deep("{\"a\":", "}").replace(":}", ":1}")),
        ("deep within a field", format!("{{\"image\":\"x\",\"env\":{}}}", deep("[", "]"))),
        ("a number without end", format!("{{\"image\":\"x\",\"memory_bytes\":{}}}", "9".repeat(200_000))),
        ("a number beyond all", "{\"image\":\"x\",\"memory_bytes\":1e99999}".to_owned()),
        ("one key many times", format!("{{{}}}", many(&|_| "\"image\":\"x\"".to_owned()))),
        ("keys that nobody knows", format!("{{\"image\":\"\",{}}}", many(&|n| format!("\"k{n}\":{n}")))),
        ("half a letter", "{\"image\":\"\\ud800\"}".to_owned()),
        ("a zero in a name", "{\"image\":\"a\\u0000b\"}".to_owned()),
        (
            "a command without end",
            format!("{{\"image\":\"x\",\"command\":[{}]}}", many(&|_| "[]".to_owned())),
        ),
    ];
    for (what, bomb) in bombs {
        for path in ["/v1/containers", "/v1/join", "/v1/images/pull"] {
            let post = request("POST", path).header("content-type", "application/json").body(&bomb);
            let (status, error) = refused(&host, key(1), post).await;
            let bad = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE];
            assert!(bad.contains(&status), "{what} to {path}: {status} {}", error.message);
            assert!(error.message.len() < 1_000, "{what} to {path} is not told in full");
        }
    }
    assert_eq!(host.probe().calls("create"), 0);
}

#[tokio::test]
async fn a_create_that_somebody_else_repeats_is_theirs_and_tells_nothing() {
    let host = lent().await;
    let post =
        |name: &str| request("POST", "/v1/containers").header(IDEMPOTENCY_KEY, "the-same").json(&named(name));
    let mine = send(&host, key(1), post("web")).await;
    assert_eq!(mine.status(), StatusCode::CREATED, "{:?}", mine.body());
    // Who has seen the request on its way to another host, as the same caller: one container, and the same answer.
    let again = send(&host, key(1), post("web")).await;
    let id = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap()["id"].clone();
    assert_eq!(id(mine.body()), id(again.body()));
    // As another: a request of their own, refused as the name is taken, or a container of their own.
    let (status, error) = refused(&host, key(2), post("web")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(!error.message.contains(id(mine.body()).as_str().unwrap()), "{error:?}");
    let own = send(&host, key(2), post("own")).await;
    assert_ne!(id(mine.body()), id(own.body()));
    let (status, _) = refused(&host, Identity::Unknown, post("web")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(host.count().await, 2);
}

/// Asks so often on one connection, as fast as it is answered, and returns how often it was too many.
async fn flood(served: &Served, times: u32) -> u32 {
    let (mut asked, mut limited) = (0, 0);
    let batch = 100;
    let text = "GET /server_specs HTTP/1.1\r\nhost: x\r\n\r\n".repeat(batch);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 9], 0).into()).unwrap();
    let stream = socket.connect(served.address).await.unwrap();
    let mut stream = Connector::to_anybody().connect(stream).await.unwrap().0;
    while asked < times {
        stream.write_all(text.as_bytes()).await.unwrap();
        let (mut answers, mut read) = (Vec::new(), vec![0; 64 * 1024]);
        while answers.windows(9).filter(|part| part == b"HTTP/1.1 ").count() < batch {
            let length = stream.read(&mut read).await.unwrap();
            assert_ne!(length, 0, "the connection is kept");
            answers.extend_from_slice(&read[..length]);
        }
        asked += batch as u32;
        limited += answers.windows(12).filter(|part| part == b"HTTP/1.1 429").count() as u32;
    }
    limited
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_asks_a_thousand_times_a_second_keeps_no_member_from_working() {
    let served = Served::new().await;
    let data = tempfile::tempdir().unwrap();
    let member = gx_identity::open(data.path()).unwrap();
    served.host.node.allow(&Caller::Host, &member.id().to_string(), AllowRequest::default()).await.unwrap();
    let client = Client::to_node(&served.address.into(), served.host.node.id(), &member);
    client.create(named("web"), None, gx_core::stream::Output::null()).await.unwrap();
    let mut worked = 0;
    let working = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20)); // within what a member may
        loop {
            pace.tick().await;
            client.show("web").await.expect("no request of the member is refused");
            worked += 1;
        }
    };
    let limited = tokio::select! {
        limited = flood(&served, 3_000) => limited,
        () = working => unreachable!("the member works on and on"),
    };
    assert!(limited >= 1_500, "{limited} of 3,000 were too many");
    assert!(worked > 0, "the member was kept from working");
}

#[tokio::test]
async fn a_path_with_a_zero_reaches_no_engine() {
    let host = lent().await;
    let mine = host.node.caller(key(1));
    host.node.create(&mine, named("web"), None, gx_core::stream::Output::null()).await.unwrap();
    for method in ["GET", "PUT"] {
        let ask = request(method, "/v1/containers/web/archive?path=/a%00b");
        let ask = ask.header("content-type", "application/x-tar").body(vec![0_u8; 1024]);
        let (status, error) = refused(&host, key(1), ask).await;
        assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some("path")), "{method}");
    }
    assert_eq!(host.probe().calls("copy_in") + host.probe().calls("copy_out"), 0);
}
