//! `/metrics`: figures in Prometheus' text format (version 0.0.4, prometheus.io/docs/instrumenting/exposition_formats).
//! Engines are asked at most every few seconds, however often this is.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

use gx_core::api::{Quota, TotalSpecs, path};
use gx_core::audit::CallerKind;
use gx_core::runtime::HealthStatus;
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE;
use warp::reply::{Reply, Response};

use super::failure::Failure;
use super::request::Request;
use super::{Gives, MAX_EXECS, MAX_TUNNELS, MAX_WATCHES, Route, State, Takes, handler};
use crate::counters::DURATIONS_MS;
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

async fn metrics(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Administer, None)?;
    let mut page = Page::default();
    page.family("gx_build_info", "gauge", "The version of gx.");
    page.sample("gx_build_info", &[("version", &state.node.version())], 1);
    containers(&mut page, &state, &request.caller).await;
    trust(&mut page, &state, &request.caller).await;
    requests(&mut page, &state);
    peers(&mut page, &state);
    chat(&mut page, &state);
    connections(&mut page, &state);
    speedtests(&mut page, &state);
    let mut response = page.0.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

async fn containers(page: &mut Page, state: &State, caller: &Caller) {
    let seen = state.node.used_now().await;
    page.family("gx_containers", "gauge", "Containers of this host.");
    for (runtime, containers) in &seen {
        let mut by_state: BTreeMap<String, u64> = BTreeMap::new();
        containers.iter().for_each(|(state, _)| *by_state.entry(state.to_string()).or_default() += 1);
        for (state, count) in &by_state {
            page.sample("gx_containers", &[("runtime", runtime), ("state", state)], count);
        }
    }
    page.family("gx_runtime_healthy", "gauge", "Whether an engine is well.");
    for runtime in state.node.remembered_statuses().await {
        let healthy = u8::from(runtime.health.status == HealthStatus::Healthy);
        page.sample("gx_runtime_healthy", &[("runtime", &runtime.name)], healthy);
    }
    let (totals, _) = state.node.totals(caller).await;
    goods(page, &totals);
}

/// Whom the host lends to, and who could still join. Where the list is damaged, it is not told.
async fn trust(page: &mut Page, state: &State, caller: &Caller) {
    if let Ok(list) = state.node.members(caller).await {
        page.family("gx_members", "gauge", "Nodes that the host lends to.");
        page.sample("gx_members", &[], list.members.len());
    }
    if let Ok(list) = state.node.invites(caller).await {
        let open = list.invites.iter().filter(|invite| invite.used < invite.uses).count();
        page.family("gx_tickets_open", "gauge", "Tickets that somebody can still join with.");
        page.sample("gx_tickets_open", &[], open);
    }
}

/// What all containers have together, and may have.
fn goods(page: &mut Page, totals: &TotalSpecs) {
    let goods: [(&str, &str, Quota, f64); 7] = [
        ("containers", "Containers", totals.containers, 1.0),
        ("cpus", "CPUs that running containers were given", totals.milli_cpus, 1_000.0),
        ("memory_bytes", "Memory that running containers were given", totals.memory_bytes, 1.0),
        ("pids", "Processes that running containers may have", totals.pids, 1.0),
        ("gpus", "GPUs that containers have", totals.gpus, 1.0),
        ("disk_bytes", "What containers may write", totals.disk_bytes, 1.0),
        ("ports", "Published ports, without those of gx itself", totals.ports, 1.0),
    ];
    for (name, about, quota, divisor) in goods {
        let used = format!("gx_lent_{name}");
        page.family(&used, "gauge", &format!("{about}."));
        page.sample(&used, &[], quota.used as f64 / divisor);
        if let Some(limit) = quota.limit {
            let bound = format!("gx_lent_{name}_limit");
            page.family(&bound, "gauge", &format!("{about}: at most."));
            page.sample(&bound, &[], limit as f64 / divisor);
        }
    }
}

