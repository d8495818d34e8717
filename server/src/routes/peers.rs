//! `/ip_table`: the table of servers, to look at and to exchange; also at the predecessor's `/IpTable`.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use gx_core::api::path;
use gx_core::peers::file::{Reply, TablePage, Upload};
use gx_core::peers::{Page, form};
use schemars::{Schema, SchemaGenerator, json_schema};
use warp::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply as _, Response};

use super::answer::json;
use super::failure::Failure;
use super::request::{Request, parse};
use super::{Gives, Route, State, Takes, handler, schema};
use crate::node::TableQuery;

/// What is shorter goes as it is.
const WORTH_PACKING: usize = 1_024;

const fn get(path: &'static str) -> Route {
    Route {
        method: "GET",
        path,
        about: "Servers that this host knows, in the order of their node ids.",
        query: Some(schema::<TableQuery>),
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<TablePage>),
        handler: handler!(table),
    }
}

const fn post(path: &'static str) -> Route {
    Route {
        method: "POST",
        path,
        about: "Tells this host of servers, and is answered what is asked for; without a question the first page.",
        query: None,
        takes: Takes::Form(schema::<Upload>),
        gives: Gives::Json(200, answer_schema),
        handler: handler!(exchange),
    }
}

pub(super) const ROUTES: &[Route] =
    &[get(path::IP_TABLE), post(path::IP_TABLE), get(path::IP_TABLE_LEGACY), post(path::IP_TABLE_LEGACY)];

fn answer_schema(generator: &mut SchemaGenerator) -> Schema {
    let (reply, page) = (generator.subschema_for::<Reply>(), generator.subschema_for::<TablePage>());
    json_schema!({ "anyOf": [reply, page] })
}

async fn table(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let query: TableQuery = request.query()?;
    Ok(json(
        StatusCode::OK,
        &state.node.ip_table(&request.caller, request.connection.address(), query).await?,
    ))
}

async fn exchange(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body = request.form().await?;
    let upload: Upload = parse(&body)?;
    // More than a page has are refused as that.
    let rows = upload.ip_address.len().min(Page::MAX_RECORDS);
    state.node.take_checks(request.connection.address(), rows).map_err(|wait| Failure::TooFast { wait })?;
    let answer = state.node.exchange(&request.caller, request.connection.address(), upload).await?;
    let text = serde_json::to_vec(&answer).expect("our own types always become JSON");
    let takes_gzip = request.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_gzip = takes_gzip.is_some_and(|value| value.split(',').any(|one| one.trim() == "gzip"));
    let (body, packed) = match takes_gzip && text.len() >= WORTH_PACKING {
        true => (pack(&text), true),
        false => (text, false),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn pack(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::with_capacity(text.len() / 2), Compression::default());
    packer.write_all(text).and_then(|()| packer.finish()).expect("memory takes it")
}

// The form's limit is that of every body.
const _: () = assert!(form::MAX_BYTES == super::request::MAX_JSON_BYTES);
