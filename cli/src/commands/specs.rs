//! `gx specs`: what a machine is and lends.

use clap::Args;
use gx_core::api::{CpuSpecs, GpuSpecs, LimitSpecs, Quota, ServerSpecs, TotalSpecs};
use gx_core::runtime::Feature;

use super::{Context, runtimes};
use crate::error::{CliError, Result};
use crate::output::{Pairs, Show, View, human};

const EXAMPLES: &str = "\
Examples:
  gx specs                  this machine
  gx specs 192.168.1.7      another one
  gx specs --json | jq .gpus";

/// What `gx specs` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SpecsArgs {
    /// The host's address as [NODEID@]HOST[:PORT]; without it what --on says
    #[arg(value_name = "PEER")]
    pub peer: Option<String>,
}

pub(crate) async fn run(args: SpecsArgs, context: &Context<'_>) -> Result {
    if args.peer.is_some() && context.globals.on.is_some() {
        return Err(CliError::usage("the host is named twice").hint("leave out either PEER or --on"));
    }
    let specs = context.target_on(args.peer).await?.specs().await?;
    context.out.show(&specs)
}

impl Show for ServerSpecs {
    fn text(&self, view: &View) -> String {
        let space = |space: gx_core::api::SpaceSpecs| {
            format!("{} free of {}", human::bytes(space.free_bytes), human::bytes(space.total_bytes))
        };
        let pairs = Pairs::new()
            .pair("host", &self.hostname)
            .some("node", self.node_id)
            .pair("version", &self.version)
            .pair("platform", &self.platform)
            .pair("kernel", &self.kernel)
            .pair("cpu", cpu(&self.cpu))
            .pair("memory", space(self.memory))
            .pair("disk", space(self.disk))
            .pair("load", self.load.map(|load| format!("{load:.2}")).join(" "))
            .pair("lends", lends(&self.limits))
            .pair("in use", totals(&self.totals))
            .some("yours", self.allowance.as_ref().map(totals))
            .some("note", unbounded_disks(self));
        let pairs = match self.gpus.as_slice() {
            [] => pairs.pair("gpus", "none"),
            gpus => gpus.iter().fold(pairs, |pairs, gpu| pairs.pair("gpu", describe(gpu))),
        };
        format!("{}\n{}", pairs.text(view), runtimes::table(&self.runtimes).text(view))
    }
}

fn cpu(cpu: &CpuSpecs) -> String {
    let cores = if cpu.cores > 0 { format!("{} cores, ", cpu.cores) } else { String::new() };
    format!("{} ({cores}{} threads)", cpu.model, cpu.threads).trim_start().to_owned()
}

fn describe(gpu: &GpuSpecs) -> String {
    let bytes = human::bytes;
    let memory = match (gpu.memory_used_bytes, gpu.memory_total_bytes) {
        (Some(used), Some(total)) => Some(format!("{} of {} used", bytes(used), bytes(total))),
        (None, Some(total)) => Some(bytes(total)),
        (_, None) => None,
    };
    let parts = [
        memory,
        gpu.utilisation_percent.map(|percent| format!("{percent}% busy")),
        gpu.temperature_celsius.map(|celsius| format!("{celsius} °C")),
        gpu.graphics_clock_mhz.map(|now| format!("cores {}", clock(now, gpu.graphics_clock_max_mhz))),
        gpu.memory_clock_mhz.map(|now| format!("memory {}", clock(now, gpu.memory_clock_max_mhz))),
        gpu.processes.map(|number| format!("{number} process{}", if number == 1 { "" } else { "es" })),
        (!gpu.driver.is_empty()).then(|| format!("driver {}", gpu.driver)),
        Some(gpu.uuid.clone()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let name = if gpu.name.is_empty() { "unknown model" } else { &gpu.name };
    format!("{}: {name}, {}", gpu.index, parts.join(", "))
}

fn clock(now: u32, fastest: Option<u32>) -> String {
    match fastest {
        Some(fastest) => format!("{now} of {fastest} MHz"),
        None => format!("{now} MHz"),
    }
}

fn lends(limits: &LimitSpecs) -> String {
    [
        limits.containers.map(|number| format!("{number} containers")),
        limits.milli_cpus.map(|milli| format!("{} CPUs each", human::cpus(milli))),
        limits.memory_bytes.map(|bytes| format!("{} memory each", human::bytes(bytes))),
        limits.gpus.map(|number| format!("{number} GPU{} each", if number == 1 { "" } else { "s" })),
        limits.pids.map(|number| format!("{number} processes each")),
        limits.disk_bytes.map(|bytes| format!("{} disk each", human::bytes(bytes))),
        limits.ports.map(|number| format!("{number} ports each")),
        limits.ttl_s.map(|seconds| {
            format!("for {} at most", gx_core::units::Span(std::time::Duration::from_secs(seconds)))
        }),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

/// Says where a limit of what containers write is configured and holds nowhere.
fn unbounded_disks(specs: &ServerSpecs) -> Option<&'static str> {
    let is_configured = specs.limits.disk_bytes.or(specs.totals.disk_bytes.limit).is_some();
    let holds = specs.runtimes.iter().any(|runtime| runtime.capabilities.has(Feature::Disk));
    (is_configured && !holds).then_some("no runtime here can bound what containers write")
}

/// Returns what containers have of what they may have together; only the bounded is worth telling.
fn totals(totals: &TotalSpecs) -> String {
    let cpus = |milli: u64| human::cpus(u32::try_from(milli).unwrap_or(u32::MAX));
    let number = |number: u64| number.to_string();
    let of = |quota: Quota, show: &dyn Fn(u64) -> String, noun: &str| {
        quota.limit.map(|limit| format!("{} of {}{noun}", show(quota.used), show(limit)))
    };
    [
        of(totals.containers, &number, " containers"),
        of(totals.milli_cpus, &cpus, " CPUs"),
        of(totals.memory_bytes, &human::bytes, " memory"),
        of(totals.pids, &number, " processes"),
        of(totals.gpus, &number, " GPUs"),
        of(totals.disk_bytes, &human::bytes, " disk"),
        of(totals.ports, &number, " ports"),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_pairs_and_a_table_of_runtimes() {
        let specs = ServerSpecs {
            hostname: "lab\u{1b}[2J".into(),
            limits: LimitSpecs { milli_cpus: Some(1_500), ttl_s: Some(7_200), ..LimitSpecs::default() },
            totals: TotalSpecs {
                containers: Quota { used: 1, limit: Some(4) },
                milli_cpus: Quota { used: 1_000, limit: Some(2_500) },
                memory_bytes: Quota { used: 1, limit: None },
                ..TotalSpecs::default()
            },
            ..ServerSpecs::default()
        };
        let text = specs.text(&View::plain());
        assert!(text.starts_with("host     lab\n"), "{text}");
        assert!(text.contains("lends    1.5 CPUs each, for 2h at most\n"), "{text}");
        assert!(text.contains("in use   1 of 4 containers, 1 of 2.5 CPUs\n"), "{text}");
        assert!(!text.contains("yours") && !text.contains("note"), "{text}");
        let limits = LimitSpecs { disk_bytes: Some(1 << 30), ..LimitSpecs::default() };
        let text = ServerSpecs { limits, ..ServerSpecs::default() }.text(&View::plain());
        assert!(text.contains("note     no runtime here can bound what containers write\n"), "{text}");
        assert!(text.contains("\nRUNTIME"), "{text}");
    }
}
