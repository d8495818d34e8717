//! What is kept of requests: the audit log, the figures, and how often somebody may ask.

use std::path::Path;
use std::sync::Arc;

use gx_core::ErrorCode;
use gx_core::api::{ApiError, CreateRequest, REQUEST_ID, STREAM_TYPE};
use gx_core::audit::{AuditEntry, AuditEvent, CallerKind};
use serde_json::json;
use tokio::sync::watch;
use warp::http::{Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::test::RequestBuilder;

use super::door::send_to;
use super::{Host, named, sleeper};
use crate::node::{Caller, Identity};
use crate::routes::{Connection, State};

const STRANGER: &str = "192.0.2.7:4242";

/// The routes of a host, with what they keep.
struct Served {
    state: Arc<State>,
    host: Host,
    _close: watch::Sender<bool>,
}

impl Served {
    async fn new() -> Self {
        Self::of(Host::new().await)
    }

    fn of(host: Host) -> Self {
        let (close, closing) = watch::channel(false);
        Self { state: State::new(host.node.clone(), closing), host, _close: close }
    }

    async fn send(&self, identity: Identity, from: &str, request: RequestBuilder) -> Response<Bytes> {
        let from = from.parse().expect("an address");
        send_to(&self.state, Connection::new(identity, Some(from)), request).await
    }

    async fn by_host(&self, request: RequestBuilder) -> Response<Bytes> {
        self.send(Identity::ThisMachine, "127.0.0.1:1", request).await
    }

    async fn by_stranger(&self, request: RequestBuilder) -> Response<Bytes> {
        self.send(Identity::Unknown, STRANGER, request).await
    }

    /// Asks for a page of figures and returns the one of this name.
    async fn figure(&self, name: &str) -> String {
        let page = self.by_host(warp::test::request().path("/metrics")).await;
        let page = String::from_utf8(page.body().to_vec()).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).trim().to_owned()
    }

    /// Ends it and returns its audit log.
    fn log(self) -> (String, Vec<AuditEntry>) {
        let Self { state, host, _close } = self;
        drop(state); // what is in the queue is written
        let path = host.node.data().join("audit.log");
        let text =
            if Path::new(&path).exists() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
        let entries = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (text, entries)
    }
}

fn get(path: &str) -> RequestBuilder {
    warp::test::request().path(path)
}

fn post(path: &str) -> RequestBuilder {
    get(path).method("POST")
}

#[tokio::test]
async fn what_changes_something_and_what_is_refused_is_logged_and_reading_is_not() {
    let served = Served::new().await;
    served.by_host(get("/server_specs")).await;
    served.by_host(get("/v1/containers")).await;
    served.by_stranger(get("/server_specs")).await;
    served.by_host(post("/v1/containers").header(REQUEST_ID, "r1").json(&named("web"))).await;
    served.by_stranger(post("/v1/containers").json(&named("mine"))).await;
    served.by_stranger(get("/v1/containers")).await;
    served.by_host(get("/v1/containers/web").method("DELETE")).await;
    served.by_host(get("/v1/containers/web?force=true").method("DELETE")).await;
    let told: Vec<_> = served
        .log()
        .1
        .iter()
        .map(|entry| {
            let container = entry.container.clone().unwrap_or_default();
            (entry.caller.as_str(), entry.verb.clone(), container, entry.status, entry.allowed, entry.code)
        })
        .collect();
    let row = |caller, verb: &str, container: &str, status, allowed, code| {
        (caller, verb.to_owned(), container.to_owned(), status, allowed, code)
    };
    let denied = Some(ErrorCode::PermissionDenied);
    let one = "DELETE /v1/containers/{id}";
    assert_eq!(
        told,
        [
            row("host", "POST /v1/containers", "web", 201, true, None),
            row("stranger", "POST /v1/containers", "", 403, false, denied),
            row("stranger", "GET /v1/containers", "", 403, false, denied),
            row("host", one, "web", 409, true, Some(ErrorCode::FailedPrecondition)),
            row("host", one, "web", 200, true, None),
        ]
    );
}

