//! `gx peers measure`: how far and how fast a host is, drawn while it runs.

mod summary;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{ArgGroup, Args};
use clap_complete::ArgValueCandidates;
use gx_client::{Client, ClientError};
use gx_core::measurement::{Direction, PeerReport, Scope, Target as Measured, Thoroughness, measure_peer};
use gx_core::secret::Secret;
use gx_core::{Endpoint, ErrorCode, NodeId, PluginName, RuntimeError};
use serde::Serialize;

use crate::commands::{Context, completions};
use crate::error::{CliError, Kind, Result};
use crate::output::Out;
use crate::settings::Settings;
use crate::target::LOCAL;
use crate::{peers, road};

/// How long a host may take to say that it may be measured.
const PATIENCE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  gx peers measure lab                     a host that was joined: latency, download, upload
  gx peers measure --full 192.168.1.7      longer and more closely, up to 250 MB each way
  gx peers measure --metered --no-upload lab
  gx peers measure --json lab | jq .download_bps

A figure that ended because its bytes were used up is a lower bound. Where bytes cost nothing, --full is surer. \
Pings alone: --no-download --no-upload. \
What was measured is in the table from then on: `gx peers`, `gx peers best`.";

/// What `gx peers measure` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("way").args(["quick", "full", "metered"]))]
pub struct MeasureArgs {
    /// The host: the name of one that was joined, an id, or an address as [NODEID@]HOST[:PORT]; without it what --on says
    #[arg(value_name = "PEER", add = ArgValueCandidates::new(completions::hosts))]
    pub peer: Option<String>,
    /// About a second each way and at most 100 MB, which is the default
    #[arg(long)]
    pub quick: bool,
    /// Two to eight seconds each way and at most 250 MB, for a figure to rely on
    #[arg(long)]
    pub full: bool,
    /// At most 25 MB each way, where bytes are paid for
    #[arg(long)]
    pub metered: bool,
    /// Does not measure how fast bytes come
    #[arg(long)]
    pub no_download: bool,
    /// Does not measure how fast bytes go
    #[arg(long)]
    pub no_upload: bool,
    /// Measures with this plugin instead of `[client] measurement`
    #[arg(long, value_name = "PLUGIN")]
    pub with: Option<PluginName>,
}

impl MeasureArgs {
    fn thoroughness(&self) -> Thoroughness {
        match (self.full, self.metered) {
            (true, _) => Thoroughness::Full,
            (_, true) => Thoroughness::Metered,
            (false, false) => Thoroughness::Quick,
        }
    }

    fn scope(&self) -> Scope {
        let left_out = [(Direction::Down, self.no_download), (Direction::Up, self.no_upload)];
        let directions: BTreeSet<_> =
            left_out.into_iter().filter(|(_, is_left_out)| !is_left_out).map(|(way, _)| way).collect();
        Scope { budget: self.thoroughness().budget(), directions }
    }
}

/// What was measured, and of whom.
#[derive(Debug, Serialize)]
struct Measurement {
    /// The host as it was named.
    peer: String,
    /// Where it was found.
    address: String,
    /// Who it has proved to be; nobody proves anything without TLS.
    node_id: Option<NodeId>,
    /// How thoroughly.
    mode: Thoroughness,
    #[serde(flatten)]
    report: PeerReport,
}

pub(crate) async fn run(args: MeasureArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let peer = named(args.peer.as_deref(), context.globals.on.as_deref(), &settings.config.client.on)?;
    let client = road::open(peer, &settings.data, context.out).await?;
    let target = target(&client).await?;
    let plugin = args.with.clone().or(settings.config.client.measurement.clone()).unwrap_or_else(bundled);
    let plugins = context.plugins()?;
    let measurement = plugins.measurement(&plugin).await;
    context.at_end(async move { plugins.shutdown().await });
    let measurement = measurement?;

    let mut drawn = context.out.rates();
    let measured = measure_peer(&*measurement, &target, &args.scope(), |step| drawn.step(&step)).await;
    drop(drawn);
    let report = measured.map_err(|error| failed(peer, error))?;
    if let (Some(node), Ok(at)) = (client.node(), client.address().parse())
        && let Err(error) = note(node, &at, &report, &settings, context.out).await
    {
        context.out.warn(&error.message, error.hints.first().map(String::as_str));
    }
    let missing = report.missing().map(|(direction, error)| unmeasured(direction, error.clone()));
    context.out.show(&Measurement {
        peer: peer.to_owned(),
        address: client.address().to_owned(),
        node_id: client.node(),
        mode: args.thoroughness(),
        report,
    })?;
    missing.map_or(Ok(()), Err)
}

