//! `/v1/images`: list, pull and build.

use std::collections::BTreeMap;
use std::sync::Arc;

use gx_core::api::{BuildQuery, ImageInfo, ImageList, PullBody, path};
use gx_core::runtime::BuildRequest;
use gx_core::{ImageRef, PluginName};
use schemars::JsonSchema;
use serde::Deserialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::{Patience, Plain, answer, json};
use super::failure::Failure;
use super::request::{Request, parse, with_upload};
use super::{Gives, Route, State, Takes, handler, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: path::IMAGES,
        about: "The images of one runtime, or of all.",
        query: Some(schema::<RuntimeQuery>),
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ImageList>),
        handler: handler!(images),
    },
    Route {
        method: "POST",
        path: path::IMAGES_PULL,
        about: "Fetches an image, with progress.",
        query: None,
        takes: Takes::Json(schema::<PullBody>),
        gives: Gives::Stream("application/x-ndjson"),
        handler: handler!(pull),
    },
    Route {
        method: "POST",
        path: path::IMAGES_BUILD,
        about: "Builds an image from a tar archive of the context, with progress.",
        query: Some(schema::<BuildParameters>),
        takes: Takes::Tar,
        gives: Gives::Stream("application/x-ndjson"),
        handler: handler!(build),
    },
];

#[derive(Deserialize, JsonSchema)]
struct RuntimeQuery {
    /// The runtime; without it all.
    runtime: Option<PluginName>,
}

/// A [`BuildQuery`], flat.
#[derive(Deserialize, JsonSchema)]
struct BuildParameters {
    /// The runtime; without it the host's default.
    runtime: Option<PluginName>,
    /// The name of the result.
    tag: ImageRef,
    /// The Containerfile's path within the context.
    containerfile: Option<String>,
    /// Values for `ARG`: an object as JSON.
    args: Option<String>,
    /// Uses nothing of earlier builds.
    #[serde(default)]
    no_cache: bool,
}

impl BuildParameters {
    fn query(self) -> Result<BuildQuery, Failure> {
        let args = self.args.unwrap_or_else(|| "{}".to_owned());
        let args: BTreeMap<String, String> =
            parse(args.as_bytes()).map_err(|failure| Failure::field("args", failure.to_string()))?;
        let Self { runtime, tag, containerfile, no_cache, .. } = self;
        Ok(BuildQuery {
            runtime,
            build: BuildRequest { tag, containerfile, args, no_cache, no_network: false },
        })
    }
}

async fn images(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let query: RuntimeQuery = request.query()?;
    let list: ImageList = state.node.images(&request.caller, query.runtime.as_ref()).await?;
    Ok(json(StatusCode::OK, &list))
}

async fn pull(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: PullBody = request.json().await?;
    let node = state.node.clone();
    let caller = request.caller.clone();
    let call = |out| async move { Ok(node.pull(&caller, body, out).await?) };
    answer::<ImageInfo, _>(&state, request.asks(), Plain::Lines, Patience::Finish, call).await
}

async fn build(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let query = request.query::<BuildParameters>()?.query()?;
    request.check_content_type("application/x-tar")?;
    let (node, body) = (state.node.clone(), request.take_body());
    let caller = request.caller.clone();
    let call =
        |out| with_upload(body, |context| async move { Ok(node.build(&caller, query, context, out).await?) });
    answer::<ImageInfo, _>(&state, request.asks(), Plain::Lines, Patience::Finish, call).await
}