#[tokio::test]
async fn an_entry_says_who_when_and_from_where() {
    let served = Served::new().await;
    let key = gx_core::NodeId::from_bytes([5; 32]);
    let request = post("/v1/containers/web/stop").header(REQUEST_ID, "the-id");
    served.send(Identity::Key(key), STRANGER, request).await;
    let (_, entries) = served.log();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.request.as_str(), entry.node, entry.from.as_str()), ("the-id", Some(key), STRANGER));
    assert_eq!((entry.caller, entry.container.as_deref()), (CallerKind::Stranger, Some("web")));
    assert!(entry.time > gx_core::Timestamp::from_unix(1_700_000_000));
}

#[tokio::test]
async fn a_stream_is_logged_at_its_end_with_what_became_of_it() {
    let served = Served::new().await;
    let pull = |image: &str| {
        let body = json!({ "pull": { "image": image } });
        post("/v1/images/pull").header("accept", STREAM_TYPE).json(&body)
    };
    served.by_host(pull("app")).await;
    served.by_host(pull("missing")).await;
    let create = post("/v1/containers").header("accept", STREAM_TYPE).json(&sleeper());
    let made = served.by_host(create).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let (_, entries) = served.log();
    let codes: Vec<_> = entries.iter().map(|entry| entry.code).collect();
    assert_eq!(codes, [None, Some(ErrorCode::NotFound), None]);
    assert!(entries[2].container.is_some(), "the name that was chosen");
}

#[tokio::test]
async fn who_goes_away_before_the_answer_is_logged_too() {
    let served = Served::new().await;
    served.host.probe().close("create");
    let waits = served.by_host(post("/v1/containers").json(&sleeper()));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), waits).await.is_err());
    served.host.probe().open("create");
    let (_, entries) = served.log();
    assert_eq!((entries.len(), entries[0].code), (1, Some(ErrorCode::Cancelled)), "{entries:?}");
}

