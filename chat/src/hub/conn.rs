//! A connection's queue of frames: bounded, and emptied by whoever writes them to the socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gx_core::NodeId;
use tokio::sync::Notify;

use super::Signed;
use crate::frames::{ServerFrame, WhyClosing};
use crate::id::{GroupId, Seq, UserName};

/// Frames that wait at most, but for answers to what was asked before.
pub(super) const MAX_FRAMES: usize = 256;
/// Bytes that wait at most, with the same exception.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Messages of one connection that wait to be stored, at most.
pub(super) const MAX_IN_FLIGHT: usize = 256;

/// A connection of somebody who is signed in.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: u64,
    who: Signed,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Out>,
    bytes: usize,
    /// Groups of which messages were left out, from which on.
    lagging: BTreeMap<GroupId, Seq>,
    /// Messages that wait to be stored.
    in_flight: usize,
    /// Nothing comes after what waits.
    is_ended: bool,
}

#[derive(Debug)]
struct Out {
    /// The group it may be seen in only.
    group: Option<GroupId>,
    text: Bytes,
}

impl Queue {
    fn push(&mut self, group: Option<GroupId>, text: Bytes) {
        if !self.is_ended {
            self.bytes += text.len();
            self.frames.push_back(Out { group, text });
        }
    }

    fn has_room(&self) -> bool {
        self.frames.len() < MAX_FRAMES && self.bytes < MAX_BYTES
    }

    /// Tells of what was left out, once there is room again.
    fn tell_lags(&mut self) {
        if self.frames.len() > MAX_FRAMES / 4 {
            return;
        }
        for (group, from) in std::mem::take(&mut self.lagging) {
            let frame = ServerFrame::Lag { g: group.clone(), from };
            self.push(Some(group), frame.to_text().into());
        }
    }
}

impl Conn {
    pub(super) fn new(id: u64, who: Signed) -> Self {
        Self { id, who, queue: Mutex::default(), news: Notify::new() }
    }

    pub(super) fn user(&self) -> &UserName {
        &self.who.user
    }

    /// Returns the node it comes from, if it has proved one.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.who.node
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an answer, for which there always is room: nothing is asked of who has none.
    pub(super) fn tell(&self, frame: &ServerFrame) {
        self.queue().push(None, frame.to_text().into());
        self.news.notify_one();
    }

    /// Queues an answer about a group. The policy must be held.
    pub(super) fn tell_of(&self, group: &GroupId, frame: &ServerFrame) {
        self.queue().push(Some(group.clone()), frame.to_text().into());
        self.news.notify_one();
    }

    /// Queues messages of a group, of which `first` is the first; returns whether there was room. The policy must be held.
    pub(super) fn deliver(&self, group: &GroupId, first: Seq, text: &Bytes) -> bool {
        let mut queue = self.queue();
        if queue.is_ended {
            return true;
        }
        if queue.lagging.contains_key(group) {
            return true; // told already
        }
        let has_room = queue.has_room();
        match has_room {
            true => queue.push(Some(group.clone()), text.clone()),
            false => drop(queue.lagging.insert(group.clone(), first)),
        }
        drop(queue);
        self.news.notify_one();
        has_room
    }

    /// Has the connection told that it lacks messages of a group from this one on. The policy must be held.
    pub(super) fn lag(&self, group: &GroupId, from: Seq) {
        let frame = ServerFrame::Lag { g: group.clone(), from };
        self.tell_of(group, &frame);
    }

    /// Queues what is of use at this moment only; returns whether there was room.
    pub(super) fn mention(&self, text: &Bytes) -> bool {
        let mut queue = self.queue();
        let has_room = queue.frames.len() < MAX_FRAMES / 2 && queue.bytes < MAX_BYTES / 2;
        if has_room {
            queue.push(None, text.clone());
            drop(queue);
            self.news.notify_one();
        }
        has_room
    }

    /// Takes out what is about groups that may no longer be seen.
    pub(super) fn purge(&self, may_see: impl Fn(&GroupId) -> bool) {
        let mut queue = self.queue();
        queue.frames.retain(|out| out.group.as_ref().is_none_or(&may_see));
        queue.bytes = queue.frames.iter().map(|out| out.text.len()).sum();
        queue.lagging.retain(|group, _| may_see(group));
    }

