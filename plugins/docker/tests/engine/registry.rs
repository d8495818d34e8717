//! Pulling, from a registry of one image that lives as long as its test.
//!
//! It speaks as much of the distribution specification (<https://github.com/opencontainers/distribution-spec>) as
//! a pull needs. The engine takes a registry on loopback without TLS.

use std::collections::HashMap;
use std::sync::Arc;

use gx_core::runtime::{Progress, PullRequest, RegistryAuth};
use gx_core::stream::{Kind, pipe};
use gx_core::{ErrorCode, ImageRef, Runtime};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A login whose JSON has, in base64, the letters in which its two kinds differ.
const USER: &str = "gx?>~";
const PASSWORD: &str = "p>?~\u{ff}";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Registry {
    /// Path → type and bytes.
    files: HashMap<String, (&'static str, Vec<u8>)>,
    /// What `Authorization` must say.
    login: Option<String>,
}

impl Registry {
    /// Starts one on a free port and returns the name of its image.
    async fn start(login: Option<String>) -> ImageRef {
        let name = name();
        let layer = archive(&[("gxt", &vec![b'x'; 3 << 20]), ("id", name.as_str().as_bytes())]);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Labels": { "a": "b" } },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let blob = |bytes: Vec<u8>| {
            (format!("/v2/{name}/blobs/{}", digest(&bytes)), ("application/octet-stream", bytes))
        };
        let files = HashMap::from([
            ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
            (format!("/v2/{name}/manifests/1"), (MANIFEST, manifest.clone())),
            (format!("/v2/{name}/manifests/{}", digest(&manifest)), (MANIFEST, manifest)),
            blob(config),
            blob(layer),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let image = format!("{}/{name}:1", listener.local_addr().unwrap());
        let registry = Arc::new(Self { files, login });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(registry.clone().answer(stream));
            }
        });
        image.parse().unwrap()
    }

    async fn answer(self: Arc<Self>, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let (mut first, mut login) = (String::new(), None);
        stream.read_line(&mut first).await.ok()?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            let Some((key, value)) = line.trim().split_once(": ") else { break };
            if key.eq_ignore_ascii_case("authorization") {
                login = Some(value.to_owned());
            }
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (status, kind, body) = match self.files.get(path) {
            _ if self.login.is_some() && self.login != login => {
                ("401 Unauthorized", "application/json", error("UNAUTHORIZED"))
            }
            Some((kind, bytes)) => ("200 OK", *kind, bytes.clone()),
            None => ("404 Not Found", "application/json", error("MANIFEST_UNKNOWN")),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\nWWW-Authenticate: Basic realm=\"gxt\"\r\nConnection: close\r\n\r\n",
            body.len(),
            digest(&body),
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        if method != "HEAD" {
            stream.write_all(&body).await.ok()?;
        }
        stream.shutdown().await.ok()
    }
}

fn error(code: &str) -> Vec<u8> {
    json!({ "errors": [{ "code": code, "message": code.to_lowercase().replace('_', " ") }] })
        .to_string()
        .into_bytes()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn request(image: &ImageRef) -> PullRequest {
    PullRequest { image: image.clone(), platform: None, auth: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_with_progress() {
    let Some(runtime) = runtime().await else { return };
    let image = Registry::start(None).await;
    let (out, mut items) = pipe(0);
    let steps = async {
        let mut steps = Vec::<Progress>::new();
        while let Some(item) = items.next().await {
            assert_eq!(item.kind, Kind::Progress);
            steps.push(serde_json::from_slice(&item.bytes).unwrap());
        }
        steps
    };
    let (pulled, steps) = within(async { tokio::join!(runtime.pull(request(&image), out), steps) }).await;
    let pulled = pulled.unwrap();
    assert_eq!((pulled.tags, pulled.platform.as_str()), (vec![image.to_string()], "linux/amd64"));
    assert_eq!(pulled.labels["a"], "b");
    assert!(steps.iter().any(|step| !step.id.is_empty() && step.total > Some(3 << 20)), "{steps:?}");
    runtime.remove_image(image.clone()).await.unwrap();
    assert_eq!(runtime.image(image).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_said() {
    let Some(runtime) = runtime().await else { return };
    let open = Registry::start(None).await;
    let none: ImageRef = format!("{}:none", open.repository()).parse().unwrap();
    let error =
        assert_error(within(runtime.pull(request(&none), null())).await, ErrorCode::NotFound, Some("image"));
    assert!(error.message.contains("none"), "{error}");
    let other = PullRequest { platform: Some("linux/s390x".to_owned()), ..request(&open) };
    let pulled = within(runtime.pull(other, null())).await;
    runtime.remove_image(open).await.unwrap();
    assert_error(pulled, ErrorCode::NotFound, Some("platform"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_takes_the_login_as_it_is() {
    let Some(runtime) = runtime().await else { return };
    let image = Registry::start(Some("Basic Z3g/Pn46cD4/fsO/".to_owned())).await;
    let login = |password: &str| {
        let auth = RegistryAuth { username: USER.to_owned(), password: password.to_owned() };
        PullRequest { auth: Some(auth), ..request(&image) }
    };
    let without = within(runtime.pull(request(&image), null())).await;
    assert_error(without, ErrorCode::Unauthenticated, Some("auth"));
    let wrong = within(runtime.pull(login("wrong"), null())).await;
    assert_error(wrong, ErrorCode::Unauthenticated, Some("auth"));
    within(runtime.pull(login(PASSWORD), null())).await.unwrap();
    runtime.remove_image(image).await.unwrap();
}
