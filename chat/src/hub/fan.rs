//! From the store to the connections: what is new is read by its number, put into words once, and queued for everybody who
//! may see it.

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Hub, count};
use crate::frames::{MAX_PAGE, ServerFrame};
use crate::id::{GroupId, Seq};
use crate::store::{Page, Range};

/// After how long is tried again to read what could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the thread that sends what is new. It ends with the hub.
pub(super) fn start(hub: &Arc<Hub>, mut news: watch::Receiver<u64>) {
    let (hub, runtime): (Weak<Hub>, _) = (Arc::downgrade(hub), tokio::runtime::Handle::current());
    let work = move || {
        let mut is_sent = true;
        loop {
            let changed = runtime.block_on(async {
                match is_sent {
                    true => news.changed().await,
                    false => timeout(AGAIN, news.changed()).await.unwrap_or(Ok(())),
                }
            });
            let (Ok(()), Some(hub)) = (changed, hub.upgrade()) else { return };
            is_sent = hub.send_news();
        }
    };
    let started = std::thread::Builder::new().name("gx-chat-fan".to_owned()).spawn(work);
    if let Err(error) = started {
        tracing::error!(%error, "the chat cannot send messages");
    }
}

impl Hub {
    /// Sends what was stored and not yet sent; returns whether that is all.
    pub(super) fn send_news(&self) -> bool {
        let mut is_sent = true;
        let _one_at_a_time = self.fan.lock().unwrap_or_else(PoisonError::into_inner);
        for (group, head) in self.store.heads() {
            let sent = self.room().sent.get(&group).copied().unwrap_or(Seq::ZERO);
            let mut sent = sent.max(before(head.first));
            while sent < head.last {
                match self.store.read(&group, Range::After(sent), MAX_PAGE, 0) {
                    Ok(page) => match page.messages.last().map(|message| message.seq) {
                        Some(last) => {
                            self.deliver(&group, page);
                            sent = last;
                        }
                        None => break, // it expired meanwhile
                    },
                    Err(error) => {
                        // Nothing is lost: it is tried again.
                        if self.troubles.sending.failed(&error.to_string(), Instant::now()) {
                            tracing::error!(%error, %group, "the chat cannot read what it has stored");
                        }
                        is_sent = false;
                        break;
                    }
                }
            }
        }
        if is_sent {
            self.troubles.sending.worked(Instant::now());
        }
        is_sent
    }

    /// Queues a page for everybody who may see it.
    fn deliver(&self, group: &GroupId, page: Page) {
        let (Some(first), Some(last)) = (page.messages.first(), page.messages.last()) else { return };
        let (first, last, number) = (first.seq, last.seq, page.messages.len());
        let frame = ServerFrame::Msgs { g: group.clone(), m: page.messages };
        let text = Bytes::from(frame.to_text());
        let _policy = self.gate();
        let mut room = self.room();
        room.sent.insert(group.clone(), last);
        let (mut delivered, mut lags) = (0, 0);
        for conn in room.live.get(group).into_iter().flat_map(|live| live.values()) {
            match conn.deliver(group, first, &text) {
                true => delivered += number,
                false => lags += 1,
            }
        }
        count(&self.figures.delivered, delivered);
        count(&self.figures.lags, lags);
    }
}

/// Returns the number before one.
fn before(seq: Seq) -> Seq {
    Seq::new(seq.get().saturating_sub(1)).unwrap_or(Seq::ZERO)
}
