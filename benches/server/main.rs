//! What `cargo xtask bench server` runs beside `gx serve`: a bare server of the same answer, and those who ask.
//!
//! | | |
//! |---|---|
//! | `id DATA` | prints the NodeId of a folder's key, which is made where there is none |
//! | `bare DATA BODY` | serves the content of a file until its input ends; prints where |
//! | `get ADDRESS NODE DATA PATH` | prints the body of one answer |
//! | `load ADDRESS NODE DATA PATH CONNECTIONS REQUESTS` | asks as fast as it is answered |
//! | `handshakes DATA ROUNDS (ADDRESS NODE PATH)…` | connects, asks once and leaves, at each server in turn |
//! | `pace ADDRESS NODE DATA PATH EACH_SECOND SECONDS` | asks at a steady rate, and times each answer |
//! | `idle ADDRESS NODE COUNT` | connects so often, and does nothing until its input ends |
//! | `authorise` | times what a host does to tell who asks and whether they may |
//!
//! Whoever asks shows the key of the folder DATA. Times are printed as JSON, in milliseconds.

#![expect(clippy::print_stdout, reason = "a program that a bench runs and reads")]

mod ask;
mod authorise;
mod bare;
mod idle;

use std::net::SocketAddr;
use std::path::Path;

use gx_core::NodeId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    match words[..] {
        // As `gx serve` has it: one thread for each CPU.
        ["bare", data, body] => tokio::runtime::Runtime::new()?.block_on(bare::serve(Path::new(data), body)),
        ["authorise"] => tokio::runtime::Runtime::new()?.block_on(authorise::measure()),
        // Whoever asks takes one CPU at most: the other is the server's.
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asker(&words)),
    }
}

async fn asker(words: &[&str]) -> Result<()> {
    match *words {
        ["id", data] => println!("{}", gx_identity::open(Path::new(data))?.id()),
        ["get", address, node, data, path] => {
            let mut line = server(address, node)?.line(&gx_identity::open(Path::new(data))?).await?;
            println!("{}", String::from_utf8_lossy(line.ask(&ask::request(path)).await?));
        }
        ["load", address, node, data, path, connections, requests] => {
            let key = gx_identity::open(Path::new(data))?;
            let (connections, requests) = (connections.parse()?, requests.parse()?);
            let took = ask::load(server(address, node)?, &key, path, connections, requests).await?;
            println!("{}", json!({ "ms": took.as_secs_f64() * 1e3 }));
        }
        ["handshakes", data, rounds, ref servers @ ..] => {
            let key = gx_identity::open(Path::new(data))?;
            let servers = servers.chunks(3).map(|words| match *words {
                [address, node, path] => Ok((server(address, node)?, path)),
                _ => Err("a server is ADDRESS NODE PATH".into()),
            });
            let servers: Vec<_> = servers.collect::<Result<_>>()?;
            println!("{}", ask::handshakes(&servers, &key, rounds.parse()?).await?);
        }
        ["pace", address, node, data, path, each_second, seconds] => {
            let key = gx_identity::open(Path::new(data))?;
            let (each_second, seconds) = (each_second.parse()?, seconds.parse()?);
            let times = ask::pace(server(address, node)?, &key, path, each_second, seconds).await?;
            println!("{}", json!({ "ms": times }));
        }
        ["idle", address, node, count] => idle::stay(server(address, node)?, count.parse()?).await?,
        _ => return Err("see the head of benches/server/main.rs".into()),
    }
    Ok(())
}

/// A server that is asked.
#[derive(Debug, Clone, Copy)]
struct Server {
    address: SocketAddr,
    node: NodeId,
}

fn server(address: &str, node: &str) -> Result<Server> {
    Ok(Server { address: address.parse()?, node: node.parse()? })
}

/// Waits until whoever has started this program closes its input.
async fn until_input_ends() -> Result<()> {
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
