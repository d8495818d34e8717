//! `/v1/join`, `/v1/whoami`, `/v1/identity`, `/v1/invites` and `/v1/members`: who the host lends to.

use std::sync::Arc;

use gx_core::api::{
    AllowRequest, IdentityInfo, InviteInfo, InviteList, InviteRequest, Invited, JoinRequest, MemberInfo,
    MemberList, Removal, RemoveMember, Rotation, Whoami, path,
};
use warp::http::StatusCode;
use warp::reply::Response;

use super::answer::{Patience, Plain, answer, json};
use super::failure::Failure;
use super::request::Request;
use super::{Gives, Route, State, Takes, handler, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: path::JOIN,
        about: "Makes the caller a member, by a ticket; again it changes nothing.",
        query: None,
        takes: Takes::Json(schema::<JoinRequest>),
        gives: Gives::Json(200, schema::<Whoami>),
        handler: handler!(join),
    },
    Route {
        method: "GET",
        path: path::WHOAMI,
        about: "Who the caller is to this host, and what it may have.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<Whoami>),
        handler: handler!(whoami),
    },
    Route {
        method: "GET",
        path: path::IDENTITY,
        about: "Who the host is, and its changes of key, each signed by both.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<IdentityInfo>),
        handler: handler!(identity),
    },
    Route {
        method: "POST",
        path: path::IDENTITY,
        about: "Notes the caller's new key, by what both its keys have signed.",
        query: None,
        takes: Takes::Json(schema::<Rotation>),
        gives: Gives::Json(200, schema::<Whoami>),
        handler: handler!(rotate),
    },
    Route {
        method: "POST",
        path: path::INVITES,
        about: "Makes an invitation; the answer is the only one that tells its ticket.",
        query: None,
        takes: Takes::Json(schema::<InviteRequest>),
        gives: Gives::Json(201, schema::<Invited>),
        handler: handler!(invite),
    },
    Route {
        method: "GET",
        path: path::INVITES,
        about: "The invitations that are good still, the newest first.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<InviteList>),
        handler: handler!(invites),
    },
    Route {
        method: "DELETE",
        path: "/v1/invites/{id}",
        about: "Takes an invitation back; who has joined with it stays.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<InviteInfo>),
        handler: handler!(revoke),
    },
    Route {
        method: "GET",
        path: path::MEMBERS,
        about: "The members, by name and id.",
        query: None,
        takes: Takes::Nothing,
        gives: Gives::Json(200, schema::<MemberList>),
        handler: handler!(members),
    },
    Route {
        method: "PUT",
        path: "/v1/members/{id}",
        about: "Makes the node with this id a member, or changes what it may have.",
        query: None,
        takes: Takes::MaybeJson(schema::<AllowRequest>),
        gives: Gives::Json(200, schema::<MemberInfo>),
        handler: handler!(allow),
    },
    Route {
        method: "DELETE",
        path: "/v1/members/{id}",
        about: "Removes a member: its sessions end at once, its containers are stopped, kept or removed.",
        query: Some(schema::<RemoveMember>),
        takes: Takes::Nothing,
        gives: Gives::Value(200, schema::<Removal>),
        handler: handler!(disallow),
    },
];

async fn join(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: JoinRequest = request.json().await?;
    Ok(json(StatusCode::OK, &state.node.join(&request.caller, body).await?))
}

async fn whoami(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.whoami(&request.caller).await?))
}

async fn identity(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.identity(&request.caller).await?))
}

async fn rotate(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: Rotation = request.json().await?;
    Ok(json(StatusCode::OK, &state.node.rotate(&request.caller, body).await?))
}

async fn invite(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: InviteRequest = request.json().await?;
    Ok(json(StatusCode::CREATED, &state.node.invite(&request.caller, body).await?))
}

async fn invites(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.invites(&request.caller).await?))
}

async fn revoke(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.revoke_invite(&request.caller, &request.reference).await?))
}

async fn members(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &state.node.members(&request.caller).await?))
}

async fn allow(state: Arc<State>, mut request: Request) -> Result<Response, Failure> {
    let body: AllowRequest = request.json_or_default().await?;
    Ok(json(StatusCode::OK, &state.node.allow(&request.caller, &request.reference, body).await?))
}

async fn disallow(state: Arc<State>, request: Request) -> Result<Response, Failure> {
    let how: RemoveMember = request.query()?;
    let (node, id, plain) = (state.node.clone(), request.reference.clone(), Plain::Json(StatusCode::OK));
    let caller = request.caller.clone();
    let call = |_| async move { Ok(node.disallow(&caller, &id, how).await?) };
    answer::<Removal, _>(&state, request.asks(), plain, Patience::Finish, call).await
}
