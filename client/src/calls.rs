//! One method for each endpoint.

use gx_core::api::speedtest::{self, SpeedtestToken};
use gx_core::api::{
    BuildQuery, ContainerInfo, ContainerList, CreateRequest, ExtendRequest, IDEMPOTENCY_KEY, ImageInfo,
    ImageList, PullBody, RuntimeStatus, ServerSpecs, path,
};
use gx_core::runtime::{LogOptions, RemoveOptions, StopOptions};
use gx_core::stream::{Input, Output};
use gx_core::{ContainerId, Exit, IdempotencyKey, PluginName, Timestamp};
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;

use crate::body::{Reader, upload};
use crate::{Client, ClientError, Result};

/// How often a create is sent again when the connection breaks before the answer.
const CREATE_RETRIES: u32 = 2;

impl Client {
    /// Makes a container and starts it, writing the progress of a pull. It is sent again under the same key, at most
    /// twice, when the connection breaks before the answer.
    ///
    /// # Errors
    /// [`ClientError::Host`] with what the host refuses, and all others.
    pub async fn create(
        &self,
        request: CreateRequest,
        key: Option<IdempotencyKey>,
        out: Output,
    ) -> Result<ContainerInfo> {
        let key = key.unwrap_or_else(new_key);
        let mut retries = 0;
        loop {
            let post = self.http.post(self.url(path::CONTAINERS)).header(IDEMPOTENCY_KEY, key.as_str());
            match self.value(post.json(&request), &out).await {
                Err(ClientError::Lost { source, .. }) if retries < CREATE_RETRIES => {
                    tracing::debug!(%source, "the connection broke; sending the same request again");
                    retries += 1;
                }
                // What became of the first time is not known.
                Err(error) if retries > 0 && !matches!(error, ClientError::Host(_)) => {
                    let address = self.address.clone();
                    return Err(ClientError::Lost { address, source: Box::new(error) });
                }
                other => return other,
            }
        }
    }

