//! Images: list, pull, build, and making sure that one is there before a container is made of it.

use std::sync::Arc;

use futures_util::future::join_all;
use gx_core::api::{
    BuildQuery, CreateRequest, ImageInfo, ImageList, PullBody, PullPolicy, UnavailableRuntime,
};
use gx_core::config::closest;
use gx_core::image::Image;
use gx_core::runtime::PullRequest;
use gx_core::stream::{Input, Output};
use gx_core::{ErrorCode, ImageRef, PluginName, Runtime, RuntimeError};

use super::Node;
use super::caller::{Caller, Verb, authorize};
use super::containers::timely;
use crate::error::{Result, ServerError};

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
            runtime.images().await.map_err(ServerError::of(name))
        };
        let mut images = timely(name, answer).await?;
        images.sort_by(|a, b| a.tags.cmp(&b.tags));
        Ok(images.into_iter().map(|image| ImageInfo { runtime: name.clone(), image }).collect())
    }

    /// Fetches an image, writing progress. Whoever asks for the same at the same time shares one pull.
    ///
    /// # Errors
    /// [`ServerError::NoImage`] with the registry and why; those of choosing a runtime.
    pub async fn pull(&self, caller: &Caller, body: PullBody, out: Output) -> Result<ImageInfo> {
        authorize(caller, Verb::Fetch, None)?;
        let name = self.runtime_or_default(body.runtime).await?;
        let runtime = self.runtimes.get(&name).await?;
        let image = self.fetch(&name, &runtime, body.pull, out).await?;
        Ok(ImageInfo { runtime: name, image })
    }

    /// Builds an image from a tar archive, writing progress.
    ///
    /// # Errors
    /// [`ServerError::Runtime`] with what the failing step said; those of choosing a runtime.
    pub async fn build(
        &self,
        caller: &Caller,
        query: BuildQuery,
        context: Input,
        out: Output,
    ) -> Result<ImageInfo> {
        authorize(caller, Verb::Fetch, None)?;
        let name = self.runtime_or_default(query.runtime).await?;
        let runtime = self.runtimes.get(&name).await?;
        let image = runtime.build(query.build, context, out).await.map_err(ServerError::of(&name))?;
        Ok(ImageInfo { runtime: name, image })
    }

    /// Returns whether an engine has an image.
    pub(crate) async fn has_image(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        image: &ImageRef,
    ) -> Result<bool> {
        let there = timely(name, async { runtime.image(image.clone()).await.map_err(ServerError::of(name)) });
        Ok(there.await?.is_some())
    }

    /// Gets the image of a request that the engine does not have, or is not to use as it is.
    pub(crate) async fn provide(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: &CreateRequest,
        out: Output,
    ) -> Result<()> {
        let image = request.image.clone();
        match request.pull {
            PullPolicy::Never => Err(self.no_image(name, runtime, &image, None).await),
            PullPolicy::Missing | PullPolicy::Always => {
                let pull = PullRequest { image, platform: None, auth: None };
                self.fetch(name, runtime, pull, out).await.map(drop)
            }
        }
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

    #[test]
    fn a_misspelt_image_finds_the_one_that_was_meant() {
        let there = [Image { tags: vec!["localhost/gx-busybox:latest".to_owned()], ..Image::default() }];
        let near = |name: &str| nearest(&name.parse().unwrap(), &there);
        assert_eq!(near("gx-busibox").as_deref(), Some("localhost/gx-busybox:latest"));
        assert_eq!(near("localhost/gx-busybo:latest").as_deref(), Some("localhost/gx-busybox:latest"));
        assert_eq!(near("postgres"), None);
    }
}
