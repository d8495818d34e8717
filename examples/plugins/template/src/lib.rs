//! A runtime over the command-line program of a container engine: `docker`, or one with the same commands.
//!
//! It has the dozen methods a runtime must have, and a few features more. What each method promises is written at
//! [`Runtime`]; one that is left out answers `Unsupported`, as long as [`capabilities`](Runtime::capabilities) does
//! not list its feature. `gx plugin test` checks every promise.
//!
//! To make it yours: replace the bodies below by calls to your engine. What to keep in mind:
//! - **State lives in the engine.** A plugin may be restarted at any time, and must find its containers again by
//!   their labels.
//! - **A call may be dropped at any `.await`.** Leave nothing half-made. Here the command that runs is killed.
//! - **An [`Output`] has a window.** Writing to it waits for a slow reader; when it fails the reader is gone, and the
//!   method returns `Ok`.

mod arguments;
mod describe;
mod engine;
mod inspect;

use std::time::Duration;

use gx_core::plugin::*;
use serde::Deserialize;

use crate::engine::Engine;
use crate::inspect::Questions;

/// `[plugins.template.config]`; the keys and their defaults are in `gx-plugin.toml`.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// The engine's program.
    pub program: String,
    /// How many of its commands may run at a time.
    pub at_a_time: usize,
}

/// The runtime.
#[derive(Debug)]
pub struct TemplateRuntime {
    engine: Engine,
    questions: Questions,
}

impl TemplateRuntime {
    /// Makes the runtime. The engine is not asked anything yet: one that is down is told by the methods.
    ///
    /// # Errors
    /// What the manifest's schema cannot say.
    pub async fn connect(config: Config, _: PluginContext) -> Result<Self, Vec<ConfigIssue>> {
        if config.program.contains('/') && !config.program.starts_with('/') {
            return Err(vec![ConfigIssue::new("program", "must be a name on the PATH or begin with /")]);
        }
        let engine = Engine::new(config.program, config.at_a_time);
        Ok(Self { engine, questions: Questions::default() })
    }
}

gx_core::export_runtime!(
    TemplateRuntime,
    config = Config,
    new = TemplateRuntime::connect,
    manifest = include_str!("../gx-plugin.toml")
);