    /// Lists the caller's containers, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn list(&self) -> Result<ContainerList> {
        self.json(self.http.get(self.url(path::CONTAINERS))).await
    }

    /// Returns everything about a container.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn show(&self, reference: &str) -> Result<ContainerInfo> {
        self.json(self.http.get(self.container_url(reference, ""))).await
    }

    /// Returns a token by which a program without this node's key may measure the host for this node.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn speedtest_token(&self) -> Result<SpeedtestToken> {
        self.json(self.http.post(self.url(speedtest::TOKEN))).await
    }

    /// Starts a container that is not running.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn start(&self, reference: &str) -> Result<ContainerInfo> {
        self.value(self.http.post(self.container_url(reference, "start")), &Output::null()).await
    }

    /// Stops a container; one that is not running is as it should be.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn stop(&self, reference: &str, options: StopOptions) -> Result<ContainerInfo> {
        let post = self.http.post(self.container_url(reference, "stop")).json(&options);
        self.value(post, &Output::null()).await
    }

    /// Makes a container's lease longer: the time is added to its end.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn extend(&self, reference: &str, request: ExtendRequest) -> Result<ContainerInfo> {
        let post = self.http.post(self.container_url(reference, "extend")).json(&request);
        self.value(post, &Output::null()).await
    }

    /// Removes a container and returns its id.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<ContainerId> {
        let mut url = self.container_url(reference, "");
        set_query(&mut url, &options);
        self.value(self.http.delete(url), &Output::null()).await
    }

    /// Makes new passwords for a container, and returns it with them.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn passwd(&self, reference: &str) -> Result<ContainerInfo> {
        self.value(self.http.post(self.container_url(reference, "passwd")), &Output::null()).await
    }

    /// Waits until a container's main process has ended, and returns how.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn wait(&self, reference: &str) -> Result<Exit> {
        self.value(self.http.post(self.container_url(reference, "wait")), &Output::null()).await
    }

    /// Writes the output of a container's main process.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn logs(&self, reference: &str, options: LogOptions, out: Output) -> Result<()> {
        let mut url = self.container_url(reference, "logs");
        set_query(&mut url, &options);
        self.streamed(self.http.get(url), &out, Reader::Essential).await.map(Option::unwrap_or_default)
    }

    /// Writes what a container uses as event items, each `every_ms`; 0 writes just one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn stats(&self, reference: &str, every_ms: u32, out: Output) -> Result<()> {
        let mut url = self.container_url(reference, "stats");
        url.query_pairs_mut().append_pair("every_ms", &every_ms.to_string());
        self.streamed(self.http.get(url), &out, Reader::Essential).await.map(Option::unwrap_or_default)
    }

    /// Writes what happens to the caller's containers as event items, from a time on; without one, from now on.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let mut url = self.url(path::EVENTS);
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", &since.to_string());
        }
        self.streamed(self.http.get(url), &out, Reader::Essential).await.map(Option::unwrap_or_default)
    }

    /// Unpacks a tar archive below a folder of a container.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn copy_in(&self, reference: &str, path: &str, archive: Input) -> Result<()> {
        let mut url = self.container_url(reference, "archive");
        url.query_pairs_mut().append_pair("path", path);
        let put = self.http.put(url).header(CONTENT_TYPE, "application/x-tar").body(upload(archive));
        self.value(put, &Output::null()).await
    }

    /// Writes a tar archive of a file or folder of a container as standard-output items.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn copy_out(&self, reference: &str, path: &str, out: Output) -> Result<()> {
        let mut url = self.container_url(reference, "archive");
        url.query_pairs_mut().append_pair("path", path);
        self.streamed(self.http.get(url), &out, Reader::Essential).await.map(Option::unwrap_or_default)
    }

    /// Lists the images of one runtime or, without a name, of all.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn images(&self, runtime: Option<&PluginName>) -> Result<ImageList> {
        let mut url = self.url(path::IMAGES);
        if let Some(runtime) = runtime {
            url.query_pairs_mut().append_pair("runtime", runtime.as_str());
        }
        self.json(self.http.get(url)).await
    }

    /// Fetches an image, writing progress.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pull(&self, body: PullBody, out: Output) -> Result<ImageInfo> {
        self.value(self.http.post(self.url(path::IMAGES_PULL)).json(&body), &out).await
    }

    /// Builds an image from a tar archive, writing progress.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn build(&self, query: BuildQuery, context: Input, out: Output) -> Result<ImageInfo> {
        let mut url = self.url(path::IMAGES_BUILD);
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(runtime) = &query.runtime {
                pairs.append_pair("runtime", runtime.as_str());
            }
            pairs.append_pair("tag", query.build.tag.as_str());
            if let Some(containerfile) = &query.build.containerfile {
                pairs.append_pair("containerfile", containerfile);
            }
            if query.build.no_cache {
                pairs.append_pair("no_cache", "true");
            }
            if !query.build.args.is_empty() {
                let args = serde_json::to_string(&query.build.args).expect("a map of texts becomes JSON");
                pairs.append_pair("args", &args);
            }
        }
        let post = self.http.post(url).header(CONTENT_TYPE, "application/x-tar").body(upload(context));
        self.value(post, &out).await
    }

    /// Returns what the machine is and lends.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn specs(&self) -> Result<ServerSpecs> {
        self.json(self.http.get(self.url(path::SERVER_SPECS))).await
    }

    /// Returns the state of every runtime.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn runtimes(&self) -> Result<Vec<RuntimeStatus>> {
        self.json(self.http.get(self.url(path::RUNTIMES))).await
    }

    /// Makes a call that may take long, for its result.
    pub(crate) async fn value<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        out: &Output,
    ) -> Result<T> {
        let value = self.streamed(request, out, Reader::Optional).await?;
        Ok(value.expect("with an optional reader a call ends with its result"))
    }
}

/// Puts the fields of a flat value into a query; those that are `null` are left out.
pub(crate) fn set_query<T: Serialize>(url: &mut reqwest::Url, value: &T) {
    let fields = serde_json::to_value(value).expect("our own types always become JSON");
    let mut pairs = url.query_pairs_mut();
    for (key, value) in fields.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => drop(pairs.append_pair(key, text)),
            other => drop(pairs.append_pair(key, &other.to_string())),
        }
    }
}

/// Returns a key of its own for a request that came without one.
fn new_key() -> IdempotencyKey {
    use std::hash::{BuildHasher, RandomState};
    // Different is enough; the keys of RandomState come from the system's random numbers.
    let (high, low) = (RandomState::new().hash_one(std::process::id()), RandomState::new().hash_one(0));
    format!("{high:016x}{low:016x}").parse().expect("hexadecimal digits are a key")
}