#[tokio::test]
async fn no_secret_and_nothing_raw_gets_into_the_log() {
    let served = Served::new().await;
    let process = gx_core::image::ImageProcess { command: vec!["sh".to_owned()], ..Default::default() };
    served.host.probe().tell(process, &[], crate::node::architecture());
    let env = [("TOKEN".to_owned(), "hunter2-in-env".to_owned())].into();
    let request =
        CreateRequest { env, command: super::argv(&["sh", "-c", "echo hunter2-in-argv"]), ..named("web") };
    let made = served
        .by_host(
            post("/v1/containers?q=hunter2-in-query").header("idempotency-key", "hunter2-key").json(&request),
        )
        .await;
    let told: gx_core::api::ContainerInfo = serde_json::from_slice(made.body()).unwrap();
    let password = told.ssh.and_then(|ssh| ssh.password).map(|password| password.reveal().to_owned());
    let auth = json!({ "pull": { "image": "private", "auth": { "username": "ann", "password": "hunter2-registry" } } });
    served.by_host(post("/v1/images/pull").json(&auth)).await;
    served.by_host(post("/v1/containers/web/passwd")).await;
    served.by_host(post("/v1/containers/%1b%5b2Jx%0aforged/stop")).await;
    let (text, entries) = served.log();
    assert!(entries.len() >= 4, "{text}");
    for secret in password.iter().map(String::as_str).chain(["hunter2"]) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_no_engine_is_asked() {
    let one = std::num::NonZeroU32::MIN;
    let host = Host::with(&["mock"], |config| {
        config.server.rates.stranger_per_second = one;
        config.server.rates.stranger_burst = 3.try_into().unwrap();
    });
    let served = Served::of(host.await);
    // Each second one more is answered, so a slow machine is refused later, and never before the fourth.
    let (mut answered, mut refusals) = (0, Vec::new());
    for (path, known) in [("/healthz", 200), ("/nothing/here", 404)].into_iter().cycle().take(1_000) {
        let answer = served.by_stranger(get(path)).await;
        match answer.status().as_u16() {
            429 => refusals.push((path, answer)),
            status => {
                assert_eq!(status, known, "{path}");
                answered += 1;
            }
        }
        assert!(answered >= 3 || refusals.is_empty(), "refused after {answered}");
        if refusals.len() == 3 {
            break;
        }
    }
    assert!(refusals.iter().any(|(path, _)| *path == "/nothing/here"), "{answered} answered");
    let (_, refused) = refusals.pop().unwrap();
    assert_eq!(&refused.headers()["retry-after"], "1");
    let told: ApiError = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(
        (told.code, told.message.as_str()),
        (ErrorCode::ResourceExhausted, "there are more requests than this host answers")
    );
    assert!(told.retry_after_ms.is_some_and(|ms| (1..=1_000).contains(&ms)), "{told:?}");
    assert!(told.hint.is_some_and(|hint| hint.ends_with("and ask less often")));
    // Others are not refused for that.
    let other = served.send(Identity::Unknown, "198.51.100.1:1", get("/healthz")).await;
    assert_eq!(
        (other.status(), served.by_host(get("/healthz")).await.status()),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(served.host.probe().calls("list"), 0);
    let text = served.by_host(get("/metrics")).await;
    let text = String::from_utf8(text.body().to_vec()).unwrap();
    assert!(text.contains("gx_rate_limited_total{caller=\"stranger\"} 3\n"), "{text}");
}

#[tokio::test]
async fn a_session_is_logged_with_its_end() {
    let served = super::whole::logged_session().await;
    let told: Vec<_> = served.iter().map(|entry| (entry.event, entry.status)).collect();
    assert_eq!(told, [(AuditEvent::Request, 101), (AuditEvent::End, 101)]);
    assert!(
        served.iter().all(|entry| entry.verb.ends_with("/exec") && entry.container.as_deref() == Some("web"))
    );
}

/// One sample of a page of figures.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads a page of figures as Prometheus does, and fails where it would.
fn parsed(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut families: Vec<(String, String)> = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap().to_owned();
            assert!(families.iter().all(|(known, _)| *known != name), "{name} twice");
            families.push((name, String::new()));
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let last = families.last_mut().unwrap();
            assert_eq!((last.0.as_str(), last.1.as_str()), (name, ""), "{line}");
            last.1 = kind.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty(), "{line}");
        let labels: Vec<(String, String)> = labels
            .split_terminator(',')
            .map(|label| {
                let (name, value) = label.split_once('=').unwrap();
                (name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
            })
            .collect();
        let (family, kind) = families.last().unwrap();
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(
            suffixes.iter().any(|suffix| format!("{family}{suffix}") == name),
            "{line} is not of {family}"
        );
        assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        let sample = (name.to_owned(), labels, value.parse().unwrap());
        assert!(
            samples.iter().all(|(name, labels, _): &Sample| (name, labels) != (&sample.0, &sample.1)),
            "{line} twice"
        );
        samples.push(sample);
    }
    samples
}

#[tokio::test]
async fn the_figures_are_what_prometheus_reads() {
    let host =
        Host::with(&["mock"], |config| config.server.totals.memory = Some(gx_core::units::Size(1 << 30)));
    let served = Served::of(host.await);
    let request = CreateRequest { memory_bytes: Some(1 << 20), ..named("web") };
    served.by_host(post("/v1/containers").json(&request)).await;
    served.by_stranger(get("/v1/containers")).await;
    for _ in 0..3 {
        let invite = gx_core::api::InviteRequest {
            addresses: vec!["127.0.0.1:7467".parse().unwrap()],
            ..Default::default()
        };
        served.host.node.invite(&Caller::Host, invite).await.unwrap();
    }
    let member = gx_core::NodeId::from_bytes([7; 32]).to_string();
    served.host.node.allow(&Caller::Host, &member, Default::default()).await.unwrap();
    let answer = served.by_host(get("/metrics")).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let samples = parsed(std::str::from_utf8(answer.body()).unwrap());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let fits = |sample: &&Sample| {
            let has =
                |(name, value): &(&str, &str)| sample.1.contains(&((*name).to_owned(), (*value).to_owned()));
            sample.0 == name && labels.iter().all(has)
        };
        samples.iter().find(fits).unwrap_or_else(|| panic!("{name} {labels:?} in {samples:?}")).2
    };
    assert_eq!(value("gx_containers", &[("runtime", "mock"), ("state", "running")]), 1.0);
    assert_eq!((value("gx_members", &[]), value("gx_tickets_open", &[])), (1.0, 3.0));
    assert_eq!(value("gx_runtime_healthy", &[("runtime", "mock")]), 1.0);
    assert_eq!(value("gx_lent_memory_bytes", &[]), f64::from(1 << 20));
    assert_eq!(value("gx_lent_memory_bytes_limit", &[]), f64::from(1 << 30));
    assert_eq!(value("gx_requests_total", &[("status", "2xx"), ("caller", "host")]), 1.0);
    assert_eq!(value("gx_requests_total", &[("status", "4xx"), ("caller", "stranger")]), 1.0);
    assert_eq!(value("gx_refusals_total", &[("code", "PermissionDenied")]), 1.0);
    assert_eq!(value("gx_request_duration_seconds_count", &[]), 2.0);
    assert_eq!(value("gx_request_duration_seconds_bucket", &[("le", "+Inf")]), 2.0);
    let buckets: Vec<f64> =
        samples.iter().filter(|sample| sample.0.ends_with("_bucket")).map(|sample| sample.2).collect();
    assert!(buckets.is_sorted(), "{buckets:?}");
    let refused = served.by_stranger(get("/metrics")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn figures_ask_the_engines_once_in_a_while() {
    let served = Served::new().await;
    served.by_host(post("/v1/containers").json(&sleeper())).await;
    served.by_host(get("/metrics")).await;
    let before = served.host.probe().calls("list");
    for _ in 0..50 {
        served.by_host(get("/metrics")).await;
        served.by_stranger(get("/server_specs")).await;
    }
    assert_eq!(served.host.probe().calls("list"), before);
}

#[tokio::test]
async fn speed_tests_do_not_fill_the_log_and_pings_are_in_no_count_of_requests() {
    let host = Host::with(&["mock"], |config| {
        config.server.rates.stranger_burst = 20.try_into().unwrap();
        config.server.measure.stranger = gx_core::units::Size(1_500_000);
    });
    let served = Served::of(host.await);
    let up = || warp::test::request().method("POST").path("/speedtest/up").body(vec![0; 100_000]);
    let down = || warp::test::request().path("/speedtest/down?bytes=1000000");
    for _ in 0..5 {
        assert_eq!(served.by_stranger(up()).await.status(), StatusCode::OK);
        assert_eq!(served.by_host(down()).await.status(), StatusCode::OK);
    }
    for _ in 0..100 {
        let ping = warp::test::request().path("/speedtest/ping?n=1");
        assert_eq!(served.by_stranger(ping).await.status(), StatusCode::OK);
    }
    assert_eq!(served.by_stranger(down()).await.status(), StatusCode::OK);
    assert_eq!(served.by_stranger(down()).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(served.figure("gx_rate_limited_total{caller=\"stranger\"}").await, "0");
    assert_eq!(served.figure("gx_speedtest_bytes_total{direction=\"up\"}").await, "500000");
    assert_eq!(served.figure("gx_speedtest_bytes_total{direction=\"down\"}").await, "6000000");
    let (_, entries) = served.log();
    assert_eq!(entries.len(), 1, "the refusal alone: {entries:?}");
    assert_eq!((entries[0].code, entries[0].allowed), (Some(ErrorCode::ResourceExhausted), false));
}

#[tokio::test]
async fn pings_have_an_end_too() {
    let served = Served::new().await;
    let ping = async || served.by_stranger(warp::test::request().path("/speedtest/ping?n=1")).await.status();
    let mut answered = 0;
    while ping().await == StatusCode::OK {
        answered += 1;
        assert!(answered < 100_000, "they are bounded");
    }
    assert!(answered >= 1_000, "{answered}");
}
