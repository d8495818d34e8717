//! Answers: a value as JSON, or a stream of items and then the value. The call runs in a task that is dropped with the
//! answer, so a client that goes away ends it; a slow reader makes it wait.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use gx_core::api::frame::Frame;
use gx_core::api::{End, STREAM_TYPE};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Item, Items, Kind, Output, pipe};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::State;
use super::failure::Failure;
use super::request::{Asks, Format};
use super::trail::Trail;
use crate::error::{ServerError, TrustError};
use crate::node::Caller;
use crate::serve::closed;

/// How long the first item is waited for: an error that comes before has a status of its own.
const FIRST_ITEM: Duration = Duration::from_secs(1);
/// How long a framed answer is silent before a sign of life.
const ALIVE: Duration = Duration::from_secs(10);

/// How an answer looks for those who do not ask for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    /// The value alone, as JSON.
    Json(StatusCode),
    /// Each item is a line of JSON; the last line is an [`End`].
    Lines,
    /// Each event is a line of JSON.
    Events,
    /// The bytes, as text.
    Text,
    /// The bytes, as an archive.
    Tar,
}

/// How long a call may go on when the server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is given some time.
    Finish,
    /// It has no end of its own, and is dropped at once.
    Drop,
}

/// Makes a call and answers with what it writes and returns. It is dropped when the caller is a member no longer.
pub(crate) async fn answer<T, F>(
    state: &State,
    asks: Asks,
    plain: Plain,
    patience: Patience,
    call: impl FnOnce(Output) -> F,
) -> Result<Response, Failure>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let Asks { format, caller, trail } = asks;
    if let (Plain::Json(status), Format::Plain) = (plain, format) {
        let value = Call::begin(state, &caller, patience, call(Output::null())).result().await?;
        trail.returned(&value);
        return Ok(json(status, &value));
    }
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let call = Call::begin(state, &caller, patience, call(out));
    let status = match plain {
        Plain::Json(status) => status,
        Plain::Lines | Plain::Events | Plain::Text | Plain::Tar => StatusCode::OK,
    };
    let style = match format {
        Format::Frames => Style::Frames,
        Format::Plain => Style::Plain(plain),
    };
    let mut running = Running { items, call, first: None, style, trail };
    if let Ok(first) = tokio::time::timeout(FIRST_ITEM, running.items.next()).await {
        running.first = Some(match first {
            Some(item) => Step::Item(item),
            None => Step::End(running.call.result().await?),
        });
    }
    running.trail.streams();
    Ok(streamed(status, running))
}

/// Returns a value as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    warp::reply::with_status(warp::reply::json(value), status).into_response()
}

/// Returns JSON that is written already.
pub(crate) fn json_text(status: StatusCode, text: Bytes) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A call in a task; dropping it drops the call.
struct Call(JoinHandle<Result<Value, Failure>>);

impl Call {
    fn begin<T, F>(state: &State, caller: &Caller, patience: Patience, call: F) -> Self
    where
        T: Serialize + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let mut closing = state.closing.clone();
        let (node, caller) = (state.node.clone(), caller.clone());
        Self(tokio::spawn(async move {
            let value = tokio::select! {
                value = call => value?,
                () = node.dismissed(&caller) => return Err(ServerError::from(TrustError::Dismissed).into()),
                () = closed(&mut closing), if patience == Patience::Drop => {
                    return Err(ServerError::ShuttingDown.into());
                }
            };
            serde_json::to_value(value).map_err(|error| ServerError::Internal(error.to_string()).into())
        }))
    }

    /// Waits for the result; to be asked once.
    async fn result(&mut self) -> Result<Value, Failure> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "a call came to a violent end");
                Err(ServerError::Internal(error.to_string()).into())
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Frames,
    Plain(Plain),
}

enum Step {
    Item(Item),
    End(Value),
}

/// A streamed answer on its way.
struct Running {
    items: Items,
    call: Call,
    first: Option<Step>,
    style: Style,
    trail: Trail,
}

/// Says to the connection that the answer is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the call failed on the way")]
struct Broken;

fn streamed(status: StatusCode, running: Running) -> Response {
    let kind = match running.style {
        Style::Frames => STREAM_TYPE,
        Style::Plain(Plain::Json(_)) => "application/json",
        Style::Plain(Plain::Lines | Plain::Events) => "application/x-ndjson",
        Style::Plain(Plain::Text) => "text/plain; charset=utf-8",
        Style::Plain(Plain::Tar) => "application/x-tar",
    };
    let mut response = warp::reply::stream(body(running)).into_response();
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    response
}

fn body(running: Running) -> impl Stream<Item = Result<Bytes, Broken>> + Send + Sync {
    stream::unfold(Some(running), |running| async {
        let mut running = running?;
        loop {
            match running.next().await {
                Next::Bytes(bytes) => return Some((Ok(bytes), Some(running))),
                Next::Nothing => {}
                Next::Last(bytes) => return Some((Ok(bytes), None)),
                Next::Broken => return Some((Err(Broken), None)),
            }
        }
    })
}

/// What comes next in a body.
enum Next {
    Bytes(Bytes),
    Nothing,
    Last(Bytes),
    Broken,
}

impl Running {
    async fn next(&mut self) -> Next {
        match self.first.take() {
            Some(Step::Item(item)) => return self.item(item),
            Some(Step::End(value)) => return self.end(Ok(value)),
            None => {}
        }
        match tokio::time::timeout(ALIVE, self.items.next()).await {
            Ok(Some(item)) => self.item(item),
            Ok(None) => {
                let result = self.call.result().await;
                self.end(result)
            }
            Err(_) => self.alive(),
        }
    }

    fn item(&self, item: Item) -> Next {
        match self.style {
            Style::Frames => Next::Bytes(Frame::Item(item).encode()),
            Style::Plain(Plain::Text | Plain::Tar) => match item.kind {
                Kind::Stdout | Kind::Stderr => Next::Bytes(item.bytes),
                Kind::Event | Kind::Progress => Next::Nothing,
            },
            Style::Plain(Plain::Lines | Plain::Events) => match item.kind {
                Kind::Event | Kind::Progress => Next::Bytes(line(&item.bytes)),
                Kind::Stdout | Kind::Stderr => Next::Nothing,
            },
            Style::Plain(Plain::Json(_)) => Next::Nothing,
        }
    }

    fn alive(&self) -> Next {
        match self.style {
            Style::Frames => Next::Bytes(Frame::Alive.encode()),
            Style::Plain(_) => Next::Nothing,
        }
    }

    fn end(&self, result: Result<Value, Failure>) -> Next {
        let failed = result.is_err();
        let end = match result {
            Ok(value) => {
                self.trail.returned(&value);
                self.trail.ended(None);
                End::Ok(value)
            }
            Err(failure) => {
                self.trail.ended(Some(&failure));
                End::Error(failure.api().1)
            }
        };
        match self.style {
            Style::Frames => Next::Last(Frame::End(end).encode()),
            Style::Plain(Plain::Lines) => Next::Last(line(&end_json(&end))),
            Style::Plain(Plain::Events) if failed => Next::Last(line(&end_json(&end))),
            Style::Plain(_) if failed => Next::Broken,
            Style::Plain(_) => Next::Last(Bytes::new()),
        }
    }
}

fn end_json(end: &End) -> Vec<u8> {
    serde_json::to_vec(end).expect("our own types always become JSON")
}

fn line(json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend_from_slice(json);
    line.push(b'\n');
    line.into()
}
