//! The routes without sockets: what is refused before the node is asked, how answers look to any HTTP client, and the
//! document that describes them.

use gx_core::ErrorCode;
use gx_core::api::{ApiError, ContainerInfo, End, IDEMPOTENCY_KEY, REQUEST_ID, STREAM_TYPE};
use serde_json::{Value, json};
use warp::http::{Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::test::RequestBuilder;

use super::door::{self, begun};
use super::{Host, sleeper};
use crate::node::Identity;

async fn send(host: &Host, request: RequestBuilder) -> Response<Bytes> {
    door::send(host, Identity::ThisMachine, request).await
}

async fn refused(host: &Host, request: RequestBuilder) -> (StatusCode, ApiError) {
    let answer = send(host, request).await;
    let error: ApiError = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(answer.headers()[REQUEST_ID].to_str().ok(), error.request_id.as_deref());
    (answer.status(), error)
}

fn get(path: &str) -> RequestBuilder {
    warp::test::request().path(path)
}

fn post(path: &str) -> RequestBuilder {
    get(path).method("POST")
}

async fn create(host: &Host) -> ContainerInfo {
    let answer = send(host, post("/v1/containers").json(&sleeper())).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    serde_json::from_slice(answer.body()).unwrap()
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_our_own_shape() {
    let host = Host::new().await;
    let (status, error) = refused(&host, get("/v2/x")).await;
    assert_eq!((status, error.code), (StatusCode::NOT_FOUND, ErrorCode::NotFound));
    let (status, error) = refused(&host, get("/v1/containers/none")).await;
    assert_eq!((status, error.message.as_str()), (StatusCode::NOT_FOUND, "no container none"));
    let answer = send(&host, get("/v1/containers").method("PATCH")).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST, GET");
}

#[tokio::test]
async fn who_sends_a_body_and_gets_an_error_is_told_that_the_connection_ends() {
    let host = Host::new().await;
    let ends = async |request| send(&host, request).await.headers().get("connection").cloned();
    assert_eq!(ends(post("/v1/containers").json(&json!({}))).await.unwrap(), "close");
    assert_eq!(ends(post("/v1/nowhere").header("transfer-encoding", "chunked")).await.unwrap(), "close");
    assert_eq!(ends(get("/v1/containers/none")).await, None);
    assert_eq!(ends(post("/v1/containers").json(&sleeper())).await, None);
}

#[tokio::test]
async fn bad_bodies_are_refused_with_what_is_wrong() {
    let host = Host::new().await;
    let containers = || post("/v1/containers");
    let (status, _) = refused(&host, containers().body(vec![b' '; 300 * 1024])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, error) = refused(&host, containers().header("content-type", "text/plain").body("{}")).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(error.message, "the body's type is not application/json");
    for (body, field) in [
        (json!({ "image": "A B" }), "image"),
        (json!({ "image": "x", "ports": [{ "container_port": 70_000 }] }), "ports[0].container_port"),
        (json!({ "image": "x", "labels": { "gx.owner": "me" } }), "labels"),
        (json!({}), "."),
    ] {
        let (status, error) = refused(&host, containers().json(&body)).await;
        assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some(field)), "{body}");
    }
    let (status, error) = refused(&host, containers().header(IDEMPOTENCY_KEY, "a b").json(&sleeper())).await;
    assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some(IDEMPOTENCY_KEY)));
    let (status, error) = refused(&host, get("/v1/containers/x/logs?tail=many")).await;
    assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some("tail")));
}

