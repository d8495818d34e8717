//! Published ports, on both engines: by number outside the host's range, chosen by the host, by UDP, the same inside and
//! outside, and taken.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::clients::CLIENTS;
use crate::support::{IMAGE, Removed, Surroundings, eventually, free_port, try_engine, unique};

#[test]
fn docker_publishes() {
    published("docker");
}

#[test]
fn podman_publishes() {
    published("podman");
}

#[test]
fn docker_hands_datagrams_over() {
    datagrams("docker");
}

#[test]
fn podman_hands_datagrams_over() {
    datagrams("podman");
}

/// Answers each datagram with what it says in capitals.
const ECHO: &str = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 5353))
while True:
    said, who = s.recvfrom(2048)
    s.sendto(said.upper(), who)
";

/// One datagram and its answer, and the largest that Ethernet carries whole.
fn datagrams(runtime: &str) {
    let there = try_engine(runtime, &["image", "inspect", CLIENTS]).code == 0;
    assert!(there, "{runtime} has no {CLIENTS}: `cargo xtask test -- ports` makes it");
    let here = Surroundings::new();
    let name = unique("datagrams");
    let _removed = Removed(runtime, format!("gx-{name}"));
    let create = ["create", "--runtime", runtime, "--name", &name, "-p", "5353/udp", CLIENTS];
    here.ok(&[&create[..], &["--", "python3", "-c", ECHO]].concat());
    let address = here.ok(&["port", &name, "5353/udp"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address.trim()).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    for said in ["hello".to_owned(), "x".repeat(1472)] {
        let answer = eventually("the container answers", || {
            // One that is sent before the program listens is lost, or refused.
            socket.send(said.as_bytes()).ok()?;
            let mut answer = vec![0; 2048];
            let length = socket.recv(&mut answer).ok()?;
            answer.truncate(length);
            // A late answer to an earlier try is not this one's.
            (length == said.len()).then_some(answer)
        });
        assert_eq!(answer, said.to_uppercase().as_bytes());
    }
}

/// Greets whoever connects.
const GREETER: &str = "while :; do echo hello | nc -l -p 8080; done";

fn published(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("ports");
    let _removed = Removed(runtime, format!("gx-{name}"));
    let own = free_port();
    let wish = format!("{own}:8080");
    let create =
        ["create", "--runtime", runtime, "--name", &name, "-p", &wish, "-p", "5353/udp", "--ports", "2"];
    let made = here.json(&[&create[..], &[IMAGE, "--", "sh", "-c", GREETER]].concat());
    let ports = made["ports"].as_array().expect("ports");
    assert_eq!(ports.len(), 5, "{made}");
    let inside_is_outside = |port: &&serde_json::Value| port["container_port"] == port["host_port"];
    assert_eq!(ports.iter().filter(inside_is_outside).count(), 2, "{made}");
    assert_eq!((ports[4]["name"].as_str(), ports[0].get("name")), (Some("ssh"), None), "{made}");

    assert_eq!(here.ok(&["port", &name, "8080"]), format!("127.0.0.1:{own}\n"));
    let greeting = eventually("the container greets", || {
        let mut text = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", own)).ok()?;
        stream.read_to_string(&mut text).ok().filter(|length| *length > 0)?;
        Some(text)
    });
    assert_eq!(greeting, "hello\n");
    let udp = here.ok(&["port", &name, "5353/udp"]);
    let taken = UdpSocket::bind(udp.trim()).expect_err("the engine holds the port");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);

    let wish = format!("{own}:80");
    let refused = here.gx(&["create", "--runtime", runtime, "-p", &wish, IMAGE]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("taken") && refused.stderr.contains("hint: "), "{refused:?}");
    assert_eq!(here.json(&["list", "--all"])["containers"].as_array().map(Vec::len), Some(1));
}
