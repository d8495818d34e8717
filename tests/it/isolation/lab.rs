//! A host that lends to two members, in this process, with containers that serve a page each.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use gx_core::api::{BuildQuery, ContainerInfo, CreateRequest, Service};
use gx_core::config::{Config, PolicyConfig};
use gx_core::member::{Allowance, Member};
use gx_core::runtime::{ExecSpec, RemoveOptions, StopOptions};
use gx_core::stream::{Input, InputChunk, Kind, Output, input, pipe};
use gx_core::{NodeId, Timestamp};
use gx_host::HostOptions;
use gx_server::{Caller, Node, NodeOptions, Result};

use crate::support::{IMAGE, engine, installation, run, unique};

/// Who makes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Host,
    A,
    B,
}

impl Who {
    fn caller(self) -> Caller {
        let number = match self {
            Self::Host => return Caller::Host,
            Self::A => 1,
            Self::B => 2,
        };
        // Tests run at the same time on one engine, each with members of its own.
        let mut id = [number; 32];
        id[..4].copy_from_slice(&std::process::id().to_be_bytes());
        let (id, since) = (NodeId::from_bytes(id), Timestamp::from_unix(0));
        let allowance = Allowance::default();
        Caller::Member(Arc::new(Member { id, name: None, since, until: None, allowance }))
    }
}

/// The host.
pub(super) struct Lab {
    node: Arc<Node>,
    runtime: &'static str,
    made: Mutex<Vec<String>>,
    _home: tempfile::TempDir,
}

/// A container that serves a page with its name.
pub(super) struct Peer {
    who: Who,
    info: ContainerInfo,
    address: String,
    gateway: String,
    pub(super) network: Option<String>,
}

impl Lab {
    pub(super) async fn new(runtime: &'static str, policy: PolicyConfig) -> Self {
        let mut config = Config::default();
        config.server.policy = policy;
        Self::configured(runtime, config).await
    }

    /// Makes a host that publishes ports at this address.
    pub(super) async fn publishing(runtime: &'static str, address: &str) -> Self {
        let mut config = Config::default();
        config.server.limits.publish_address = address.parse().expect("an address");
        Self::configured(runtime, config).await
    }

