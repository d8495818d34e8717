//! Machines of their own on one network: a host, a borrower with a ticket and somebody without, each in a network
//! namespace with its own address, and everything that goes over the wire is captured.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{IMAGE, Removed, Surroundings, eventually, run, signal, unique};

/// A switch and the machines on it; gone with this.
struct Lan {
    name: String,
    machines: Vec<String>,
}

impl Lan {
    fn new() -> Self {
        let name = format!("gxt{}", std::process::id() % 100_000);
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
