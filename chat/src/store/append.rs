//! Storing: a batch of messages in one transaction.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction};

use super::open::{as_i64, hash_of, number, seq, time};
use super::sqlite::Writer;
use super::{Head, NewMessage, Outcome};
use crate::chain::link;
use crate::id::GroupId;

/// What became of each message, and the groups that have new ones.
type Appended = (Vec<Outcome>, HashMap<GroupId, Head>);

/// Stores a batch. What the writer remembers changes only once it is stored.
pub(super) fn append(writer: &mut Writer, batch: &[NewMessage], now: u64) -> rusqlite::Result<Appended> {
    let Writer { db, heads, ts } = writer;
    let ts_now = now.max(*ts);
    let transaction = db.transaction()?;
    let mut changed: HashMap<GroupId, Head> = HashMap::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    for message in batch {
        let outcome = match stored(&transaction, message)? {
            Some(known) => known,
            None => {
                let head = changed.get(&message.group).or_else(|| heads.get(&message.group));
                let head = add(&transaction, message, head.copied().unwrap_or(Head::EMPTY), ts_now)?;
                changed.insert(message.group.clone(), head);
                Outcome::Stored { seq: head.last, ts: ts_now }
            }
        };
        outcomes.push(outcome);
    }
    for (group, head) in &changed {
        keep(&transaction, group, head, ts_now)?;
    }
    transaction.commit()?;
    if !changed.is_empty() {
        *ts = ts_now;
    }
    heads.extend(changed.iter().map(|(group, head)| (group.clone(), *head)));
    Ok((outcomes, changed))
}

/// Looks for a message under the same `cid`.
fn stored(db: &Transaction<'_>, message: &NewMessage) -> rusqlite::Result<Option<Outcome>> {
    let mut select =
        db.prepare_cached("SELECT grp, text, seq, ts FROM msg WHERE sender = ?1 AND cid = ?2")?;
    let found = select.query_row((message.from.as_str(), message.cid.as_str()), |row| {
        let is_same =
            row.get_ref(0)?.as_str()? == message.group.as_str() && row.get_ref(1)?.as_str()? == message.text;
        Ok(match is_same {
            true => Outcome::Duplicate { seq: seq(row, 2)?, ts: number(row, 3)? },
            false => Outcome::Conflict,
        })
    });
    found.optional()
}

fn add(db: &Transaction<'_>, message: &NewMessage, head: Head, ts: u64) -> rusqlite::Result<Head> {
    let NewMessage { group, from, cid, text } = message;
    let last = head.last.next();
    let hash = link(&head.hash, group, (last, ts), from, cid, text);
    let mut insert = db.prepare_cached(
        "INSERT INTO msg (grp, seq, ts, sender, cid, text, h) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (grp, seq, ts) = (group.as_str(), as_i64(last), time(ts));
    insert.execute((grp, seq, ts, from.as_str(), cid.as_str(), text, hash.as_bytes()))?;
    Ok(Head { last, hash, ..head })
}

fn keep(db: &Transaction<'_>, group: &GroupId, head: &Head, ts: u64) -> rusqlite::Result<()> {
    debug_assert_eq!(hash_of(db, group, head.last)?, Some(head.hash));
    let mut upsert = db.prepare_cached(
        "INSERT INTO grp (name, first, last, ts, head, base, base_ts) VALUES (?1, ?2, ?3, ?4, ?5, zeroblob(32), 0)
         ON CONFLICT (name) DO UPDATE SET last = ?3, ts = ?4, head = ?5",
    )?;
    let (first, last) = (as_i64(head.first), as_i64(head.last));
    upsert.execute((group.as_str(), first, last, time(ts), head.hash.as_bytes()))?;
    Ok(())
}
