//! `gx plugin run`: calls one method of a plugin by hand, with its body as JSON.

use std::sync::Arc;

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::config::closest;
use gx_core::measurement::Measurement;
use gx_core::plugin::method::{
    CreateArgs, EventsArgs, ExecArgs, IdArgs, ImageArgs, LatencyArgs, ListArgs, LogsArgs, MeasurementMethod,
    NetworkArgs, PruneArgs, PullArgs, RemoveArgs, RuntimeMethod, SignalArgs, StatsArgs, StopArgs,
    ThroughputArgs,
};
use gx_core::runtime::RuntimeError;
use gx_core::stream::{Input, Items, Kind as ItemKind, Output, pipe};
use gx_core::{PluginName, Runtime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::Context;
use super::names;
use crate::error::{CliError, Result};
use crate::output::{Out, Show, View, clean};

const EXAMPLES: &str = "\
Examples:
  gx plugin run docker health
  gx plugin run docker inspect '{\"id\": \"3f2a…\"}'
  gx plugin run podman list
  gx plugin run speedtest latency '{\"target\": {\"address\": \"127.0.0.1:7467\", \"plain\": true}}'

What it streams comes first, one line of JSON each; the answer is the last line.";

/// What `gx plugin run` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The plugin's name
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
    pub name: PluginName,
    /// The method, as in the trait `Runtime` or `Measurement`
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// The method's body
    #[arg(value_name = "JSON", default_value = "{}")]
    pub body: String,
}

pub(crate) async fn run(args: RunArgs, context: &Context<'_>) -> Result {
    let body = serde_json::from_str(&args.body).map_err(|error| {
        CliError::usage(format!("the body is not JSON: {error}"))
            .hint("quote it for the shell, as in '{\"id\": \"…\"}'")
    })?;
    let plugins = context.plugins()?;
    let called = if plugins.measurement_names().contains(&args.name) {
        let method = measuring(&args.method)?;
        let measurement = plugins.measurement(&args.name).await?;
        Called::Measurement(measurement, method)
    } else {
        let method = running(&args.method)?;
        Called::Runtime(plugins.runtime(&args.name).await?, method)
    };
    context.at_end(async move { plugins.shutdown().await });
    let (output, items) = pipe(0);
    let answered = async {
        match called {
            Called::Runtime(runtime, method) => call(runtime, method, body, output).await,
            Called::Measurement(measurement, method) => measure(measurement, method, body, output).await,
        }
    };
    let (answer, shown) = tokio::join!(answered, show(items, context.out));
    let answer = answer?;
    shown?;
    context.out.item(&Line(answer))
}

/// What is called.
enum Called {
    Runtime(Arc<dyn Runtime>, RuntimeMethod),
    Measurement(Arc<dyn Measurement>, MeasurementMethod),
}

fn running(name: &str) -> Result<RuntimeMethod> {
    let found = RuntimeMethod::ALL.iter().find(|method| method.name() == name);
    found
        .copied()
        .ok_or_else(|| unknown("runtime", name, RuntimeMethod::ALL.iter().map(|method| method.name())))
}

fn measuring(name: &str) -> Result<MeasurementMethod> {
    let found = MeasurementMethod::ALL.iter().find(|method| method.name() == name);
    let all = MeasurementMethod::ALL.iter().map(|method| method.name());
    found.copied().ok_or_else(|| unknown("measurement", name, all))
}

fn unknown(kind: &str, name: &str, all: impl Iterator<Item = &'static str> + Clone) -> CliError {
    let told = CliError::usage(format!("a {kind} has no method `{}`", clean::line(name)));
    match closest(name, all.clone()) {
        Some(near) => told.hint(format!("did you mean `{near}`?")),
        None => told.hint(format!("it is one of: {}", all.collect::<Vec<_>>().join(", "))),
    }
}

async fn measure(
    measurement: Arc<dyn Measurement>,
    method: MeasurementMethod,
    body: Value,
    out: Output,
) -> Result<Value> {
    use MeasurementMethod as M;
    match method {
        M::Capabilities => answer(measurement.capabilities().await),
        M::Health => answer(measurement.health().await),
        M::Latency => answer(measurement.latency(read::<LatencyArgs>(body)?.target).await),
        M::Download => {
            let ThroughputArgs { target, budget } = read(body)?;
            answer(measurement.download(target, budget, out).await)
        }
        M::Upload => {
            let ThroughputArgs { target, budget } = read(body)?;
            answer(measurement.upload(target, budget, out).await)
        }
    }
}

