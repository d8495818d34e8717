//! The measured side of a speed test.

use gx_core::ErrorCode;
use gx_core::api::ApiError;
use gx_core::api::speedtest::{
    Address, MAX_BYTES, MAX_STREAMS, Pong, Received, SpeedtestConfig, SpeedtestToken,
};
use gx_core::units::Size;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use warp::http::{Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::test::RequestBuilder;

use super::door::send_to;
use super::{Host, until};
use crate::node::Identity;
use crate::routes::{self, Connection, State};
use crate::serve::Door;

fn state(host: &Host) -> Arc<State> {
    State::new(host.node.clone(), watch::channel(false).1)
}

async fn send(state: &Arc<State>, identity: Identity, request: RequestBuilder) -> Response<Bytes> {
    let from = "192.0.2.7:5000".parse().expect("an address");
    send_to(state, Connection::new(identity, Some(from)), request).await
}

async fn ask(host: &Host, request: RequestBuilder) -> Response<Bytes> {
    send(&state(host), Identity::Unknown, request).await
}

fn get(path: &str) -> RequestBuilder {
    warp::test::request().path(path)
}

#[tokio::test]
async fn a_stranger_may_ask_and_measure() {
    let host = Host::new().await;
    let config: SpeedtestConfig =
        serde_json::from_slice(ask(&host, get("/speedtest/config")).await.body()).unwrap();
    assert_eq!((config.protocols, config.tests), (vec!["gx-speedtest/1".to_owned()], 2));
    let answer = ask(&host, get("/speedtest/ping?n=abc-1")).await;
    assert_eq!(answer.headers()["cache-control"], "no-store, no-transform");
    assert_eq!(serde_json::from_slice::<Pong>(answer.body()).unwrap().n, "abc-1");
    for path in ["/speedtest/getIP", "/getIP?cors=true"] {
        let answer: Address = serde_json::from_slice(ask(&host, get(path)).await.body()).unwrap();
        assert_eq!(answer.address, "192.0.2.7");
    }
    assert_eq!(ask(&host, get("/speedtest/down?bytes=700001")).await.body().len(), 700_001);
}

#[tokio::test]
async fn what_is_sent_cannot_be_compressed_and_does_not_repeat_at_once() {
    let host = Host::new().await;
    let answer = ask(&host, get("/speedtest/down?bytes=1048576&test=a&n=1")).await;
    assert_eq!(answer.headers()["content-length"], "1048576");
    assert_eq!(answer.headers()["cache-control"], "no-store, no-transform");
    let mut counts = [0_u32; 256];
    answer.body().iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    assert!(counts.iter().all(|count| (3_500..4_700).contains(count)), "{counts:?}");
    let body = answer.body();
    assert_ne!(body[..262_144], body[262_144..524_288]);
}

#[tokio::test]
async fn an_upload_is_answered_with_what_arrived_when() {
    let host = Host::new().await;
    let request = get("/speedtest/up?test=a").method("POST").body(vec![7; 300_000]);
    let received: Received = serde_json::from_slice(ask(&host, request).await.body()).unwrap();
    assert_eq!(received.bytes, 300_000);
    assert_eq!(received.timeline.last().unwrap().bytes, 300_000);
    assert!(received.timeline.is_sorted_by(|a, b| a.at_ms <= b.at_ms && a.bytes <= b.bytes));
}

#[tokio::test]
async fn librespeeds_clients_find_what_they_ask_for() {
    let host = Host::new().await;
    assert_eq!(ask(&host, get("/garbage?ckSize=2&r=0.5")).await.body().len(), 2 << 20);
    assert_eq!(ask(&host, get("/garbage")).await.body().len(), 4 << 20);
    for request in [get("/empty?r=1"), get("/empty?r=1").method("POST").body(vec![0; 100_000])] {
        let answer = ask(&host, request).await;
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, 0));
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_by_name() {
    let host = Host::new().await;
    let too_many = MAX_BYTES + 1;
    for (path, field) in [
        (format!("/speedtest/down?bytes={too_many}"), "bytes"),
        ("/speedtest/down?bytes=-1".to_owned(), "bytes"),
        ("/speedtest/down?test=a%20b".to_owned(), "test"),
        (format!("/speedtest/ping?n={}", "x".repeat(33)), "n"),
        ("/garbage?ckSize=many".to_owned(), "ckSize"),
    ] {
        let answer = ask(&host, get(&path)).await;
        let error: ApiError = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            (answer.status(), error.field.as_deref()),
            (StatusCode::BAD_REQUEST, Some(field)),
            "{path}"
        );
    }
    let request = get("/speedtest/up").method("POST").header("content-length", too_many);
    assert_eq!(ask(&host, request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_stranger_has_a_budget_and_pings_have_none() {
    let host = Host::with(&["mock"], |config| config.server.measure.stranger = Size(1_000_000)).await;
    let state = state(&host);
    let down = || get("/speedtest/down?bytes=1000000");
    assert_eq!(send(&state, Identity::Unknown, down()).await.status(), StatusCode::OK);
    for request in [down(), get("/garbage"), get("/empty").method("POST").body("x")] {
        let answer = send(&state, Identity::Unknown, request).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        let error: ApiError = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(error.code, ErrorCode::ResourceExhausted);
        assert!(error.hint.unwrap().contains("[server.measure]"));
    }
    assert_eq!(send(&state, Identity::Unknown, get("/speedtest/ping?n=1")).await.status(), StatusCode::OK);
    assert_eq!(send(&state, Identity::ThisMachine, down()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_token_makes_whoever_shows_it_pay_as_who_was_given_it() {
    let host = Host::with(&["mock"], |config| config.server.measure.stranger = Size(1_000_000)).await;
    let state = state(&host);
    let down = || get("/speedtest/down?bytes=1000000");
    let given = send(&state, Identity::ThisMachine, get("/speedtest/token").method("POST")).await;
    let given: SpeedtestToken = serde_json::from_slice(given.body()).unwrap();
    let bearer = format!("Bearer {}", given.token.reveal());
    for _ in 0..3 {
        let answer = send(&state, Identity::Unknown, down().header("authorization", &bearer)).await;
        assert_eq!(answer.status(), StatusCode::OK, "the host has no budget");
    }
    assert_eq!(send(&state, Identity::Unknown, down()).await.status(), StatusCode::OK);
    assert_eq!(send(&state, Identity::Unknown, down()).await.status(), StatusCode::TOO_MANY_REQUESTS);
    for bad in ["Bearer x", "Basic eA==", "Bearer "] {
        let answer = send(&state, Identity::ThisMachine, down().header("authorization", bad)).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad}");
    }
}

/// A server on a port of its own.
struct Served {
    address: std::net::SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

async fn served(host: &Host) -> Served {
    served_for(host, Duration::from_secs(12)).await
}

async fn served_for(host: &Host, longest: Duration) -> Served {
    let mut state = state(host);
    Arc::get_mut(&mut state).unwrap().longest = longest;
    served_by(&state, Identity::ThisMachine).await
}

/// Serves whoever comes as this one.
async fn served_by(state: &Arc<State>, who: Identity) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let counters = state.counters().clone();
    let state = state.clone();
    let answer = move |connection, request| routes::answer(state.clone(), connection, request);
    tokio::spawn(async move {
        let (_open, closing) = watch::channel(false);
        let stopped = async { drop(stopped.await) };
        let door = Door::Plain(who);
        crate::serve::accept(&listener, door, &counters, answer, closing, stopped).await.shutdown().await;
    });
    Served { address, _stop: stop }
}

impl Served {
    async fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn head(&self, request: &str) -> (TcpStream, String) {
        let mut stream = self.open(request).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }
}

#[tokio::test]
async fn two_tests_run_at_a_time_and_a_third_is_told_when_to_come_back() {
    let host = Host::new().await;
    let served = served(&host).await;
    let down = |test: &str| {
        format!("GET /speedtest/down?bytes={MAX_BYTES}&test={test} HTTP/1.1\r\nhost: localhost\r\n\r\n")
    };
    let mut held = Vec::new();
    for test in ["a", "b"] {
        for _ in 0..MAX_STREAMS / 2 {
            let (stream, head) = served.head(&down(test)).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            held.push(stream);
        }
    }
    let (_, head) = served.head(&down("c")).await;
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after: 5"), "{head}");
    let (_, head) = served.head("GET /speedtest/ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(held); // who goes away makes room
    until("there is room again", async || served.head(&down("c")).await.1.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_makes_room_too() {
    let host = Host::with(&["mock"], |config| config.server.measure.tests = 1).await;
    let served = served(&host).await;
    let up = "POST /speedtest/up?test=a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc";
    let mut stalled = served.open(up).await;
    let down = "GET /speedtest/down?bytes=10 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    until("the upload has the place", async || served.head(down).await.1.starts_with("HTTP/1.1 429")).await;
    stalled.shutdown().await.unwrap();
    until("it has gone", async || served.head(down).await.1.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn readers_and_writers_that_do_nothing_come_to_an_end() {
    let host = Host::new().await;
    let served = served_for(&host, Duration::from_secs(5)).await;
    let (mut reader, _) = served
        .head(&format!("GET /speedtest/down?bytes={MAX_BYTES} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
        .await;
    let mut writer = served
        .open("POST /speedtest/up?test=b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc")
        .await;
    let third = "GET /speedtest/down?test=c HTTP/1.1\r\nhost: localhost\r\n\r\n";
    until("both have begun", async || served.head(third).await.1.starts_with("HTTP/1.1 429")).await;
    let mut answer = Vec::new();
    writer.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("connection: close") && answer.contains("\"bytes\":3"), "{answer}");
    until("the reader has lost its place", async || served.head(third).await.1.starts_with("HTTP/1.1 200"))
        .await;
    let mut rest = vec![0; 1 << 20];
    let mut taken = 0;
    while let Ok(n @ 1..) = reader.read(&mut rest).await {
        taken += n as u64;
    }
    assert!(taken < MAX_BYTES, "{taken}");
}

#[tokio::test]
async fn a_stranger_who_does_nothing_makes_room_for_a_member_at_once() {
    let host = Host::with(&["mock"], |config| config.server.measure.tests = 1).await;
    let state = state(&host);
    let strangers = served_by(&state, Identity::Unknown).await;
    let measured = async || {
        let down = send(&state, Identity::ThisMachine, get("/speedtest/down?bytes=1000")).await;
        assert_eq!((down.status(), down.body().len()), (StatusCode::OK, 1_000));
    };
    let down = format!("GET /speedtest/down?bytes={} HTTP/1.1\r\nhost: localhost\r\n\r\n", 128 << 20);
    let mut reader = strangers.open(&down).await;
    assert_eq!(reader.read_u8().await.unwrap(), b'H', "it has begun");
    measured().await;
    let mut rest = vec![0; 1 << 20];
    let mut taken = 0;
    while let Ok(n @ 1..) = reader.read(&mut rest).await {
        taken += n;
    }
    assert!(taken < 128 << 20, "{taken}");

    let up = "POST /speedtest/up HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc";
    let mut writer = strangers.open(up).await;
    let other = "GET /speedtest/down?bytes=10&test=other HTTP/1.1\r\nhost: localhost\r\n\r\n";
    until("the upload has begun", async || strangers.head(other).await.1.starts_with("HTTP/1.1 429")).await;
    measured().await;
    let mut answer = Vec::new();
    let _ = writer.read_to_end(&mut answer).await; // the rest of its body is not waited for
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: 5"), "{answer}");
}
