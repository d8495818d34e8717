//! One way to one instance of a plugin, whether it runs here or in a child; and a call made over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gx_core::plugin::abi::{MAX_BODY_BYTES, status};
use gx_core::plugin::method;
use gx_core::{ErrorCode, RuntimeError};
use tokio::sync::oneshot;

use crate::calls::{Calls, Done, Streams, TOO_LATE};
use crate::library::status_name;
use crate::text::{clean, clean_error};

/// How much longer than the plugin the host waits for the end of a call.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// The verbs of the plugin boundary. What comes back comes through [`Calls`].
pub(crate) trait Link: Send + Sync {
    /// Begins a call; a status other than `OK` says that it did not begin.
    fn call(&self, call: u64, method: u32, timeout_ms: u32, body: &[u8]) -> i32;
    /// Ends a call soon.
    fn cancel(&self, call: u64);
    /// Lets a call emit so many bytes more; 0: nobody reads any more.
    fn credit(&self, call: u64, bytes: u32);
    /// Hands input to a call.
    fn input(&self, call: u64, kind: u32, chunk: &[u8]) -> i32;
    /// Ends the instance; blocks for up to `grace`.
    fn shutdown(&self, grace: Duration);
    /// Ends an instance that does not answer, where that is possible.
    fn kill(&self, why: &str);
}

/// A live instance: the way to it, and the calls under way.
pub(crate) struct Session {
    pub(crate) link: Box<dyn Link>,
    pub(crate) calls: Arc<Calls>,
}

impl Session {
    /// Begins a call.
    ///
    /// # Errors
    /// `ResourceExhausted` for a body beyond the cap, `Unavailable` when the plugin takes none.
    pub(crate) fn begin(
        self: &Arc<Self>,
        method: u32,
        timeout_ms: u32,
        body: &[u8],
        streamed: bool,
    ) -> Result<(Call, Option<Streams>), RuntimeError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(RuntimeError::new(ErrorCode::InvalidArgument, "the request is larger than 16 MiB"));
        }
        let limit = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()) + TIMEOUT_MARGIN);
        let (id, done, streams) = self.calls.enter(method, limit, streamed);
        let call = Call { session: self.clone(), id, method, timeout_ms, done, ended: false };
        match self.link.call(id, method, timeout_ms, body) {
            status::OK => {
                self.calls.taken(id);
                Ok((call, streams))
            }
            refused => {
                self.calls.complete(id, refused, crate::calls::Body::Lent(&[]));
                Err(self.refused(method, refused))
            }
        }
    }

    /// Returns what the end of a call means.
    ///
    /// # Errors
    /// What the plugin says, or what became of it.
    pub(crate) fn outcome<'a>(&self, number: u32, done: &'a Done) -> Result<&'a Bytes, RuntimeError> {
        if done.status == status::OK { Ok(&done.body) } else { Err(self.failed(number, done)) }
    }

    fn failed(&self, number: u32, done: &Done) -> RuntimeError {
        let said = serde_json::from_slice::<RuntimeError>(&done.body).map(clean_error);
        let (plugin, method) = (self.calls.plugin(), method::name(number));
        match (done.status, said) {
            (status::ERR, Ok(error)) => error,
            (status::ERR, Err(_)) => RuntimeError::new(
                ErrorCode::Internal,
                format!("the plugin {plugin} failed in {method}, and its error cannot be read"),
            )
            .backend(clean(&String::from_utf8_lossy(&done.body[..done.body.len().min(4_000)]))),
            (status::PANICKED, said) => {
                let said = said.map_or_else(|_| "panicked".to_owned(), |error| error.message);
                RuntimeError::new(
                    ErrorCode::Internal,
                    format!("the plugin {plugin} failed in {method}: {said}"),
                )
                .hint("this is a fault of the plugin; it can still be used")
            }
            (status, _) => self.refused(number, status),
        }
    }

    fn refused(&self, number: u32, status: i32) -> RuntimeError {
        let (plugin, method) = (self.calls.plugin(), method::name(number));
        match status {
            status::CANCELLED => RuntimeError::new(ErrorCode::Cancelled, format!("{method} was cancelled")),
            status::UNSUPPORTED => RuntimeError::unsupported(method),
            status::GONE => gone(plugin, method),
            status::NO_CREDIT => RuntimeError::new(
                ErrorCode::ResourceExhausted,
                format!("{method} of the plugin {plugin} is larger than 16 MiB, or its queue is full"),
            ),
            other => RuntimeError::new(
                ErrorCode::Internal,
                format!("the plugin {plugin} failed in {method}: {}", status_name(other)),
            ),
        }
    }
}

/// A call under way. Dropping it cancels.
pub(crate) struct Call {
    session: Arc<Session>,
    id: u64,
    method: u32,
    timeout_ms: u32,
    done: oneshot::Receiver<Done>,
    ended: bool,
}

impl Call {
    /// Waits for the end, at most two seconds longer than the plugin should need.
    ///
    /// # Errors
    /// What the plugin says, or what became of it.
    pub(crate) async fn done(mut self) -> Result<Bytes, RuntimeError> {
        let done = match self.session.calls.eager().wait(&mut self.done) {
            Some(done) => Ok(done),
            None => (&mut self.done).await,
        };
        if let Ok(Done { status: TOO_LATE, .. }) = done {
            return Err(self.too_late()); // dropping this cancels
        }
        self.ended = true;
        match done {
            Ok(done) => self.session.outcome(self.method, &done).cloned(),
            Err(_) => Err(self.session.refused(self.method, status::GONE)),
        }
    }

    /// Gives the plugin credit for so many bytes more.
    pub(crate) fn credit(&self, bytes: u32) {
        self.session.calls.credit(self.id, bytes);
        self.session.link.credit(self.id, bytes);
    }

    /// Tells the plugin that nobody reads any more.
    pub(crate) fn nobody_reads(&self) {
        self.session.link.credit(self.id, 0);
    }

    /// Hands input to the plugin, within its window.
    pub(crate) fn input(&self, kind: u32, chunk: &[u8]) -> i32 {
        self.session.link.input(self.id, kind, chunk)
    }

    fn too_late(&self) -> RuntimeError {
        let (plugin, method, limit) =
            (self.session.calls.plugin(), method::name(self.method), self.timeout_ms);
        RuntimeError::new(
            ErrorCode::DeadlineExceeded,
            format!("the plugin {plugin} did not answer {method} within {limit} ms"),
        )
    }
}

/// Says that a plugin went away while it worked. Field `plugin` tells it from an engine that is down.
pub(crate) fn gone(plugin: &str, method: &str) -> RuntimeError {
    RuntimeError::new(ErrorCode::Unavailable, format!("the plugin {plugin} went away during {method}"))
        .field("plugin")
        .hint("it is started again; try once more")
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended && self.session.calls.abandon(self.id) {
            self.session.link.cancel(self.id);
        }
    }
}
