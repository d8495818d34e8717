//! What is kept of a request from its beginning to its end: for the audit log, the log, and the figures.
//!
//! In the audit log is everything that changes something, every session with its end, and whatever is refused; not what
//! anybody may read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gx_core::api::path;
use gx_core::audit::{AuditEntry, AuditEvent, CallerKind};
use gx_core::{ErrorCode, NodeId, Timestamp};
use serde_json::Value;
use warp::http::StatusCode;

use super::failure::Failure;
use super::{Connection, Route, State, speedtest};
use crate::node::Caller;

/// A request, and what became of it.
#[derive(Clone)]
pub(crate) struct Trail(Arc<Track>);

struct Track {
    state: Arc<State>,
    id: String,
    caller: Caller,
    connection: Arc<Connection>,
    began: Instant,
    noted: Mutex<Noted>,
}

/// What is known of it so far.
#[derive(Debug, Clone, Default)]
struct Noted {
    route: Option<(&'static str, &'static str)>,
    container: Option<String>,
    /// As whom they signed in to the chat.
    user: Option<String>,
    /// The status of the answer, once its head is on the way.
    status: Option<StatusCode>,
    /// Whether the answer is told of only when all of it is on the way.
    is_stream: bool,
    is_told: bool,
}

impl Trail {
    pub(super) fn begin(state: &Arc<State>, id: String, caller: Caller, connection: Arc<Connection>) -> Self {
        let noted = Mutex::default();
        Self(Arc::new(Track { state: state.clone(), id, caller, connection, began: Instant::now(), noted }))
    }

    /// Returns the id of the request.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns who asks.
    pub(super) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Notes where the request leads.
    pub(super) fn leads_to(&self, route: &Route, reference: &str) {
        let mut noted = self.0.noted();
        noted.route = Some((route.method, route.path));
        noted.container = (!reference.is_empty()).then(|| reference.to_owned());
    }

    /// Notes that the answer is a stream: what becomes of it is known at its end.
    pub(super) fn streams(&self) {
        self.0.noted().is_stream = true;
    }

    /// Notes what a call has returned: the name of what was made.
    pub(super) fn returned(&self, value: &Value) {
        let mut noted = self.0.noted();
        if noted.route == Some(("POST", path::CONTAINERS))
            && let Some(name) = value["name"].as_str()
        {
            noted.container = Some(name.to_owned());
        }
    }

    /// Notes as whom somebody signed in to the chat.
    pub(super) fn signed_in(&self, user: &str) {
        self.0.noted().user = Some(user.to_owned());
    }

    /// Tells of an answer whose head is on the way.
    pub(super) fn answered(&self, status: StatusCode, failure: Option<&Failure>) {
        let kind = kind_of(&self.0.caller);
        self.0.state.counters.answered(kind, status.as_u16(), self.0.began.elapsed());
        self.0.noted().status = Some(status);
        if !self.0.noted().is_stream {
            self.0.tell(failure);
        }
    }

    /// Tells of the end of a stream.
    pub(super) fn ended(&self, failure: Option<&Failure>) {
        self.0.tell(failure);
    }

    /// Begins a session, whose end is told of when what is returned is dropped.
    pub(super) fn session(&self) -> Session {
        Session { trail: self.clone(), began: Instant::now() }
    }
}

/// A session that lasts.
pub(crate) struct Session {
    trail: Trail,
    began: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        let track = &self.trail.0;
        let entry = AuditEntry { event: AuditEvent::End, ms: ms(self.began.elapsed()), ..track.entry(None) };
        track.state.audit.record(entry);
    }
}

impl Track {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, failure: Option<&Failure>) {
        self.noted().is_told = true;
        let code = failure.map(|failure| failure.api().1.code);
        code.into_iter().for_each(|code| self.state.counters.refused(code));
        if matches!(failure, Some(Failure::TooFast { .. })) {
            self.state.counters.limited(kind_of(&self.caller));
        }
        if self.is_only_read(code) {
            return;
        }
        let entry = self.entry(code);
        let is_limited = failure.is_some_and(Failure::is_limit);
        // Whoever is refused as often as they like must not fill the logs.
        let is_told = match is_limited || entry.caller == CallerKind::Stranger {
            true => self.state.audit.record_if_bearable(entry),
            false => {
                self.state.audit.record(entry);
                true
            }
        };
        if let Some(failure) = failure.filter(|_| is_told) {
            self.log(failure);
        }
    }

    /// Returns whether something was read by somebody who may: the audit log has none of that.
    fn is_only_read(&self, code: Option<ErrorCode>) -> bool {
        let noted = self.noted();
        let reads = noted.route.is_none_or(|(method, at)| {
            // An exchange of tables mostly reads, and comes as often as the network has servers.
            let exchanges = matches!(at, path::IP_TABLE | path::IP_TABLE_LEGACY);
            method == "GET" || exchanges || speedtest::is_bulk(method, at)
        });
        let is_session = noted.status == Some(StatusCode::SWITCHING_PROTOCOLS);
        reads && !is_session && code.is_none_or(|code| code == ErrorCode::Cancelled)
    }

    /// Logs the whole story: the client is told only part of it.
    fn log(&self, failure: &Failure) {
        use std::error::Error;
        let (id, who, from) = (&self.id, who(&self.caller), self.from());
        let source = failure.source().map(ToString::to_string).unwrap_or_default();
        if failure.api().0.is_server_error() {
            tracing::warn!(request = id, who, from, %failure, source, "failed");
        } else {
            tracing::info!(request = id, who, from, %failure, source, "refused");
        }
    }

    fn from(&self) -> String {
        self.connection.from.map(|from| from.to_string()).unwrap_or_default()
    }

    fn entry(&self, code: Option<ErrorCode>) -> AuditEntry {
        let noted = self.noted().clone();
        let (node, name) = match &self.caller {
            Caller::Host => (None, None),
            Caller::Member(member) => (Some(member.id), member.name.as_ref().map(ToString::to_string)),
            Caller::Stranger(node) => (*node, None),
        };
        AuditEntry {
            time: Timestamp::from(SystemTime::now()),
            request: self.id.clone(),
            event: AuditEvent::Request,
            caller: kind_of(&self.caller),
            node,
            name,
            user: noted.user,
            from: self.from(),
            verb: noted.route.map_or("none".to_owned(), |(method, path)| format!("{method} {path}")),
            container: noted.container.map(|name| name.chars().take(128).collect()),
            allowed: !code.is_some_and(is_denial),
            code,
            status: noted.status.map_or(0, |status| status.as_u16()),
            ms: ms(self.began.elapsed()),
            missing: 0,
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if !self.noted().is_told {
            self.tell(Some(&Failure::Gone));
        }
    }
}

fn is_denial(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unauthenticated | ErrorCode::PermissionDenied | ErrorCode::ResourceExhausted)
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn kind_of(caller: &Caller) -> CallerKind {
    match caller {
        Caller::Host => CallerKind::Host,
        Caller::Member(_) => CallerKind::Member,
        Caller::Stranger(_) => CallerKind::Stranger,
    }
}

/// Returns who somebody is, in a word or two.
fn who(caller: &Caller) -> String {
    let short = |node: &NodeId| node.short().to_string();
    match caller {
        Caller::Host => "host".to_owned(),
        Caller::Member(member) => member.name.as_ref().map_or_else(|| short(&member.id), ToString::to_string),
        Caller::Stranger(Some(node)) => format!("stranger {}", short(node)),
        Caller::Stranger(None) => "stranger".to_owned(),
    }
}