fn requests(page: &mut Page, state: &State) {
    let counters = &state.counters;
    page.family("gx_requests_total", "counter", "Answers by class of status and by caller.");
    for caller in CallerKind::ALL {
        for class in 1..6 {
            let status = format!("{class}xx");
            let labels: [(&str, &(dyn Display + Sync)); 2] =
                [("status", &status), ("caller", &caller.as_str())];
            page.sample("gx_requests_total", &labels, counters.answers(caller, class));
        }
    }
    page.family("gx_refusals_total", "counter", "Requests that failed or were refused, by code.");
    for (code, count) in counters.refusals() {
        page.sample("gx_refusals_total", &[("code", &format!("{code:?}"))], count);
    }
    page.family("gx_rate_limited_total", "counter", "Requests that were too many, by caller.");
    for caller in CallerKind::ALL {
        page.sample("gx_rate_limited_total", &[("caller", &caller.as_str())], counters.limits(caller));
    }
    let name = "gx_request_duration_seconds";
    page.family(name, "histogram", "How long it took to the head of an answer.");
    let (counts, sum) = counters.durations();
    let bounds = DURATIONS_MS.iter().map(|ms| (*ms as f64 / 1e3).to_string());
    for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&counts) {
        page.sample(&format!("{name}_bucket"), &[("le", &bound)], count);
    }
    page.sample(&format!("{name}_sum"), &[], sum);
    page.sample(&format!("{name}_count"), &[], counts.last().copied().unwrap_or_default());
    page.family("gx_audit_missing_total", "counter", "Entries that the audit log does not have.");
    page.sample("gx_audit_missing_total", &[], state.audit.missing());
}

/// What the chat has done, where there is one.
fn chat(page: &mut Page, state: &State) {
    for (name, about, only_rises, value) in state.node.chat_figures() {
        page.family(name, if only_rises { "counter" } else { "gauge" }, about);
        page.sample(name, &[], value);
    }
}

/// The table of servers, and its exchange.
fn peers(page: &mut Page, state: &State) {
    let figures = state.node.peer_figures();
    page.family("gx_peers", "gauge", "Servers in the table, by how they answered.");
    for (name, count) in figures.by_freshness.iter().filter(|(name, _)| !name.is_empty()) {
        page.sample("gx_peers", &[("state", name)], count);
    }
    page.family("gx_peer_exchanges_total", "counter", "Tables that were asked for, or not had, or told.");
    for (name, count) in figures.exchanges {
        page.sample("gx_peer_exchanges_total", &[("kind", &name)], count);
    }
    page.family("gx_peer_records_total", "counter", "Records of others that were news, or refused.");
    for (name, count) in figures.records {
        page.sample("gx_peer_records_total", &[("kind", &name)], count);
    }
}

fn connections(page: &mut Page, state: &State) {
    let [open, all, turned_away] = state.counters.connections();
    page.family("gx_connections", "gauge", "Open connections.");
    page.sample("gx_connections", &[], open);
    page.family("gx_connections_total", "counter", "Connections so far.");
    page.sample("gx_connections_total", &[], all);
    page.family("gx_connections_refused_total", "counter", "Connections that came to nothing.");
    page.sample("gx_connections_refused_total", &[], turned_away);
    page.family(
        "gx_sessions",
        "gauge",
        "Commands by exec, connections through the host and watches of events that are under way.",
    );
    let execs = MAX_EXECS - state.execs.available_permits();
    let tunnels = MAX_TUNNELS - state.tunnels.available_permits();
    page.sample("gx_sessions", &[("kind", &"exec")], execs);
    page.sample("gx_sessions", &[("kind", &"tunnel")], tunnels);
    let watches = MAX_WATCHES - state.watches.available_permits();
    page.sample("gx_sessions", &[("kind", &"watch")], watches);
}

fn speedtests(page: &mut Page, state: &State) {
    let [down, up] = state.counters.measured();
    page.family(
        "gx_speedtest_bytes_total",
        "counter",
        "Bytes that speed tests moved, as their clients see it.",
    );
    page.sample("gx_speedtest_bytes_total", &[("direction", &"down")], down);
    page.sample("gx_speedtest_bytes_total", &[("direction", &"up")], up);
    page.family("gx_speedtests", "gauge", "Speed tests that move bytes now.");
    page.sample("gx_speedtests", &[], state.bulk.running());
}

/// A page of figures.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Begins a family of samples.
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        let _ = writeln!(self.0, "# HELP {name} {about}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &(dyn Display + Sync))], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_cannot_leave_it() {
        let mut page = Page::default();
        page.sample("a", &[("x", &"1\"} 2\nb\\"), ("y", &2)], 3);
        page.sample("b", &[], 0.5);
        assert_eq!(page.0, "a{x=\"1\\\"} 2\\nb\\\\\",y=\"2\"} 3\nb 0.5\n");
    }
}
