//! `/metrics`: a few figures in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gx_core::api::path;
use gx_core::runtime::HealthStatus;
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE;
use warp::reply::{Reply, Response};

use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, State, Takes, handler};
use crate::node::{Caller, Verb, authorize};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::METRICS,
    about: "Figures for Prometheus.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::Text,
    handler: handler!(metrics),
}];

/// Answers so far, by the first digit of the status.
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; 6]);

impl Counters {
    pub(super) fn count(&self, status: u16) {
        if let Some(counter) = self.0.get(usize::from(status / 100)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn metrics(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Administer, None)?;
    let containers = state.node.list(&Caller::Host).await?;
    let runtimes = state.node.runtimes(&Caller::Host).await?;
    let mut by_state: BTreeMap<(String, String), usize> = BTreeMap::new();
    for container in containers.containers {
        *by_state.entry((container.runtime.to_string(), container.state.to_string())).or_default() += 1;
    }
    let mut text =
        String::from("# HELP gx_containers Containers of this host.\n# TYPE gx_containers gauge\n");
    for ((runtime, state), count) in by_state {
        let _ = writeln!(text, "gx_containers{{runtime=\"{runtime}\",state=\"{state}\"}} {count}");
    }
    text.push_str("# HELP gx_runtime_healthy Whether an engine is well.\n# TYPE gx_runtime_healthy gauge\n");
    for runtime in runtimes {
        let healthy = u8::from(runtime.health.status == HealthStatus::Healthy);
        let _ = writeln!(text, "gx_runtime_healthy{{runtime=\"{}\"}} {healthy}", runtime.name);
    }
    text.push_str("# HELP gx_requests_total Answers by class of status.\n# TYPE gx_requests_total counter\n");
    for (class, counter) in state.counters.0.iter().enumerate().skip(1) {
        let _ =
            writeln!(text, "gx_requests_total{{status=\"{class}xx\"}} {}", counter.load(Ordering::Relaxed));
    }
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
