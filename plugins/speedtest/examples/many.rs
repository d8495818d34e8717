//! Takes the latency of many peers at once, as an update of the table of servers does: each argument is one of them, as the
//! JSON of a target. Prints how long all took together and the median of each. `cargo xtask bench speed` runs it.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Instant;

use futures_util::future::join_all;
use gx_core::measurement::{Measurement, Target};
use gx_core::plugin::PluginContext;
use gx_plugin_speedtest::{Config, Speedtest};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let targets = std::env::args().skip(1).map(|text| serde_json::from_str(&text));
    let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
    let context = PluginContext {
        name: "speedtest".parse()?,
        state_dir: "/nonexistent".into(),
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let speedtest =
        Speedtest::new(Config::default(), context).await.map_err(|issues| format!("{issues:?}"))?;
    let began = Instant::now();
    let all = join_all(targets.into_iter().map(|target| speedtest.latency(target))).await;
    let seconds = began.elapsed().as_secs_f64();
    let (found, failed): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    let medians: Vec<f64> = found.into_iter().flatten().map(|latency| latency.median_ms.0).collect();
    let failed: Vec<String> =
        failed.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    println!("{}", json!({ "seconds": seconds, "median_ms": medians, "failed": failed }));
    Ok(())
}
