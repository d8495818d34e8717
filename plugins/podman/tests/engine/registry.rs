//! Pulls, from a small registry of the tests' own (OCI distribution specification 1.1, its reading half).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};
use gx_plugin_podman::{Config, Podman};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{connect, fails, podman, tar_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `user:secret` in base64.
const LOGIN: &str = "authorization: basic dxnlcjpzzwnyzxq=";

/// What is answered: path → content type and body.
type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

struct Registry {
    address: SocketAddr,
}

impl Registry {
    async fn start(private: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(content(&address.to_string()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, content.clone(), private));
            }
        });
        Self { address }
    }

    async fn podman(&self, folder: &std::path::Path) -> Podman {
        let config = Config { insecure_registries: vec![self.address.to_string()], ..Config::default() };
        connect(config, folder.to_path_buf()).await
    }

    fn request(&self, name: &str) -> PullRequest {
        let image = format!("{}/{name}", self.address).parse().unwrap();
        PullRequest { image, platform: None, auth: None }
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns the content of a registry; each has images of its own.
fn content(registry: &str) -> Content {
    let layer = tar_of(&[("pulled", b"yes")]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"from": registry}},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let part =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = |layer: &[u8]| {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.oci.image.config.v1+json", &config),
            "layers": [part("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        serde_json::to_vec(&manifest).unwrap()
    };
    let blob = |bytes: &[u8]| ("application/octet-stream", bytes.to_vec());
    let mut content = Content::new();
    content.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
    for name in ["good", "stuck"] {
        let layer = if name == "good" { layer.clone() } else { b"never sent".to_vec() };
        content.insert(format!("/v2/{name}/manifests/1"), (MANIFEST, manifest(&layer)));
        content.insert(format!("/v2/{name}/blobs/{}", digest(&config)), blob(&config));
        let held = if name == "good" { blob(&layer) } else { ("stuck", Vec::new()) };
        content.insert(format!("/v2/{name}/blobs/{}", digest(&layer)), held);
    }
    content
}

async fn serve(stream: TcpStream, content: Arc<Content>, private: bool) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let allowed = !private || head.to_lowercase().contains(LOGIN);
        let (status, kind, body) = match content.get(path) {
            _ if !allowed => {
                ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", "text/plain", &[][..])
            }
            Some(("stuck", _)) => return std::future::pending().await,
            Some((kind, body)) => ("200 OK", *kind, body.as_slice()),
            None => (
                "404 Not Found",
                "application/json",
                &br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#[..],
            ),
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        let body = if head.starts_with("HEAD") { &[] } else { body };
        if stream.write_all(&[answer.as_bytes(), body].concat()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_image_is_fetched_with_progress() {
    podman!();
    let (registry, folder) = (Registry::start(false).await, tempfile::tempdir().unwrap());
    let podman = registry.podman(folder.path()).await;
    let request = registry.request("good:1");
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let (pulled, said) = tokio::join!(podman.pull(request.clone(), out), async {
        let mut items = items;
        let mut said = Vec::new();
        while let Some(item) = items.next().await {
            assert_eq!(item.kind, Kind::Progress);
            said.push(serde_json::from_slice::<Progress>(&item.bytes).unwrap());
        }
        said
    });
    let pulled = pulled.unwrap();
    assert_eq!(
        (pulled.labels["from"].as_str(), pulled.platform.as_str()),
        (registry.address.to_string().as_str(), "linux/amd64")
    );
    assert_eq!(pulled.tags, [request.image.as_str()]);
    assert!(
        said.iter().any(|step| step.message.starts_with("Copying blob") && !step.id.is_empty()),
        "{said:?}"
    );
    assert_eq!(podman.image(request.image.clone()).await.unwrap(), Some(pulled));
    podman.remove_image(request.image).await.unwrap();
}

#[tokio::test]
async fn what_a_registry_refuses_is_told_apart() {
    podman!();
    let (registry, folder) = (Registry::start(true).await, tempfile::tempdir().unwrap());
    let podman = registry.podman(folder.path()).await;
    let pull = |name: &str, password: Option<&str>| {
        let auth =
            password.map(|password| RegistryAuth { username: "user".into(), password: password.into() });
        podman.pull(PullRequest { auth, ..registry.request(name) }, Output::null())
    };
    fails(pull("good:1", None).await, ErrorCode::Unauthenticated, None);
    let error = fails(pull("good:1", Some("wrong")).await, ErrorCode::Unauthenticated, None);
    assert!(!error.backend.unwrap().contains("wrong"));
    pull("good:1", Some("secret")).await.unwrap();
    fails(pull("good:2", Some("secret")).await, ErrorCode::NotFound, None);
    fails(pull("other:1", Some("secret")).await, ErrorCode::NotFound, None);
    podman.remove_image(registry.request("good:1").image).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable() {
    let podman = podman!();
    let request = |image: &str| PullRequest { image: image.parse().unwrap(), platform: None, auth: None };
    let error = fails(
        podman.pull(request("registry.invalid/x:1"), Output::null()).await,
        ErrorCode::Unavailable,
        None,
    );
    assert!(error.retryable);
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Config { default_registry: "registry.invalid".to_owned(), ..Config::default() };
    let nowhere = connect(nowhere, folder.path().to_path_buf()).await;
    let error = nowhere.pull(request("gx-no-such-image"), Output::null()).await.unwrap_err();
    assert!(
        error.backend.unwrap().contains("registry.invalid"),
        "a short name is looked for where it is configured"
    );
}

#[tokio::test]
async fn a_dropped_pull_is_broken_off() {
    podman!();
    let (registry, folder) = (Registry::start(false).await, tempfile::tempdir().unwrap());
    let podman = registry.podman(folder.path()).await;
    let request = registry.request("stuck:1");
    let pull = podman.pull(request.clone(), Output::null());
    assert!(tokio::time::timeout(Duration::from_secs(1), pull).await.is_err());
    assert_eq!(podman.image(request.image).await.unwrap(), None);
}
