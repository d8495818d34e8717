//! Opens the database, or makes it: nothing that is damaged, of a newer version or another program's is taken.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};
use rustix::fs::{FlockOperation, flock};

use super::expire::shrink;
use super::sqlite::{Kept, of};
use super::{Head, StoreError};
use crate::id::{ChainHash, GroupId, Seq};

/// How long a program that looks into the database from outside is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The version of the tables.
const VERSION: i64 = 2;

/// Bits of a message's id that are its number in its group: enough for a thousand a second for 34 years.
const SEQ_BITS: u32 = 40;
const SEQ_MAX: i64 = (1 << SEQ_BITS) - 1;

const MESSAGES: &str = "
CREATE TABLE grp (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    first INTEGER NOT NULL, last INTEGER NOT NULL, ts INTEGER NOT NULL,
    -- the hash of the last message, and of the one before the first
    head BLOB NOT NULL, base BLOB NOT NULL, base_ts INTEGER NOT NULL
) STRICT;
CREATE TABLE msg (
    -- The group's number times 2^40, and the message's in the group.
    id INTEGER PRIMARY KEY,
    ts INTEGER NOT NULL, sender TEXT NOT NULL, cid TEXT NOT NULL, text TEXT NOT NULL, h BLOB NOT NULL,
    -- In this order: a `cid` of ours begins with the time, so those of one batch are beside each other, whoever sent them.
    UNIQUE (cid, sender)
) STRICT;
";
const OTHERS: &str = "
CREATE TABLE pos (
    usr TEXT NOT NULL, device TEXT NOT NULL, grp TEXT NOT NULL, got INTEGER NOT NULL, rd INTEGER NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (usr, device, grp)
) STRICT, WITHOUT ROWID;
CREATE TABLE usr (
    name TEXT PRIMARY KEY, password TEXT, node TEXT, disabled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tok (
    hash BLOB PRIMARY KEY, usr TEXT NOT NULL, device TEXT NOT NULL, ends INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tok_usr ON tok (usr);
";
/// Takes over what version 1 kept, which had a group's name in each message.
const FROM_1: &str = "
INSERT INTO grp (name, first, last, ts, head, base, base_ts)
    SELECT name, first, last, ts, head, base, base_ts FROM grp_1 ORDER BY name;
INSERT INTO msg (id, ts, sender, cid, text, h)
    SELECT (grp.id << 40) + old.seq, old.ts, old.sender, old.cid, old.text, old.h
    FROM grp CROSS JOIN msg_1 AS old WHERE old.grp = grp.name ORDER BY grp.id, old.seq;
DROP TABLE msg_1;
DROP TABLE grp_1;
";

/// Takes the folder for this store, and makes it first.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.display().to_string();
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full { path: path.clone() },
        _ => StoreError::Failed { path: path.clone(), source: Box::new(source) },
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(folder.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(StoreError::Locked { path: folder.display().to_string() }),
    }
}

/// Opens the database of messages, and makes its tables when it is new, or of a version before this.
pub(super) fn database(path: &Path) -> Result<Connection, StoreError> {
    let mut db = connect(path).map_err(of(path))?;
    match version(path, &db)? {
        Some(VERSION) => check(path, &db)?,
        Some(found) => {
            check(path, &db)?;
            tracing::info!(path = %path.display(), from = found, to = VERSION, "bringing the chat's database up to date");
            bring_up(&mut db).map_err(of(path))?;
            // What the old tables had is given back; where that fails it is used again later.
            while shrink(&db).unwrap_or(false) {}
        }
        None => make(&mut db).map_err(of(path))?,
    }
    Ok(db)
}

/// Returns whether the tables are there to be read; those that are, are ours, of this version and whole.
pub(super) fn is_made(path: &Path, db: &Connection) -> Result<bool, StoreError> {
    match version(path, db)? {
        Some(VERSION) => check(path, db).map(|()| true),
        Some(found) => Err(StoreError::Older { path: path.display().to_string(), found, known: VERSION }),
        None => Ok(false),
    }
}

/// Returns the version of the tables, if they are made; one that this program has, or can bring up to date.
fn version(path: &Path, db: &Connection) -> Result<Option<i64>, StoreError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(of(path))?;
    match found {
        0 => Ok(None),
        1..=VERSION => Ok(Some(found)),
        _ => {
            let path = path.display().to_string();
            Err(StoreError::Newer { path, found, known: VERSION })
        }
    }
}

/// Connects to a database of which the process has the only connection that writes.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Before SQLite does it with the rights of everything else; its other files have the same as this one.
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    drop(made); // what is wrong SQLite says too
    let db = Connection::open(path)?;
    db.busy_timeout(PATIENCE)?;
    // Takes effect only in a database without tables.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted is overwritten where that takes no write of its own.
    db.pragma_update(None, "secure_delete", "FAST")?;
    db.pragma_update(None, "journal_size_limit", 4 << 20)?;
    // Pages; SQLite's own 1,000 are full thirty times a second when many write, and what is copied is written again soon.
    db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

