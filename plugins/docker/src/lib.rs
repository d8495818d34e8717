//! Runs containers with Docker: the trait, top to bottom. The work is in one file per idea.

mod archive;
mod build;
mod config;
mod context;
mod create;
mod engine;
mod error;
mod events;
mod exec;
mod feed;
mod frames;
mod images;
mod kill;
mod lifecycle;
mod logs;
mod network;
mod oom;
mod spec;
mod stats;
mod system;
mod turns;
mod volumes;
mod wire;

use std::sync::Arc;

use bollard::query_parameters::ListContainersOptionsBuilder;
use gx_core::plugin::*;

pub use config::Config;
use engine::Engine;

/// A runtime on a Docker engine.
pub struct DockerRuntime {
    engine: Arc<Engine>,
}

impl DockerRuntime {
    /// Makes a runtime; the engine is looked for when it is first needed.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub async fn connect(
        config: Config,
        context: PluginContext,
    ) -> std::result::Result<Self, Vec<ConfigIssue>> {
        Ok(Self { engine: Arc::new(Engine::new(config, context.state_dir)?) })
    }
}

gx_core::export_runtime!(
    DockerRuntime,
    config = Config,
    new = DockerRuntime::connect,
    manifest = include_str!("../gx-plugin.toml"),
);

#[async_trait]
impl Runtime for DockerRuntime {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(system::capabilities(&self.engine).await)
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        system::info(&self.engine).await
    }

    async fn health(&self) -> Result<Health> {
        Ok(system::health(&self.engine).await)
    }

    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        images::pull(&self.engine, request, out).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        images::images(&self.engine).await
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        images::image(&self.engine, &image).await
    }

    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        build::build(&self.engine, request, context, out).await
    }

    async fn remove_image(&self, image: ImageRef) -> Result<()> {
        images::remove(&self.engine, &image).await
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        create::create(&self.engine, spec).await
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        lifecycle::start(&self.engine, id).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        lifecycle::wait(&self.engine, id).await
    }

    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        lifecycle::stop(&self.engine, id, options).await
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        lifecycle::signal(&self.engine, id, &signal).await
    }

    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        lifecycle::remove(&self.engine, id, options).await
    }

    async fn remove_network(&self, name: String) -> Result<()> {
        network::remove(&self.engine, name).await
    }

    async fn prune_volumes(&self, prune: VolumePrune) -> Result<Vec<VolumeName>> {
        volumes::prune(&self.engine, &prune).await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        spec::inspected(oom::inspect(&self.engine, &id).await?)
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let filters = spec::list_filters(&filter);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.engine.docker.list_containers(Some(options)).await;
        for summary in listed.map_err(|error| self.engine.error(error))? {
            if out.event(&spec::listed(summary)?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        logs::logs(&self.engine, id, options, out).await
    }

    async fn exec(&self, id: ContainerId, spec: ExecSpec, input: Input, out: Output) -> Result<Exit> {
        exec::exec(&self.engine, id, spec, input, out).await
    }

    async fn feed(&self, id: ContainerId, input: Input) -> Result<()> {
        feed::feed(&self.engine, id, input).await
    }

    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        archive::copy_in(&self.engine, id, path, archive).await
    }

    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        archive::copy_out(&self.engine, id, path, out).await
    }

    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        stats::stats(&self.engine, id, every_ms, out).await
    }

    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        events::events(&self.engine, since, out).await
    }

    async fn shutdown(&self) -> Result<()> {
        engine::settled().await;
        Ok(())
    }
}
