//! The chain of hashes: each message's holds all before it in its group, so that what was taken out, put in or changed
//! afterwards shows.

use sha2::{Digest, Sha256};

use crate::frames::Message;
use crate::id::{ChainHash, Cid, GroupId, Seq, UserName};

/// What begins every hash, so that it is that of nothing else.
const DOMAIN: &[u8] = b"gx chat message 1\0";

/// Says where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A message is missing, or there twice.
    #[error("message {expected} of {group} is missing: {found} comes in its place")]
    Gap {
        /// The group.
        group: GroupId,
        /// The number that is due.
        expected: Seq,
        /// The number that is there.
        found: Seq,
    },
    /// A message is not what it was, or comes after others.
    #[error("message {seq} of {group} is not what was stored")]
    Broken {
        /// The group.
        group: GroupId,
        /// Its number.
        seq: Seq,
    },
    /// A message is older than the one before it.
    #[error("message {seq} of {group} is older than the one before it")]
    Older {
        /// The group.
        group: GroupId,
        /// Its number.
        seq: Seq,
    },
}

/// Returns the hash of a message: SHA-256 of the hash before it, then each field with its length before it, as 8 bytes in
/// network order; numbers as 8 bytes in network order.
pub fn link(
    before: &ChainHash,
    group: &GroupId,
    (seq, ts): (Seq, u64),
    from: &UserName,
    cid: &Cid,
    text: &str,
) -> ChainHash {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(before.as_bytes());
    hash.update(seq.get().to_be_bytes());
    hash.update(ts.to_be_bytes());
    for field in [group.as_str(), from.as_str(), cid.as_str(), text] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field.as_bytes());
    }
    ChainHash::from_bytes(hash.finalize().into())
}

/// A check of a chain, message by message.
#[derive(Debug, Clone)]
pub struct Chain {
    group: GroupId,
    head: Option<(Seq, u64, ChainHash)>,
}

impl Chain {
    /// Begins a check. The first message is taken as it is, unless it is the very first of the group.
    pub fn new(group: GroupId) -> Self {
        Self { group, head: None }
    }

    /// Begins a check after a message that is known, with its number, time and hash.
    pub fn after(group: GroupId, seq: Seq, ts: u64, hash: ChainHash) -> Self {
        Self { group, head: Some((seq, ts, hash)) }
    }

    /// Checks the next message.
    ///
    /// # Errors
    /// [`ChainError`] when it is not the next one.
    pub fn take(&mut self, message: &Message) -> Result<(), ChainError> {
        let group = || self.group.clone();
        let seq = message.seq;
        let head = self.head.or_else(|| (seq.get() == 1).then_some((Seq::ZERO, 0, ChainHash::ROOT)));
        if let Some((last, ts, before)) = head {
            if seq != last.next() {
                return Err(ChainError::Gap { group: group(), expected: last.next(), found: seq });
            }
            if message.ts < ts {
                return Err(ChainError::Older { group: group(), seq });
            }
            let place = (seq, message.ts);
            if link(&before, &self.group, place, &message.from, &message.cid, &message.text) != message.h {
                return Err(ChainError::Broken { group: group(), seq });
            }
        }
        self.head = Some((seq, message.ts, message.h));
        Ok(())
    }

    /// Returns the number and the hash of the last message that was checked.
    pub fn head(&self) -> Option<(Seq, ChainHash)> {
        self.head.map(|(seq, _, hash)| (seq, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(count: u64) -> Vec<Message> {
        let (group, from): (GroupId, UserName) = ("h".parse().unwrap(), "A".parse().unwrap());
        let mut before = ChainHash::ROOT;
        let one = |number: u64| {
            let (seq, cid) = (Seq::new(number).unwrap(), format!("c{number}").parse().unwrap());
            let (ts, text) = (number * 10, format!("text {number}"));
            before = link(&before, &group, (seq, ts), &from, &cid, &text);
            Message { seq, ts, from: from.clone(), cid, text, h: before }
        };
        (1..=count).map(one).collect()
    }

    fn check(messages: &[Message]) -> Result<(), ChainError> {
        let mut chain = Chain::new("h".parse().unwrap());
        messages.iter().try_for_each(|message| chain.take(message))
    }

    #[test]
    fn any_change_shows() {
        let good = messages(4);
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&good[2..]), Ok(()), "the beginning may have expired");
        let changed = |change: fn(&mut Vec<Message>)| {
            let mut messages = good.clone();
            change(&mut messages);
            check(&messages).is_err()
        };
        assert!(changed(|m| m[1].text.push('x')));
        assert!(changed(|m| m[0].text.push('x')), "the very first is no exception");
        assert!(changed(|m| m[2].from = "B".parse().unwrap()));
        assert!(changed(|m| m[2].ts += 1));
        assert!(changed(|m| m[3].ts = 1));
        assert!(changed(|m| drop(m.remove(1))));
        assert!(changed(|m| m.swap(1, 2)));
        assert!(changed(|m| m.insert(1, m[0].clone())));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let hash = |from: &str, cid: &str, text| {
            let place = (Seq::new(1).unwrap(), 1);
            let group = "h".parse().unwrap();
            link(&ChainHash::ROOT, &group, place, &from.parse().unwrap(), &cid.parse().unwrap(), text)
        };
        assert_ne!(hash("ab", "c", "d"), hash("a", "bc", "d"));
        assert_ne!(hash("a", "bc", "d"), hash("a", "b", "cd"));
    }
}
