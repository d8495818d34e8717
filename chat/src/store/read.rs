//! Reading: pages of a group's messages, and the check of its chain.

use rusqlite::{Connection, OptionalExtension, Row};

use super::open::{hash, id, key, name, number, seq, seq_of_id};
use super::{Head, Page, Range, StoreError};
use crate::chain::Chain;
use crate::frames::Message;
use crate::id::{ChainHash, GroupId, Seq};

/// How much text a page has, in bytes; the message that goes beyond it is still in it.
const PAGE_BYTES: usize = 192 * 1024;

const COLUMNS: &str = "id, ts, sender, cid, text, h";

/// Reads a page.
pub(super) fn page(
    db: &Connection,
    group: &GroupId,
    head: Head,
    range: Range,
    limit: u32,
    oldest: u64,
) -> rusqlite::Result<Page> {
    let group = key(db, group)?;
    // The head may be of a moment before or after the one the transaction shows.
    let first = first_since(db, group, head, oldest)?;
    match range {
        Range::After(seq) => {
            let expired = first.get().saturating_sub(seq.next().get());
            upwards(db, group, (seq.next().max(first), head.last), limit).map(|page| Page { expired, ..page })
        }
        Range::Since(time) => {
            let from = first_since(db, group, head, time.max(oldest))?;
            let expired = match time < oldest {
                // How many of those there were of that age is not known: those that are still there are told.
                true => first.get().saturating_sub(first_since(db, group, head, time)?.get()),
                false => 0,
            };
            upwards(db, group, (from, head.last), limit).map(|page| Page { expired, ..page })
        }
        Range::Before(seq) => downwards(db, group, (first, seq), limit),
        Range::Last => downwards(db, group, (first, head.last.next()), limit),
    }
}

/// Returns the first message that is not from before `time`: numbers and times rise together, so it is found by halving.
fn first_since(db: &Connection, group: i64, head: Head, time: u64) -> rusqlite::Result<Seq> {
    let mut select = db.prepare_cached("SELECT ts FROM msg WHERE id = ?1")?;
    let mut is_before = |number: u64| {
        let at = Seq::new(number).unwrap_or(Seq::MAX);
        let ts = select.query_row([id(group, at)], |row| self::number(row, 0)).optional();
        ts.map(|ts| ts.is_none_or(|ts| ts < time)) // one that is gone has expired
    };
    let (mut low, mut high) = (head.first.get(), head.last.get() + 1);
    // Mostly nothing has expired since it was last cleared away.
    if low < high && !is_before(low)? {
        return Ok(head.first);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match is_before(middle)? {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(Seq::new(low).unwrap_or(Seq::MAX))
}

fn upwards(db: &Connection, group: i64, (from, to): (Seq, Seq), limit: u32) -> rusqlite::Result<Page> {
    let sql = format!("SELECT {COLUMNS} FROM msg WHERE id BETWEEN ?1 AND ?2 ORDER BY id");
    let mut select = db.prepare_cached(&sql)?;
    let rows = select.query_map([id(group, from), id(group, to)], message)?;
    let (messages, more) = bounded(rows, limit)?;
    Ok(Page { messages, more, expired: 0 })
}

fn downwards(db: &Connection, group: i64, (from, before): (Seq, Seq), limit: u32) -> rusqlite::Result<Page> {
    let sql = format!("SELECT {COLUMNS} FROM msg WHERE id >= ?1 AND id < ?2 ORDER BY id DESC");
    let mut select = db.prepare_cached(&sql)?;
    let rows = select.query_map([id(group, from), id(group, before)], message)?;
    let (mut messages, more) = bounded(rows, limit)?;
    messages.reverse();
    Ok(Page { messages, more, expired: 0 })
}

/// Takes as many rows as a page may have, and tells whether there are more.
fn bounded(
    mut rows: impl Iterator<Item = rusqlite::Result<Message>>,
    limit: u32,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while messages.len() < limit as usize && bytes < PAGE_BYTES {
        let Some(message) = rows.next().transpose()? else {
            return Ok((messages, false));
        };
        bytes += message.text.len();
        messages.push(message);
    }
    Ok((messages, rows.next().transpose()?.is_some()))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: seq_of_id(row, 0)?,
        ts: number(row, 1)?,
        from: name(row, 2)?,
        cid: name(row, 3)?,
        text: row.get(4)?,
        h: hash(row, 5)?,
    })
}

/// Reads one message.
pub(super) fn one(db: &Connection, group: &GroupId, at: Seq) -> rusqlite::Result<Option<Message>> {
    let sql = format!("SELECT {COLUMNS} FROM msg WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([id(key(db, group)?, at)], message).optional()
}

/// Checks the chain of a group from the first message that is kept to the last, and returns how many there are.
pub(super) fn verify(
    db: &Connection,
    group: &GroupId,
    head: Head,
) -> rusqlite::Result<Result<u64, StoreError>> {
    let key = key(db, group)?;
    let base = "SELECT base, base_ts, first FROM grp WHERE id = ?1";
    let (before, ts, first): (ChainHash, u64, Seq) =
        db.query_row(base, [key], |row| Ok((hash(row, 0)?, number(row, 1)?, seq(row, 2)?)))?;
    let mut chain = Chain::after(group.clone(), Seq::new(first.get() - 1).unwrap_or(Seq::ZERO), ts, before);
    let sql = format!("SELECT {COLUMNS} FROM msg WHERE id BETWEEN ?1 AND ?2 ORDER BY id");
    let mut select = db.prepare(&sql)?;
    let mut count = 0;
    for row in select.query_map([id(key, Seq::ZERO), id(key, head.last)], message)? {
        if let Err(error) = chain.take(&row?) {
            return Ok(Err(error.into()));
        }
        count += 1;
    }
    Ok(Ok(count))
}
