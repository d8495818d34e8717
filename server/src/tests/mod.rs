//! Tests of the whole: the node, the routes, and the way from a client to a runtime and back. The runtime is the mock,
//! behind a probe that can hold calls up, make them fail, and tell which are under way.

mod authorisation;
mod chat;
mod create;
mod door;
mod events;
mod hostile;
mod idle;
mod join;
mod life;
mod limits;
mod peers;
mod probe;
mod refer;
mod remembered;
mod removal;
mod rotation;
mod routes;
mod shipped;
mod speedtest;
mod strangers;
mod trail;
mod tunnel;
mod way;
mod whole;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gx_core::api::CreateRequest;
use gx_core::config::Config;
use gx_core::member::{Allowance, Member};
use gx_core::stream::Output;
use gx_core::{NodeId, PluginName, Runtime, Timestamp};
use gx_host::HostOptions;
use tempfile::TempDir;

use crate::node::{Caller, Node, NodeOptions};
use probe::Probe;

/// A node with mock runtimes, and what it stands on.
pub(crate) struct Host {
    pub(crate) node: Arc<Node>,
    probes: BTreeMap<&'static str, Arc<Probe>>,
    config: Config,
    data: TempDir,
    _rules: Rules,
}

/// The table of a host's firewall, which goes with the last member's container; tests end before that.
struct Rules(String);

impl Drop for Rules {
    fn drop(&mut self) {
        let mut nft = std::process::Command::new("nft");
        let _ = nft.args(["delete", "table", "inet", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

impl Host {
    /// Makes a host with one runtime, `mock`.
    pub(crate) async fn new() -> Self {
        Self::with(&["mock"], |_| {}).await
    }

    async fn with(names: &[&'static str], change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.limits.ports = "20000-60000".to_owned().try_into().unwrap();
        change(&mut config);
        let mut probes = BTreeMap::new();
        for name in names {
            probes.insert(*name, Arc::new(Probe::new(data.path(), name).await));
        }
        let node = open(data.path(), &config, &probes).await;
        let rules = Rules(format!("gx_{}", &node.id().to_string()[..4]));
        Self { node, probes, config, data, _rules: rules }
    }

    /// Opens the node anew on the same folder and engines, as after a restart.
    pub(crate) async fn restart(self) -> Self {
        let node = open(self.data.path(), &self.config, &self.probes).await;
        Self { node, ..self }
    }

    fn probe(&self) -> &Arc<Probe> {
        &self.probes["mock"]
    }

    async fn create(&self, request: CreateRequest) -> crate::Result<gx_core::api::ContainerInfo> {
        self.node.create(&Caller::Host, request, None, Output::null()).await
    }

    async fn count(&self) -> usize {
        self.node.list(&Caller::Host).await.unwrap().containers.len()
    }
}

async fn open(data: &Path, config: &Config, probes: &BTreeMap<&'static str, Arc<Probe>>) -> Arc<Node> {
    let runtime = |(name, probe): (&&str, &Arc<Probe>)| {
        (name.parse::<PluginName>().unwrap(), probe.clone() as Arc<dyn Runtime>)
    };
    let options = NodeOptions {
        config: config.clone(),
        plugins: no_plugins(data),
        data: data.join("data"),
        version: "0.0.0".to_owned(),
    };
    Node::open_with(options, probes.iter().map(runtime).collect()).await.unwrap()
}

fn no_plugins(data: &Path) -> HostOptions {
    HostOptions {
        config: BTreeMap::new(),
        config_origin: String::new(),
        config_text: String::new(),
        bundled_dirs: Vec::new(),
        store: data.join("plugins"),
        state: data.join("plugin-state"),
        child_program: "/nonexistent".into(),
        child_env: BTreeMap::new(),
        host_version: "0.0.0".to_owned(),
    }
}

/// Returns a node that the host lends to, within the host's own limits.
pub(crate) fn member(number: u8) -> Caller {
    lent(number, Allowance::default())
}

/// Returns a node that the host lends so much to.
fn lent(number: u8, allowance: Allowance) -> Caller {
    let id = NodeId::from_bytes([number; 32]);
    let since = Timestamp::from_unix(0);
    Caller::Member(Arc::new(Member { id, name: None, since, until: None, allowance }))
}

/// Returns a request for a container that runs until it is stopped.
fn sleeper() -> CreateRequest {
    let command = argv(&["sh", "-c", "trap 'exit 143' TERM; sleep 1000"]);
    CreateRequest { command, ..CreateRequest::new("gx-busybox".parse().unwrap()) }
}

fn named(name: &str) -> CreateRequest {
    CreateRequest { name: Some(name.parse().unwrap()), ..sleeper() }
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// How long something may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