    async fn configured(runtime: &'static str, config: Config) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let plugins = HostOptions {
            config: BTreeMap::new(),
            config_origin: String::new(),
            config_text: String::new(),
            bundled_dirs: vec![installation().join("lib/gx")],
            store: home.path().join("plugins"),
            state: home.path().join("state"),
            child_program: installation().join("bin/gx"),
            child_env: BTreeMap::new(),
            host_version: "0.0.0".to_owned(),
        };
        let data = home.path().join("data");
        let node = Node::open(NodeOptions { config, plugins, data, version: "0.0.0".to_owned() }).await;
        let node = node.expect("a node opens");
        Self { node, runtime, made: Mutex::default(), _home: home }
    }

    /// Makes a container as asked for, beginning with one that serves a page at a published port, without the guest.
    pub(super) async fn create(
        &self,
        who: Who,
        change: impl FnOnce(&mut CreateRequest),
    ) -> Result<ContainerInfo> {
        let name = unique("apart");
        let serve = format!("mkdir -p /w && echo -n {name} > /w/index.html && exec httpd -f -p 8080 -h /w");
        let mut request = CreateRequest {
            name: Some(name.parse().expect("a name")),
            runtime: Some(self.runtime.parse().expect("a name")),
            command: ["sh", "-c", &serve].map(str::to_owned).to_vec(),
            ports: vec!["8080".parse().expect("a port")],
            no_guest: true,
            ..CreateRequest::new(IMAGE.parse().expect("a reference"))
        };
        change(&mut request);
        let made = self.node.create(&who.caller(), request, None, Output::null()).await?;
        self.made.lock().expect("nobody panics").push(made.id.to_string());
        Ok(made)
    }

    /// Makes a container that serves a page.
    pub(super) async fn serve(&self, who: Who) -> Peer {
        let info = self.create(who, |_| {}).await.unwrap_or_else(|error| panic!("{who:?}: {error}"));
        let output = self.output(who, info.id.as_str(), &["sh", "-c", "hostname -i; ip route"]).await;
        let address = output.lines().next().expect("it has an address").trim().to_owned();
        let gateway = output.split("default via ").nth(1).expect("it has a gateway");
        let gateway = gateway.split_whitespace().next().expect("it has an address").to_owned();
        let labels = engine(self.runtime, &["inspect", "-f", "{{json .Config.Labels}}", info.id.as_str()]);
        let labels: BTreeMap<String, String> = serde_json::from_str(&labels).expect("labels");
        let peer = Peer { who, info, address, gateway, network: labels.get("gx.network").cloned() };
        // It is there, so that who does not reach it is kept from it.
        let begun = std::time::Instant::now();
        while self.get(&peer, "http://127.0.0.1:8080/").await != Some(peer.page()) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "its own page is not there");
        }
        peer
    }

    /// Gets a page from within a container; refusals are answered at once, silence is given up.
    pub(super) async fn get(&self, from: &Peer, url: &str) -> Option<String> {
        let (code, output) = self.exec(from, &["timeout", "5", "wget", "-q", "-O", "-", url]).await;
        (code == 0).then_some(output)
    }

    /// Gets a page at a link-local address.
    pub(super) async fn get_link_local(&self, from: &Peer, address: &str, port: u16) -> Option<String> {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc {address}%eth0 {port}");
        let (_, output) = self.exec(from, &["sh", "-c", &script]).await;
        Some(output.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Returns whether a container is answered when it asks for a name.
    pub(super) async fn finds_names(&self, from: &Peer) -> bool {
        let (_, output) = self.exec(from, &["timeout", "10", "nslookup", "gx.invalid"]).await;
        // Whatever the answer is, it is one.
        output.contains("Server:") && !output.contains("timed out") && !output.contains("refused")
    }

    pub(super) async fn exec(&self, peer: &Peer, argv: &[&str]) -> (i32, String) {
        self.exec_in(peer.who, peer.info.id.as_str(), argv).await
    }

    /// Runs a command that must succeed, and returns what it wrote.
    pub(super) async fn output(&self, who: Who, id: &str, argv: &[&str]) -> String {
        let (code, output) = self.exec_in(who, id, argv).await;
        assert_eq!(code, 0, "{argv:?}: {output}");
        output
    }

    pub(super) async fn exec_in(&self, who: Who, id: &str, argv: &[&str]) -> (i32, String) {
        let spec =
            ExecSpec { argv: argv.iter().map(|word| (*word).to_owned()).collect(), ..ExecSpec::default() };
        let (out, mut items) = pipe(0);
        let read = async {
            let mut text = String::new();
            while let Some(item) = items.next().await {
                if item.kind == Kind::Stdout {
                    text.push_str(&String::from_utf8_lossy(&item.bytes));
                }
            }
            text
        };
        let caller = who.caller();
        let ran = self.node.exec(&caller, id, spec, Input::empty(), out);
        let (exit, text) = tokio::join!(ran, read);
        (exit.unwrap_or_else(|error| panic!("{argv:?}: {error}")).code, text)
    }

    /// Unpacks an archive in a container of A's.
    pub(super) async fn copy_in(&self, to: &str, path: &str, archive: Vec<u8>) -> Result<()> {
        self.node.copy_in(&Who::A.caller(), to, path, sent(archive)).await
    }

    /// Returns a file of a container of A's, as an archive.
    pub(super) async fn copy_out(&self, from: &str, path: &str) -> Result<Vec<u8>> {
        let (out, mut items) = pipe(0);
        let read = async {
            let mut bytes = Vec::new();
            while let Some(item) = items.next().await {
                bytes.extend_from_slice(&item.bytes);
            }
            bytes
        };
        let caller = Who::A.caller();
        let (done, bytes) = tokio::join!(self.node.copy_out(&caller, from, path, out), read);
        done.map(|()| bytes)
    }

    pub(super) async fn build(&self, who: Who, query: BuildQuery, context: Vec<u8>) -> Result<()> {
        self.node.build(&who.caller(), query, sent(context), Output::null()).await.map(drop)
    }

    /// Returns what the names of somebody's images begin with.
    pub(super) fn short(&self, who: Who) -> String {
        match who.caller() {
            Caller::Member(member) => member.id.short(),
            Caller::Host | Caller::Stranger(_) => self.node.id().short(),
        }
    }

    pub(super) async fn tunnel(&self, who: Who, id: &str) -> Result<()> {
        self.node.tunnel(&who.caller(), id, Service::Ssh).await.map(drop)
    }

    pub(super) async fn stop_and_start(&self, peer: &Peer) {
        let (caller, id) = (peer.who.caller(), peer.info.id.as_str());
        let options = StopOptions { grace_ms: Some(0), ..StopOptions::default() };
        self.node.stop(&caller, id, options).await.expect("it stops");
        self.node.start(&caller, id).await.expect("it starts");
    }

    pub(super) async fn remove(&self, peer: Peer) {
        let options = RemoveOptions { force: true };
        self.node.remove(&peer.who.caller(), peer.info.id.as_str(), options).await.expect("it is removed");
    }

    /// Removes all containers, and with the last member's the rules; every test ends so.
    pub(super) async fn end(self) {
        let made = std::mem::take(&mut *self.made.lock().expect("nobody panics"));
        for id in made {
            // What a test has removed itself is gone.
            let _ = self.node.remove(&Caller::Host, &id, RemoveOptions { force: true }).await;
        }
        let mut command = Command::new("nft");
        command.args(["list", "table", "inet", &self.table()]);
        assert_ne!(run(command).code, 0, "{} is left", self.table());
    }

    /// Returns the names of the engine's networks.
    pub(super) fn networks(&self) -> Vec<String> {
        let told = engine(self.runtime, &["network", "ls", "--format", "{{.Name}}"]);
        told.lines().map(str::to_owned).collect()
    }

    /// Returns the name of the host's table of rules.
    pub(super) fn table(&self) -> String {
        format!("gx_{}", &self.node.id().to_string()[..4])
    }

    #[track_caller]
    pub(super) fn nft(&self, args: &[&str]) {
        let mut command = Command::new("nft");
        command.args(args);
        let ran = run(command);
        assert_eq!(ran.code, 0, "nft {}: {}", args.join(" "), ran.stderr);
    }
}

/// Returns bytes as an input, in pieces.
fn sent(bytes: Vec<u8>) -> Input {
    let (sender, sent) = input();
    tokio::spawn(async move {
        for chunk in bytes.chunks(16 * 1024) {
            if sender.send(InputChunk::Data(chunk.to_vec().into())).await.is_err() {
                return;
            }
        }
    });
    sent
}

impl Drop for Lab {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().expect("nobody panics"));
        for id in made {
            crate::support::try_engine(self.runtime, &["rm", "-f", "-v", &id]);
        }
        let own = format!("gx{}-", &self.node.id().to_string()[..4]);
        for network in self.networks().iter().filter(|network| network.starts_with(&own)) {
            crate::support::try_engine(self.runtime, &["network", "rm", network]);
        }
        // Of a test that has failed; else it is gone.
        let mut command = Command::new("nft");
        command.args(["delete", "table", "inet", &self.table()]);
        run(command);
    }
}

