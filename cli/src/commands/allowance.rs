//! The flags that say what a member may have; `gx invite` and `gx allow add` share them.

use clap::Args;
use gx_core::member::Allowance;
use gx_core::units::{Size, Span};

use super::create::milli_cpus;
use crate::output::human;

/// What a member may have, all its containers together.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "What it may have, all its containers together; else the host's own limits hold"
)]
pub struct AllowanceArgs {
    /// Containers at a time
    #[arg(long, value_name = "NUMBER")]
    pub containers: Option<u32>,
    /// CPUs, as 2 or 0.5
    #[arg(long, value_name = "NUMBER", value_parser = milli_cpus)]
    pub cpus: Option<u32>,
    /// Memory, as 4g
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER")]
    pub pids: Option<u32>,
    /// GPUs
    #[arg(long, value_name = "NUMBER")]
    pub gpus: Option<u32>,
    /// What its containers write, where the engine can bound it
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// Published ports
    #[arg(long, value_name = "NUMBER")]
    pub ports: Option<u32>,
    /// The longest lease of one container, as 8h
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<Span>,
}

impl AllowanceArgs {
    pub(crate) fn allowance(&self) -> Allowance {
        let Self { containers, cpus, memory, pids, gpus, disk, ports, ttl } = *self;
        Allowance { containers, milli_cpus: cpus, memory, pids, gpus, disk, ports, ttl }
    }
}

/// Returns what somebody may have, in words.
pub(crate) fn words(allowance: &Allowance) -> String {
    let counted =
        |number: u32, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
    let parts = [
        allowance.containers.map(|number| counted(number, "container", "containers")),
        allowance.milli_cpus.map(|milli| format!("{} CPUs", human::cpus(milli))),
        allowance.memory.map(|size| format!("{size} memory")),
        allowance.pids.map(|number| counted(number, "process", "processes")),
        allowance.gpus.map(|number| counted(number, "GPU", "GPUs")),
        allowance.disk.map(|size| format!("{size} disk")),
        allowance.ports.map(|number| counted(number, "port", "ports")),
        allowance.ttl.map(|ttl| format!("leases of {ttl} at most")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "what the host lends to anybody".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_told_in_words() {
        let allowance = Allowance { containers: Some(1), milli_cpus: Some(1_500), ..Allowance::default() };
        assert_eq!(words(&allowance), "1 container, 1.5 CPUs");
        assert_eq!(words(&Allowance::default()), "what the host lends to anybody");
    }
}
