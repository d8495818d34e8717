//! `/server_specs`: what the machine is and lends.

use std::sync::Arc;

use gx_core::api::{ServerSpecs, path};
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::json_text;
use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, State, Takes, handler, schema};
use crate::node::{Verb, authorize};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::SERVER_SPECS,
    about: "What the machine is and lends.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::Json(200, schema::<ServerSpecs>),
    handler: handler!(server_specs),
}];

async fn server_specs(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    Ok(json_text(StatusCode::OK, state.node.specs_as_json(&request.caller).await))
}
