//! The host's side of the calls under way: who waits for which answer, how much each may still send, and which of
//! them do not come back.
//!
//! Everything a plugin says comes in here and is checked: ids, statuses, sizes, credit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gx_core::plugin::abi::{MAX_BODY_BYTES, emit, level, status};
use gx_core::stream::{Credit, DEFAULT_WINDOW_BYTES, Item, Kind, MAX_ITEM_BYTES, item_cost};
use tokio::sync::{mpsc, oneshot};

use crate::eager::Eager;
use crate::text::clean;

/// How long a plugin may take to take a call, and to end one that is cancelled.
pub(crate) const HUNG_AFTER: Duration = Duration::from_secs(5);

/// The status of a call that was given up here.
pub(crate) const TOO_LATE: i32 = i32::MIN;

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) body: Bytes,
}

/// Bytes from a plugin: lent for the moment, or ours already.
pub(crate) enum Body<'a> {
    Lent(&'a [u8]),
    Owned(Bytes),
}

impl Body<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Lent(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    fn keep(self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What a call streams, beside its answer.
#[derive(Debug)]
struct Stream {
    items: mpsc::UnboundedSender<Item>, // bounded by the credit
    room: AtomicI64,
    input: Arc<Credit>,
}

/// The host's ends of what a call streams.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) items: mpsc::UnboundedReceiver<Item>,
    /// How many bytes of input the plugin still takes.
    pub(crate) input: Arc<Credit>,
}

#[derive(Debug)]
struct Waiting {
    method: u32,
    done: Option<oneshot::Sender<Done>>,
    stream: Option<Arc<Stream>>,
    /// When it is given up.
    deadline: Option<Instant>,
    /// Since when the plugin owes something: to take the call, or to end it.
    owes_since: Option<Instant>,
}

/// The calls under way in one instance of a plugin.
#[derive(Debug)]
pub(crate) struct Calls {
    plugin: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    refused: AtomicU64,
    eager: Eager,
}

impl Calls {
    pub(crate) fn new(plugin: impl Into<String>) -> Self {
        let (next, refused) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { plugin: plugin.into(), next, waiting: Mutex::default(), refused, eager: Eager::new() }
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Returns how those who wait for an answer wait.
    pub(crate) fn eager(&self) -> &Eager {
        &self.eager
    }

    /// Enters a call that is about to be made.
    pub(crate) fn enter(
        &self,
        method: u32,
        limit: Option<Duration>,
        streamed: bool,
    ) -> (u64, oneshot::Receiver<Done>, Option<Streams>) {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let (stream, streams) = if streamed {
            let (items, receiver) = mpsc::unbounded_channel();
            let input = Arc::new(Credit::new(DEFAULT_WINDOW_BYTES));
            let stream = Stream { items, room: AtomicI64::new(0), input: input.clone() };
            (Some(Arc::new(stream)), Some(Streams { items: receiver, input }))
        } else {
            (None, None)
        };
        let now = Instant::now();
        let deadline = limit.map(|limit| now + limit);
        let waiting = Waiting { method, done: Some(sender), stream, deadline, owes_since: Some(now) };
        self.table().insert(call, waiting);
        (call, done, streams)
    }

    /// Notes that the plugin has taken a call.
    pub(crate) fn taken(&self, call: u64) {
        if let Some(waiting) = self.table().get_mut(&call)
            && waiting.done.is_some()
        {
            waiting.owes_since = None;
        }
    }

    /// Notes that nobody waits for a call any more; returns whether it still runs.
    pub(crate) fn abandon(&self, call: u64) -> bool {
        let mut table = self.table();
        let Some(waiting) = table.get_mut(&call) else { return false };
        (waiting.done, waiting.stream) = (None, None);
        waiting.owes_since.get_or_insert_with(Instant::now);
        true
    }

    /// Notes credit that is about to be given.
    pub(crate) fn credit(&self, call: u64, bytes: u32) {
        if let Some(stream) = self.stream(call) {
            stream.room.fetch_add(bytes.into(), Ordering::AcqRel);
        }
    }

    /// Takes the end of a call. An unknown one, or one that ended before, is passed over.
    pub(crate) fn complete(&self, call: u64, status: i32, body: Body<'_>) {
        let Some(waiting) = self.table().remove(&call) else {
            tracing::debug!(plugin = self.plugin, call, "a call that is not under way was completed");
            return;
        };
        if let Some(done) = waiting.done {
            let (status, body) = if body.len() > MAX_BODY_BYTES {
                (status::NO_CREDIT, Bytes::new())
            } else {
                (status, body.keep())
            };
            let _ = done.send(Done { status, body });
        }
    }

    /// Takes an item of a call.
    pub(crate) fn emit(&self, call: u64, kind: u32, item: Body<'_>) -> i32 {
        let Some(stream) = self.stream(call) else { return status::GONE };
        if kind == emit::INPUT_TAKEN {
            return taken_input(&stream, &item.keep());
        }
        let Some(kind) = Kind::from_number(kind) else { return status::UNSUPPORTED };
        let longest = match kind {
            Kind::Stdout | Kind::Stderr => MAX_ITEM_BYTES,
            Kind::Event | Kind::Progress => MAX_BODY_BYTES,
        };
        if item.len() > longest {
            return status::ERR;
        }
        let cost = i64::from(item_cost(item.len()));
        if stream.room.fetch_sub(cost, Ordering::AcqRel) < cost {
            stream.room.fetch_add(cost, Ordering::AcqRel);
            self.note_flood();
            return status::NO_CREDIT;
        }
        match stream.items.send(Item { kind, bytes: item.keep() }) {
            Ok(()) => status::OK,
            Err(_) => status::GONE,
        }
    }

    /// Takes a line for the log.
    pub(crate) fn log(&self, severity: u32, target: &[u8], message: &[u8]) {
        let text = |bytes| clean(&String::from_utf8_lossy(bytes));
        let (plugin, origin, message) = (&self.plugin, text(target), text(message));
        match severity {
            level::ERROR => tracing::error!(plugin, origin, "{message}"),
            level::WARN => tracing::warn!(plugin, origin, "{message}"),
            level::INFO => tracing::info!(plugin, origin, "{message}"),
            _ => tracing::debug!(plugin, origin, "{message}"),
        }
    }

    /// Ends all calls: the instance is gone.
    pub(crate) fn end_all(&self) {
        let all = std::mem::take(&mut *self.table());
        for done in all.into_values().filter_map(|waiting| waiting.done) {
            let _ = done.send(Done { status: status::GONE, body: Bytes::new() });
        }
    }

    /// Gives up the calls whose time is over: who waits for them is told [`TOO_LATE`]. One look at all of them now and
    /// then costs less than a timer for each.
    pub(crate) fn expire(&self, now: Instant) {
        for waiting in self.table().values_mut() {
            if waiting.deadline.is_some_and(|deadline| deadline <= now)
                && let Some(done) = waiting.done.take()
            {
                let _ = done.send(Done { status: TOO_LATE, body: Bytes::new() });
            }
        }
    }

    /// Returns the method of the call that is longest overdue.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u32> {
        let table = self.table();
        let owing = table.values().filter_map(|waiting| Some((waiting.owes_since?, waiting.method)));
        let (since, method) = owing.min_by_key(|(since, _)| *since)?;
        (now.saturating_duration_since(since) >= HUNG_AFTER).then_some(method)
    }

    /// Returns how many calls have not ended.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.table().len()
    }

    /// Returns how many items came without credit.
    #[cfg(test)]
    pub(crate) fn flooded(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn stream(&self, call: u64) -> Option<Arc<Stream>> {
        self.table().get(&call)?.stream.clone()
    }

    fn note_flood(&self) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed);
        if refused.is_power_of_two() || refused == 0 {
            tracing::warn!(plugin = self.plugin, refused = refused + 1, "the plugin sends more than it may");
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken_input(stream: &Stream, item: &[u8]) -> i32 {
    let Ok(bytes) = <[u8; 4]>::try_from(item) else { return status::ERR };
    stream.input.give(u32::from_le_bytes(bytes));
    status::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_completed_once_and_unknown_ids_are_passed_over() {
        let calls = Calls::new("x");
        let (call, done, _) = calls.enter(16, None, false);
        calls.complete(call + 1, status::OK, Body::Lent(b"no"));
        calls.complete(call, status::OK, Body::Lent(b"yes"));
        calls.complete(call, status::ERR, Body::Lent(b"again"));
        assert_eq!(&done.await.unwrap().body[..], b"yes");
        assert_eq!(calls.emit(call, 1, Body::Lent(b"late")), status::GONE);
    }

    #[tokio::test]
    async fn no_more_is_taken_than_there_is_credit_for() {
        let calls = Calls::new("x");
        let (call, _done, streams) = calls.enter(32, None, true);
        let mut streams = streams.unwrap();
        calls.credit(call, 3 * 132);
        let taken = (0..1_000).filter(|_| calls.emit(call, 1, Body::Lent(&[7; 100])) == status::OK).count();
        assert_eq!(taken, 3);
        assert_eq!(calls.emit(call, 1, Body::Lent(&[7; MAX_ITEM_BYTES + 1])), status::ERR);
        assert_eq!(calls.emit(call, 77, Body::Lent(b"")), status::UNSUPPORTED);
        assert_eq!(streams.items.recv().await.unwrap().bytes.len(), 100);
    }

    #[test]
    fn a_body_beyond_the_cap_becomes_an_error() {
        let calls = Calls::new("x");
        let (call, mut done, _) = calls.enter(16, None, false);
        calls.complete(call, status::OK, Body::Owned(vec![0; MAX_BODY_BYTES + 1].into()));
        assert_eq!(done.try_recv().unwrap().status, status::NO_CREDIT);
    }

    #[test]
    fn a_call_that_is_not_taken_or_not_ended_is_overdue() {
        let calls = Calls::new("x");
        let (call, _done, _) = calls.enter(30, None, false);
        let later = Instant::now() + HUNG_AFTER;
        assert_eq!(calls.overdue(later), Some(30));
        calls.taken(call);
        assert_eq!(calls.overdue(later), None);
        assert!(calls.abandon(call));
        assert_eq!(calls.overdue(Instant::now()), None);
        assert_eq!(calls.overdue(Instant::now() + HUNG_AFTER), Some(30));
        calls.complete(call, status::CANCELLED, Body::Lent(b""));
        assert_eq!(calls.overdue(later + HUNG_AFTER), None);
        assert!(!calls.abandon(call));
    }
}
