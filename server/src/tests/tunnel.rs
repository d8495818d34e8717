//! Connections to services of containers through the host: a client, a WebSocket, the bridge, and a service that
//! listens where the engine says the port is published.

use gx_client::{ClientError, Tunnel};
use gx_core::ErrorCode;
use gx_core::api::Service;
use gx_core::container::{PortMapping, Protocol, label};
use gx_core::guest::SSH_PORT;
use gx_core::runtime::StopOptions;
use gx_identity::tls::ClientStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::whole::Served;
use super::{named, until};

const GREETING: &[u8] = b"SSH-2.0-test\r\n";
/// What may be on its way: buffers of the program, and the kernel's for two sockets on loopback.
const ON_THE_WAY: usize = 24 << 20;

/// Makes a host with a container `web` whose SSH port leads to the listener.
async fn served() -> (Served, TcpListener) {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = PortMapping {
        container_port: SSH_PORT,
        protocol: Protocol::Tcp,
        host_address: [0, 0, 0, 0].into(),
        host_port: address.port(),
    };
    served.host.probe().publish(port, (label::SSH_USER, "root".to_owned()));
    (served, listener)
}

/// Opens a tunnel, and returns both its ends once the greeting has been read.
async fn open(served: &Served, listener: &TcpListener) -> (Tunnel, TcpStream) {
    let tunnel = served.client.tunnel("web", Service::Ssh);
    let (tunnel, service) = tokio::join!(tunnel, greet(listener));
    let mut tunnel = tunnel.unwrap();
    let mut greeting = [0; GREETING.len()];
    tunnel.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, GREETING);
    (tunnel, service)
}

async fn greet(listener: &TcpListener) -> TcpStream {
    let mut service = listener.accept().await.unwrap().0;
    service.write_all(GREETING).await.unwrap();
    service
}

/// Opens a WebSocket by hand, so that what comes next can be anything.
async fn open_raw(served: &Served, listener: &TcpListener) -> (ClientStream<TcpStream>, TcpStream) {
    let mut raw = served.connect().await;
    let head = "GET /v1/containers/web/ssh HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    raw.write_all(head.as_bytes()).await.unwrap();
    let service = greet(listener).await;
    read_until(&mut raw, GREETING).await;
    (raw, service)
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), what: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(what) {
        read.push(stream.read_u8().await.unwrap());
    }
}

/// Waits until a service's connection has ended.
async fn ended(mut service: TcpStream) {
    let mut rest = Vec::new();
    let _ = service.read_to_end(&mut rest).await; // a reset is an end too
}

async fn refused(served: &Served, service: Service) -> (ErrorCode, String) {
    match served.client.tunnel("web", service).await {
        Err(ClientError::Host(error)) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways_until_either_side_ends() {
    let (served, listener) = served().await;
    let (tunnel, service) = open(&served, &listener).await;
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = service.into_split();
        tokio::io::copy(&mut reader, &mut writer).await
    });
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let mut got = vec![0; sent.len()];
    let (mut reader, mut writer) = tokio::io::split(tunnel);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
    };
    let (read, ()) = tokio::join!(reader.read_exact(&mut got), write);
    read.unwrap();
    assert!(got == sent, "what comes back is what was sent");
    writer.shutdown().await.unwrap();
    assert_eq!(echo.await.unwrap().unwrap(), sent.len() as u64);

    let (mut tunnel, mut service) = open(&served, &listener).await;
    service.write_all(b"bye").await.unwrap();
    drop(service);
    let mut rest = Vec::new();
    tunnel.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn a_service_that_breaks_off_is_no_clean_end() {
    let (served, listener) = served().await;
    let (mut tunnel, service) = open(&served, &listener).await;
    service.set_zero_linger().unwrap();
    drop(service); // a reset
    let error = tunnel.read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "the connection to the other side broke");
}

