//! What a host does with each request before anything else: tell who asks, and whether they may.

use std::collections::BTreeMap;
use std::future::pending;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use gx_core::NodeId;
use gx_core::config::Config;
use gx_host::HostOptions;
use gx_server::{Node, NodeOptions, Transport, Verb, authorize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::Result;

/// How many the host lends to.
const MEMBERS: u8 = 200;
/// Requests of one sample, and samples.
const REQUESTS: u32 = 10_000;
const SAMPLES: usize = 50;

/// Times requests of members and strangers on a host that serves, and prints the microseconds of each sample's requests.
pub(crate) async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    config.server.allow = (1..=MEMBERS).map(|number| NodeId::from_bytes([number; 32])).collect();
    let node = Node::open(options(folder.path(), config)).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tokio::spawn(gx_server::run(listener, node.clone(), Transport::Tls, pending()));
    // A server watches its members' file from a moment after its start, and need not look at it for each request.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let members = sample(&node, |number| NodeId::from_bytes([number; 32]), true);
    let strangers = sample(
        &node,
        |number| NodeId::from_bytes(std::array::from_fn(|at| if at == 0 { 0 } else { number })),
        false,
    );
    println!("{}", json!({ "member_us": members?, "stranger_us": strangers? }));
    Ok(())
}

fn sample(node: &Node, who: impl Fn(u8) -> NodeId, allowed: bool) -> Result<Vec<f64>> {
    let callers: Vec<NodeId> = (1..=MEMBERS).map(who).collect();
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        for at in 0..REQUESTS {
            let id = callers[at as usize % callers.len()];
            let caller = node.caller_of(black_box(id));
            let may = authorize(&caller, black_box(Verb::Use), Some(id)).is_ok();
            if may != allowed {
                return Err(format!("{id} is not who they are thought to be").into());
            }
        }
        samples.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS));
    }
    Ok(samples)
}

fn options(data: &Path, config: Config) -> NodeOptions {
    let plugins = HostOptions {
        config: BTreeMap::new(),
        config_origin: String::new(),
        config_text: String::new(),
        bundled_dirs: Vec::new(),
        store: data.join("plugins"),
        state: data.join("plugin-state"),
        child_program: "/nonexistent".into(),
        child_env: BTreeMap::new(),
        host_version: "0.0.0".to_owned(),
    };
    NodeOptions { config, plugins, data: data.join("data"), version: "0.0.0".to_owned() }
}
