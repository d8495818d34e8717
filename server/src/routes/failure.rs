//! What a request may fail with, and its status. What the node says comes from [`ServerError`]; what is wrong with the
//! request itself is here.

use std::time::Duration;

use gx_core::ErrorCode;
use gx_core::api::ApiError;
use gx_core::units::Span;
use warp::http::header::{ALLOW, RETRY_AFTER};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use crate::error::ServerError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Node(#[from] ServerError),
    #[error("there is nothing at {path}")]
    NoRoute { path: String },
    #[error("{path} takes {}", .allowed.join(" or "))]
    Method { path: String, allowed: Vec<&'static str> },
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body's type is not {wanted}")]
    ContentType { wanted: &'static str },
    #[error("{message}")]
    Field { field: String, message: String },
    #[error("the body broke off")]
    BodyLost,
    #[error("the body did not come in time")]
    BodySlow,
    #[error("a page in a browser may not use this host")]
    Browser,
    #[error("this host is not {host}")]
    Host { host: String },
    #[error("this is a WebSocket, and the request asks for none")]
    NoWebSocket,
    #[error("{limit} commands run through this host at a time, and no more")]
    TooManyExecs { limit: usize },
    #[error("{limit} connections lead through this host at a time, and no more")]
    TooManyTunnels { limit: usize },
    #[error("{limit} watch what happens on this host at a time, and no more")]
    TooManyWatches { limit: usize },
    #[error("{limit} talk on this host at a time, and no more")]
    TooManyChats { limit: usize },
    #[error("{limit} tests of this host's throughput run at a time, and no more")]
    TooManyTests { limit: u16, retry_after: Duration },
    #[error("this host has been measured enough for now")]
    MeasuredOut { retry_after: Duration },
    #[error("the token is not one of this host, or is over")]
    Token,
    #[error("the request cannot be read")]
    Malformed,
    #[error("there are more requests than this host answers")]
    TooFast { wait: Duration },
    #[error("whoever asked is gone")]
    Gone,
}

impl Failure {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { field: field.into(), message: message.into() }
    }

    /// Returns whether more was asked for than one caller gets: it may come as often as they like.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::TooFast { .. } | Self::TooManyTests { .. } | Self::MeasuredOut { .. })
    }

    /// Returns the status and what the client is told.
    pub(crate) fn api(&self) -> (StatusCode, ApiError) {
        let (status, code) = match self {
            Self::Node(error) => return (status_of(error.code()), error.api()),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::InvalidArgument),
            Self::ContentType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidArgument),
            Self::Field { .. } | Self::BodyLost | Self::Malformed => {
                (StatusCode::BAD_REQUEST, ErrorCode::InvalidArgument)
            }
            Self::BodySlow => (StatusCode::REQUEST_TIMEOUT, ErrorCode::DeadlineExceeded),
            Self::Browser => (StatusCode::FORBIDDEN, ErrorCode::PermissionDenied),
            Self::Host { .. } => (StatusCode::MISDIRECTED_REQUEST, ErrorCode::PermissionDenied),
            Self::NoWebSocket => (StatusCode::UPGRADE_REQUIRED, ErrorCode::InvalidArgument),
            Self::TooManyExecs { .. }
            | Self::TooManyTunnels { .. }
            | Self::TooManyWatches { .. }
            | Self::TooManyChats { .. }
            | Self::TooManyTests { .. }
            | Self::MeasuredOut { .. }
            | Self::TooFast { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::ResourceExhausted),
            Self::Token => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated),
            Self::Gone => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Cancelled),
        };
        let field = match self {
            Self::Field { field, .. } => Some(field.clone()),
            _ => None,
        };
        let hint = match self {
            Self::NoRoute { .. } => Some("/openapi.json lists what there is".to_owned()),
            Self::TooFast { wait } => Some(format!("wait {}, and ask less often", Span(round_up(*wait)))),
            Self::Token => Some("ask this host for another at /speedtest/token".to_owned()),
            Self::TooManyTests { .. } => {
                Some("pings are always answered; `tests` in [server.measure] on the host".to_owned())
            }
            Self::MeasuredOut { .. } => {
                Some("try again in a minute; the budgets are in [server.measure] on the host".to_owned())
            }
            _ => None,
        };
        let retry_after_ms = match self {
            Self::TooFast { wait: retry_after }
            | Self::TooManyTests { retry_after, .. }
            | Self::MeasuredOut { retry_after } => {
                Some(u32::try_from(round_up(*retry_after).as_millis()).unwrap_or(u32::MAX))
            }
            _ => None,
        };
        let message = self.to_string();
        (status, ApiError { code, message, hint, field, retry_after_ms, request_id: None })
    }

    /// Returns the answer to the request with this id.
    pub(crate) fn response(&self, request_id: &str) -> Response {
        let (status, mut told) = self.api();
        told.request_id = Some(request_id.to_owned());
        let mut response = warp::reply::with_status(warp::reply::json(&told), status).into_response();
        let headers = response.headers_mut();
        if let Self::Method { allowed, .. } = self
            && let Ok(allowed) = HeaderValue::from_str(&allowed.join(", "))
        {
            headers.insert(ALLOW, allowed);
        }
        if let Some(ms) = told.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        response
    }
}

/// Returns whole milliseconds, at least one.
fn round_up(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).max(1))
}

/// Returns the status that goes with a code.
fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists | ErrorCode::FailedPrecondition => StatusCode::CONFLICT,
        ErrorCode::Unavailable | ErrorCode::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        // The list of codes may grow; what is not known is a fault.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