#[tokio::test]
async fn pages_in_browsers_are_refused() {
    let host = Host::new().await;
    let ok = get("/healthz").header("host", "localhost:7467");
    assert_eq!(send(&host, ok).await.status(), StatusCode::OK);
    let (status, _) = refused(&host, get("/healthz").header("origin", "http://localhost:7467")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = refused(&host, get("/healthz").header("sec-fetch-site", "cross-site")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, error) = refused(&host, get("/healthz").header("host", "evil.example:7467")).await;
    assert_eq!(
        (status, error.message.as_str()),
        (StatusCode::MISDIRECTED_REQUEST, "this host is not evil.example")
    );
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let host = Host::new().await;
    let answer = send(&host, get("/healthz").header(REQUEST_ID, "my-1")).await;
    assert_eq!(answer.headers()[REQUEST_ID], "my-1");
    let answer = send(&host, get("/healthz").header(REQUEST_ID, "a b")).await;
    assert_eq!(answer.headers()[REQUEST_ID].len(), 16);
}

#[tokio::test]
async fn a_container_lives_by_plain_json() {
    let host = Host::new().await;
    let made = create(&host).await;
    let again = || post("/v1/containers").header(IDEMPOTENCY_KEY, "k").json(&sleeper());
    let (first, second) = (send(&host, again()).await, send(&host, again()).await);
    assert_eq!(first.body(), second.body());
    let stopped = send(
        &host,
        post(&format!("/v1/containers/{}/stop", made.name)).json(&json!({ "signal": "SIGKILL" })),
    )
    .await;
    let stopped: Value = serde_json::from_slice(stopped.body()).unwrap();
    assert_eq!(stopped["state"], "exited");
    let waited = send(&host, post(&format!("/v1/containers/{}/wait", made.name))).await;
    assert_eq!(serde_json::from_slice::<Value>(waited.body()).unwrap()["code"], 137);
    let removed = send(&host, get(&format!("/v1/containers/{}", made.name)).method("DELETE")).await;
    assert_eq!(serde_json::from_slice::<Value>(removed.body()).unwrap(), json!(made.id));
    assert_eq!(host.count().await, 1);
}

#[tokio::test]
async fn a_running_container_is_removed_only_by_force() {
    let host = Host::new().await;
    let made = create(&host).await;
    let path = format!("/v1/containers/{}", made.id);
    let (status, error) = refused(&host, get(&path).method("DELETE")).await;
    assert_eq!((status, error.code), (StatusCode::CONFLICT, ErrorCode::FailedPrecondition));
    let forced = send(&host, get(&format!("{path}?force=true")).method("DELETE")).await;
    assert_eq!(forced.status(), StatusCode::OK);
}

#[tokio::test]
async fn streams_are_text_or_lines_or_frames() {
    let host = Host::new().await;
    let mut request = sleeper();
    request.command = super::argv(&["sh", "-c", "echo out; sleep 1000"]);
    let made = host.create(request).await.unwrap();
    let logs = format!("/v1/containers/{}/logs", made.name);
    super::until("the line is written", async || send(&host, get(&logs)).await.body() == "out\n").await;
    assert_eq!(send(&host, get(&logs)).await.headers()["content-type"], "text/plain; charset=utf-8");
    let framed = send(&host, get(&logs).header("accept", STREAM_TYPE)).await;
    assert_eq!(framed.headers()["content-type"], STREAM_TYPE);
    assert_eq!(&framed.body()[..12], b"\x01\0\0\0\0\0\0\x04out\n");
    let stats = send(&host, get(&format!("/v1/containers/{}/stats", made.name))).await;
    assert_eq!(serde_json::from_slice::<Value>(stats.body()).unwrap()["pids"], 1);
    let pulled = send(&host, post("/v1/images/pull").json(&json!({ "pull": { "image": "app" } }))).await;
    let lines: Vec<Value> =
        pulled.body().split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines[0]["message"], "downloading");
    assert!(matches!(serde_json::from_value(lines.last().unwrap().clone()).unwrap(), End::Ok(_)));
    let (status, _) =
        refused(&host, post("/v1/images/pull").json(&json!({ "pull": { "image": "missing" } }))).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "an error that comes first has its status");
}

#[tokio::test]
async fn the_document_and_the_routes_are_the_same() {
    let host = Host::new().await;
    let document = send(&host, get("/openapi.json")).await;
    let document: Value = serde_json::from_slice(document.body()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for path in paths.keys() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            let described = paths[path].get(method.to_lowercase()).is_some();
            let asked = path.replace("{id}", "none");
            // Some answers have no end of their own.
            let status = begun(&host, Identity::ThisMachine, get(&asked).method(method)).await;
            let routed = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(routed, described, "{method} {path}: {status}");
        }
    }
    // Every path that clients know is described.
    use gx_core::api::path as p;
    for path in [
        p::HEALTHZ,
        p::METRICS,
        p::SERVER_SPECS,
        p::OPENAPI,
        p::RUNTIMES,
        p::IMAGES,
        p::IMAGES_PULL,
        p::IMAGES_BUILD,
        p::CONTAINERS,
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_references_resolve(&document, &document);
    let names: Vec<_> = paths["/v1/containers/{id}/logs"]["get"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"follow") && names.contains(&"tail"), "{names:?}");
}

fn assert_references_resolve(value: &Value, document: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields.values().for_each(|field| assert_references_resolve(field, document));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references_resolve(item, document)),
        _ => {}
    }
}

#[tokio::test]
async fn figures_specs_and_runtimes_are_told() {
    let host = Host::new().await;
    create(&host).await;
    let metrics = send(&host, get("/metrics")).await;
    let text = std::str::from_utf8(metrics.body()).unwrap();
    assert!(text.contains("gx_containers{runtime=\"mock\",state=\"running\"} 1"), "{text}");
    let specs = send(&host, get("/server_specs")).await;
    let specs: Value = serde_json::from_slice(specs.body()).unwrap();
    assert_eq!(specs["node_id"], host.node.id().to_string());
    assert_eq!(specs["runtimes"][0]["default"], true);
    let images = send(&host, get("/v1/images?runtime=mock")).await;
    let images: Value = serde_json::from_slice(images.body()).unwrap();
    assert_eq!(images["images"][0]["image"]["tags"][0], "gx-busybox:latest");
}
