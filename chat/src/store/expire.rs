//! Forgetting: what is too old is deleted, and the file gets smaller.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::Head;
use super::open::{as_i64, hash, id, number, seq_of_id, time};
use super::sqlite::Writer;
use crate::id::{ChainHash, GroupId, Seq};

/// Messages that are deleted in one transaction: others wait that long to store theirs.
const AT_ONCE: i64 = 2_000;
/// Pages that are given back in one step.
const PAGES: u32 = 1_000;

/// Deletes some of a group's messages from before `oldest`, the oldest first; returns how many, and what is left of it.
pub(super) fn expire(
    writer: &mut Writer,
    group: &GroupId,
    oldest: u64,
) -> rusqlite::Result<Option<(u64, Head)>> {
    let Some(kept) = writer.heads.get_mut(group) else {
        return Ok(None);
    };
    let transaction = writer.db.transaction()?;
    let Some((last, count)) = delete(&transaction, kept.key, oldest)? else {
        return Ok(None);
    };
    transaction.commit()?;
    kept.head.first = last.next();
    Ok(Some((count, kept.head)))
}

/// Returns the last message that was deleted, and how many they were.
fn delete(db: &Transaction<'_>, group: i64, oldest: u64) -> rusqlite::Result<Option<(Seq, u64)>> {
    let mut select = db.prepare_cached(
        "SELECT id, ts, h FROM (SELECT id, ts, h FROM msg WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?4)
         WHERE ts < ?3 ORDER BY id DESC LIMIT 1",
    )?;
    let found: Option<(Seq, u64, ChainHash)> = select
        .query_row((id(group, Seq::ZERO), id(group, Seq::MAX), time(oldest), AT_ONCE), |row| {
            Ok((seq_of_id(row, 0)?, number(row, 1)?, hash(row, 2)?))
        })
        .optional()?;
    let Some((last, ts, base)) = found else {
        return Ok(None);
    };
    let count = db
        .prepare_cached("DELETE FROM msg WHERE id BETWEEN ?1 AND ?2")?
        .execute([id(group, Seq::ZERO), id(group, last)])?;
    db.prepare_cached("UPDATE grp SET first = ?2, base = ?3, base_ts = ?4 WHERE id = ?1")?.execute((
        group,
        as_i64(last.next()),
        base.as_bytes(),
        time(ts),
    ))?;
    Ok(Some((last, count as u64)))
}

/// Gives some room back to the file system; returns whether there is more.
pub(super) fn shrink(db: &Connection) -> rusqlite::Result<bool> {
    let mut vacuum = db.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {} // each step frees a page
    drop(rows);
    let free: u32 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free == 0 {
        // What is in the log goes into the file; where readers are in the way, the next time.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(free > 0)
}

/// Forgets tokens that ended, and devices that were not there for a year.
pub(super) fn forget(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM tok WHERE ends < unixepoch() * 1000", [])?;
    db.execute("DELETE FROM pos WHERE at < unixepoch() - 365 * 86400", [])?;
    Ok(())
}
