//! Finds, fetches and removes images.
//!
//! Podman writes every name in full: `foo:1` becomes `localhost/foo:1`. It finds such an image by its short name too,
//! so names are shown as they were given, without `localhost/`.

use std::collections::BTreeMap;

use containers_api::conn::AUTH_HEADER;
use futures_util::{StreamExt, TryStreamExt, stream};
use gx_core::plugin::*;
use podman_api::opts;
use serde::Deserialize;

use crate::config::Config;
use crate::engine::{Engine, EngineError, again};
use crate::{container, error};

/// What Podman puts before names without a registry.
const LOCAL: &str = "localhost/";
/// How many images are looked at at once, where a list does not say what they are for.
const LOOKS: usize = 8;

/// Returns the image of a name.
pub(crate) async fn image(engine: &Engine, name: &str) -> Result<Option<Image>> {
    let path = format!("/images/{name}/json");
    match engine.get_json::<Inspected>(&path, &[]).await {
        Ok(inspected) => Ok(Some(inspected.image())),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error::translated("look for the image", &error)),
    }
}

fn is_unknown(error: &EngineError) -> bool {
    error::said(error).is_some_and(|(status, text)| status == 404 || text.contains("image not known"))
}

/// Returns all images with a name.
pub(crate) async fn images(engine: &Engine) -> Result<Vec<Image>> {
    let listing = again(error::is_image_going, || engine.get_json("/images/json", &[]));
    let listed: Vec<Listed> = listing.await.map_err(|error| error::translated("list of images", &error))?;
    let named = listed.into_iter().filter(|image| !image.names().is_empty());
    stream::iter(named).map(|listed| looked_at(engine, listed)).buffered(LOOKS).try_concat().await
}

/// Podman 4 does not say in a list what an image is for. One that is removed meanwhile is left out.
async fn looked_at(engine: &Engine, listed: Listed) -> Result<Vec<Image>> {
    match (&listed.os, &listed.arch) {
        (Some(os), Some(arch)) => {
            let platform = format!("{os}/{arch}");
            Ok(vec![listed.image(platform)])
        }
        _ => image(engine, &listed.id).await.map(|image| image.into_iter().collect()),
    }
}

/// Removes a name, and the image with its last.
pub(crate) async fn remove(engine: &Engine, image: &ImageRef) -> Result<()> {
    let images = engine.podman().images();
    let removed = again(error::is_image_going, || async {
        match images.get(image.as_str()).delete().await {
            // It may also be another that is not there any more, and this one still is.
            Err(error)
                if is_unknown(&error) && matches!(self::image(engine, image.as_str()).await, Ok(None)) =>
            {
                Ok(())
            }
            removed => removed,
        }
    });
    match removed.await {
        Ok(()) => Ok(()),
        Err(error) => match error::said(&error) {
            Some((409, text)) => {
                Err(RuntimeError::new(ErrorCode::FailedPrecondition, format!("a container uses {image}"))
                    .backend(text))
            }
            _ => Err(error::translated("remove of the image", &error)),
        },
    }
}

/// Fetches an image.
pub(crate) async fn pull(
    engine: &Engine,
    config: &Config,
    request: &PullRequest,
    out: &Output,
) -> Result<Image> {
    let asked = request.image.tagged();
    let (name, id) = match pulled(engine, config, request, &asked, out).await {
        Ok(id) => (asked, id),
        Err(text) if text.contains("did not resolve to an alias") && !config.default_registry.is_empty() => {
            let full = at_registry(&config.default_registry, &asked);
            let id = pulled(engine, config, request, &full, out).await;
            (full, id.map_err(|text| error::of_pull(request.image.as_str(), &text))?)
        }
        Err(text) => return Err(error::of_pull(request.image.as_str(), &text)),
    };
    let by_name = image(engine, &name).await?;
    let found = if by_name.is_some() { by_name } else { image(engine, &id).await? };
    found.ok_or_else(|| RuntimeError::new(ErrorCode::Internal, format!("{name} was pulled and is not there")))
}

/// A line of a pull's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PullLine {
    stream: String,
    error: String,
    id: String,
}

