//! Links of a known rate: two network namespaces of the bench's own with a pair of virtual cables between them, each end
//! shaped by the kernel's token bucket (tc-tbf(8)).
//!
//! A shaped end delays what waits in its queue and nothing else: the kernels this ran on have no netem(8), so there is no
//! delay or loss of a chosen size here.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Result};

/// The addresses of both ends; of a range for benchmarks (RFC 2544).
const NEAR: &str = "198.18.7.1";
pub(crate) const FAR: &str = "198.18.7.2";
const NEAR_NAME: &str = "gxbench-near";
const FAR_NAME: &str = "gxbench-far";

/// A link.
pub(crate) struct Link {
    pub(crate) name: &'static str,
    /// To the near end, and from it.
    down: &'static str,
    up: &'static str,
    /// How many bytes may pass at once; the kernel's timer is what bounds it from below.
    burst: &'static str,
    /// How long a byte may wait.
    pub(crate) queue_ms: u32,
}

/// The links there are.
pub(crate) const ALL: &[Link] = &[
    Link { name: "100 Mbit/s", down: "100mbit", up: "100mbit", burst: "64kb", queue_ms: 50 },
    Link { name: "50/10 Mbit/s", down: "50mbit", up: "10mbit", burst: "64kb", queue_ms: 50 },
    Link { name: "1 Gbit/s", down: "1gbit", up: "1gbit", burst: "512kb", queue_ms: 20 },
    Link { name: "20 Mbit/s, queue of 300 ms", down: "20mbit", up: "20mbit", burst: "64kb", queue_ms: 300 },
];

/// Where a program runs.
pub(crate) enum Place {
    Here,
    /// In a network namespace of this name. `ip netns exec` would hide the control groups of the machine besides.
    Namespace(&'static str),
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
pub(crate) struct Made(());

impl Made {
    pub(crate) fn near(&self) -> Place {
        Place::Namespace(NEAR_NAME)
    }

    pub(crate) fn far(&self) -> Place {
        Place::Namespace(FAR_NAME)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for name in [NEAR_NAME, FAR_NAME] {
            let _ = shell::read(shell::as_root("ip").args(["netns", "delete", name]));
        }
    }
}

/// Returns why links cannot be made here, if so.
pub(crate) fn may_be_made() -> std::result::Result<(), String> {
    let link = Link { name: "", down: "10mbit", up: "10mbit", burst: "64kb", queue_ms: 50 };
    link.make().map(drop).map_err(|failure| failure.to_string())
}

impl Link {
    pub(crate) fn make(&self) -> Result<Made> {
        drop(Made(())); // what a run that was killed has left
        for name in [NEAR_NAME, FAR_NAME] {
            ip(&["netns", "add", name])?;
        }
        let made = Made(());
        ip(&[
            "link", "add", "gxb0", "netns", NEAR_NAME, "type", "veth", "peer", "name", "gxb0", "netns",
            FAR_NAME,
        ])?;
        for (name, address, rate) in [(NEAR_NAME, NEAR, self.up), (FAR_NAME, FAR, self.down)] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "gxb0"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "gxb0", "up"])?;
            let queue = format!("{}ms", self.queue_ms);
            let shape = [
                "qdisc", "add", "dev", "gxb0", "root", "tbf", "rate", rate, "burst", self.burst, "latency",
                &queue,
            ];
            shell::read(shell::as_root("tc").args(["-n", name]).args(shape))?;
        }
        Ok(made)
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    shell::read(shell::as_root("ip").args(arguments)).map(drop)
}
