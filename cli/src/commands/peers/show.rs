//! `gx peers show`: everything that is known of one server.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::peers::Gpu;
use serde::Serialize;

use super::list::{latency, rate, state};
use crate::commands::Context;
use crate::error::Result;
use crate::output::{Pairs, Show, View, human};
use crate::peers::{self, PeerInfo, PeerKey};

const EXAMPLES: &str = "\
Examples:
  gx peers show 192.168.1.7:7467
  gx peers show qeaqcaib --json | jq .record";

/// What `gx peers show` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// The server: an id, the beginning of it, an address, or the name of a host that was joined
    #[arg(value_name = "PEER", add = ArgValueCandidates::new(super::known))]
    pub peer: String,
}

pub(super) fn run(args: ShowArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peers = peers::open(&settings, context.out)?;
    let key = peers::find(&peers, &settings, &args.peer)?;
    let is_it = |info: &PeerInfo| match key {
        PeerKey::Node(node) => info.node_id == Some(node),
        PeerKey::Address(address) => info.node_id.is_none() && info.addresses.contains(&address),
    };
    match peers::infos(&peers, &settings)?.into_iter().find(is_it) {
        Some(info) => context.out.show(&Shown(info)),
        None => Err(crate::error::CliError::failed(format!("the server {} has taken leave", args.peer))
            .hint("`gx peers update` finds it again once it is back")),
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(PeerInfo);

impl Show for Shown {
    fn text(&self, view: &View) -> String {
        let info = &self.0;
        let seen = &info.seen;
        let addresses = info.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let pairs = Pairs::new()
            .some("node", info.node_id)
            .some("name", info.name.as_ref())
            .pair("address", addresses)
            .pair("state", state(info))
            .pair("kept", if info.pinned { "yes" } else { "" })
            .some("latency", seen.latency_ms.map(latency))
            .some("download", seen.download_bps.map(rate))
            .some("upload", seen.upload_bps.map(rate))
            .some("measured", seen.measured_at.map(|at| human::ago(at, view.now)))
            .some("answered", seen.last_seen.map(|at| human::ago(at, view.now)))
            .pair("failures", if seen.failures == 0 { String::new() } else { seen.failures.to_string() });
        let Some(record) = &info.record else { return pairs.text(view) };
        let gpu = |gpu: &Gpu| match (gpu.model.as_str(), gpu.memory_bytes) {
            ("", bytes) => human::bytes(bytes),
            (model, 0) => model.to_owned(),
            (model, bytes) => format!("{model}, {}", human::bytes(bytes)),
        };
        let pairs = pairs
            .pair("version", &record.version)
            .pair("platform", &record.platform)
            .pair("cpus", record.cpus)
            .pair("memory", human::bytes(record.memory_bytes));
        let pairs = record.gpus.iter().fold(pairs, |pairs, one| pairs.pair("gpu", gpu(one)));
        let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs
            .pair("runtimes", record.runtimes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            .pair("labels", labels.join(" "))
            .pair("said", human::ago(record.issued_at, view.now))
            .pair("holds for", human::left(record.expires_at, view.now))
            .text(view)
    }
}
