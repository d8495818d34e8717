//! `gx serve`: lends this machine until it is asked to end.

use std::net::SocketAddr;
use std::sync::OnceLock;

use clap::Args;
use gx_core::NodeId;
use gx_server::{Node, ServerError, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::net::TcpListener;

use super::Context;
use crate::cli::VERSION;
use crate::error::{CliError, Result};
use crate::interrupt;
use crate::output::{Show, View};
use crate::settings::Settings;
use crate::target;

const EXAMPLES: &str = "\
Examples:
  gx serve
  gx serve --listen 0.0.0.0:7467          for other machines too
  gx serve --listen 127.0.0.1:0 --json    on any free port; one line of JSON says which

It speaks TLS with the node's own key, and knows callers by theirs; whoever has none, or one that this host does not lend \
to, is told what the host is and no more. SIGTERM and Ctrl-C end it in good order: containers keep running. SIGHUP has \
it read `allow` in [server] and the chat's policy again.";

/// What `gx serve` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The address to listen on; without it the configured one, else 127.0.0.1:7467
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listens without TLS, on loopback only: every user of this machine then is the host's owner
    #[arg(long)]
    pub plain: bool,
}

pub(crate) async fn run(args: ServeArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let mut config = settings.config.server.clone();
    config.plain |= args.plain;
    let listen = args.listen.unwrap_or(config.listen);
    let transport = Transport::from(&config);
    if transport == Transport::Plain && !listen.ip().is_loopback() {
        return Err(ServerError::NotLoopback { address: listen }.into());
    }
    raise_limit_of_files();
    let opened: OnceLock<std::sync::Arc<Node>> = OnceLock::new();
    let asked_to_end = interrupt::asked_to_end_or_reload(|| {
        opened.get().into_iter().for_each(|node| reload(node, &settings, context));
    })?;
    let node = target::open_node(&settings, &context.environment).await?;
    opened.get_or_init(|| node.clone());
    let listener = TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(listen, &error))?;
    let listening = Listening {
        listening: address,
        tls: transport == Transport::Tls,
        node_id: node.id(),
        version: VERSION,
    };
    let server = gx_server::Server::new(listener, node, transport)?;
    if transport == Transport::Insecure && !address.ip().is_loopback() {
        context.out.warn("nothing is encrypted, and everybody is a stranger here", Some("leave out `plain`"));
    }
    context.out.item(&listening)?;
    server.run(asked_to_end).await;
    Ok(())
}

/// Reads the configuration again, and takes over whom the host lends to.
fn reload(node: &Node, began: &Settings, context: &Context<'_>) {
    let settings = match context.settings() {
        Ok(settings) => settings,
        Err(error) => return tracing::error!(%error, "the configuration stays as it was"),
    };
    if let Err(error) = node.reload_chat() {
        let hint = error.hint().unwrap_or_default();
        tracing::error!(%error, hint, "the chat's policy stays as it was");
    }
    node.configure_members(settings.config.server.allow.iter().copied());
    let mut config = settings.config;
    config.server.allow.clone_from(&began.config.server.allow);
    if config == began.config {
        tracing::info!("read the configuration again");
    } else {
        tracing::warn!(
            "of the configuration `allow` in [server] holds now, and the rest from the next start on"
        );
    }
}

/// Lets this process open as many files as the system allows: each connection is one.
fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> CliError {
    let told = CliError::io(format!("cannot listen on {address}"), error);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            told.hint("another gx serve may run already; --listen 127.0.0.1:0 takes any free port")
        }
        _ => told.hint("--listen takes another address"),
    }
}

/// Where it listens, once it does.
#[derive(Serialize)]
struct Listening {
    listening: SocketAddr,
    tls: bool,
    node_id: NodeId,
    version: &'static str,
}

impl Show for Listening {
    fn text(&self, view: &View) -> String {
        let Self { listening, tls, node_id, .. } = self;
        let how = if *tls { "" } else { ", without TLS" };
        format!("listening on {}{how}, as node {node_id}\n", view.bold(&listening.to_string()))
    }
}
