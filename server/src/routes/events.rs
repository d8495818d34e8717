//! `/v1/events`: what happens to containers, as it happens.

use std::sync::Arc;

use gx_core::Timestamp;
use gx_core::api::path;
use schemars::JsonSchema;
use serde::Deserialize;
use warp::reply::Response;

use super::answer::{Patience, Plain, answer};
use super::failure::Failure;
use super::request::Request;
use super::{Gives, MAX_WATCHES, Route, State, Takes, handler, schema};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::EVENTS,
    about: "What happens to the caller's containers, as it happens.",
    query: Some(schema::<EventsQuery>),
    takes: Takes::Nothing,
    gives: Gives::Stream("application/x-ndjson"),
    handler: handler!(events),
}];

#[derive(Deserialize, JsonSchema)]
struct EventsQuery {
    /// From when on; without it from now on. An engine remembers only so much.
    since: Option<Timestamp>,
}

async fn events(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let EventsQuery { since } = request.query()?;
    let permit = state.watches.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Failure::TooManyWatches { limit: MAX_WATCHES })?;
    let (node, caller) = (state.node.clone(), request.caller.clone());
    let call = |out| async move {
        let _permit = permit;
        Ok(node.events(&caller, since, out).await?)
    };
    answer::<(), _>(&state, request.asks(), Plain::Events, Patience::Drop, call).await
}
