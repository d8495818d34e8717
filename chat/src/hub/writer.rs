//! The writer: one thread that takes all that waits, stores it in one transaction, and answers each message. While it waits
//! for the disk more comes together for the next time.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::trouble::Past;
use super::{Conn, Hub, count, random_in};
use crate::frames::{NackCode, ServerFrame};
use crate::id::Cid;
use crate::policy::Verb;
use crate::store::{NewMessage, Outcome, StoreError};

/// Messages in a transaction, at most.
const MAX_BATCH: usize = 256;
/// When to try again what could not be stored, in milliseconds.
const RETRY_MS: std::ops::Range<u64> = 500..1_500;

/// What the writer is to do.
pub(super) enum Job {
    /// Store a message, and answer this connection.
    Store(NewMessage, Arc<Conn>),
    /// Store what waits, then end.
    Stop(oneshot::Sender<()>),
}

/// Starts the writer. It ends with the hub.
pub(super) fn start(hub: &Arc<Hub>, queue: mpsc::Receiver<Job>) {
    let hub = Arc::downgrade(hub);
    let name = std::thread::Builder::new().name("gx-chat-writer".to_owned());
    let started = name.spawn(move || work(&hub, queue));
    // Without a thread every message is refused, as the queue has no end to come out of.
    if let Err(error) = started {
        tracing::error!(%error, "the chat cannot store messages");
    }
}

fn work(hub: &Weak<Hub>, mut queue: mpsc::Receiver<Job>) {
    let mut stopped = None;
    while let Some(first) = queue.blocking_recv() {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Store(message, conn) => batch.push((message, conn)),
                Job::Stop(done) => {
                    stopped = Some(done);
                    queue.close(); // what is in it still comes
                }
            }
            next = if batch.len() < MAX_BATCH { queue.try_recv().ok() } else { None };
        }
        let Some(hub) = hub.upgrade() else { return };
        if !batch.is_empty() {
            store(&hub, batch);
        }
    }
    drop(stopped); // which tells whoever waits
}

fn store(hub: &Hub, batch: Vec<(NewMessage, Arc<Conn>)>) {
    // Until all is stored: a right that is taken away meanwhile is gone after it.
    let policy = hub.gate();
    let may = |message: &NewMessage| policy.allows(message.from.as_str(), Verb::Send, message.group.as_str());
    let (batch, refused): (Vec<_>, Vec<_>) = batch.into_iter().partition(|(message, _)| may(message));
    let (messages, conns): (Vec<NewMessage>, Vec<Arc<Conn>>) = batch.into_iter().unzip();
    let stored = hub.store.append(&messages, hub.now());
    drop(policy);

    for (message, conn) in refused {
        refuse(hub, &conn, &message.cid, NackCode::NoWrite, None, "you may not write there any more");
    }
    match stored {
        Ok(outcomes) => {
            if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Stored { .. })) {
                tell_that_it_works(hub);
            }
            for ((message, conn), outcome) in messages.into_iter().zip(conns).zip(outcomes) {
                answer(hub, message, &conn, outcome);
            }
        }
        Err(error) => {
            count(&hub.figures.failures, 1);
            tell(hub, &error, messages.len());
            for (message, conn) in messages.iter().zip(conns) {
                let told = match &error {
                    StoreError::Full { .. } => "the server has no room left; try again later",
                    _ => "the server cannot store now; try again later",
                };
                let retry = Some(random_in(RETRY_MS));
                refuse(hub, &conn, &message.cid, NackCode::Unavailable, retry, told);
            }
        }
    }
}

fn tell(hub: &Hub, error: &StoreError, messages: usize) {
    use std::error::Error;
    if !hub.troubles.storing.failed(&error.to_string(), Instant::now()) {
        return;
    }
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let hint = error.hint().unwrap_or_default();
    tracing::error!(%error, source, hint, messages, "the chat cannot store");
}

fn tell_that_it_works(hub: &Hub) {
    if let Some(Past { lasted, failures }) = hub.troubles.storing.worked(Instant::now()) {
        tracing::info!(after_s = lasted.as_secs(), failures, "the chat stores again");
    }
}

fn answer(hub: &Hub, message: NewMessage, conn: &Conn, outcome: Outcome) {
    let (seq, ts, dup) = match outcome {
        Outcome::Stored { seq, ts } => (seq, ts, false),
        Outcome::Duplicate { seq, ts } => (seq, ts, true),
        Outcome::Conflict => {
            let told = "another message of yours has this id";
            return refuse(hub, conn, &message.cid, NackCode::Conflict, None, told);
        }
    };
    count(if dup { &hub.figures.duplicates } else { &hub.figures.stored }, 1);
    conn.answer(&ServerFrame::Ack { cid: message.cid, g: message.group, seq, ts, dup });
}

fn refuse(hub: &Hub, conn: &Conn, cid: &Cid, code: NackCode, retry_ms: Option<u64>, msg: &str) {
    count(&hub.figures.refused, 1);
    conn.answer(&ServerFrame::Nack { cid: cid.to_string(), code, retry_ms, msg: msg.to_owned() });
}
