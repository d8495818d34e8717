//! `gx runtimes`: which runtimes there are, and whether their engines are well.

use clap::Args;
use gx_core::api::RuntimeStatus;
use gx_core::runtime::HealthStatus;
use serde::Serialize;

use super::Context;
use crate::error::Result;
use crate::output::{Show, Table, View};

const EXAMPLES: &str = "\
Examples:
  gx runtimes
  gx runtimes --on 192.168.1.7 --json";

/// What `gx runtimes` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RuntimesArgs {}

pub(crate) async fn run(_: RuntimesArgs, context: &Context<'_>) -> Result {
    let runtimes = context.target().await?.runtimes().await?;
    context.out.show(&Runtimes { runtimes: &runtimes })?;
    for runtime in &runtimes {
        if let (HealthStatus::Unhealthy, Some(hint)) = (runtime.health.status, &runtime.health.hint) {
            context.out.note(&format!("{}: {hint}", runtime.name));
        }
    }
    Ok(())
}

/// All runtimes of a machine.
#[derive(Serialize)]
struct Runtimes<'a> {
    runtimes: &'a [RuntimeStatus],
}

impl Show for Runtimes<'_> {
    fn text(&self, view: &View) -> String {
        table(self.runtimes).text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.runtimes.iter().map(|runtime| format!("{}\n", runtime.name)).collect()
    }
}

/// Returns the runtimes as rows.
pub(crate) fn table(runtimes: &[RuntimeStatus]) -> Table {
    let mut table = Table::new(["runtime", "health", "engine", "api", "endpoint", "notes"]);
    for runtime in runtimes {
        let info = runtime.info.clone().unwrap_or_default();
        let name =
            if runtime.default { format!("{} (default)", runtime.name) } else { runtime.name.to_string() };
        let notes = [runtime.health.why.clone()].into_iter().filter(|why| !why.is_empty()).chain(info.notes);
        table.row([
            name,
            health(runtime.health.status).to_owned(),
            format!("{} {}", info.backend, info.version).trim().to_owned(),
            info.api_version,
            info.endpoint,
            notes.collect::<Vec<_>>().join("; "),
        ]);
    }
    table
}

/// Returns the verdict as people read it.
pub(crate) fn health(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Undetected => "not there",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_down_says_why() {
        let runtimes: Vec<RuntimeStatus> = serde_json::from_value(serde_json::json!([
            {"name": "docker", "default": true, "health": {"status": "healthy"},
             "info": {"backend": "docker", "version": "20.10", "endpoint": "unix:///var/run/docker.sock"}},
            {"name": "podman", "default": false, "health": {"status": "undetected", "why": "no podman on PATH"}},
        ]))
        .unwrap();
        let text = table(&runtimes).text(&View::plain());
        assert!(text.contains("docker (default)   healthy     docker 20.10"), "{text}");
        assert!(
            text.contains("podman             not there") && text.ends_with("no podman on PATH\n"),
            "{text}"
        );
    }
}