fn make(db: &mut Connection) -> rusqlite::Result<()> {
    let making = db.transaction()?;
    making.execute_batch(MESSAGES)?;
    making.execute_batch(OTHERS)?;
    making.pragma_update(None, "user_version", VERSION)?;
    making.commit()
}

/// Brings the tables of version 1 up to this one: whatever comes between, they are the ones or the others.
fn bring_up(db: &mut Connection) -> rusqlite::Result<()> {
    let bringing = db.transaction()?;
    bringing.execute_batch("ALTER TABLE grp RENAME TO grp_1; ALTER TABLE msg RENAME TO msg_1;")?;
    bringing.execute_batch(MESSAGES)?;
    bringing.execute_batch(FROM_1)?;
    bringing.pragma_update(None, "user_version", VERSION)?;
    bringing.commit()
}

fn check(path: &Path, db: &Connection) -> Result<(), StoreError> {
    let told: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(of(path))?;
    match told.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.display().to_string(), what: told }),
    }
}

/// Returns what there is of each group, and checks that it is what the messages say.
pub(super) fn heads(path: &Path, db: &Connection) -> Result<HashMap<GroupId, Kept>, StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: path.display().to_string(), what };
    let mut found = HashMap::new();
    let mut select = db.prepare("SELECT name, first, last, head, id FROM grp").map_err(of(path))?;
    let rows = select.query_map([], kept).map_err(of(path))?;
    for row in rows {
        let (name, kept) = row.map_err(of(path))?;
        let group: GroupId = name.parse().map_err(|_| damaged(format!("{name:?} is no group")))?;
        let (count, least, most): (i64, Option<i64>, Option<i64>) = db
            .query_row(
                "SELECT count(*), min(id), max(id) FROM msg WHERE id BETWEEN ?1 AND ?2",
                [id(kept.key, Seq::ZERO), id(kept.key, Seq::MAX)],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .map_err(of(path))?;
        let (first, last) = (id(kept.key, kept.head.first), id(kept.key, kept.head.last));
        let is_whole = match (least, most) {
            (None, None) => first == last + 1,
            (least, most) => {
                (least, most) == (Some(first), Some(last))
                    && count == last - first + 1
                    && hash_of(db, kept.key, kept.head.last).map_err(of(path))? == Some(kept.head.hash)
            }
        };
        if !is_whole {
            return Err(damaged(format!("messages of {group} are missing")));
        }
        found.insert(group, kept);
    }
    Ok(found)
}

fn kept(row: &Row<'_>) -> rusqlite::Result<(String, Kept)> {
    let head = Head { first: seq(row, 1)?, last: seq(row, 2)?, hash: hash(row, 3)? };
    Ok((row.get(0)?, Kept { key: row.get(4)?, head }))
}

/// Returns where a message is among all of them: those of a group are beside each other, in their order.
pub(super) fn id(key: i64, seq: Seq) -> i64 {
    (key << SEQ_BITS) | as_i64(seq).min(SEQ_MAX)
}

/// Returns the number in its group of the message whose id a column has.
pub(super) fn seq_of_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    let id: i64 = row.get(at)?;
    let number = u64::try_from(id & SEQ_MAX).unwrap_or_default();
    Seq::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, id))
}

/// Returns the number of a group in the tables; for one that is not there, a number that none has.
pub(super) fn key(db: &Connection, group: &GroupId) -> rusqlite::Result<i64> {
    let mut select = db.prepare_cached("SELECT id FROM grp WHERE name = ?1")?;
    Ok(select.query_row([group.as_str()], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Returns the hash of a message, if it is there.
pub(super) fn hash_of(db: &Connection, key: i64, at: Seq) -> rusqlite::Result<Option<ChainHash>> {
    let mut select = db.prepare_cached("SELECT h FROM msg WHERE id = ?1")?;
    select.query_row([id(key, at)], |row| hash(row, 0)).optional()
}

/// Returns the time of the last message of all.
pub(super) fn last_time(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT coalesce(max(ts), 0) FROM grp", [], |row| number(row, 0))
}

/// Returns a number as SQLite has it; ours are far below where the two part.
pub(super) fn as_i64(seq: Seq) -> i64 {
    i64::try_from(seq.get()).unwrap_or(i64::MAX)
}

/// Returns a time as SQLite has it.
pub(super) fn time(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))
}

pub(super) fn seq(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    let number = number(row, at)?;
    Seq::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, time(number)))
}

pub(super) fn hash(row: &Row<'_>, at: usize) -> rusqlite::Result<ChainHash> {
    Ok(ChainHash::from_bytes(row.get(at)?))
}

/// Returns a name; one that is none means that the database is damaged.
pub(super) fn name<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(at)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })
}
