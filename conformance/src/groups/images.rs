//! Images: those that are there, those that are not, those that are made.

use std::sync::Arc;
use std::time::Duration;

use gx_core::ErrorCode;
use gx_core::image::Image;
use gx_core::image::ImageRef;
use gx_core::runtime::{BuildRequest, Feature, Progress, PullRequest, Result as Answer};
use gx_core::stream::{Items, Kind, Output, pipe};

use super::copy::{archive, input_of};
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::stubborn;

pub(super) const CASES: &[Case] = &[
    case!("images/one", "it returns the image of this name", [], one),
    case!("images/none", "None when the engine has none of this name", [], none),
    case!("images/all", "it returns all images with at least one name", [Images], all),
    case!("images/remove a missing one", "a missing one is Ok", [Images], remove_missing),
    case!(
        "images/remove",
        "FailedPrecondition while a container uses it; after that it is gone",
        [Images, Build],
        remove
    ),
    case!("images/build", "it builds the context's Containerfile, with progress", [Build], build),
    case!(
        "images/build apart",
        "its steps have loopback alone, where that is asked for",
        [Build, BuildsApart],
        build_apart
    ),
    case!("images/build fails", "InvalidArgument when a step fails, and no image", [Build], build_fails),
    case!("images/build without a Containerfile", "InvalidArgument", [Build], build_nothing),
    case!("images/pull what is not there", "NotFound or Unavailable, and no image", [Pull], pull_missing),
    case!("images/pull", "it fetches the image, with progress", [Pull, Images], pull, alone),
    case!(
        "images/pull dropped",
        "a pull that is dropped can be repeated",
        [Pull, Images],
        pull_dropped,
        alone
    ),
];

fn reference(text: impl Into<String>) -> ImageRef {
    text.into().parse().expect("lower-case letters, digits and '-'")
}

async fn image(t: &Trial, name: &ImageRef) -> Verdict<Option<Image>> {
    soon("image", SOON, t.runtime.image(name.clone())).await?.of("image")
}

async fn one(t: Arc<Trial>) -> Verdict {
    let name = t.options.image.clone();
    let Some(image) = image(&t, &name).await? else { return Err(Failure::new("there is none")) };
    let hex = image.id.strip_prefix("sha256:").unwrap_or_default();
    check!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "the id is {:?}", image.id);
    check!(image.platform.starts_with("linux/"), "the platform is {:?}", image.platform);
    let known = image.tags.iter().any(|tag| tag.ends_with(&name.tagged()));
    check!(known || name.digest().is_some(), "{} is not among the names {:?}", name.tagged(), image.tags);
    Ok(())
}

async fn none(t: Arc<Trial>) -> Verdict {
    for name in ["gx-conformance/no-such-image", "gx-conformance/no-such-image:1"] {
        same("the image", image(&t, &reference(name)).await?, None)?;
    }
    Ok(())
}

async fn all(t: Arc<Trial>) -> Verdict {
    let images = soon("images", SOON, t.runtime.images()).await?.of("images")?;
    check!(images.iter().all(|image| !image.tags.is_empty()), "there is an image without a name");
    let own = image(&t, &t.options.image).await?.map(|image| image.id);
    check!(images.iter().any(|image| Some(&image.id) == own.as_ref()), "the suite's image is not among them");
    Ok(())
}

async fn remove_missing(t: Arc<Trial>) -> Verdict {
    let name = reference("gx-conformance/no-such-image");
    soon("remove_image", SOON, t.runtime.remove_image(name)).await?.of("remove_image")
}

/// Builds an image from this Containerfile; whatever comes of it, its name is removed by `unbuild`.
async fn built(t: &Trial, tag: &ImageRef, containerfile: &str, out: Output) -> Verdict<Answer<Image>> {
    let request = BuildRequest {
        tag: tag.clone(),
        containerfile: None,
        args: Default::default(),
        no_cache: true,
        no_network: false,
    };
    let context = archive(&[("Containerfile", 0o644, containerfile.as_bytes())]);
    soon("build", 4 * SOON, t.runtime.build(request, input_of(context), out)).await
}

async fn unbuild(t: &Trial, tag: &ImageRef, verdict: Verdict) -> Verdict {
    if !t.capabilities.has(Feature::Images) {
        return verdict;
    }
    t.clean().await?; // its containers first
    let removed = soon("remove_image", SOON, t.runtime.remove_image(tag.clone())).await?;
    verdict.and(removed.of("remove_image at the end"))
}

fn containerfile(t: &Trial) -> String {
    format!("FROM {}\nLABEL gx.conformance=\"{}\"\n", t.options.image, t.unique())
}

async fn remove(t: Arc<Trial>) -> Verdict {
    let tag = reference(format!("gx-conformance/{}", t.unique()));
    built(&t, &tag, &containerfile(&t), Output::null()).await?.of("build")?;
    let verdict = async {
        let mut spec = t.spec(stubborn());
        spec.image = tag.clone();
        let id = t.create(spec).await?;
        let removed = soon("remove_image", SOON, t.runtime.remove_image(tag.clone())).await?;
        refused("remove_image of one in use", removed, ErrorCode::FailedPrecondition, None)?;
        t.remove(&id).await?;
        soon("remove_image", SOON, t.runtime.remove_image(tag.clone())).await?.of("remove_image")?;
        same("the image", image(&t, &tag).await?, None)
    };
    let verdict = verdict.await;
    unbuild(&t, &tag, verdict).await
}