    /// Ends after what waits.
    pub(super) fn end(&self, why: WhyClosing, retry_ms: Option<u64>) {
        self.finish(&ServerFrame::Closing { why, retry_ms });
    }

    /// Ends after what waits, with this as the last frame.
    pub(super) fn finish(&self, frame: &ServerFrame) {
        let mut queue = self.queue();
        // Everything it lacks is asked for the next time.
        queue.lagging.clear();
        queue.push(None, frame.to_text().into());
        queue.is_ended = true;
        drop(queue);
        self.news.notify_one();
    }

    /// Ends at once.
    pub(super) fn cut(&self, why: WhyClosing) {
        self.purge(|_| false);
        self.end(why, None);
    }

    /// Notes that a message waits to be stored.
    pub(super) fn sends(&self) {
        self.queue().in_flight += 1;
    }

    /// Answers a message that waited to be stored.
    pub(super) fn answer(&self, frame: &ServerFrame) {
        let mut queue = self.queue();
        queue.in_flight = queue.in_flight.saturating_sub(1);
        queue.push(None, frame.to_text().into());
        drop(queue);
        self.news.notify_one();
    }

    /// Returns whether more may be asked.
    pub(super) fn may_ask(&self) -> bool {
        let queue = self.queue();
        queue.has_room() && queue.in_flight < MAX_IN_FLIGHT && !queue.is_ended
    }

    /// Returns the next frame, or nothing at the end.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            if let Some(text) = self.pop() {
                return Some(text);
            }
            if self.queue().is_ended {
                return None;
            }
            self.news.notified().await;
        }
    }

    /// Returns the next frame, if one waits.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut queue = self.queue();
        if !queue.lagging.is_empty() {
            queue.tell_lags();
        }
        let out = queue.frames.pop_front()?;
        queue.bytes -= out.text.len();
        Some(out.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Conn {
        Conn::new(1, Signed { user: "A".parse().unwrap(), device: "d".parse().unwrap(), node: None })
    }

    #[test]
    fn who_reads_too_slowly_is_told_from_where_to_catch_up() {
        let (conn, group) = (conn(), "h".parse().unwrap());
        let at = |number| Seq::new(number).unwrap();
        for number in 1..=MAX_FRAMES as u64 {
            assert!(conn.deliver(&group, at(number), &Bytes::from_static(b"m")));
        }
        assert!(!conn.deliver(&group, at(1_000), &Bytes::from_static(b"lost")));
        assert!(conn.deliver(&group, at(1_001), &Bytes::from_static(b"lost")), "told once");
        let mut seen = Vec::new();
        while let Some(text) = conn.pop() {
            seen.push(text);
            if seen.len() == MAX_FRAMES / 4 {
                // There is room, but not yet for what comes after the gap.
                conn.deliver(&group, at(1_002), &Bytes::from_static(b"lost"));
            }
        }
        let told = String::from_utf8(seen.last().unwrap().to_vec()).unwrap();
        assert_eq!(told, r#"{"t":"lag","g":"h","from":1000}"#);
        assert_eq!(seen.len(), MAX_FRAMES + 1);
        assert!(conn.deliver(&group, at(2_000), &Bytes::from_static(b"m")) && conn.pop().is_some());
    }

    #[test]
    fn long_frames_fill_a_queue_too() {
        let (conn, group) = (conn(), "h".parse().unwrap());
        let long = Bytes::from(vec![b'x'; 100_000]);
        let taken = (1..10).filter(|n| conn.deliver(&group, Seq::new(*n).unwrap(), &long)).count();
        assert!(taken < 10 && !conn.may_ask());
    }

    #[tokio::test]
    async fn nothing_comes_after_the_end() {
        let (conn, group) = (conn(), "h".parse().unwrap());
        conn.deliver(&group, Seq::ONE, &Bytes::from_static(b"secret"));
        conn.cut(WhyClosing::Removed);
        conn.deliver(&group, Seq::ONE, &Bytes::from_static(b"late"));
        assert_eq!(&conn.next().await.unwrap()[..], br#"{"t":"closing","why":"removed"}"#);
        assert_eq!(conn.next().await, None);
    }
}
