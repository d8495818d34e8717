//! A group as the client has it: how far its messages are there, and how far the server has them.

use crate::chain::link;
use crate::frames::{Message, RightsIn};
use crate::id::{ChainHash, Seq};

/// A group as the client has it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) rights: RightsIn,
    /// The last message of those that are here without a gap.
    pub(super) got: Seq,
    /// Its hash, where it is known.
    pub(super) hash: Option<ChainHash>,
    /// The last message that the server is known to have.
    pub(super) last: Seq,
    /// The question for what is missing, while it is open.
    pub(super) asked: Option<u64>,
    /// Whether its messages are shown as they come.
    pub(super) is_shown: bool,
    /// What the server was told of `got`, and of what the user has seen.
    pub(super) told: (Seq, Seq),
}

impl Room {
    /// Returns whether everything that the server has is here.
    pub(super) fn is_whole(&self) -> bool {
        !self.rights.r || self.got >= self.last
    }

    /// Returns those messages that follow without a gap on what is here. What is here already is left out.
    pub(super) fn next<'a>(&self, messages: &'a [Message]) -> &'a [Message] {
        let new = messages.iter().position(|message| message.seq > self.got).unwrap_or(messages.len());
        let new = &messages[new..];
        let mut due = self.got;
        let follows = |message: &&Message| {
            due = due.next();
            message.seq == due
        };
        let count = new.iter().take_while(follows).count();
        &new[..count]
    }

    /// Returns whether the hashes of these messages hold what is here. Where nothing is known it cannot be said, and they do.
    pub(super) fn is_continued_by(&self, messages: &[Message]) -> bool {
        let mut before = self.hash;
        messages.iter().all(|m| {
            let due = before.map(|hash| link(&hash, &self.rights.g, (m.seq, m.ts), &m.from, &m.cid, &m.text));
            before = Some(m.h);
            due.is_none_or(|due| due == m.h)
        })
    }
}
