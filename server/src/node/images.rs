//! Images: list, pull, build, and making sure that one is there before a container is made of it.

use std::sync::Arc;

use futures_util::future::join_all;
use gx_core::api::{
    BuildQuery, CreateRequest, ImageInfo, ImageList, Offer, PullBody, PullPolicy, UnavailableRuntime,
};
use gx_core::config::closest;
use gx_core::image::Image;
use gx_core::runtime::{Feature, PullRequest};
use gx_core::stream::{Input, InputChunk, Output, input};
use gx_core::{ErrorCode, ImageRef, PluginName, Runtime, RuntimeError, guest};

use super::Node;
use super::caller::{Caller, Verb, authorize};
use super::containers::timely;
use super::context::Context;
use super::image_policy;
use super::sample::image_platform;
use super::shipped;
use crate::error::{Result, ServerError};

/// How long the archive that a member builds from may be, in bytes: it is kept on the host's disk.
const MAX_CONTEXT_BYTES: u64 = 1 << 30;

/// Passes a context on to whoever builds from it, and breaks off when it is too long, or would be larger unpacked.
async fn bounded<T, F>(mut archive: Input, most: u64, work: impl FnOnce(Input) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let (sender, passed) = input();
    let pass = async {
        let (mut left, mut context) = (most, Context::default());
        while let Some(bytes) = archive.next_data().await {
            match left.checked_sub(bytes.len() as u64) {
                Some(rest) => left = rest,
                None => return ServerError::invalid("context", format!("it is longer than {most} bytes")),
            }
            if let Err(why) = context.push(&bytes) {
                return ServerError::invalid("context", why);
            }
            if sender.send(InputChunk::Data(bytes)).await.is_err() {
                break; // the work has read enough
            }
        }
        drop(sender);
        std::future::pending().await
    };
    tokio::select! {
        done = work(passed) => done,
        too_long = pass => Err(too_long),
    }
}

impl Node {
    /// Lists the images of one runtime or, without a name, of all; one that does not answer is named.
    ///
    /// # Errors
    /// [`ServerError::UnknownRuntime`]; [`ServerError::NotAllowed`]; with a name also those of the runtime.
    pub async fn images(&self, caller: &Caller, runtime: Option<&PluginName>) -> Result<ImageList> {
        authorize(caller, Verb::Look, None)?;
        if let Some(name) = runtime {
            return Ok(ImageList { images: self.images_in(name).await?, unavailable: Vec::new() });
        }
        let names = self.runtimes.names();
        let answers = names.iter().map(async |name| (name, self.images_in(name).await));
        let mut list = ImageList::default();
        for (name, answer) in join_all(answers).await {
            match answer {
                Ok(images) => list.images.extend(images),
                Err(error) if error.code() == ErrorCode::Unsupported => {}
                Err(error) => {
                    list.unavailable.push(UnavailableRuntime { runtime: name.clone(), error: error.api() });
                }
            }
        }
        Ok(list)
    }

    #[cfg(test)]
    pub(crate) fn waiting_pulls(&self) -> usize {
        self.pulls.waiting()
    }

    async fn images_in(&self, name: &PluginName) -> Result<Vec<ImageInfo>> {
        let answer = async {
            let runtime = self.runtimes.get(name).await?;
            let images = async { runtime.images().await.map_err(ServerError::of(name)) };
            let (images, copies) = tokio::join!(images, self.copies(name));
            Ok((images?, copies))
        };
        let (mut images, copies) = timely(name, answer).await?;
        images.sort_by(|a, b| a.tags.cmp(&b.tags));
        Ok(images.into_iter().map(|image| told(name, image, copies)).collect())
    }

    /// Fetches an image, or builds one that comes with gx, writing progress. Whoever asks for the same at the same time shares one pull.
    ///
    /// # Errors
    /// [`ServerError::OverPolicy`]; [`ServerError::NoImage`] with the registry and why; those of choosing a runtime.
    pub async fn pull(&self, caller: &Caller, body: PullBody, out: Output) -> Result<ImageInfo> {
        authorize(caller, Verb::Fetch, None)?;
        let pull = PullRequest {
            image: image_policy::fetched(caller, &body.pull.image, &self.policy)?,
            ..body.pull
        };
        let name = self.runtime_or_default(body.runtime).await?;
        let runtime = self.runtimes.get(&name).await?;
        let image = self.fetch(&name, &runtime, pull, out).await?;
        Ok(told(&name, image, self.copies(&name).await))
    }

