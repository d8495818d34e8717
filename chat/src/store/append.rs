//! Storing: a batch of messages in one transaction.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction};

use super::open::{as_i64, hash_of, id, number, seq_of_id, time};
use super::sqlite::{Kept, Writer};
use super::{Head, NewMessage, Outcome};
use crate::chain::link;
use crate::id::{ChainHash, GroupId};

/// What became of each message, and the groups that have new ones.
type Appended = (Vec<Outcome>, HashMap<GroupId, Kept>);

/// Stores a batch. What the writer remembers changes only once it is stored.
pub(super) fn append(writer: &mut Writer, batch: &[NewMessage], now: u64) -> rusqlite::Result<Appended> {
    let Writer { db, heads, ts } = writer;
    let ts_now = now.max(*ts);
    let transaction = db.transaction()?;
    let mut changed: HashMap<GroupId, Kept> = HashMap::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    for message in batch {
        let known = changed.get(&message.group).or_else(|| heads.get(&message.group)).copied();
        let kept = match known {
            Some(kept) => kept,
            // A message that is not stored makes no group.
            None => match stored(&transaction, message)? {
                Some(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
                None => begin(&transaction, &message.group)?,
            },
        };
        let head = after(&kept.head, message, ts_now);
        outcomes.push(if add(&transaction, kept.key, message, head, ts_now)? {
            changed.insert(message.group.clone(), Kept { head, ..kept });
            Outcome::Stored { seq: head.last, ts: ts_now }
        } else {
            stored(&transaction, message)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
        });
    }
    for kept in changed.values() {
        keep(&transaction, kept, ts_now)?;
    }
    transaction.commit()?;
    if !changed.is_empty() {
        *ts = ts_now;
    }
    heads.extend(changed.iter().map(|(group, kept)| (group.clone(), *kept)));
    Ok((outcomes, changed))
}

/// Looks for a message under the same `cid`.
fn stored(db: &Transaction<'_>, message: &NewMessage) -> rusqlite::Result<Option<Outcome>> {
    let mut select = db.prepare_cached(
        "SELECT grp.name, text, msg.id, msg.ts FROM msg JOIN grp ON grp.id = msg.id >> 40 WHERE sender = ?1 AND cid = ?2",
    )?;
    let found = select.query_row((message.from.as_str(), message.cid.as_str()), |row| {
        let is_same =
            row.get_ref(0)?.as_str()? == message.group.as_str() && row.get_ref(1)?.as_str()? == message.text;
        Ok(match is_same {
            true => Outcome::Duplicate { seq: seq_of_id(row, 2)?, ts: number(row, 3)? },
            false => Outcome::Conflict,
        })
    });
    found.optional()
}

/// Makes a group without messages.
fn begin(db: &Transaction<'_>, group: &GroupId) -> rusqlite::Result<Kept> {
    let head = Head::EMPTY;
    let mut insert = db.prepare_cached(
        "INSERT INTO grp (name, first, last, ts, head, base, base_ts) VALUES (?1, ?2, ?3, 0, ?4, ?4, 0)",
    )?;
    let root = ChainHash::ROOT;
    let key = insert.insert((group.as_str(), as_i64(head.first), as_i64(head.last), root.as_bytes()))?;
    Ok(Kept { key, head })
}

/// Returns what there is of a group with this message.
fn after(head: &Head, message: &NewMessage, ts: u64) -> Head {
    let NewMessage { group, from, cid, text } = message;
    let last = head.last.next();
    Head { last, hash: link(&head.hash, group, (last, ts), from, cid, text), ..*head }
}

/// Adds a message as the last one of its group, unless there is one under its `cid`; returns whether it did.
fn add(db: &Transaction<'_>, key: i64, message: &NewMessage, head: Head, ts: u64) -> rusqlite::Result<bool> {
    let NewMessage { from, cid, text, .. } = message;
    let mut insert = db.prepare_cached(
        "INSERT INTO msg (id, ts, sender, cid, text, h) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (cid, sender) DO NOTHING",
    )?;
    let values = (id(key, head.last), time(ts), from.as_str(), cid.as_str(), text, head.hash.as_bytes());
    Ok(insert.execute(values)? == 1)
}

/// Notes what there is of a group now.
fn keep(db: &Transaction<'_>, Kept { key, head }: &Kept, ts: u64) -> rusqlite::Result<()> {
    debug_assert_eq!(hash_of(db, *key, head.last)?, Some(head.hash));
    let mut update = db.prepare_cached("UPDATE grp SET last = ?2, ts = ?3, head = ?4 WHERE id = ?1")?;
    update.execute((key, as_i64(head.last), time(ts), head.hash.as_bytes()))?;
    Ok(())
}