async fn build(t: Arc<Trial>) -> Verdict {
    let tag = reference(format!("gx-conformance/{}:v1", t.unique()));
    let (out, items) = pipe(0);
    let text = containerfile(&t);
    let (answer, steps) = tokio::join!(built(&t, &tag, &text, out), progress(items));
    let built = answer?.of("build")?;
    let verdict = async {
        check!(steps > 0, "there is no progress");
        let Some(found) = image(&t, &tag).await? else { return Err(Failure::new("the image is not there")) };
        same("the id", &found.id, &built.id)?;
        check!(
            found.labels.contains_key("gx.conformance"),
            "the image's label is missing: {:?}",
            found.labels
        );
        let mut spec = t.spec(stubborn());
        spec.image = tag.clone();
        t.running_spec(spec).await.map(drop)
    };
    let verdict = verdict.await;
    unbuild(&t, &tag, verdict).await
}

async fn progress(mut items: Items) -> usize {
    let mut steps = 0;
    while let Some(item) = items.next().await {
        let good = item.kind == Kind::Progress && serde_json::from_slice::<Progress>(&item.bytes).is_ok();
        steps += usize::from(good);
    }
    steps
}

async fn build_apart(t: Arc<Trial>) -> Verdict {
    let tag = reference(format!("gx-conformance/{}", t.unique()));
    let text = format!("{}RUN test \"$(ls /sys/class/net)\" = lo\n", containerfile(&t));
    let request = BuildRequest {
        tag: tag.clone(),
        containerfile: None,
        args: Default::default(),
        no_cache: true,
        no_network: true,
    };
    let context = archive(&[("Containerfile", 0o644, text.as_bytes())]);
    let answer = soon("build", 4 * SOON, t.runtime.build(request, input_of(context), Output::null())).await?;
    unbuild(&t, &tag, answer.of("build").map(drop)).await
}

async fn build_fails(t: Arc<Trial>) -> Verdict {
    let tag = reference(format!("gx-conformance/{}", t.unique()));
    let text = format!("FROM {}\nRUN echo gx-last-words; exit 3\n", t.options.image);
    let answer = built(&t, &tag, &text, Output::null()).await?;
    let message = answer.as_ref().err().map(|error| error.message.clone()).unwrap_or_default();
    let verdict = async {
        refused("build", answer, ErrorCode::InvalidArgument, None)?;
        check!(message.contains("gx-last-words"), "the last lines are not in the message: {message}");
        same("the image", image(&t, &tag).await?, None)
    };
    let verdict = verdict.await;
    unbuild(&t, &tag, verdict).await
}

async fn build_nothing(t: Arc<Trial>) -> Verdict {
    let tag = reference(format!("gx-conformance/{}", t.unique()));
    let request = BuildRequest {
        tag,
        containerfile: None,
        args: Default::default(),
        no_cache: false,
        no_network: false,
    };
    let context = archive(&[("README", 0o644, b"nothing to build")]);
    let answer = soon("build", 4 * SOON, t.runtime.build(request, input_of(context), Output::null())).await?;
    refused("build", answer, ErrorCode::InvalidArgument, None)
}

async fn pull_missing(t: Arc<Trial>) -> Verdict {
    let name = reference("localhost:1/gx-conformance/missing:none");
    let request = PullRequest { image: name.clone(), platform: None, auth: None };
    let error = match soon("pull", 4 * SOON, t.runtime.pull(request, Output::null())).await? {
        Ok(image) => return Err(Failure::new(format!("it pulls {image:?}"))),
        Err(error) => error,
    };
    let expected = [ErrorCode::NotFound, ErrorCode::Unavailable];
    check!(expected.contains(&error.code), "pull gives {:?}: {}", error.code, error.message);
    same("the image", image(&t, &name).await?, None)
}

fn pull_request(t: &Trial) -> Verdict<PullRequest> {
    let image = t.options.hooks.pull_image.clone();
    let image = image.ok_or_else(|| Failure::skip("the caller names no image to pull"))?;
    Ok(PullRequest { image, platform: None, auth: None })
}

async fn pull(t: Arc<Trial>) -> Verdict {
    let request = pull_request(&t)?;
    let name = request.image.clone();
    t.runtime.remove_image(name.clone()).await.of("remove_image")?;
    let (out, items) = pipe(0);
    let both = async { tokio::join!(t.runtime.pull(request, out), progress(items)) };
    let (pulled, steps) = soon("pull", 8 * SOON, both).await?;
    let pulled = pulled.of("pull")?;
    check!(steps > 0, "there is no progress");
    same("the image", image(&t, &name).await?.map(|image| image.id), Some(pulled.id))?;
    t.runtime.remove_image(name).await.of("remove_image")
}

async fn pull_dropped(t: Arc<Trial>) -> Verdict {
    let request = pull_request(&t)?;
    let name = request.image.clone();
    for after_ms in [0, 5, 50] {
        t.runtime.remove_image(name.clone()).await.of("remove_image")?;
        let pulling = t.runtime.pull(request.clone(), Output::null());
        // Whether it is done by then does not matter: what follows must work either way.
        let _ = tokio::time::timeout(Duration::from_millis(after_ms), pulling).await;
    }
    let again = soon("pull", 8 * SOON, t.runtime.pull(request, Output::null())).await?.of("pull")?;
    same("the image", image(&t, &name).await?.map(|image| image.id), Some(again.id))?;
    t.runtime.remove_image(name).await.of("remove_image")
}