    /// Builds an image from a tar archive, writing progress.
    ///
    /// # Errors
    /// [`ServerError::OverPolicy`]; [`ServerError::Runtime`] with what the failing step said; those of choosing a runtime.
    pub async fn build(
        &self,
        caller: &Caller,
        query: BuildQuery,
        context: Input,
        out: Output,
    ) -> Result<ImageInfo> {
        authorize(caller, Verb::Fetch, None)?;
        image_policy::build(caller, &query.build.tag, &self.policy)?;
        let name = self.runtime_or_default(query.runtime).await?;
        let runtime = self.runtimes.get(&name).await?;
        let mut build = query.build;
        if *caller == Caller::Host {
            let image = runtime.build(build, context, out).await.map_err(ServerError::of(&name))?;
            return Ok(told(&name, image, self.copies(&name).await));
        }
        build.no_network = image_policy::builds_apart(&self.policy);
        if !self.runtimes.capabilities(&name).await?.has(Feature::BuildsApart) {
            let why = format!("{name} cannot keep a build from the machine and its networks");
            return Err(ServerError::NoFirewall { why });
        }
        let (engine, of) = (&runtime, ServerError::of(&name));
        let work = |context| async move { engine.build(build, context, out).await.map_err(of) };
        let image = bounded(context, MAX_CONTEXT_BYTES, work).await?;
        Ok(told(&name, image, self.copies(&name).await))
    }

    async fn copies(&self, name: &PluginName) -> Copies {
        match self.runtimes.capabilities(name).await {
            Ok(can) if can.has(Feature::Copy) => Copies::Yes,
            _ => Copies::No,
        }
    }

    /// Returns the image of a request, if the engine has it and may use it as it is.
    pub(crate) async fn image_there(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: &CreateRequest,
    ) -> Result<Option<Image>> {
        if request.pull == PullPolicy::Always {
            return Ok(None);
        }
        let image = self.image_of(name, runtime, &request.image).await?;
        let stale =
            |image: &Image| request.pull == PullPolicy::Missing && shipped::is_stale(&request.image, image);
        Ok(image.filter(|image| !stale(image)))
    }

    /// Returns everything about an image, if the engine has it.
    pub(crate) async fn image_of(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        image: &ImageRef,
    ) -> Result<Option<Image>> {
        timely(name, async { runtime.image(image.clone()).await.map_err(ServerError::of(name)) }).await
    }

    /// Gets the image of a request that the engine does not have, or is not to use as it is.
    pub(crate) async fn provide(
        &self,
        caller: &Caller,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: &CreateRequest,
        out: Output,
    ) -> Result<Image> {
        let image = request.image.clone();
        if request.pull == PullPolicy::Never {
            return Err(self.no_image(name, runtime, &image, None).await);
        }
        let full = image_policy::fetched(caller, &image, &self.policy)?;
        let pull = PullRequest { image: full, platform: None, auth: None };
        let pulled = self.fetch(name, runtime, pull, out).await?;
        // Only this tells what the image runs.
        Ok(self.image_of(name, runtime, &image).await?.unwrap_or(pulled))
    }

    async fn fetch(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: PullRequest,
        out: Output,
    ) -> Result<Image> {
        let image = request.image.clone();
        match self.pulls.pull(name, runtime, request, out).await {
            Ok(image) => Ok(image),
            Err(error) if error.code == ErrorCode::Unsupported => {
                Err(self.no_image(name, runtime, &image, None).await)
            }
            Err(error) if shipped::of(&image).is_some() => Err(ServerError::of(name)(error)),
            Err(error) => Err(self.no_image(name, runtime, &image, Some(error)).await),
        }
    }

    pub(crate) async fn no_image(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        image: &ImageRef,
        pull: Option<RuntimeError>,
    ) -> ServerError {
        let there = timely(name, async { runtime.images().await.map_err(ServerError::of(name)) });
        let near = there.await.ok().and_then(|images| nearest(image, &images));
        ServerError::NoImage { image: image.clone(), runtime: name.clone(), pull: pull.map(Box::new), near }
    }
}

