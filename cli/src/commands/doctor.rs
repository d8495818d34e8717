//! `gx doctor`: checks that everything is in place, and says what to do where it is not.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Kind, Result, Status, Told};
use crate::output::{Show, View, clean};
use crate::settings::Settings;
use crate::target::{self, Target};

mod engines;
mod gpus;
mod machine;
mod strays;
mod trust;

const EXAMPLES: &str = "\
Examples:
  gx doctor
  gx doctor --json | jq '.checks[] | select(.verdict != \"ok\")'

It ends with 1 when a check has failed.";

/// What `gx doctor` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {}

pub(crate) async fn run(_: DoctorArgs, context: &Context<'_>) -> Result<Status> {
    let mut checks = Vec::new();
    match context.settings() {
        Ok(settings) => examine(&settings, context, &mut checks).await,
        Err(error) => checks.push(Check::of_error("configuration", error)),
    }
    tell(checks, context)
}

/// Prints what was found; it is a failure where a check has failed.
pub(super) fn tell(checks: Vec<Check>, context: &Context<'_>) -> Result<Status> {
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    context.out.show(&Checks { checks })?;
    Ok(if failed { Kind::Failed.status() } else { Status::DONE })
}

async fn examine(settings: &Settings, context: &Context<'_>, checks: &mut Vec<Check>) {
    checks.push(configuration(settings));
    checks.push(machine::data_folder(&settings.data));
    checks.push(trust::key(&settings.data));
    checks.push(trust::clock(&settings.data));
    checks.extend(trust::reach(&settings.config.server));
    match target::open_node(settings, &context.environment).await {
        Ok(node) => {
            let plugins = engines::plugins(node.plugins());
            let mut engines = engines::engines(&node).await;
            // Without its plugin an engine cannot be asked, and that is told already.
            engines.retain(|engine| {
                let plugin = engine.name.replace("engine ", "plugin ");
                !plugins.iter().any(|check| check.name == plugin && check.verdict == Verdict::Fail)
            });
            checks.extend(plugins);
            let podman =
                engines.iter().any(|check| check.name == "engine podman" && check.verdict == Verdict::Ok);
            checks.extend(engines);
            checks.extend(gpus::gpus(&node.specs(&gx_server::Caller::Host).await.gpus, podman));
            checks.extend(machine::ports(&settings.config.server));
            checks.extend(machine::forwarding(&settings.config.server, podman));
            checks.push(trust::firewall(&node).await);
            checks.push(strays::strays(&node).await);
            checks.extend(strays::tables().await);
            node.shutdown().await;
        }
        Err(error) => checks.push(Check::of_error("node", error)),
    }
    checks.extend(remote(settings, context).await);
}

pub(super) fn configuration(settings: &Settings) -> Check {
    match &settings.file {
        Some(file) => Check::ok("configuration", file.display().to_string()),
        None => Check::ok("configuration", "no file; the defaults hold"),
    }
}

/// Checks that the host that commands act on answers, where it is not this machine.
async fn remote(settings: &Settings, context: &Context<'_>) -> Vec<Check> {
    let target = match Target::open(settings, &context.environment, context.out).await {
        Ok(Target::Local(_)) => return Vec::new(),
        Ok(host) => host,
        Err(error) => return vec![Check::of_error("host", error)],
    };
    let on = &settings.config.client.on;
    match target.specs().await {
        Ok(specs) => {
            let told = format!("{on} answers: {}, gx {}", specs.hostname, specs.version);
            let clocks = trust::clocks(on, specs.sampled_at, std::time::SystemTime::now());
            std::iter::once(Check::ok("host", told)).chain(clocks).collect()
        }
        Err(error) => vec![Check::of_error("host", error)],
    }
}

/// What was checked, and what came out.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    name: String,
    pub(super) verdict: Verdict,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It is as it should be.
    Ok,
    /// gx works, and not everything it could.
    Warn,
    /// gx does not work.
    Fail,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { name: name.into(), verdict, message: message.into(), hints: Vec::new() }
    }

    pub(super) fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, message)
    }

    pub(super) fn of_error(name: impl Into<String>, error: CliError) -> Self {
        let Told { message, causes, hints, .. } = error.into();
        let message = [message].into_iter().chain(causes).collect::<Vec<_>>().join(": ");
        Self { hints, ..Self::new(name, Verdict::Fail, message) }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hints.extend(hint);
        self
    }
}

#[derive(Debug, Serialize)]
struct Checks {
    checks: Vec<Check>,
}

impl Show for Checks {
    fn text(&self, view: &View) -> String {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for check in &self.checks {
            let verdict = match check.verdict {
                Verdict::Ok => view.green("ok  "),
                Verdict::Warn => view.yellow("warn"),
                Verdict::Fail => view.red("fail"),
            };
            text.push_str(&format!(
                "{verdict}  {:width$}  {}\n",
                clean::line(&check.name),
                clean::line(&check.message)
            ));
            for hint in &check.hints {
                text.push_str(&format!(
                    "      {:width$}  {}: {}\n",
                    "",
                    view.cyan("hint"),
                    clean::line(hint)
                ));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_below_what_they_are_about() {
        let bad = Check::new("engine podman", Verdict::Warn, "no socket").hint(Some("start it".into()));
        let checks = Checks { checks: vec![Check::ok("data", "/d\u{1b}[2J"), bad] };
        assert_eq!(
            checks.text(&View::plain()),
            "ok    data           /d\nwarn  engine podman  no socket\n                     hint: start it\n"
        );
    }
}
