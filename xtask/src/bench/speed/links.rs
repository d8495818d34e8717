//! Links of a known rate, delay, loss and queue: two network namespaces of the bench's own, and a wire between them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::wire::WireArgs;
use crate::shell::{self, Doing, Failure, Result};

/// The addresses of both ends; of a range for benchmarks (RFC 2544).
const NEAR: &str = "198.18.7.1";
pub(crate) const FAR: &str = "198.18.7.2";
/// What the device of an end is called.
pub(crate) const DEVICE: &str = "gxb0";

/// A link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    /// To the near end, and from it.
    pub(crate) down_mbit: f64,
    pub(crate) up_mbit: f64,
    /// The round trip of an idle link.
    pub(crate) rtt_ms: f64,
    /// How long a packet may wait for its turn.
    pub(crate) queue_ms: u32,
    pub(crate) loss: f64,
    /// Large where this program could not carry so many small packets.
    pub(crate) mtu: u16,
    /// How both ends send (tcp(7)), where it is not to be as the system has it.
    pub(crate) congestion: Option<&'static str>,
    pub(crate) goal: Goal,
}

/// What a measurement on a link is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// Full within 5 % in 3 s, quick within 10 % in 1.7 s.
    Close,
    /// Full at least 0.85 × in 4 s.
    Far,
    /// Within 30 % in 8 s, and never sure of it.
    Lossy,
    /// Latency under load at least 5 × idle.
    Queue,
}

const fn link(name: &'static str, mbit: [f64; 2], rtt_ms: f64, goal: Goal) -> Link {
    let [down_mbit, up_mbit] = mbit;
    Link { name, down_mbit, up_mbit, rtt_ms, queue_ms: 60, loss: 0.0, mtu: 1_500, congestion: None, goal }
}

/// The links there are.
pub(crate) const ALL: [Link; 6] = [
    link("100 Mbit/s, 20 ms", [100.0, 100.0], 20.0, Goal::Close),
    link("50/10 Mbit/s, 40 ms", [50.0, 10.0], 40.0, Goal::Close),
    Link { mtu: 9_000, ..link("1 Gbit/s, 5 ms", [1_000.0, 1_000.0], 5.0, Goal::Close) },
    Link { mtu: 9_000, ..link("1 Gbit/s, 50 ms", [1_000.0, 1_000.0], 50.0, Goal::Far) },
    Link { loss: 0.01, ..link("10 Mbit/s, 20 ms, 1 % lost", [10.0, 10.0], 20.0, Goal::Lossy) },
    // Whoever takes a loss for a full queue fills what queue there is, as most machines do. BBR does not. A namespace may
    // always have Reno, and others where the machine allows them.
    Link {
        queue_ms: 300,
        congestion: Some("reno"),
        ..link("20 Mbit/s, 10 ms, queue of 300 ms, Reno", [20.0, 20.0], 10.0, Goal::Queue)
    },
];

/// Where a program runs.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Here,
    /// In a network namespace of this name. `ip netns exec` would hide the control groups of the machine besides.
    Namespace(String),
}

impl Place {
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::Namespace(name) => {
                let mut command = shell::as_root("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(program);
                command
            }
        }
    }
}

/// A link that is there until it is dropped.
pub(crate) struct Made {
    names: [String; 2],
    wire: Option<Child>,
}

impl Made {
    pub(crate) fn near(&self) -> Place {
        Place::Namespace(self.names[0].clone())
    }

    pub(crate) fn far(&self) -> Place {
        Place::Namespace(self.names[1].clone())
    }

    /// Gives the far end all addresses of 198.18.8.0/24 too.
    pub(crate) fn many_addresses(&self) -> Result<()> {
        ip(&["-n", &self.names[1], "route", "add", "local", "198.18.8.0/24", "dev", "lo"])?;
        ip(&["-n", &self.names[0], "route", "add", "198.18.8.0/24", "dev", DEVICE])
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(wire) = &mut self.wire {
            drop(wire.stdin.take()); // which ends it, where it belongs to root too
            let _ = wire.wait();
        }
        for name in &self.names {
            let _ = shell::read(shell::as_root("ip").args(["netns", "delete", name]));
        }
    }
}

/// Returns why links cannot be made here, if so.
pub(crate) fn may_be_made() -> std::result::Result<(), String> {
    ALL[0].make(9).map(drop).map_err(|failure| failure.to_string())
}

impl Link {
    /// Makes the link with this number: those of different numbers may be there together.
    pub(crate) fn make(&self, number: u8) -> Result<Made> {
        let names = ["near", "far"].map(|end| format!("gxbench-{end}-{number}"));
        drop(Made { names: names.clone(), wire: None }); // what a run that was killed has left
        let mut made = Made { names: names.clone(), wire: None };
        for name in &names {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            if let Some(congestion) = self.congestion {
                sends_with(name, congestion)?;
            }
        }
        let itself = std::env::current_exe().doing("the program itself")?;
        let mut wire = shell::as_root(itself);
        wire.args(WireArgs::of([&names[0], NEAR], [&names[1], FAR], self));
        wire.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut wire = wire.spawn().doing("a wire")?;
        let mut line = String::new();
        let out = wire.stdout.take().map(BufReader::new);
        out.ok_or_else(|| Failure::Because("no output".to_owned()))?.read_line(&mut line).doing("a wire")?;
        if line.trim() != "laid" {
            let told = wire.wait_with_output().doing("a wire")?;
            let why = String::from_utf8_lossy(&told.stderr).trim().to_owned();
            return Err(Failure::Because(format!("no wire can be laid: {why}")));
        }
        made.wire = Some(wire);
        Ok(made)
    }
}

/// Has what is in a namespace send with this congestion control.
fn sends_with(namespace: &str, congestion: &str) -> Result<()> {
    let write = format!("echo {congestion} > /proc/sys/net/ipv4/tcp_congestion_control");
    let place = Place::Namespace(namespace.to_owned());
    shell::read(place.command(Path::new("sh")).args(["-c", &write])).map(drop)
}

fn ip(arguments: &[&str]) -> Result<()> {
    shell::read(shell::as_root("ip").args(arguments)).map(drop)
}
