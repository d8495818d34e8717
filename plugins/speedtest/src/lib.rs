//! Measures peers over HTTP: the trait, top to bottom. The work is in one file per idea; what a figure means is in
//! `docs/speedtest.md`.

mod config;
mod estimate;
mod fault;
mod http;
mod latency;
mod meter;
mod payload;
mod receipt;
mod stream;
mod tcp;
mod throughput;
mod wire;

#[cfg(test)]
mod tests;

use gx_core::api::speedtest::{MAX_STREAMS, PROTOCOL};
use gx_core::plugin::*;

pub use config::Config;
use throughput::{Direction, Plan};

/// A measurement of peers that speak `gx-speedtest/1`.
#[derive(Debug)]
pub struct Speedtest {
    config: Config,
}

impl Speedtest {
    /// Makes one; nothing is connected to before it is asked to measure.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub async fn new(config: Config, _: PluginContext) -> std::result::Result<Self, Vec<ConfigIssue>> {
        match config.issues() {
            issues if issues.is_empty() => Ok(Self { config }),
            issues => Err(issues),
        }
    }

    async fn throughput(
        &self,
        direction: Direction,
        target: Target,
        budget: Budget,
        out: Output,
    ) -> Result<Throughput> {
        let streams = match usize::from(budget.streams) {
            0 => self.config.streams,
            streams => streams.min(MAX_STREAMS) as u16,
        };
        let patience = self.config.connect_timeout.0;
        throughput::measure(Plan { direction, target, budget, streams, patience }, &out).await
    }
}

gx_core::export_measurement!(
    Speedtest,
    config = Config,
    new = Speedtest::new,
    manifest = include_str!("../gx-plugin.toml"),
);

#[async_trait]
impl Measurement for Speedtest {
    async fn capabilities(&self) -> Result<MeasurementCapabilities> {
        let quantities = ["latency", "download", "upload", "loaded_latency", "loss"];
        Ok(MeasurementCapabilities {
            protocols: [PROTOCOL.to_owned()].into(),
            quantities: quantities.map(str::to_owned).into(),
        })
    }

    async fn health(&self) -> Result<Health> {
        Ok(Health { status: HealthStatus::Healthy, why: String::new(), hint: None })
    }

    async fn latency(&self, target: Target) -> Result<Latency> {
        Ok(latency::idle(&target, self.config.connect_timeout.0).await?)
    }

    async fn download(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        self.throughput(Direction::Down, target, budget, out).await
    }

    async fn upload(&self, target: Target, budget: Budget, out: Output) -> Result<Throughput> {
        self.throughput(Direction::Up, target, budget, out).await
    }
}
