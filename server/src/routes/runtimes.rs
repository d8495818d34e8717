//! `/v1/runtimes`: the state of every runtime.

use std::sync::Arc;

use gx_core::api::{RuntimeStatus, path};
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::json;
use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, State, Takes, handler, schema};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::RUNTIMES,
    about: "The state of every runtime; the first healthy one is the default.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::Json(200, schema::<Vec<RuntimeStatus>>),
    handler: handler!(runtimes),
}];

async fn runtimes(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.runtimes(&request.caller).await?))
}