#[tokio::test]
async fn the_end_of_the_host_is_told() {
    let (served, listener) = served().await;
    let (mut tunnel, _service) = open(&served, &listener).await;
    served.stop.send(()).unwrap();
    let error = tunnel.read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "the host is shutting down");
}

#[tokio::test]
async fn what_is_not_there_is_told_before_anything_is_opened() {
    let (served, _listener) = served().await;
    let (code, message) = refused(&served, Service::Vnc).await;
    assert_eq!((code, message.as_str()), (ErrorCode::FailedPrecondition, "web has no desktop"));
    let unmapped = PortMapping {
        container_port: 5901,
        protocol: Protocol::Tcp,
        host_address: [127, 0, 0, 1].into(),
        host_port: 0,
    };
    served.host.probe().publish(unmapped, (label::VNC, "5901".to_owned()));
    let (code, message) = refused(&served, Service::Vnc).await;
    assert_eq!(
        (code, message.as_str()),
        (ErrorCode::FailedPrecondition, "port 5901 of web is not published")
    );
    let kill = StopOptions { signal: Some("SIGKILL".to_owned()), grace_ms: None };
    served.client.stop("web", kill).await.unwrap();
    let (code, message) = refused(&served, Service::Ssh).await;
    assert_eq!((code, message.as_str()), (ErrorCode::FailedPrecondition, "web is exited, not running"));
    let missing = served.client.tunnel("none", Service::Ssh).await.unwrap_err();
    assert!(matches!(&missing, ClientError::Host(error) if error.code == ErrorCode::NotFound), "{missing:?}");
}

#[tokio::test]
async fn who_vanishes_or_sends_garbage_is_let_go() {
    let (served, listener) = served().await;
    let (raw, service) = open_raw(&served, &listener).await;
    drop(raw);
    ended(service).await;

    let (mut raw, service) = open_raw(&served, &listener).await;
    raw.write_all(&[0xff; 4096]).await.unwrap();
    ended(service).await;

    let (mut raw, service) = open_raw(&served, &listener).await;
    raw.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap(); // a text message
    ended(service).await;
    read_until(&mut raw, b"\x03\xebonly binary messages are taken").await; // 1003

    let (mut raw, service) = open_raw(&served, &listener).await;
    raw.write_all(b"\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0").await.unwrap(); // a message of a gigabyte
    ended(service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_makes_the_service_wait() {
    let (served, listener) = served().await;
    let (mut tunnel, mut service) = open(&served, &listener).await;
    let (count, written) = tokio::sync::watch::channel(0);
    let flood = tokio::spawn(async move {
        let piece = vec![7; 64 * 1024];
        while service.write_all(&piece).await.is_ok() {
            count.send_modify(|count| *count += piece.len());
        }
    });
    let (mut last, mut still) = (0, 0);
    until("the flood stands still", async || {
        let now = *written.borrow();
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
        still == 40
    })
    .await;
    assert!(last < ON_THE_WAY, "{last} bytes are on their way to nobody");
    let mut read = 0;
    let mut piece = vec![0; 64 * 1024];
    while read < 2 * ON_THE_WAY {
        read += tunnel.read(&mut piece).await.unwrap();
    }
    drop(tunnel);
    flood.await.unwrap();
}

#[tokio::test]
async fn there_are_only_so_many_at_a_time() {
    let (served, listener) = served().await;
    let mut opened = Vec::new();
    for _ in 0..128 {
        opened.push(open(&served, &listener).await);
    }
    let (code, message) = refused(&served, Service::Ssh).await;
    assert_eq!(code, ErrorCode::ResourceExhausted);
    assert_eq!(message, "128 connections lead through this host at a time, and no more");
    drop(opened);
    until("there is room again", async || {
        let tunnel = served.client.tunnel("web", Service::Ssh);
        let greet = async { Some(greet(&listener).await) };
        tokio::select! {
            tunnel = tunnel => tunnel.is_ok(),
            _ = async { greet.await; std::future::pending::<()>().await } => false,
        }
    })
    .await;
}