#[async_trait]
impl Runtime for TemplateRuntime {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok([Feature::Signal, Feature::Limits, Feature::Processes].into_iter().collect())
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        let version = self.engine.run(["version", "--format", "{{json .}}"]).await?;
        Ok(describe::info(&version, self.engine.program()))
    }

    async fn health(&self) -> Result<Health> {
        Ok(match self.info().await {
            Ok(_) => Health { status: HealthStatus::Healthy, why: String::new(), hint: None },
            Err(error) => Health { status: HealthStatus::Undetected, why: error.message, hint: error.hint },
        })
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        match self.engine.run(["image", "inspect", image.as_str()]).await {
            Ok(said) => describe::image(&said).map(Some),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        if spec.gpus != Gpus::None {
            return Err(RuntimeError::unsupported("GPUs"));
        }
        if !spec.ports.is_empty() {
            return Err(RuntimeError::unsupported("published ports"));
        }
        if let Some(id) = self.made_before(&spec).await? {
            return Ok(id);
        }
        if self.image(spec.image.clone()).await?.is_none() {
            let message = format!("no image {}", spec.image);
            return Err(RuntimeError::new(ErrorCode::NotFound, message).field("image"));
        }
        match self.engine.run(arguments::create(&spec)).await {
            Ok(said) => describe::id(&said),
            // A request with the same key, and so the same name, may have been faster.
            Err(error) if error.code == ErrorCode::AlreadyExists => {
                self.made_before(&spec).await?.ok_or_else(|| error.field("name"))
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        let started = self.engine.run(["start", id.as_str()]).await;
        started.map(drop).map_err(engine::start_error)
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        if self.inspect(id.clone()).await?.state == ContainerState::Created {
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, format!("{id} was never started")));
        }
        self.engine.wait(["wait", id.as_str()]).await?;
        // One that is being removed has no exit any more.
        let ended = self.inspect(id.clone()).await?;
        ended.exit.ok_or_else(|| RuntimeError::no_container(&id))
    }

    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        let Some(said) = missing_ok(self.questions.ask(&self.engine, &id).await)? else { return Ok(()) };
        if describe::container(&said)?.state != ContainerState::Running {
            return Ok(());
        }
        let (own_signal, own_grace) = describe::stopping(&said);
        let grace = options.grace_ms.map_or(own_grace, |grace| Duration::from_millis(grace.into()));
        self.engine.kill(&id, &options.signal.unwrap_or(own_signal)).await?;
        if tokio::time::timeout(grace, self.engine.wait(["wait", id.as_str()])).await.is_ok() {
            return Ok(());
        }
        self.engine.kill(&id, "KILL").await?;
        missing_ok(self.engine.wait(["wait", id.as_str()]).await).map(drop)
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        if !signal.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            // The program would take "" for SIGKILL, and "-1" for an option or for none.
            let message = format!("no signal {signal:?}");
            return Err(RuntimeError::new(ErrorCode::InvalidArgument, message).field("signal"));
        }
        self.engine.run(["kill", "--signal", &signal, id.as_str()]).await.map(drop)
    }

    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        match self.engine.run(["rm", "--volumes", id.as_str()]).await {
            Err(error) if error.code == ErrorCode::FailedPrecondition && options.force => {
                // Some programs would leave it the time of a stop.
                self.engine.kill(&id, "KILL").await?;
                missing_ok(self.engine.run(["rm", "--volumes", "--force", id.as_str()]).await).map(drop)
            }
            other => missing_ok(other).map(drop),
        }
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        describe::container(&self.questions.ask(&self.engine, &id).await?)
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let containers = tokio::select! {
            listed = self.listed(&filter) => listed?,
            () = out.gone() => return Ok(()),
        };
        for container in containers {
            if out.event(&container).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        // Asked first: what the engine says of a missing one would look like the container's own output.
        self.inspect(id.clone()).await?;
        self.engine.stream(arguments::logs(&id, &options), &out).await
    }
}

impl TemplateRuntime {
    /// Returns the container of the same key, if there is one.
    async fn made_before(&self, spec: &ContainerSpec) -> Result<Option<ContainerId>> {
        let Some(key) = spec.key() else { return Ok(None) };
        let labels = [(label::KEY.to_owned(), Some(key.to_owned()))].into();
        let Some(made) = self.listed(&ListFilter { labels, ..ListFilter::default() }).await?.pop() else {
            return Ok(None);
        };
        if made.labels.get(label::SPEC) == spec.labels.get(label::SPEC) {
            return Ok(Some(made.id));
        }
        let message = format!("the key {key} belongs to another request");
        Err(RuntimeError::new(ErrorCode::AlreadyExists, message).field("key"))
    }

    async fn listed(&self, filter: &ListFilter) -> Result<Vec<Container>> {
        let ids = self.engine.run(arguments::list(filter)).await?;
        let ids = describe::lines(&ids);
        let mut containers = Vec::new();
        for ids in ids.chunks(100) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let said = self.engine.inspect_those_left(self.engine.slot().await, &ids).await?;
            containers.extend(said.iter().map(describe::container).collect::<Result<Vec<_>>>()?);
        }
        containers.retain(|container| fits(container, filter));
        Ok(containers)
    }
}

fn fits(container: &Container, filter: &ListFilter) -> bool {
    let labelled = filter.labels.iter().all(|(key, wanted)| match (container.labels.get(key), wanted) {
        (Some(found), Some(wanted)) => found == wanted,
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    });
    labelled && (filter.states.is_empty() || filter.states.contains(&container.state))
}

/// Makes of "there is no such container" what a method that does not mind makes of it.
fn missing_ok<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        other => other.map(Some),
    }
}
