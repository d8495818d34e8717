//! The calls of `gx create` and `gx rm`, made directly with the engines' client crates.
//!
//! `gx-bench-direct create|rm ENGINE NAME` is a process as gx is one. `many ENGINE COUNT HOST` makes containers for a
//! list, not started. `host ENGINE ADDRESS DATA ROUNDS` compares a host's create with the same engine calls, all from one
//! process with warm connections, in turn: what is left between them is what the host adds.

#![expect(clippy::print_stdout, reason = "a program that a bench runs and reads")]

mod docker;
mod podman;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gx_client::Client;
use gx_core::api::CreateRequest;
use gx_core::runtime::RemoveOptions;
use gx_core::stream::pipe;
use gx_identity::KnownHosts;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The image every round uses.
const IMAGE: &str = "gx-busybox";
/// What every container runs.
const COMMAND: [&str; 2] = ["sleep", "600"];

/// An engine through its client crate.
enum Engine {
    Docker(docker::Engine),
    Podman(podman::Engine),
}

impl Engine {
    fn named(name: &str) -> Result<Self> {
        match name {
            "docker" => Ok(Self::Docker(docker::Engine::connect()?)),
            "podman" => Ok(Self::Podman(podman::Engine::connect())),
            other => Err(format!("no engine is called {other}").into()),
        }
    }

    async fn create(&self, name: &str, labels: HashMap<String, String>) -> Result<()> {
        match self {
            Self::Docker(engine) => engine.create(name, labels).await,
            Self::Podman(engine) => engine.create(name, labels).await,
        }
    }

    async fn start_and_inspect(&self, name: &str) -> Result<()> {
        match self {
            Self::Docker(engine) => engine.start_and_inspect(name).await,
            Self::Podman(engine) => engine.start_and_inspect(name).await,
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        match self {
            Self::Docker(engine) => engine.remove(name).await,
            Self::Podman(engine) => engine.remove(name).await,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["create", engine, name] => {
            let engine = Engine::named(engine)?;
            engine.create(name, labels(name, "none")).await?;
            engine.start_and_inspect(name).await
        }
        ["rm", engine, name] => Engine::named(engine)?.remove(name).await,
        ["many", engine, count, host] => many(&Engine::named(engine)?, count.parse()?, host).await,
        ["few", engine, count] => few(&Engine::named(engine)?, count.parse()?).await,
        ["host", engine, address, data, rounds] => host(engine, address, data, rounds.parse()?).await,
        _ => Err("see the head of benches/direct/main.rs".into()),
    }
}

/// As many labels as gx gives: they are part of the work.
fn labels(name: &str, host: &str) -> HashMap<String, String> {
    let labels = [
        ("gx.owner", host),
        ("gx.host", host),
        ("gx.name", name),
        ("gx.created", "2026-01-01T00:00:00Z"),
        ("gx.key", name),
        ("gx.spec", "0000000000000000000000000000000000000000000000000000000000000000"),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

async fn many(engine: &Engine, count: u32, host: &str) -> Result<()> {
    for n in 0..count {
        let name = format!("bench-many-{n}");
        engine.create(&format!("gx-{name}"), labels(&name, host)).await?;
    }
    Ok(())
}

/// Removes what `many` made.
async fn few(engine: &Engine, count: u32) -> Result<()> {
    for n in 0..count {
        engine.remove(&format!("gx-bench-many-{n}")).await?;
    }
    Ok(())
}

async fn host(name: &str, address: &str, data: &str, rounds: u32) -> Result<()> {
    let engine = Engine::named(name)?;
    let data = Path::new(data);
    let key = gx_identity::open(data)?;
    let client = Client::open(&address.parse()?, &key, &KnownHosts::of(data)).await?.client;
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let container = format!("bench-host-{round}");
        // Who goes first has the colder caches: they take turns.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                direct.push(directly(&engine, &format!("gx-{container}")).await?);
            } else {
                through.push(through_the_host(&client, name, &container).await?);
            }
        }
    }
    println!("{}", serde_json::json!({ "direct_ms": ms(&direct), "host_ms": ms(&through) }));
    Ok(())
}

async fn directly(engine: &Engine, name: &str) -> Result<Duration> {
    let began = Instant::now();
    engine.create(name, labels(name, "none")).await?;
    engine.start_and_inspect(name).await?;
    let took = began.elapsed();
    engine.remove(name).await?;
    Ok(took)
}

async fn through_the_host(client: &Client, runtime: &str, name: &str) -> Result<Duration> {
    let request = CreateRequest {
        runtime: Some(runtime.parse()?),
        name: Some(name.parse()?),
        command: COMMAND.map(str::to_owned).to_vec(),
        no_guest: true,
        ..CreateRequest::new(IMAGE.parse()?)
    };
    let began = Instant::now();
    // Nothing is pulled, so there is no progress to read.
    client.create(request, None, pipe(0).0).await?;
    let took = began.elapsed();
    client.remove(name, RemoveOptions { force: true }).await?;
    Ok(took)
}

fn ms(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
}
