//! Images: what there is, and fetching and removing them.

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{CreateImageInfo, ProgressDetail};
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptions, RemoveImageOptions};
use futures_util::{StreamExt, TryStreamExt};
use gx_core::image::Image;
use gx_core::runtime::{Progress, PullRequest, RegistryAuth};
use gx_core::stream::Output;
use gx_core::{ErrorCode, ImageRef, RuntimeError};

use crate::engine::Engine;
use crate::spec;

/// How many images are looked at at a time; the engine's list lacks their platforms.
const AT_A_TIME: usize = 16;
/// What logins at the default registry are for.
const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// Fetches an image. Without a reader the progress is left out.
pub(crate) async fn pull(engine: &Engine, request: PullRequest, out: Output) -> Result<Image, RuntimeError> {
    let image = &request.image;
    let version = image.digest().or(image.tag()).unwrap_or("latest");
    let mut options = CreateImageOptionsBuilder::default().from_image(image.repository()).tag(version);
    if let Some(platform) = &request.platform {
        options = options.platform(platform);
    }
    let login = request.auth.map(|auth| credentials(image, auth));
    let private = login.is_some();
    let mut steps = std::pin::pin!(engine.patient.create_image(Some(options.build()), None, login));
    while let Some(step) =
        steps.try_next().await.map_err(|error| pull_error(engine, error, image, private))?
    {
        let _ = out.progress(&progress(step)).await;
    }
    let pulled = self::image(engine, image).await?.ok_or_else(|| {
        RuntimeError::new(ErrorCode::Internal, format!("`{image}` was pulled and is not there"))
            .field("image")
    })?;
    match &request.platform {
        Some(platform) if !is_for(&pulled, platform) => Err(RuntimeError::new(
            ErrorCode::NotFound,
            format!("`{image}` is there for {} only, not for {platform}", pulled.platform),
        )
        .field("platform")),
        _ => Ok(pulled),
    }
}

/// Of an image for one platform the engine takes that, whichever was asked for.
fn is_for(image: &Image, platform: &str) -> bool {
    let rest = image.platform.strip_prefix(platform);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The engine does not always name the image; and with a login a denied image is one the login does not open.
fn pull_error(engine: &Engine, error: Error, image: &ImageRef, private: bool) -> RuntimeError {
    let mut error = engine.error(error);
    error.message = format!("`{image}` cannot be pulled: {error}");
    if private && error.backend.as_deref().is_some_and(|text| text.contains("denied")) {
        error.code = ErrorCode::Unauthenticated;
        error.field = Some("auth".to_owned());
        error.hint = None;
    }
    error
}

fn credentials(image: &ImageRef, auth: RegistryAuth) -> DockerCredentials {
    let host = image.repository().split_once('/').map(|(host, _)| host);
    let host = host.filter(|host| host.contains(['.', ':']) || *host == "localhost");
    let registry = host.filter(|host| *host != "docker.io").unwrap_or(DEFAULT_REGISTRY);
    DockerCredentials {
        username: Some(auth.username),
        password: Some(auth.password),
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    }
}

fn progress(step: CreateImageInfo) -> Progress {
    let (current, total) = bytes(step.progress_detail);
    Progress { id: step.id.unwrap_or_default(), message: step.status.unwrap_or_default(), current, total }
}

/// Returns the bytes done and in all; the engine's zeros are none.
pub(crate) fn bytes(detail: Option<ProgressDetail>) -> (Option<u64>, Option<u64>) {
    let detail = detail.unwrap_or_default();
    let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    (positive(detail.current), positive(detail.total))
}

/// Returns all images with a name.
pub(crate) async fn images(engine: &Engine) -> Result<Vec<Image>, RuntimeError> {
    let listed = engine.docker.list_images(None::<ListImagesOptions>).await;
    let named = listed
        .map_err(|error| engine.error(error))?
        .into_iter()
        .filter(|image| !spec::tags(image.repo_tags.clone()).is_empty())
        .map(|image| async move { inspect(engine, &image.id).await });
    futures_util::stream::iter(named)
        .buffered(AT_A_TIME)
        .try_filter_map(|image| async { Ok(image) })
        .try_collect()
        .await
}

/// Returns the image of this name.
pub(crate) async fn image(engine: &Engine, image: &ImageRef) -> Result<Option<Image>, RuntimeError> {
    inspect(engine, &exact(image)).await
}

async fn inspect(engine: &Engine, name: &str) -> Result<Option<Image>, RuntimeError> {
    match engine.docker.inspect_image(name).await {
        Ok(answer) => Ok(Some(spec::image(answer))),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(engine.error(error)),
    }
}

/// Removes a name of an image, and the image with its last name.
pub(crate) async fn remove(engine: &Engine, image: &ImageRef) -> Result<(), RuntimeError> {
    match engine.patient.remove_image(&exact(image), None::<RemoveImageOptions>, None).await {
        Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => Err(engine.error(error)),
    }
}

/// Returns a name that is never taken for a shortened id, and whose tag does not hide its digest.
fn exact(image: &ImageRef) -> String {
    match image.digest() {
        Some(digest) => format!("{}@{digest}", image.repository()),
        None => image.tagged(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_name_the_registry() {
        let registry = |image: &str| {
            let auth = RegistryAuth { username: "u".to_owned(), password: "p".to_owned() };
            credentials(&image.parse().unwrap(), auth).serveraddress.unwrap()
        };
        assert_eq!(registry("busybox"), DEFAULT_REGISTRY);
        assert_eq!(registry("docker.io/library/busybox"), DEFAULT_REGISTRY);
        assert_eq!(registry("user/app"), DEFAULT_REGISTRY);
        assert_eq!(registry("localhost:5000/app"), "localhost:5000");
    }

    #[test]
    fn names_are_exact() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let exact = |text: String| exact(&text.parse().unwrap());
        assert_eq!(exact("deadbeef".to_owned()), "deadbeef:latest");
        assert_eq!(exact(format!("x:1@{digest}")), format!("x@{digest}"));
    }
}
