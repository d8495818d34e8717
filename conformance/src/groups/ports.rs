//! Published ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gx_core::ErrorCode;
use gx_core::container::{Container, ContainerSpec, PortRequest, Protocol};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::trial::{Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{serve, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("ports/published", "a published port answers from outside", [Ports], published),
    case!("ports/chosen", "the port on the host may be chosen", [Ports], chosen),
    case!("ports/taken", "AlreadyExists with field ports when a port is taken", [Ports], taken),
];

const INSIDE: u16 = 8080;

fn with_port(t: &Trial, command: Vec<String>, host_port: Option<u16>) -> ContainerSpec {
    let mut spec = t.spec(command);
    spec.ports = vec![PortRequest {
        container_port: INSIDE,
        protocol: Protocol::Tcp,
        host_port,
        host_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }];
    spec
}

async fn answers(t: &Trial, container: &Container, text: &str) -> Verdict<SocketAddr> {
    let [port] = container.ports[..] else {
        return Err(Failure::new(format!("one port is published as {:?}", container.ports)));
    };
    same("the port inside", (port.container_port, port.protocol), (INSIDE, Protocol::Tcp))?;
    let address = SocketAddr::new(port.host_address, port.host_port);
    t.until(&format!("answer from {address}"), || async {
        let answer = async {
            let mut answer = String::new();
            TcpStream::connect(address).await?.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = soon("a connection", SOON, answer).await?;
        Ok(answer.is_ok_and(|answer| answer.trim_end() == text))
    })
    .await?;
    Ok(address)
}

async fn published(t: Arc<Trial>) -> Verdict {
    let id = t.running_spec(with_port(&t, serve(INSIDE, "hello"), None)).await?;
    let address = answers(&t, &t.inspect(&id).await?, "hello").await?;
    same("the address", address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Ports that no system gives out by itself: one that was let go stays free until it is taken by its number.
const QUIET: std::ops::Range<u32> = 10_000..20_000;

/// Takes a port that is free now and returns it with what holds it.
async fn free_port() -> Verdict<(u16, TcpListener)> {
    // Other suites on this machine begin at other ports, and no port is had twice by this one.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in QUIET {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = QUIET.start + next % (QUIET.end - QUIET.start);
        let port = u16::try_from(port).expect("the range is one of ports");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok((port, listener));
        }
    }
    Err(Failure::new("no free port"))
}

async fn chosen(t: Arc<Trial>) -> Verdict {
    let (port, listener) = free_port().await?;
    drop(listener);
    let id = t.running_spec(with_port(&t, serve(INSIDE, "chosen"), Some(port))).await?;
    let address = answers(&t, &t.inspect(&id).await?, "chosen").await?;
    same("the port on the host", address.port(), port)
}

async fn taken(t: Arc<Trial>) -> Verdict {
    let (port, _listener) = free_port().await?;
    let id = t.create(with_port(&t, stubborn(), Some(port))).await?;
    let started = soon("start", SOON, t.runtime.start(id.clone())).await?;
    refused("start", started, ErrorCode::AlreadyExists, Some("ports"))?;
    let container = t.inspect(&id).await?;
    check!(container.state != gx_core::ContainerState::Running, "it counts as running");
    Ok(())
}
