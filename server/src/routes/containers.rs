//! `/v1/containers` and what is below it, but for exec.

use std::sync::Arc;

use gx_core::api::{ContainerInfo, ContainerList, CreateRequest, ExtendRequest, path};
use gx_core::runtime::{LogOptions, RemoveOptions, StopOptions};
use gx_core::{ContainerId, Exit};
use schemars::JsonSchema;
use serde::Deserialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::{Patience, Plain, answer, json};
use super::failure::Failure;
use super::request::{Request, with_upload};
use super::{Gives, Route, State, Takes, handler, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: path::CONTAINERS,
        about: "Makes a container and starts it; with an Idempotency-Key the request may be repeated.",
        query: None,
        takes: Takes::Json(schema::<CreateRequest>),
        gives: Gives::Value(201, schema::<ContainerInfo>),
        handler: handler!(create),
    },
    Route {
        method: "GET",
        path: path::CONTAINERS,
        about: "The caller's containers, newest first.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ContainerList>),
        handler: handler!(list),
    },
    Route {
        method: "GET",
        path: "/v1/containers/{id}",
        about: "Everything about a container.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<ContainerInfo>),
        handler: handler!(show),
    },
    Route {
        method: "DELETE",
        path: "/v1/containers/{id}",
        about: "Removes a container; a running one only with force.",
        query: Some(schema::<RemoveOptions>),
        takes: Takes::Nothing,
        gives: Gives::Value(200, schema::<ContainerId>),
        handler: handler!(remove),
    },
    Route {
        method: "POST",
        path: "/v1/containers/{id}/start",
        about: "Starts a container that is not running.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Value(200, schema::<ContainerInfo>),
        handler: handler!(start),
    },
    Route {
        method: "POST",
        path: "/v1/containers/{id}/stop",
        about: "Stops a container.",
        query: None,
        takes: Takes::MaybeJson(schema::<StopOptions>),
        gives: Gives::Value(200, schema::<ContainerInfo>),
        handler: handler!(stop),
    },
    Route {
        method: "POST",
        path: "/v1/containers/{id}/passwd",
        about: "Makes new passwords for SSH and the desktop, told in this answer only.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Value(200, schema::<ContainerInfo>),
        handler: handler!(passwd),
    },
    Route {
        method: "POST",
        path: "/v1/containers/{id}/extend",
        about: "Makes a lease longer: the time is added to its end.",
        query: None,
        takes: Takes::Json(schema::<ExtendRequest>),
        gives: Gives::Value(200, schema::<ContainerInfo>),
        handler: handler!(extend),
    },
    Route {
        method: "POST",
        path: "/v1/containers/{id}/wait",
        about: "Waits until the main process has ended.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Value(200, schema::<Exit>),
        handler: handler!(wait),
    },
    Route {
        method: "GET",
        path: "/v1/containers/{id}/logs",
        about: "The output of the main process.",
        query: Some(schema::<LogOptions>),
        takes: Takes::Nothing,
        gives: Gives::Stream("text/plain"),
        handler: handler!(logs),
    },
    Route {
        method: "GET",
        path: "/v1/containers/{id}/stats",
        about: "What a container uses.",
        query: Some(schema::<StatsQuery>),
        takes: Takes::Nothing,
        gives: Gives::Stream("application/x-ndjson"),
        handler: handler!(stats),
    },
    Route {
        method: "GET",
        path: "/v1/containers/{id}/archive",
        about: "A tar archive of a file or folder.",
        query: Some(schema::<PathQuery>),
        takes: Takes::Nothing,
        gives: Gives::Stream("application/x-tar"),
        handler: handler!(copy_out),
    },
    Route {
        method: "PUT",
        path: "/v1/containers/{id}/archive",
        about: "Unpacks a tar archive below a folder.",
        query: Some(schema::<PathQuery>),
        takes: Takes::Tar,
        gives: Gives::Value(200, schema::<()>),
        handler: handler!(copy_in),
    },
];

/// The shortest time between two statistics, in milliseconds.
const MIN_STATS_MS: u32 = 100;

#[derive(Deserialize, JsonSchema)]
struct StatsQuery {
    /// The time between two, in milliseconds; 0 is just one.
    #[serde(default)]
    every_ms: u32,
}

#[derive(Deserialize, JsonSchema)]
struct PathQuery {
    /// The path in the container.
    path: String,
}

async fn create(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let key = request.key()?;
    let body: CreateRequest = request.json().await?;
    let (node, plain) = (state.node.clone(), Plain::Json(StatusCode::CREATED));
    let caller = request.caller.clone();
    let call = |out| async move { Ok(node.create(&caller, body, key, out).await?) };
    answer::<ContainerInfo, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn list(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let list: ContainerList = state.node.list(&request.caller).await?;
    Ok(json(StatusCode::OK, &list))
}

async fn show(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.show(&request.caller, &request.reference).await?))
}

async fn remove(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let options: RemoveOptions = request.query()?;
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.remove(&caller, &id, options).await?) };
    answer::<ContainerId, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn start(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.start(&caller, &id).await?) };
    answer::<ContainerInfo, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn stop(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let options: StopOptions = request.json_or_default().await?;
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.stop(&caller, &id, options).await?) };
    answer::<ContainerInfo, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn passwd(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.passwd(&caller, &id).await?) };
    answer::<ContainerInfo, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn extend(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: ExtendRequest = request.json().await?;
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.extend(&caller, &id, body).await?) };
    answer::<ContainerInfo, _>(&state, request.asks(), plain, Patience::Finish, call).await
}

async fn wait(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.wait(&caller, &id).await?) };
    answer::<Exit, _>(&state, request.asks(), plain, Patience::Drop, call).await
}

async fn logs(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let options: LogOptions = request.query()?;
    let (node, id) = (state.node.clone(), request.reference.clone());
    let patience = if options.follow { Patience::Drop } else { Patience::Finish };
    let caller = request.caller.clone();
    let call = |out| async move { Ok(node.logs(&caller, &id, options, out).await?) };
    answer::<(), _>(&state, request.asks(), Plain::Text, patience, call).await
}

async fn stats(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let every_ms = match request.query::<StatsQuery>()?.every_ms {
        0 => 0,
        every_ms => every_ms.max(MIN_STATS_MS),
    };
    let (node, id) = (state.node.clone(), request.reference.clone());
    let caller = request.caller.clone();
    let call = |out| async move { Ok(node.stats(&caller, &id, every_ms, out).await?) };
    answer::<(), _>(&state, request.asks(), Plain::Events, Patience::Drop, call).await
}

async fn copy_out(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let PathQuery { path } = request.query()?;
    let (node, id) = (state.node.clone(), request.reference.clone());
    let caller = request.caller.clone();
    let call = |out| async move { Ok(node.copy_out(&caller, &id, &path, out).await?) };
    answer::<(), _>(&state, request.asks(), Plain::Tar, Patience::Finish, call).await
}

async fn copy_in(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let PathQuery { path } = request.query()?;
    request.check_content_type("application/x-tar")?;
    let (node, id, body) = (state.node.clone(), request.reference.clone(), request.take_body());
    let caller = request.caller.clone();
    let call = |_| {
        let unpack = |archive| async move { Ok(node.copy_in(&caller, &id, &path, archive).await?) };
        with_upload(body, unpack)
    };
    answer::<(), _>(&state, request.asks(), Plain::Json(StatusCode::OK), Patience::Finish, call).await
}
