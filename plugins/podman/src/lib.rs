//! Runs containers with Podman, over the libpod API of its service.
//!
//! | what | file |
//! |---|---|
//! | the trait, top to bottom | here |
//! | the plugin's own configuration | `config.rs` |
//! | the service: found, or started | `service.rs` |
//! | requests to it | `engine.rs` |
//! | what it says, in gx's words | `error.rs` |
//! | specs, gx's to libpod's; containers, libpod's to gx's | `spec.rs` `container.rs` |
//! | making, once per key | `create.rs` |
//! | networks of owners | `network.rs` |
//! | volumes that nobody uses | `volumes.rs` |
//! | starting, ending, removing | `lifecycle.rs` |
//! | the process beside a container | `conmon.rs` |
//! | work that outlives its caller | `tasks.rs` |
//! | what is read at the start | `feed.rs` |
//! | commands in a container, and ending them | `exec.rs` `frames.rs` `session.rs` |
//! | what it wrote, and the file that is in | `logs.rs` `logfile.rs` |
//! | the rest, by its noun | `images.rs` `build.rs` `copy.rs` `stats.rs` `events.rs` `info.rs` |

mod build;
mod config;
mod conmon;
mod container;
mod copy;
mod create;
mod engine;
mod error;
mod events;
mod exec;
mod feed;
mod frames;
mod images;
mod info;
mod lifecycle;
mod logfile;
mod logs;
mod network;
mod service;
mod session;
mod spec;
mod stats;
mod tasks;
mod volumes;

use gx_core::plugin::*;
use serde_json::json;

pub use crate::config::{Config, ServiceMode};
use crate::create::Turns;
use crate::engine::Engine;
use crate::service::Service;
use crate::tasks::Tasks;

/// The runtime: its configuration, and the way to the engine.
#[derive(Debug)]
pub struct Podman {
    config: Config,
    service: Service,
    tasks: Tasks,
    turns: Turns,
    networks: Turns,
}

#[async_trait]
impl Runtime for Podman {
    async fn capabilities(&self) -> Result<Capabilities> {
        let store = match self.engine().await {
            Ok(engine) => info::store(&engine).await,
            Err(_) => None,
        };
        Ok(info::capabilities(store.as_ref()))
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        info::info(&self.engine().await?, &self.service).await
    }

    async fn health(&self) -> Result<Health> {
        Ok(info::health(&self.service).await)
    }

    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        images::pull(&self.engine().await?, &self.config, &request, &out).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        images::images(&self.engine().await?).await
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        images::image(&self.engine().await?, image.as_str()).await
    }

    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        build::build(&self.engine().await?, &request, context, &out, &self.tasks).await
    }

    async fn remove_image(&self, image: ImageRef) -> Result<()> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { images::remove(&engine, &image).await }).await
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        let engine = self.engine().await?;
        let (maker, turns, networks) = (engine.clone(), self.turns.clone(), self.networks.clone());
        let log_max_bytes = u64::from(self.config.log_max_mb) * 1_000_000;
        let work = async move {
            let turns = create::AllTurns { keys: &turns, networks: &networks };
            create::create(&maker, &spec, log_max_bytes, turns).await
        };
        let undo = move |made| create::undo(engine, made);
        self.tasks.finish_or_undo(work, |made: &create::Made| made.id.clone(), undo).await
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { lifecycle::start(&engine, &id).await }).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        lifecycle::wait(&self.engine().await?, &id).await
    }

    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { lifecycle::stop(&engine, &id, &options).await }).await
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { lifecycle::signal(&engine, &id, &signal).await }).await
    }

    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { lifecycle::remove(&engine, &id, options).await }).await
    }

    async fn remove_network(&self, name: String) -> Result<()> {
        let (engine, networks) = (self.engine().await?, self.networks.clone());
        self.tasks.finish(async move { network::remove(&engine, &name, &networks).await }).await
    }

    async fn prune_volumes(&self, prune: VolumePrune) -> Result<Vec<VolumeName>> {
        let engine = self.engine().await?;
        self.tasks.finish(async move { volumes::prune(&engine, &prune).await }).await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        lifecycle::inspect(&self.engine().await?, &id).await?.container()
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let labels = filter.labels.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        });
        let filters = json!({"label": labels.collect::<Vec<_>>()}).to_string();
        let query = [("all", "true"), ("filters", filters.as_str())];
        let listed: Vec<container::Listed> = self
            .engine()
            .await?
            .get_json("/containers/json", &query)
            .await
            .map_err(|error| error::translated("list", &error))?;
        for listed in listed {
            let container = listed.container()?;
            if fits(&filter, &container) && out.event(&container).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        logs::logs(&self.engine().await?, &id, &options, &out).await
    }

    async fn exec(&self, id: ContainerId, spec: ExecSpec, input: Input, out: Output) -> Result<Exit> {
        exec::exec(&self.engine().await?, &id, &spec, input, &out, &self.tasks).await
    }

    async fn feed(&self, id: ContainerId, input: Input) -> Result<()> {
        let engine = self.engine().await?;
        let tasks = self.tasks.clone();
        self.tasks.finish(async move { feed::feed(&engine, &id, input, &tasks).await }).await
    }

    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        copy::copy_in(&self.engine().await?, &id, &path, archive).await
    }

    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        copy::copy_out(&self.engine().await?, &id, &path, &out).await
    }

    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        stats::stats(&self.engine().await?, &id, every_ms, &out).await
    }

    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        events::events(&self.engine().await?, since, &out).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.tasks.settled().await;
        Ok(())
    }
}

impl Podman {
    /// Makes the runtime; the engine is looked for when it is first needed.
    ///
    /// # Errors
    /// What of the configuration cannot be used.
    pub async fn connect(config: Config, context: PluginContext) -> Result<Self, Vec<ConfigIssue>> {
        let issues = config.issues(&service::own_socket(&context.state_dir));
        if !issues.is_empty() {
            return Err(issues);
        }
        let turns = Turns::new(context.state_dir.clone(), "key");
        let networks = Turns::new(context.state_dir.clone(), "network");
        let service = Service::new(config.clone(), context.state_dir);
        Ok(Self { config, service, tasks: Tasks::new(), turns, networks })
    }

    async fn engine(&self) -> Result<Engine> {
        Ok(self.service.engine().await?)
    }
}

/// Podman takes `*` in a label's filter for anything, and knows more states than gx.
fn fits(filter: &ListFilter, container: &Container) -> bool {
    let labelled = filter.labels.iter().all(|(key, value)| match (container.labels.get(key), value) {
        (Some(has), Some(wanted)) => has == wanted,
        (has, None) => has.is_some(),
        (None, Some(_)) => false,
    });
    labelled && (filter.states.is_empty() || filter.states.contains(&container.state))
}

gx_core::export_runtime!(
    Podman,
    config = Config,
    new = Podman::connect,
    manifest = include_str!("../gx-plugin.toml")
);