/// Fetches an image by this name and returns its id, or what the engine said.
async fn pulled(
    engine: &Engine,
    config: &Config,
    request: &PullRequest,
    name: &str,
    out: &Output,
) -> Result<String, String> {
    let mut query = vec![("reference", name), ("policy", "always"), ("quiet", "false")];
    let platform = request.platform.as_deref().unwrap_or_default();
    let parts = platform.split('/').filter(|part| !part.is_empty());
    query.extend(["OS", "Arch", "Variant"].into_iter().zip(parts));
    let registry = name.split('/').next().unwrap_or_default();
    if config.insecure_registries.iter().any(|insecure| insecure == registry) {
        query.push(("tlsVerify", "false"));
    }
    let login = request.auth.as_ref().map(|auth| (AUTH_HEADER, header(auth)));
    let mut lines =
        engine.post_lines("/images/pull", &query, login).await.map_err(|error| error.to_string())?;
    let mut id = String::new();
    loop {
        match lines.next::<PullLine>().await.map_err(|error| error.to_string())? {
            Some(line) if !line.error.is_empty() => return Err(line.error),
            Some(line) => {
                if !line.id.is_empty() {
                    id = line.id;
                }
                tell(out, &line.stream).await;
            }
            None if id.is_empty() => return Err("EOF: podman broke off the pull".to_owned()),
            None => return Ok(id),
        }
    }
}

fn header(auth: &RegistryAuth) -> String {
    opts::RegistryAuth::builder().username(&auth.username).password(&auth.password).build().serialize()
}

/// Writes progress. Somebody who does not read it may still want the image.
pub(crate) async fn tell(out: &Output, text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let message = line.trim_end().to_owned();
        let id = message.strip_prefix("Copying blob ").and_then(|rest| rest.split_whitespace().next());
        let id = id.unwrap_or_default().to_owned();
        let _ = out.progress(&Progress { id, message, ..Progress::default() }).await;
    }
}

/// Docker's registry keeps images without a user under `library/`.
fn at_registry(registry: &str, name: &str) -> String {
    match registry {
        "docker.io" if !name.contains('/') => format!("docker.io/library/{name}"),
        registry => format!("{registry}/{name}"),
    }
}

/// An image as inspect answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// An image need not say when it was made.
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    config: Option<Process>,
}

/// What a container of an image runs, as inspect answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Process {
    fn process(self) -> ImageProcess {
        ImageProcess {
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            workdir: self.working_dir.unwrap_or_default(),
        }
    }
}

impl Inspected {
    fn image(self) -> Image {
        Image {
            id: full_id(self.id),
            tags: shown(self.repo_tags.as_deref().unwrap_or_default()),
            size_bytes: self.size,
            created_at: self.created.as_deref().and_then(container::time),
            platform: format!("{}/{}", self.os, self.architecture),
            labels: self.labels.unwrap_or_default(),
            process: Some(self.config.unwrap_or_default().process()),
        }
    }
}

/// An image as a list answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    arch: Option<String>,
}

impl Listed {
    fn names(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    fn image(self, platform: String) -> Image {
        Image {
            tags: shown(self.names()),
            id: full_id(self.id),
            size_bytes: self.size,
            created_at: Some(Timestamp::from_unix(self.created)),
            platform,
            labels: self.labels.unwrap_or_default(),
            process: None,
        }
    }
}

fn full_id(id: String) -> String {
    if id.starts_with("sha256:") { id } else { format!("sha256:{id}") }
}

fn shown(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.strip_prefix(LOCAL).unwrap_or(name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_were_given() {
        let names = ["localhost/foo:1".to_owned(), "docker.io/library/busybox:latest".to_owned()];
        assert_eq!(shown(&names), ["foo:1", "docker.io/library/busybox:latest"]);
        assert_eq!(at_registry("docker.io", "busybox:1"), "docker.io/library/busybox:1");
        assert_eq!(at_registry("docker.io", "user/x:1"), "docker.io/user/x:1");
        assert_eq!(at_registry("quay.io", "x:1"), "quay.io/x:1");
    }
}
