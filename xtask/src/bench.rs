//! `cargo xtask bench`: measures in turn within one run, and writes docs/benchmarks.md.

mod access;
mod chat;
mod host;
mod peers;
mod plugin;
mod report;
mod runtime;
mod sample;
mod server;
mod speed;

use clap::Subcommand;

use crate::shell::Result;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Containers: gx against the engines' client crates and their own programs
    Runtime(runtime::RuntimeArgs),
    /// The way in by SSH, against an image with a server of its own
    Access(access::AccessArgs),
    /// The server: answers, handshakes, rights, and a crowd of idle connections, against a bare hyper and rustls
    Server(server::ServerArgs),
    /// The chat: against nats-server, ngircd, itself without a store, and SQLite alone
    Chat(chat::ChatArgs),
    /// The boundary between gx and a plugin, in its process and in a child
    Plugin,
    /// The table of servers: merging, memory, and ten thousand of them exchanging tables
    Peers,
    /// The speed test, against iperf3: on loopback and on links of a known rate
    Speed(speed::SpeedArgs),
}

pub(crate) use speed::wire::{WireArgs, run as wire};

/// Measures, prints the table, and writes it into docs/benchmarks.md.
///
/// # Errors
/// The first command that failed.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Runtime(args) => runtime::run(args),
        Bench::Access(args) => access::run(args),
        Bench::Server(args) => server::run(args),
        Bench::Chat(args) => chat::run(args),
        Bench::Plugin => plugin::run(),
        Bench::Peers => peers::run(),
        Bench::Speed(args) => speed::run(args),
    }
}
