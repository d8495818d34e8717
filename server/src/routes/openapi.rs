//! `/openapi.json`: the contract as OpenAPI 3.1, made of the table of routes and the schemas of the types.

use std::sync::Arc;

use gx_core::api::{ApiError, End, IDEMPOTENCY_KEY, STREAM_TYPE, path};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, SchemaOf, State, Takes, answer, handler, schema, speedtest, table};
use crate::node::{Verb, authorize};

pub(super) const ROUTES: &[Route] = &[Route {
    method: "GET",
    path: path::OPENAPI,
    about: "This document.",
    query: None,
    takes: Takes::Nothing,
    gives: Gives::Json(200, schema::<Map<String, Value>>),
    handler: handler!(openapi),
}];

async fn openapi(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    authorize(&request.caller, Verb::Describe, None)?;
    Ok(answer::json(StatusCode::OK, &document(state.node.version())))
}

/// Returns the document.
pub(super) fn document(version: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in table() {
        let operation = operation(route, &mut generator);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.to_ascii_lowercase()] = operation;
    }
    generator.subschema_for::<ApiError>();
    generator.subschema_for::<End>();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "gx host", "version": version, "license": { "name": "MIT OR Apache-2.0" } },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({ "summary": route.about, "responses": responses(route, generator) });
    let parameters = parameters(route, generator);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let mut body = |kind: &str, schema: Value, required: bool| {
        operation["requestBody"] = json!({ "required": required, "content": { kind: { "schema": schema } } });
    };
    match &route.takes {
        Takes::Nothing => {}
        Takes::Json(schema) => body("application/json", schema(generator).into(), true),
        Takes::MaybeJson(schema) => body("application/json", schema(generator).into(), false),
        Takes::Form(schema) => {
            let part = json!({ "type": "object", "required": ["json"], "properties": { "json": Value::from(schema(generator)) } });
            body("multipart/form-data", part, true);
        }
        Takes::Tar => body("application/x-tar", json!({}), true),
        Takes::Bytes => body("application/octet-stream", json!({}), false),
    }
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        let about = "An id, the beginning of one, or a name.";
        parameters.push(
            json!({ "name": "id", "in": "path", "required": true, "description": about, "schema": text }),
        );
    }
    if (route.method, route.path) == ("POST", path::CONTAINERS) {
        let about = "A key under which the request may be repeated.";
        parameters
            .push(json!({ "name": IDEMPOTENCY_KEY, "in": "header", "description": about, "schema": text }));
    }
    if let Some(query) = route.query {
        parameters.extend(query_parameters(query, generator));
    }
    parameters
}

/// Returns a parameter for each property of a flat type.
fn query_parameters(query: SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let reference: Value = query(generator).into();
    let name =
        reference["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
    let schema: Value = generator.definitions().get(name).cloned().unwrap_or_default();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({
            "name": name, "in": "query", "required": required.contains(&name.as_str()),
            "description": about.unwrap_or_default(), "schema": schema,
        })
    };
    properties.into_iter().map(parameter).collect()
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let frames = json!({ "schema": { "description": "Frames; the last has an End." } });
    let (status, content) = match &route.gives {
        Gives::Json(status, schema) => {
            (*status, json!({ "application/json": { "schema": Value::from(schema(generator)) } }))
        }
        Gives::Value(status, schema) => {
            let value = Value::from(schema(generator));
            (*status, json!({ "application/json": { "schema": value }, STREAM_TYPE: frames }))
        }
        Gives::Stream(plain) => (200, json!({ *plain: {}, STREAM_TYPE: frames })),
        Gives::Text => (200, json!({ "text/plain": {} })),
        Gives::Bytes => (200, json!({ "application/octet-stream": {} })),
        Gives::Nothing => (200, json!({})),
        Gives::WebSocket => (101, json!({})),
    };
    let error = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/ApiError" } } });
    let mut responses = json!({ status.to_string(): { "description": "It went well.", "content": content } });
    for (status, about) in errors(route) {
        responses[status.to_string()] = json!({ "description": about, "content": error });
    }
    responses
}

type Errors = &'static [(u16, &'static str)];

/// Of every route.
const ALWAYS: Errors = &[
    (400, "The request is wrong; `field` says where."),
    (403, "The caller may not do this, or is a page in a browser."),
    (421, "The request is for another host."),
    (429, "Too much is asked for; `retry_after_ms` may say when to ask again."),
    (500, "A fault of the host; its log has the rest, under the request's id."),
    (503, "A runtime is down, or the host is shutting down."),
];
/// Of what has a body.
const OF_BODIES: Errors = &[
    (408, "The body did not come in time."),
    (413, "The body is too large."),
    (415, "The body is of another type."),
];
/// Of what a runtime is asked for.
const OF_RUNTIMES: Errors = &[
    (404, "There is no such container, image, runtime or file."),
    (409, "What is there is in the way: a name or a port that is taken, a state that does not allow it."),
    (501, "The runtime cannot do this."),
    (504, "The runtime did not answer in time."),
];
/// Of what fetches from a registry.
const OF_REGISTRIES: Errors = &[(401, "The registry wants another login.")];
/// Of tests of throughput.
const OF_TESTS: Errors = &[(401, "The token is not one of this host, or is over.")];
/// Of WebSockets.
const OF_SOCKETS: Errors = &[(426, "The request asks for no WebSocket.")];

/// Returns what a route may answer when it does not go well.
fn errors(route: &Route) -> impl Iterator<Item = &'static (u16, &'static str)> {
    let when = |holds: bool, errors: Errors| if holds { errors } else { &[] };
    let fetches = [path::CONTAINERS, path::IMAGES_PULL, path::IMAGES_BUILD].contains(&route.path);
    [
        ALWAYS,
        when(!matches!(route.takes, Takes::Nothing), OF_BODIES),
        when(route.path.starts_with("/v1/"), OF_RUNTIMES),
        when(fetches && route.method == "POST", OF_REGISTRIES),
        when(speedtest::is_bulk(route.method, route.path), OF_TESTS),
        when(matches!(route.gives, Gives::WebSocket), OF_SOCKETS),
    ]
    .into_iter()
    .flatten()
}