/// Notes in the table of servers what was measured.
async fn note(node: NodeId, at: &Endpoint, report: &PeerReport, settings: &Settings, out: &Out) -> Result {
    let peers = peers::open(settings, out)?;
    if !peers::meet(&peers, node, at).await {
        // It does not show what it says of itself; `gx peers add` keeps it by its address.
        return Ok(());
    }
    peers.change(|table| {
        table.observe(node, |seen| {
            seen.answered(Some(report.latency_ms.median), peers::now());
            if report.download_bps.or(report.upload_bps).is_some() {
                seen.measured(report.download_bps, report.upload_bps, peers::now());
            }
        })
    });
    peers::save(&peers, out)
}

/// Returns who is meant: the argument, else what is configured.
fn named<'a>(peer: Option<&'a str>, on: Option<&str>, configured: &'a str) -> Result<&'a str> {
    if peer.is_some() && on.is_some() {
        return Err(CliError::usage("the host is named twice").hint("leave out either PEER or --on"));
    }
    match peer.unwrap_or(configured) {
        LOCAL => Err(CliError::usage("this machine is no peer of its own")
            .hint("name a host: `gx peers measure HOST`, or --on HOST")),
        "best" => Err(CliError::usage("`best` is what measuring is for").hint("name a host")),
        peer => Ok(peer),
    }
}

/// Returns whom the plugin is to measure. It has no key of this node, but the host's word that it measures for it.
async fn target(client: &Client) -> Result<Measured> {
    let (address, node_id) = (client.address().to_owned(), client.node());
    Ok(Measured { address, node_id, plain: node_id.is_none(), token: token(client).await? })
}

/// Asks a host for the token by which a plugin without a key measures for this node.
pub(super) async fn token(client: &Client) -> Result<Option<Secret>> {
    let told = tokio::time::timeout(PATIENCE, client.speedtest_token()).await;
    let told = told.map_err(|_| {
        let silent = format!("{} did not answer within {} s", client.address(), PATIENCE.as_secs());
        CliError::new(Kind::Unreachable, silent)
            .hint("is it a gx host, and is it well? `gx specs` asks it for less")
    })?;
    match told {
        Ok(told) => Ok(Some(told.token)),
        // To a host that has no tokens everybody who measures is a stranger.
        Err(ClientError::Host(error)) if no_tokens(error.code) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn no_tokens(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::Unsupported | ErrorCode::PermissionDenied)
}

pub(super) fn bundled() -> PluginName {
    "speedtest".parse().expect("it is a plugin's name")
}

fn failed(peer: &str, error: RuntimeError) -> CliError {
    CliError::of_measurement(format!("cannot measure {peer}"), error)
}

fn unmeasured(direction: Direction, error: RuntimeError) -> CliError {
    let what = match direction {
        Direction::Down => "the download has no figure",
        Direction::Up => "the upload has no figure",
    };
    CliError::of_measurement(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_named_and_only_once() {
        assert_eq!(named(Some("lab"), None, LOCAL).unwrap(), "lab");
        assert_eq!(named(None, Some("lab"), "lab").unwrap(), "lab");
        for error in
            [named(Some("lab"), Some("lab"), "lab"), named(None, None, LOCAL), named(None, None, "best")]
        {
            assert!(!error.unwrap_err().hints.is_empty());
        }
    }
}