/// Whether a runtime can put files into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    Yes,
    No,
}

fn told(runtime: &PluginName, image: Image, copies: Copies) -> ImageInfo {
    ImageInfo { runtime: runtime.clone(), offers: offers(&image, copies), image }
}

/// The variable by which NVIDIA's images ask their container runtime for GPUs, and its values that ask for none.
const NVIDIA: (&str, [&str; 3]) = ("NVIDIA_VISIBLE_DEVICES=", ["", "void", "none"]);
/// The beginning of the labels of NVIDIA's images.
const NVIDIA_LABELS: &str = "com.nvidia.";
/// The label by which any other image says that it uses a GPU.
const GPU_LABEL: &str = "gx.gpu";

/// Returns what a container of an image offers. An engine that tells an image's environment only when asked for that
/// image alone leaves its labels to go by.
fn offers(image: &Image, copies: Copies) -> Vec<Offer> {
    let labels = &image.labels;
    let asks = |variable: &String| {
        variable.strip_prefix(NVIDIA.0).is_some_and(|value| !NVIDIA.1.contains(&value.trim()))
    };
    let ssh = copies == Copies::Yes && image.platform == image_platform();
    let desktop = labels.get(guest::DESKTOP_LABEL).is_some_and(|port| port.parse::<u16>().is_ok());
    let gpu = labels.keys().any(|name| name == GPU_LABEL || name.starts_with(NVIDIA_LABELS))
        || image.process.as_ref().is_some_and(|process| process.env.iter().any(asks));
    let all = [(ssh, Offer::Ssh), (ssh && desktop, Offer::Desktop), (gpu, Offer::Gpu)];
    all.into_iter().filter_map(|(offered, offer)| offered.then_some(offer)).collect()
}

/// Returns the name of an image that was probably meant: one that differs by some letters, with or without the host
/// and the tag.
fn nearest(image: &ImageRef, there: &[Image]) -> Option<String> {
    let full = image.tagged();
    let names: Vec<&str> = there.iter().flat_map(|image| &image.tags).map(String::as_str).collect();
    if let Some(near) = closest(&full, names.iter().copied()) {
        return Some(near.to_owned());
    }
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let wanted = last(&full);
    let lasts: Vec<(String, &str)> = names.into_iter().map(|name| (last(name), name)).collect();
    let near = closest(&wanted, lasts.iter().map(|(last, _)| last.as_str()))?;
    lasts.iter().find(|(last, _)| last == near).map(|(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::image::ImageProcess;

    #[test]
    fn what_an_image_offers_is_in_its_platform_labels_and_environment() {
        let image = |platform: &str, label: &str, env: &str| Image {
            platform: platform.to_owned(),
            labels: [(label.to_owned(), "5900".to_owned())].into(),
            process: Some(ImageProcess { env: vec![env.to_owned()], ..ImageProcess::default() }),
            ..Image::default()
        };
        let here = image_platform();
        let desktop = image(&here, "gx.desktop", "");
        assert_eq!(offers(&desktop, Copies::Yes), [Offer::Ssh, Offer::Desktop]);
        assert_eq!(offers(&desktop, Copies::No), [], "the guest starts the desktop");
        assert_eq!(offers(&image("linux/s390x", "", ""), Copies::Yes), []);
        let gpu = image("", "", "NVIDIA_VISIBLE_DEVICES=all");
        assert_eq!(offers(&gpu, Copies::Yes), [Offer::Gpu]);
        assert_eq!(offers(&image("", "", "NVIDIA_VISIBLE_DEVICES=void"), Copies::Yes), []);
        assert_eq!(offers(&image("", "com.nvidia.volumes.needed", ""), Copies::Yes), [Offer::Gpu]);
    }

    #[test]
    fn a_misspelt_image_finds_the_one_that_was_meant() {
        let there = [Image { tags: vec!["localhost/gx-busybox:latest".to_owned()], ..Image::default() }];
        let near = |name: &str| nearest(&name.parse().unwrap(), &there);
        assert_eq!(near("gx-busibox").as_deref(), Some("localhost/gx-busybox:latest"));
        assert_eq!(near("localhost/gx-busybo:latest").as_deref(), Some("localhost/gx-busybox:latest"));
        assert_eq!(near("postgres"), None);
    }
}