async fn call(runtime: Arc<dyn Runtime>, method: RuntimeMethod, body: Value, out: Output) -> Result<Value> {
    use RuntimeMethod as M;
    match method {
        M::Capabilities => answer(runtime.capabilities().await),
        M::Info => answer(runtime.info().await),
        M::Health => answer(runtime.health().await),
        M::Pull => answer(runtime.pull(read::<PullArgs>(body)?.request, out).await),
        M::Images => answer(runtime.images().await),
        M::Image => answer(runtime.image(read::<ImageArgs>(body)?.image).await),
        M::PruneVolumes => answer(runtime.prune_volumes(read::<PruneArgs>(body)?.prune).await),
        M::RemoveNetwork => answer(runtime.remove_network(read::<NetworkArgs>(body)?.name).await),
        M::RemoveImage => answer(runtime.remove_image(read::<ImageArgs>(body)?.image).await),
        M::Create => answer(runtime.create(read::<CreateArgs>(body)?.spec).await),
        M::Start => answer(runtime.start(read::<IdArgs>(body)?.id).await),
        M::Wait => answer(runtime.wait(read::<IdArgs>(body)?.id).await),
        M::Inspect => answer(runtime.inspect(read::<IdArgs>(body)?.id).await),
        M::Stop => {
            let StopArgs { id, options } = read(body)?;
            answer(runtime.stop(id, options).await)
        }
        M::Signal => {
            let SignalArgs { id, signal } = read(body)?;
            answer(runtime.signal(id, signal).await)
        }
        M::Remove => {
            let RemoveArgs { id, options } = read(body)?;
            answer(runtime.remove(id, options).await)
        }
        M::List => answer(runtime.list(read::<ListArgs>(body)?.filter, out).await),
        M::Logs => {
            let LogsArgs { id, options } = read(body)?;
            answer(runtime.logs(id, options, out).await)
        }
        M::Exec => {
            let ExecArgs { id, spec } = read(body)?;
            answer(runtime.exec(id, spec, Input::empty(), out).await)
        }
        M::Stats => {
            let StatsArgs { id, every_ms } = read(body)?;
            answer(runtime.stats(id, every_ms, out).await)
        }
        M::Events => answer(runtime.events(read::<EventsArgs>(body)?.since, out).await),
        M::Feed => Err(CliError::usage("`feed` takes what a program reads, which is no JSON")
            .hint("`gx create` feeds the guest")),
        M::Build | M::CopyIn | M::CopyOut => {
            Err(CliError::usage(format!("`{}` moves an archive, which is no JSON", method.name()))
                .hint("`gx build` and `gx cp` do it"))
        }
    }
}

fn read<T: DeserializeOwned>(body: Value) -> Result<T> {
    serde_json::from_value(body).map_err(|error| CliError::usage(format!("the body does not fit: {error}")))
}

fn answer<T: Serialize>(result: Result<T, RuntimeError>) -> Result<Value> {
    let value = result?;
    Ok(serde_json::to_value(value).expect("our own types always become JSON"))
}

async fn show(mut items: Items, out: &Out) -> Result {
    while let Some(item) = items.next().await {
        let line = match item.kind {
            ItemKind::Stdout => json!({ "stdout": String::from_utf8_lossy(&item.bytes) }),
            ItemKind::Stderr => json!({ "stderr": String::from_utf8_lossy(&item.bytes) }),
            ItemKind::Event => json!({ "event": serde_json::from_slice::<Value>(&item.bytes).ok() }),
            ItemKind::Progress => json!({ "progress": serde_json::from_slice::<Value>(&item.bytes).ok() }),
        };
        out.item(&Line(line))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Line(Value);

impl Show for Line {
    // JSON for people too: a control character is escaped in it.
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_or_near_to_one() {
        assert_eq!(running("inspect").unwrap(), RuntimeMethod::Inspect);
        assert_eq!(running("inspct").unwrap_err().hints, ["did you mean `inspect`?"]);
        assert!(running("quux").unwrap_err().hints[0].contains("capabilities"));
        assert_eq!(measuring("download").unwrap(), MeasurementMethod::Download);
        assert_eq!(measuring("latencies").unwrap_err().hints, ["did you mean `latency`?"]);
    }
}
