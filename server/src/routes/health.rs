//! `/healthz`: whether the server runs. It asks no engine.

use std::sync::Arc;

use gx_core::api::path;
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::json;
use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, State, Takes, handler, schema};
use crate::node::{Verb, authorize};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::HEALTHZ,
    about: "Whether the server runs.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::Json(200, schema::<Alive>),
    handler: handler!(healthz),
}];

/// The server runs.
#[derive(Serialize, JsonSchema)]
struct Alive {
    /// `ok`.
    status: &'static str,
    /// The version of gx.
    version: String,
}

async fn healthz(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    let alive = Alive { status: "ok", version: state.node.version().to_owned() };
    Ok(json(StatusCode::OK, &alive))
}
