//! What members' containers are kept out of: services of the host, and a network beyond it with a private machine, one
//! on the internet, and a cloud's metadata. All of it is real: a namespace behind a pair of interfaces.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{installation, run};

const SPACE: &str = "gx-world";
const NEAR: &str = "gw-near";
const FAR: &str = "gw-far";
const NEAR_ADDRESS: &str = "100.64.99.1";
const FAR_ADDRESS: &str = "100.64.99.2";
const INTERNET: &str = "198.51.100.7";
const PRIVATE: &str = "10.77.0.7";
const METADATA: &str = "169.254.169.254";

/// The network beyond the host; one test has it at a time.
pub(super) struct World {
    servers: Vec<Child>,
    _pages: tempfile::TempDir,
    _turn: File,
}

impl World {
    pub(super) fn new() -> Self {
        let turn = File::create(installation().join("world.lock")).expect("a file can be made");
        turn.lock().expect("a file can be locked");
        clear();
        ip(&["netns", "add", SPACE]);
        ip(&["link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", SPACE]);
        ip(&["address", "add", &format!("{NEAR_ADDRESS}/30"), "dev", NEAR]);
        ip(&["link", "set", NEAR, "up"]);
        let inside = |args: &[&str]| ip(&[&["-n", SPACE], args].concat());
        inside(&["address", "add", &format!("{FAR_ADDRESS}/30"), "dev", FAR]);
        inside(&["link", "set", FAR, "up"]);
        inside(&["link", "set", "lo", "up"]);
        inside(&["route", "add", "default", "via", NEAR_ADDRESS]);
        let pages = tempfile::tempdir().expect("a folder can be made");
        let mut servers = Vec::new();
        for (address, page, ports) in [
            (INTERNET, "internet", [8081, 8082]),
            (PRIVATE, "private", [8081, 8082]),
            (METADATA, "metadata", [80, 8082]),
        ] {
            inside(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
            ip(&["route", "add", &format!("{address}/32"), "via", FAR_ADDRESS]);
            let folder = pages.path().join(page);
            std::fs::create_dir(&folder).expect("a folder can be made");
            std::fs::write(folder.join("index.html"), page).expect("a file can be written");
            let folder = folder.display().to_string();
            for port in ports {
                let place = format!("{address}:{port}");
                let words = ["netns", "exec", SPACE, "busybox", "httpd", "-f", "-p", &place, "-h", &folder];
                servers
                    .push(Command::new("ip").args(words).stdin(Stdio::null()).spawn().expect("httpd starts"));
                crate::support::eventually(&format!("{place} answers"), || TcpStream::connect(&place).ok());
            }
        }
        Self { servers, _pages: pages, _turn: turn }
    }

    pub(super) fn internet(&self, port: u16) -> String {
        format!("http://{INTERNET}:{port}/")
    }

    pub(super) fn internet_at(&self, port: u16) -> String {
        format!("{INTERNET}:{port}")
    }

    pub(super) fn private(&self, port: u16) -> String {
        format!("http://{PRIVATE}:{port}/")
    }

    pub(super) fn private_range(&self) -> String {
        "10.77.0.0/16".to_owned()
    }

    pub(super) fn metadata(&self) -> String {
        format!("http://{METADATA}/")
    }

    /// Gets a page from a port of the host, as another machine does.
    pub(super) fn get_from_outside(&self, port: u16) -> Option<String> {
        self.get_from_outside_at(NEAR_ADDRESS, port)
    }

    /// Gets a page as another machine does, that uses the host as a router.
    pub(super) fn get_from_outside_at(&self, address: &str, port: u16) -> Option<String> {
        let mut command = Command::new("ip");
        let url = format!("http://{address}:{port}/");
        command.args([
            "netns", "exec", SPACE, "busybox", "timeout", "5", "busybox", "wget", "-q", "-O", "-", &url,
        ]);
        let ran = run(command);
        (ran.code == 0).then_some(ran.stdout)
    }

    /// Returns addresses of the host that are no container's gateway.
    pub(super) fn host_addresses(&self) -> Vec<String> {
        let told = ip(&["-json", "-4", "address", "show", "scope", "global"]);
        let told: serde_json::Value = serde_json::from_str(&told).expect("ip writes JSON");
        let interfaces = told.as_array().expect("a list").iter();
        let own = interfaces.filter(|one| {
            let name = one["ifname"].as_str().unwrap_or_default();
            !["gx", "docker", "podman", "br-"].iter().any(|bridge| name.starts_with(bridge))
        });
        let addresses: Vec<String> = own
            .flat_map(|one| one["addr_info"].as_array().into_iter().flatten())
            .filter_map(|info| Some(info["local"].as_str()?.to_owned()))
            .collect();
        assert!(addresses.contains(&NEAR_ADDRESS.to_owned()));
        addresses
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        clear();
    }
}

/// Removes what a test that was killed has left. The roads go with the interface, that with the namespace.
fn clear() {
    let mut command = Command::new("ip");
    command.args(["netns", "delete", SPACE]);
    run(command);
    let mut command = Command::new("ip");
    command.args(["link", "delete", NEAR]);
    run(command);
}

#[track_caller]
fn ip(args: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(args);
    let ran = run(command);
    assert_eq!(ran.code, 0, "ip {}: {}", args.join(" "), ran.stderr);
    ran.stdout
}

/// A service of the host, that answers everything with `host`.
pub(super) struct HostService(u16);

impl HostService {
    pub(super) fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        Self(port)
    }

    pub(super) fn port(&self) -> u16 {
        self.0
    }
}

fn answer(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut chunk = [0; 512];
    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&chunk[..read]),
        }
    }
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nhost");
}

/// Gets `http://ADDRESS/` from the host, and returns the page.
pub(super) async fn get(address: &str) -> Option<String> {
    let address = address.to_owned();
    let got = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.split_once("\r\n\r\n")?.1.to_owned())
    });
    got.await.expect("nothing panics")
}