impl Peer {
    /// Returns what its page says.
    pub(super) fn page(&self) -> String {
        self.info.name.clone()
    }

    pub(super) fn id(&self) -> &str {
        self.info.id.as_str()
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn gateway(&self) -> String {
        self.gateway.clone()
    }

    /// Returns where it serves, in its network.
    pub(super) fn url(&self) -> String {
        format!("http://{}:8080/", self.address)
    }

    /// Returns where it serves on the host, as `ADDRESS:PORT`.
    pub(super) fn published(&self) -> String {
        let port = self.info.ports.first().expect("it has a port");
        format!("{}:{}", port.host_address, port.host_port)
    }

    /// Returns where another's port would be on the host, as `from` sees it.
    pub(super) fn url_at_gateway(&self, from: &Self) -> String {
        let port = self.info.ports.first().expect("it has a port");
        format!("http://{}:{}/", from.gateway, port.host_port)
    }

    /// Returns the link-local address of its bridge on the host.
    pub(super) fn bridge_link_local(&self) -> String {
        let bridge = self.network.as_deref().expect("it is in a network");
        let mut command = Command::new("ip");
        command.args(["-json", "-6", "address", "show", "dev", bridge]);
        let told: serde_json::Value = serde_json::from_str(&run(command).stdout).expect("ip writes JSON");
        told[0]["addr_info"][0]["local"].as_str().expect("it has an address").to_owned()
    }

    /// Returns its port on the host.
    pub(super) fn port(&self) -> u16 {
        self.info.ports.first().expect("it has a port").host_port
    }
}
