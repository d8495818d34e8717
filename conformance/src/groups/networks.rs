//! What containers are attached to.

use std::collections::BTreeMap;
use std::sync::Arc;

use gx_core::ErrorCode;
use gx_core::container::ContainerSpec;
use gx_core::network::{Bridge, NetworkSpec, Prefix};
use gx_core::runtime::{ExecSpec, LogOptions};

use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{argv, serve, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("networks/none", "without a network there is loopback alone", [Networks, Processes], none),
    case!(
        "networks/one bridge",
        "containers of one bridge reach each other",
        [Networks, Processes, Exec],
        one_bridge
    ),
    case!(
        "networks/removal",
        "a network goes when nothing is attached, running or not; a missing one is Ok",
        [Networks],
        removal
    ),
    case!("networks/an unknown one", "Unsupported, rather than a wider one", [Networks], unknown),
];

const PORT: u16 = 8080;

/// Returns a bridge that no other case or run has.
fn bridge(t: &Trial) -> Bridge {
    // FNV-1a: the name has room for eight letters of it.
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let number = t.unique().bytes().fold(0x811c_9dc5, fold);
    let subnets = Prefix::v4([10, 214, 0, 0], 16).parts(24, number.into()).take(32).collect();
    Bridge { name: format!("gxcf-{number:08x}"), subnets, labels: BTreeMap::new() }
}

fn on(t: &Trial, bridge: &Bridge, command: Vec<String>) -> ContainerSpec {
    ContainerSpec { network: Some(NetworkSpec::Bridge(bridge.clone())), ..t.spec(command) }
}

async fn gone(t: &Trial, bridge: &Bridge) -> Verdict {
    let removed = soon("remove_network", SOON, t.runtime.remove_network(bridge.name.clone()));
    removed.await?.of("remove_network")
}

async fn none(t: Arc<Trial>) -> Verdict {
    let script = sh("for each in /sys/class/net/*; do echo $each; done");
    let (id, _) = t.ended(ContainerSpec { network: Some(NetworkSpec::None), ..t.spec(script) }).await?;
    same("the interfaces", t.logs(&id, LogOptions::default()).await?.stdout.as_str(), "/sys/class/net/lo\n")
}

async fn one_bridge(t: Arc<Trial>) -> Verdict {
    let bridge = bridge(&t);
    let verdict = async {
        let server = t.running_spec(on(&t, &bridge, serve(PORT, "hello"))).await?;
        let client = t.running_spec(on(&t, &bridge, stubborn())).await?;
        t.until_said(&server, "ready").await?;
        let run = |words: &[&str]| ExecSpec { argv: argv(words), ..ExecSpec::default() };
        let (_, said) = t.exec(&server, run(&["cat", "/proc/net/fib_trie"])).await?;
        let Some(address) = own_address(&said.stdout) else {
            return Err(Failure::new(format!("it has no address: {}", said.stdout)));
        };
        let port = PORT.to_string();
        t.until("answer of the other container", || async {
            let (_, said) = t.exec(&client, run(&["nc", "-w", "2", &address, &port])).await?;
            Ok(said.stdout.trim_end() == "hello")
        })
        .await
    };
    let verdict = verdict.await;
    t.clean().await?;
    verdict.and(gone(&t, &bridge).await)
}

/// Returns an address from /proc/net/fib_trie: a line with the address, then one that says whose it is.
fn own_address(trie: &str) -> Option<String> {
    let lines: Vec<&str> = trie.lines().map(str::trim).collect();
    let own = lines.windows(2).filter(|pair| pair[1].contains("host LOCAL"));
    own.filter_map(|pair| pair[0].strip_prefix("|-- "))
        .find(|own| !own.starts_with("127."))
        .map(str::to_owned)
}

async fn removal(t: Arc<Trial>) -> Verdict {
    let bridge = bridge(&t);
    gone(&t, &bridge).await?;
    let verdict = async {
        let idle = t.create(on(&t, &bridge, stubborn())).await?;
        gone(&t, &bridge).await?;
        t.start(&idle).await?; // it is attached still, and so the network is there
        gone(&t, &bridge).await?;
        let other = t.running_spec(on(&t, &bridge, stubborn())).await?;
        t.remove(&idle).await?;
        t.remove(&other).await?;
        gone(&t, &bridge).await?;
        t.running_spec(on(&t, &bridge, stubborn())).await.map(drop)
    };
    let verdict = verdict.await;
    t.clean().await?;
    verdict.and(gone(&t, &bridge).await)
}

async fn unknown(t: Arc<Trial>) -> Verdict {
    let spec = ContainerSpec { network: Some(NetworkSpec::Other), ..t.spec(stubborn()) };
    let name = spec.name.to_string();
    let made = soon("create", SOON, t.runtime.create(spec)).await?;
    if let Ok(id) = &made {
        t.made(id);
    }
    refused("create", made, ErrorCode::Unsupported, Some("network"))?;
    let run = t.options.run_id.clone();
    let there = t.listed(&[(crate::LABEL, Some(&run))]).await?;
    check!(!there.iter().any(|container| container.name == name), "a container was made all the same");
    Ok(())
}
