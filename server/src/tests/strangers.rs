//! Who is let in, as whom, and what nobody gets in with: no key, plain HTTP, garbage, slowness, crowds.

use std::net::SocketAddr;
use std::time::Duration;

use gx_client::{Client, ClientError};
use gx_core::runtime::RemoveOptions;
use gx_core::{Address, Endpoint, ErrorCode};
use gx_identity::tls::{ClientStream, Connector};
use gx_identity::{KnownHosts, NodeKey};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::whole::Served;
use super::{Host, named, until};
use crate::{Transport, run};

struct Stranger {
    key: NodeKey,
    known: KnownHosts,
    _data: tempfile::TempDir,
}

fn stranger() -> Stranger {
    let data = tempfile::tempdir().unwrap();
    Stranger { key: gx_identity::open(data.path()).unwrap(), known: KnownHosts::of(data.path()), _data: data }
}

impl Stranger {
    async fn open(&self, address: &Address) -> gx_client::Result<gx_client::Opened> {
        Client::open(address, &self.key, &self.known).await
    }
}

/// Reads to the end; where the other side cuts the connection off, as far as it goes.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let reading = stream.read_to_end(&mut read);
    let _ = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it ends");
    String::from_utf8_lossy(&read).into_owned()
}

/// Sends this as the host's owner, and returns the answers.
async fn told(served: &Served, text: &[u8]) -> String {
    let mut stream = served.connect().await;
    // Who is refused in the middle of it need not have read it all.
    let _ = stream.write_all(text).await;
    let _ = stream.flush().await;
    rest(&mut stream).await
}

async fn lives(served: &Served) {
    served.client.list().await.unwrap();
}

