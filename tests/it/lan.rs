//! Machines of their own on one network, each in a network namespace with its own address: a host, a borrower with a
//! ticket and somebody without, where everything that goes over the wire is captured; and hosts that are found by multicast
//! DNS, with somebody among them who answers for a thousand.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::support::{IMAGE, Removed, Surroundings, eventually, run, signal, unique};

/// A switch and the machines on it; gone with this.
struct Lan {
    name: String,
    machines: Vec<String>,
}

impl Lan {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("gxt{}{number}", std::process::id() % 100_000);
        let lan = Self { name: name.clone(), machines: Vec::new() };
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &name, "link", "set", "switch", "up"]);
        lan
    }

    /// Adds a machine with an address, and returns its namespace.
    fn machine(&mut self, address: &str) -> PathBuf {
        let name = format!("{}m{}", self.name, self.machines.len());
        self.machines.push(name.clone());
        let port = format!("p{}", self.machines.len());
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &self.name]);
        ip(&["-n", &self.name, "link", "set", &port, "master", "switch", "up"]);
        ip(&["-n", &name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        namespace(&name)
    }

    /// Writes everything that passes the switch into a file, until it is dropped.
    fn capture(&self, file: &Path) -> Capture {
        let mut tcpdump = Command::new("nsenter");
        tcpdump.arg(format!("--net={}", namespace(&self.name).display()));
        tcpdump.args(["tcpdump", "-i", "switch", "-s", "0", "-U", "-w"]).arg(file);
        let child = tcpdump.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("tcpdump starts");
        let mut said = child.stderr.take().expect("stderr is piped");
        let mut text = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&text).contains("listening on") {
            assert_eq!(said.read(&mut byte).unwrap_or(0), 1, "tcpdump: {}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        Capture { child, _said: said }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.machines.iter().chain([&self.name]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

struct Capture {
    child: Child,
    // Or tcpdump ends when it says how much it has seen.
    _said: std::process::ChildStderr,
}

impl Capture {
    fn end(mut self) {
        signal(self.child.id(), "INT");
        let _ = self.child.wait();
    }
}

fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

#[track_caller]
fn ip(args: &[&str]) {
    let mut command = Command::new("ip");
    command.args(args);
    let run = run(command);
    assert_eq!(run.code, 0, "ip {}: {}", args.join(" "), run.stderr);
}

const HOST: &str = "10.77.0.1";
const CONFIG: &str = r#"
[server]
advertise = ["10.77.0.1:7467"]
[server.limits]
publish_address = "10.77.0.1"
[plugins.docker]
enabled = false
[plugins.podman.config]
service = "always"
"#;

#[test]
fn a_ticket_lets_one_machine_in_and_the_wire_shows_nothing() {
    let mut lan = Lan::new();
    let host = Surroundings::new().configured(CONFIG).inside(&lan.machine(HOST));
    let ann = Surroundings::new().inside(&lan.machine("10.77.0.2"));
    let eve = Surroundings::new().inside(&lan.machine("10.77.0.3"));
    let captured = host.path("wire.pcap");
    let capture = lan.capture(&captured);
    let served = host.serve_at("10.77.0.1:7467");
    assert_eq!(served.address, "10.77.0.1:7467");

    let (name, marker) = (unique("lent"), unique("seen-on-the-wire"));
    let _removed = Removed("podman", format!("gx-{name}"));
    let ticket = host.ok(&["invite", "--containers", "1"]);
    ann.ok(&["join", ticket.trim()]);
    let made = ann.json(&[
        "--on",
        HOST,
        "create",
        "--name",
        &name,
        "--env",
        &format!("MARK={marker}"),
        IMAGE,
        "--",
        "sh",
        "-c",
        "trap exit TERM; sleep 1000 & wait",
    ]);
    let password = made["ssh"]["password"].as_str().expect("SSH has a password").to_owned();
    // Straight to the container's published port, and through the host.
    let direct = ann.ok(&["--on", HOST, "ssh", &name, "--", "sh", "-c", "echo $MARK; hostname"]);
    assert!(direct.contains(&marker), "{direct}");
    assert!(ann.ok(&["--on", HOST, "exec", &name, "--", "sh", "-c", "echo $MARK"]).contains(&marker));
    assert!(ann.ok(&["--on", HOST, "list"]).contains(&name));
    let second = ann.gx(&["--on", HOST, "create", IMAGE]);
    assert_ne!(second.code, 0, "the ticket is for one container: {}", second.stdout);

    // Who has no ticket learns what the host is, and nothing more.
    assert!(eve.ok(&["--on", HOST, "specs"]).contains("podman"));
    for args in [
        &["list"][..],
        &["show", &name],
        &["logs", &name],
        &["exec", &name, "--", "true"],
        &["rm", "-f", &name],
        &["stop", &name],
        &["ssh", &name, "--", "true"],
        &["images"],
        &["runtimes"],
        &["pull", IMAGE],
        &["create", IMAGE],
        &["invite"],
        &["allow", "list"],
    ] {
        let refused = eve.gx(&[&["--on", HOST], args].concat());
        assert_eq!(refused.code, 5, "gx {}: {}{}", args.join(" "), refused.stdout, refused.stderr);
    }

    let late = eve.gx(&["join", ticket.trim()]);
    assert!(
        late.code != 0 && late.stderr.contains("the ticket is used up"),
        "{}{}",
        late.stdout,
        late.stderr
    );

    // Removal cuts what runs.
    let mut session = ann.command(&["--on", HOST, "exec", &name, "--", "sh", "-c", "echo in; sleep 1000"]);
    let mut session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    let mut first = [0; 2];
    session.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("the command runs");
    let id = ann.json(&["id"])["node_id"].as_str().expect("a NodeId").to_owned();
    host.ok(&["allow", "remove", &id]);
    let ended = eventually("the session of who was removed ends", || {
        session.try_wait().expect("it can be waited for")
    });
    assert!(!ended.success());
    assert_eq!(ann.gx(&["--on", HOST, "list"]).code, 5);
    host.ok(&["rm", "-f", &name]);

    capture.end();
    let wire = std::fs::read(&captured).expect("tcpdump wrote it");
    assert!(wire.len() > 10_000, "only {} bytes were captured", wire.len());
    let shows = |text: &str| wire.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(shows("SSH-2.0-"), "the capture has what went over the wire, as SSH's greeting, which is plain");
    // What a capture would show, were anything of it plain.
    for text in [&*marker, &name, &password, IMAGE, ticket.trim(), "HTTP/1.1", "/v1/", "application/json"] {
        assert!(!shows(text), "{text:?} went over the wire");
    }
    drop(served);
}

/// A host that says that it is there, or does not.
fn host(lan: bool) -> String {
    format!(
        "[peers]\nlan = {lan}\nexchange_every = \"1s\"\n\
         [plugins.docker]\nenabled = false\n[plugins.podman]\nenabled = false\n"
    )
}

fn found(there: &Surroundings) -> Vec<Value> {
    there.json(&["peers", "discover", "--for", "2s"])["found"].as_array().expect("a list").clone()
}

#[test]
fn hosts_are_found_in_the_network_where_their_owners_want_that() {
    let mut lan = Lan::new();
    let open = Surroundings::new().configured(&host(true)).inside(&lan.machine("10.77.0.1"));
    let quiet = Surroundings::new().configured(&host(false)).inside(&lan.machine("10.77.0.2"));
    let ann = Surroundings::new().inside(&lan.machine("10.77.0.3"));
    let (opened, _quiet) = (open.serve_at("10.77.0.1:7467"), quiet.serve_at("0.0.0.0:7467"));
    let seen = eventually("the one that wants to be found is", || {
        let seen = found(&ann);
        (!seen.is_empty()).then_some(seen)
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((&seen[0]["node_id"], &seen[0]["known"]), (&opened.node.clone().into(), &false.into()));
    assert_eq!(seen[0]["addresses"], serde_json::json!(["10.77.0.1:7467"]));
    let told = |state: &str| {
        eventually(state, || ann.ok(&["peers", "discover", "--for", "2s"]).contains(state).then_some(()));
    };
    told("unverified");

    // In the table it is an address that nobody has reached, until somebody does.
    let listed = ann.json(&["peers", "list"])["peers"].clone();
    assert_eq!((&listed[0]["state"], &listed[0]["node_id"]), (&"untested".into(), &Value::Null), "{listed}");
    assert!(ann.ok(&["peers", "list"]).contains("untested, unverified"));
    eventually("it has proved who it is", || {
        let updated = ann.json(&["peers", "update", "--lan"]);
        (updated["peers"][0]["node_id"] == opened.node.as_str()).then_some(())
    });
    told("known, not joined");
    ann.ok(&["join", "--name", "lab", open.ok(&["invite", "--address", &opened.address]).trim()]);
    told("joined as lab");

    // Hosts find each other, too, on whatever address they listen.
    let other = Surroundings::new().configured(&host(true)).inside(&lan.machine("10.77.0.4"));
    let others = other.serve_at("0.0.0.0:7467");
    let known = |there: &Surroundings, node: &str| {
        let listed = there.json(&["peers", "list"]);
        listed["peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer["node_id"] == node))
    };
    eventually("the newcomer knows the first", || known(&other, &opened.node).then_some(()));
    eventually("and is known there", || known(&open, &others.node).then_some(()));
    // It says goodbye.
    drop(opened);
    signal(others.pid(), "TERM");
    eventually("nobody is found any more", || found(&ann).is_empty().then_some(()));
}

#[test]
fn whoever_answers_for_a_thousand_fills_no_table_and_leads_nobody_astray() {
    let mut lan = Lan::new();
    let ann = Surroundings::new().inside(&lan.machine("10.77.0.3"));
    let eve = Answering::begin(&lan.machine("10.77.0.9"));
    let seen = eventually("somebody is found", || {
        let begun = Instant::now();
        let seen = found(&ann);
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        (seen.len() > 8).then_some(seen)
    });
    eve.end();
    assert!(seen.len() <= 64, "{}", seen.len());
    for peer in &seen {
        for address in peer["addresses"].as_array().expect("a list") {
            let address = address.as_str().expect("an address");
            // Neither loopback, nor somebody's in the Internet, nor ann's own.
            assert!(address.starts_with("10.77.0.1"), "{peer}");
        }
    }
    let rows = ann.json(&["peers", "list", "--all"])["peers"].as_array().expect("a list").clone();
    assert!(!rows.is_empty() && rows.len() <= 8, "as many as one network may bring: {}", rows.len());
    assert!(rows.iter().all(|row| row["node_id"].is_null() && row["state"] == "untested"), "{rows:?}");
}

/// Somebody who answers for a thousand servers that are not there, again and again.
struct Answering {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Answering {
    fn begin(network: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ending, network) = (over.clone(), network.to_owned());
        let thread = std::thread::spawn(move || {
            let file = File::open(&network).expect("the namespace is there");
            // This thread alone.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            let route = ["route", "add", "224.0.0.0/4", "dev", "eth0"];
            assert!(Command::new("ip").args(route).status().expect("ip runs").success());
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).expect("the port of mDNS");
            for number in (0..1_000_u32).cycle() {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                let _ = socket.send_to(&answer(number), ("224.0.0.251", 5353));
                if number % 20 == 19 {
                    std::thread::park_timeout(Duration::from_millis(5)); // or its own queue drops most
                }
            }
        });
        Self { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it did not panic");
    }
}

/// Writes an answer of multicast DNS (RFC 1035, RFC 6763) for a server that is not there: at a neighbour's address, and for
/// each some other place.
fn answer(number: u32) -> Vec<u8> {
    fn name(labels: &[&str]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    }
    fn record(of: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let (class, ttl, length) = (1_u16, 120_u32, data.len() as u16);
        [of, &kind.to_be_bytes(), &class.to_be_bytes(), &ttl.to_be_bytes(), &length.to_be_bytes(), data]
            .concat()
    }
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let text = format!("node={}", gx_core::NodeId::from_bytes(id));
    let (label, host) = (format!("evil{number}"), format!("h{number}"));
    let service = name(&["_gx", "_tcp", "local"]);
    let (instance, host) = (name(&[&label, "_gx", "_tcp", "local"]), name(&[&host, "local"]));
    let target = [&[0, 0, 0, 0][..], &22_u16.to_be_bytes(), &host].concat();
    let places = [
        [10, 77, 0, 100 + (number % 50) as u8],
        [127, 0, 0, 1],
        [8, 8, 8, 8],
        [10, 77, 0, 3],
        [169, 254, 169, 254],
    ];
    let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, 8, 0, 0, 0, 0];
    message.extend(record(&service, 12, &instance));
    message.extend(record(&instance, 33, &target));
    message.extend(record(&instance, 16, &[&[text.len() as u8], text.as_bytes()].concat()));
    places.iter().for_each(|place| message.extend(record(&host, 1, place)));
    message
}
