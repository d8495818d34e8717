//! Where images come from: a registry that has every image, and a builder that reads a Containerfile.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gx_core::image::{Image, ImageRef};
use gx_core::runtime::{BuildRequest, ErrorCode, Progress, PullRequest, Result, RuntimeError};
use gx_core::stream::{Kind, Output};

use crate::files::Files;
use crate::logs::Logs;
use crate::programs::{self, Streams, World, Writer};
use crate::store::Store;

const LAYERS: u64 = 4;
const LAYER_BYTES: u64 = 500_000;

/// Pulls an image: there is every one, but those whose last part is `missing`, and those whose last part is
/// `private` without the right password.
pub(crate) async fn pull(
    store: &Store,
    request: PullRequest,
    token: Option<&str>,
    step: Duration,
    out: &Output,
) -> Result<Image> {
    let name = request.image.repository().rsplit('/').next().unwrap_or_default();
    if name == "missing" {
        let message = format!("the registry has no image {}", request.image);
        return Err(RuntimeError::new(ErrorCode::NotFound, message).field("image"));
    }
    let password = request.auth.as_ref().map(|auth| auth.password.as_str()).or(token);
    if name == "private" && password.is_none() {
        let message = format!("the registry wants a login for {}", request.image);
        return Err(RuntimeError::new(ErrorCode::Unauthenticated, message).field("auth"));
    }
    for layer in 1..=LAYERS {
        tokio::time::sleep(step).await;
        let progress = Progress {
            id: format!("layer {layer}"),
            message: "downloading".into(),
            current: Some(LAYER_BYTES),
            total: Some(LAYER_BYTES),
        };
        // Nobody looking is no reason to stop; a caller who wants that drops the call.
        let _ = out.progress(&progress).await;
    }
    Ok(store.add_image(&request.image, BTreeMap::new()))
}

/// Builds an image from the tar archive of its context.
pub(crate) async fn build(
    store: &Store,
    request: BuildRequest,
    context: &[u8],
    out: &Output,
) -> Result<Image> {
    let text = containerfile(&request, context)?;
    let mut labels = BTreeMap::new();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for (number, line) in lines.enumerate() {
        let progress =
            Progress { id: format!("step {}", number + 1), message: line.into(), ..Progress::default() };
        let _ = out.progress(&progress).await;
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match instruction.to_ascii_uppercase().as_str() {
            "FROM" => base(store, rest)?,
            "RUN" => run(rest).await?,
            "LABEL" => {
                if let Some((key, value)) = rest.split_once('=') {
                    labels.insert(key.to_owned(), value.trim_matches('"').to_owned());
                }
            }
            "ADD" | "ARG" | "CMD" | "COPY" | "ENTRYPOINT" | "ENV" | "EXPOSE" | "USER" | "WORKDIR" => {}
            other => return Err(failed(format!("line {line:?}: unknown instruction {other}"))),
        }
    }
    Ok(store.add_image(&request.tag, labels))
}

fn failed(message: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorCode::InvalidArgument, message)
}

fn containerfile(request: &BuildRequest, context: &[u8]) -> Result<String> {
    let damaged = |error: std::io::Error| failed(format!("the context is damaged: {error}"));
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(context).entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.to_string_lossy().trim_start_matches("./").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        found.insert(path, bytes);
    }
    let names = match &request.containerfile {
        Some(name) => vec![name.as_str()],
        None => vec!["Containerfile", "Dockerfile"],
    };
    let bytes = names.iter().find_map(|name| found.get(*name));
    let bytes =
        bytes.ok_or_else(|| failed(format!("the context has no {}", names[0])).field("containerfile"))?;
    String::from_utf8(bytes.clone()).map_err(|_| failed(format!("{} is not UTF-8", names[0])))
}

fn base(store: &Store, name: &str) -> Result<()> {
    let image: ImageRef = name.trim().parse().map_err(|error| failed(format!("FROM: {error}")))?;
    if image.as_str() == "scratch" || store.image(&image).is_some() {
        return Ok(());
    }
    Err(failed(format!("FROM: no image {image}")))
}

async fn run(command: &str) -> Result<()> {
    let logs = Arc::new(Logs::new());
    let world = World {
        env: BTreeMap::new(),
        workdir: "/".into(),
        user: "0".into(),
        files: Arc::new(Mutex::new(Files::new())),
        listeners: Arc::default(),
        traps: Arc::default(),
        terminal: None,
    };
    let argv = ["sh".to_owned(), "-c".to_owned(), command.to_owned()];
    let writer = Writer::Logs(logs.clone(), Kind::Stdout);
    let streams = Streams { stdin: &mut programs::no_input(), stdout: writer.clone(), stderr: writer };
    match programs::run(&world, &argv, streams).await {
        0 => Ok(()),
        code => {
            let pieces = crate::logs::tail(logs.from(0), 10);
            let said: String = pieces.iter().map(|piece| String::from_utf8_lossy(&piece.bytes)).collect();
            Err(failed(format!("RUN {command}: exit code {code}: {}", said.trim_end())))
        }
    }
}