#[tokio::test]
async fn strangers_see_what_the_host_is_and_no_more() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let stranger = stranger();
    let opened = stranger.open(&Address::Bare(served.address.into())).await.unwrap();
    assert_eq!(opened.first_met, Some(served.host.node.id()));
    assert_eq!(opened.client.specs().await.unwrap().node_id, opened.first_met);
    let refused = [
        opened.client.list().await.map(drop),
        opened.client.show("web").await.map(drop),
        opened.client.remove("web", RemoveOptions { force: true }).await.map(drop),
        opened.client.create(named("mine"), None, gx_core::stream::Output::null()).await.map(drop),
        opened.client.tunnel("web", gx_core::api::Service::Ssh).await.map(drop),
    ];
    for refused in refused {
        let Err(ClientError::Host(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
    }
    // Without a key it is the same.
    let nobody = Connector::to_anybody();
    let mut stream = nobody.connect(TcpStream::connect(served.address).await.unwrap()).await.unwrap().0;
    let requests = b"GET /healthz HTTP/1.1\r\nhost: box\r\n\r\nGET /v1/containers HTTP/1.1\r\nhost: box\r\n\
                     connection: close\r\n\r\n";
    stream.write_all(requests).await.unwrap();
    let answers = rest(&mut stream).await;
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 403"), "{answers}");
}

#[tokio::test]
async fn the_hosts_own_key_is_its_owner_from_anywhere_and_a_browser_is_not() {
    let served = Served::new().await;
    let request = |more: &str| {
        format!("GET /v1/containers HTTP/1.1\r\nhost: box.example:7467\r\nconnection: close\r\n{more}\r\n")
    };
    let answer = told(&served, request("").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for browser in ["origin: https://box.example:7467\r\n", "sec-fetch-site: cross-site\r\n"] {
        let answer = told(&served, request(browser).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}

#[tokio::test]
async fn without_tls_the_machine_is_the_owner_by_its_own_name_only() {
    let host = Host::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = host.node.clone();
    let running = tokio::spawn(run(listener, node, Transport::Plain, std::future::pending()));
    let plain: Address = format!("plain:{address}").parse().unwrap();
    let opened = stranger().open(&plain).await.unwrap();
    assert!(opened.first_met.is_none() && opened.client.list().await.is_ok());
    let ask = async |name: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /v1/containers HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    };
    assert!(ask("localhost").await.starts_with("HTTP/1.1 200"));
    assert!(ask("evil.example").await.starts_with("HTTP/1.1 421"));
    // Who expects TLS there is told what to do.
    let error = stranger().open(&Address::Bare(address.into())).await.unwrap_err();
    assert!(matches!(&error, ClientError::Handshake { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains(&format!("plain:{address}")), "{error:?}");
    running.abort();
}

#[tokio::test]
async fn insecure_beyond_loopback_knows_strangers_only() {
    let host = Host::new().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = tokio::spawn(run(listener, host.node.clone(), Transport::Insecure, std::future::pending()));
    let client = Client::plain(&format!("127.0.0.1:{port}").parse().unwrap());
    client.specs().await.unwrap();
    let Err(ClientError::Host(error)) = client.list().await else { panic!("it is not refused") };
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    running.abort();
}

#[tokio::test]
async fn another_node_at_a_known_address_is_refused_loudly_until_it_is_forgotten() {
    let served = Served::new().await;
    let at: Endpoint = served.address.into();
    let (stranger, bare) = (stranger(), Address::Bare(at.clone()));
    let old = stranger.open(&bare).await.unwrap().first_met.unwrap();
    assert_eq!(stranger.open(&bare).await.unwrap().first_met, None, "it is told once");
    let address = stop(served).await;

    let other = Served::at(address).await;
    let new = other.host.node.id();
    let opened = stranger.open(&bare).await.unwrap();
    for error in [
        opened.client.specs().await.map(drop).unwrap_err(),
        opened.client.tunnel("web", gx_core::api::Service::Ssh).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(&error, ClientError::WrongNode { met: true, .. }), "{error:?}");
        let text = format!("{error}; {}", error.hint().unwrap());
        let fix = format!("gx id forget {at}");
        assert!([old.to_string(), new.to_string(), fix].iter().all(|part| text.contains(part)), "{text}");
    }
    // What the caller says goes, and says nothing of what is known.
    let named = stranger.open(&Address::Node(new, at.clone())).await.unwrap();
    assert_eq!(named.client.specs().await.unwrap().node_id, Some(new));
    let wrong = stranger.open(&Address::Node(old, at.clone())).await.unwrap().client.specs().await;
    assert!(matches!(&wrong, Err(ClientError::WrongNode { met: false, .. })), "{wrong:?}");
    assert_eq!(stranger.known.at(&at).unwrap(), Some(old));

    stranger.known.forget(&at).unwrap();
    assert_eq!(stranger.open(&bare).await.unwrap().first_met, Some(new));
}

/// Ends a host, and returns where it was.
async fn stop(served: Served) -> SocketAddr {
    let address = served.address;
    served.stop().await;
    address
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let served = Served::new().await;
    for request in [&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], &[b'P'; 300_000]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain"), "{answer}");
        assert!(answer.contains("this port speaks TLS"), "{answer}");
    }
    lives(&served).await;
}

#[tokio::test]
async fn garbage_on_the_wire_is_cut_off() {
    let served = Served::new().await;
    for garbage in [&[0_u8; 1000][..], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3], b"\n", &[0xff; 100_000]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        rest(&mut stream).await;
    }
    lives(&served).await;
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    let served = Served::new().await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(101));
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20));
    for head in [long, many, path] {
        let answer = told(&served, head.as_bytes()).await;
        // A head that is cut off while it is on its way may take the answer with it.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    lives(&served).await;
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let served = Served::new().await;
    let post = |more: &str| {
        let head = "POST /v1/containers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        format!("{head}{more}").into_bytes()
    };
    for (what, request) in [
        ("two lengths", post("content-length: 2\r\ncontent-length: 3\r\n\r\n{}\r\n")),
        ("a length that is none", post("content-length: -2\r\n\r\n{}")),
        ("a length with a sign", post("content-length: +2\r\n\r\n{}")),
        ("an encoding that is none", post("transfer-encoding: rot13\r\n\r\n{}")),
        ("chunked, and then not", post("transfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n")),
        ("chunks of garbage", post("transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")),
        ("a chunk without end", post("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}")),
        (
            "an old version with chunks",
            b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        ("a name with a space", b"GET / HTTP/1.1\r\nhost : x\r\n\r\n".to_vec()),
        ("a folded line", b"GET / HTTP/1.1\r\nhost: x\r\n y: z\r\n\r\n".to_vec()),
        ("no version", b"GET /\r\n\r\n".to_vec()),
    ] {
        let answer = told(&served, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: nothing after it is a request");
    }
    lives(&served).await;
}

#[tokio::test]
async fn of_two_lengths_that_differ_the_encoding_counts_and_nothing_comes_after() {
    // RFC 9112, section 6.3: what follows may be part of the body or a request, so it is neither.
    let served = Served::new().await;
    let request = "POST /v1/containers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   content-length: 55\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                   GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = told(&served, request.as_bytes()).await;
    assert!(
        answers.starts_with("HTTP/1.1 400") && answers.contains("\r\nconnection: close\r\n"),
        "{answers}"
    );
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

#[tokio::test]
async fn who_sends_a_head_in_drops_is_cut_off() {
    let served = Served::new().await;
    let mut slow = served.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    slow.flush().await.unwrap();
    lives(&served).await;
    // From here on time passes as soon as nobody has anything to do.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let mut drops = tokio::time::interval(Duration::from_secs(2));
    let dripping = async {
        loop {
            drops.tick().await;
            if slow.write_all(b"a: b\r\n").await.is_err() || slow.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), dripping).await.expect("it is cut off");
    assert!(began.elapsed() >= Duration::from_secs(25), "it had its time: {:?}", began.elapsed());
}

/// Connects as nobody, from an address of this machine.
async fn crowd_from(from: [u8; 4], to: SocketAddr, count: usize) -> Vec<ClientStream<TcpStream>> {
    let connector = Connector::to_anybody();
    let mut crowd = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        crowd.push(connector.connect(socket.connect(to).await.unwrap()).await.unwrap().0);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_shakes_hands_all_the_time_waits_its_turn_and_others_do_not() {
    let served = Served::new().await;
    let began = std::time::Instant::now();
    let flood = tokio::spawn(crowd_from([127, 0, 0, 5], served.address, 256 + 160));
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while !flood.is_finished() {
        pace.tick().await;
        let newcomer = Client::to_node(&served.address.into(), served.host.node.id(), served.host.node.key());
        newcomer.list().await.expect("who is known is let in meanwhile");
    }
    // 32 a second beyond the burst, also while the burst lasts.
    assert!(began.elapsed() >= Duration::from_millis(4_900), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_does_nothing_makes_room_and_keeps_nobody_out() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let others = crowd_from([127, 0, 0, 2], served.address, 10).await;
    let mut crowd = crowd_from([127, 0, 0, 3], served.address, 300).await;
    let silent: Vec<TcpStream> = futures_util::future::join_all((0..300).map(async |_| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 4], 0).into()).unwrap();
        socket.connect(served.address).await.unwrap()
    }))
    .await;
    served.client.show("web").await.unwrap();
    let newcomer = Client::to_node(&served.address.into(), served.host.node.id(), served.host.node.key());
    newcomer.list().await.unwrap();
    // The oldest have gone, the youngest and those of other addresses have not.
    for stream in &mut crowd[..300 - 256] {
        let mut byte = [0];
        assert!(!matches!(stream.read(&mut byte).await, Ok(1..)), "it is closed");
    }
    for stream in crowd[300 - 256..].iter_mut().take(3).chain(&mut { others }) {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
    drop(silent);
    until("it still lives", async || served.client.list().await.is_ok()).await;
}
