//! `gx serve`: lends this machine until it is asked to end.

use std::net::SocketAddr;

use clap::Args;
use gx_core::NodeId;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Context;
use crate::cli::VERSION;
use crate::error::{CliError, Result};
use crate::interrupt;
use crate::output::{Show, View};
use crate::target;

const EXAMPLES: &str = "\
Examples:
  gx serve
  gx serve --listen 127.0.0.1:0 --json    on any free port; one line of JSON says which

It listens on this machine only; to reach it from another one use a tunnel, as `ssh -L 7467:127.0.0.1:7467 HOST`.
SIGTERM and Ctrl-C end it in good order: containers keep running.";

/// What `gx serve` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The address to listen on; without it the configured one, else 127.0.0.1:7467
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: ServeArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let listen = args.listen.unwrap_or(settings.config.server.listen);
    if !listen.ip().is_loopback() {
        return Err(gx_server::ServerError::NotLoopback { address: listen }.into());
    }
    let asked_to_end = interrupt::asked_to_end()?;
    let node = target::open_node(&settings, &context.environment).await?;
    let listener = TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(listen, &error))?;
    let listening = Listening { listening: address, node_id: node.id(), version: VERSION };
    let server = gx_server::Server::new(listener, node)?;
    context.out.item(&listening)?;
    server.run(asked_to_end).await;
    Ok(())
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
    node_id: NodeId,
    version: &'static str,
}

impl Show for Listening {
    fn text(&self, view: &View) -> String {
        format!(
            "listening on {} as node {}\n",
            view.bold(&format!("http://{}", self.listening)),
            self.node_id.short()
        )
    }
}
