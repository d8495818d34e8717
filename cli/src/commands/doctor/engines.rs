//! The checks of plugins and of the engines behind them.

use gx_core::api::RuntimeStatus;
use gx_core::runtime::HealthStatus;
use gx_host::{PluginHost, PluginState};
use gx_server::{Caller, Node};

use super::{Check, Verdict};

/// Checks the plugins' files, owners, digests and tables.
pub(super) fn plugins(plugins: &PluginHost) -> Vec<Check> {
    let check = |report: gx_host::PluginReport| {
        let name = format!("plugin {}", report.name);
        let version = report.version.unwrap_or_default();
        match (report.state, report.last_error) {
            (PluginState::Disabled, _) => Check::ok(name, "disabled"),
            (_, None) => Check::ok(name, format!("{version} {}", report.isolation).trim().to_owned()),
            (_, Some(error)) => Check::new(name, Verdict::Fail, error).hint(report.hint),
        }
    };
    plugins.reports().into_iter().map(check).collect()
}

/// Checks the engines. One that is not there is no fault, as long as another is.
pub(super) async fn engines(node: &Node) -> Vec<Check> {
    let statuses = match node.runtimes(&Caller::Host).await {
        Ok(statuses) => statuses,
        Err(error) => return vec![Check::of_error("engines", error.into())],
    };
    judge(statuses)
}

fn judge(statuses: Vec<RuntimeStatus>) -> Vec<Check> {
    let any = statuses.iter().any(|status| status.health.status == HealthStatus::Healthy);
    let mut checks: Vec<Check> = statuses.into_iter().map(engine).collect();
    if !any {
        let hint =
            "install and start Docker or Podman: `apt-get install docker.io`, or `apt-get install podman`";
        let none = Check::new("engines", Verdict::Fail, "no engine works: no container can be made here");
        checks.push(none.hint(Some(hint.to_owned())));
    }
    checks
}

fn engine(status: RuntimeStatus) -> Check {
    let name = format!("engine {}", status.name);
    let verdict = match status.health.status {
        HealthStatus::Healthy => {
            let info = status.info.unwrap_or_default();
            let rootless = if info.rootless { ", rootless" } else { "" };
            let notes =
                if info.notes.is_empty() { String::new() } else { format!(" ({})", info.notes.join("; ")) };
            let text = format!("{} {} at {}{rootless}{notes}", info.backend, info.version, info.endpoint);
            return Check::ok(name, text);
        }
        HealthStatus::Undetected => Verdict::Warn,
        HealthStatus::Unhealthy => Verdict::Fail,
    };
    Check::new(name, verdict, status.health.why).hint(status.health.hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: &str) -> RuntimeStatus {
        serde_json::from_value(serde_json::json!({
            "name": "docker", "default": false, "health": {"status": health, "why": "why", "hint": "do it"},
        }))
        .unwrap()
    }

    #[test]
    fn an_engine_that_is_not_there_is_a_fault_only_when_there_is_no_other() {
        let verdicts = |healths: &[&str]| {
            let checks = judge(healths.iter().map(|health| status(health)).collect());
            checks.into_iter().map(|check| check.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&["healthy", "undetected"]), [Verdict::Ok, Verdict::Warn]);
        assert_eq!(verdicts(&["undetected"]), [Verdict::Warn, Verdict::Fail]);
        assert_eq!(verdicts(&["healthy", "unhealthy"]), [Verdict::Ok, Verdict::Fail]);
    }
}
