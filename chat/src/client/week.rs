//! What a client keeps: the messages of the past week, how far it has them, what waits to be sent, and drafts. One file
//! for each user of each server, which nobody else may read.
//!
//! A line is in the outbox, and on disk, before it is sent, and leaves it in the transaction that stores its ack: when the
//! client dies in between, it is sent again under the same `cid`, and the server knows it.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use crate::frames::{Message, Rights};
use crate::id::{ChainHash, Cid, DeviceId, GroupId, Seq};

mod schema;

/// The most unread messages that are counted.
pub(super) const MANY: u64 = 1_000;

/// Says why the file did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WeekError {
    /// The folder or the file cannot be made.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("cannot use {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer gx has written it.
    #[error("{} was written by a newer gx (version {found})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
}

impl WeekError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "GX_DATA_DIR names another data folder",
            Self::Newer { .. } => "update gx on this machine",
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => {
                    "make room; what was acknowledged is kept, nothing else is"
                }
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    "another program holds it; try again"
                }
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    "move it away: the server has the week, only lines that waited to be sent are in it alone"
                }
                _ => "look whether the data folder is writable",
            },
        }
    }
}

type Kept<T = ()> = Result<T, WeekError>;

/// A line that waits for its ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What it is called.
    pub cid: Cid,
    /// Where it goes.
    pub group: GroupId,
    /// What it says.
    pub text: String,
}

/// How far the client has a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The last message of those it has without a gap.
    pub got: Seq,
    /// The last message the user has seen.
    pub read: Seq,
    /// The hash of the message `got`, where it is known.
    pub hash: Option<ChainHash>,
}

impl Place {
    const NOTHING: Self = Self { got: Seq::ZERO, read: Seq::ZERO, hash: Some(ChainHash::ROOT) };
}

/// What a server has told of time, in milliseconds: what is too old goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// For how long it keeps messages.
    pub kept_ms: u64,
    /// By how much its clock is ahead of ours.
    pub ahead_ms: i64,
    /// Its time when it last told it, since 1970.
    pub told_ms: u64,
}

/// The file.
#[derive(Debug)]
pub struct Week {
    database: Connection,
    path: PathBuf,
    /// What is from before is not read, in milliseconds since 1970.
    oldest: u64,
}

impl Week {
    /// Opens the file, and makes it where there is none; its user alone may read it.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn open(path: &Path) -> Kept<Self> {
        let fail = |source| WeekError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        }
        // Made before SQLite does, which would make it readable by others; its other files then are as this one is.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(fail)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let database = |source| WeekError::Database { path: path.to_owned(), source };
        let week =
            Self { database: Connection::open(path).map_err(database)?, path: path.to_owned(), oldest: 0 };
        week.prepare()?;
        Ok(week)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> WeekError + use<'_> {
        |source| WeekError::Database { path: self.path.clone(), source }
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what this device is called; it gets its name with the file.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn device(&self, fresh: &DeviceId) -> Kept<DeviceId> {
        let named = self.fact("device")?.and_then(|name| name.parse().ok());
        match named {
            Some(named) => Ok(named),
            None => {
                self.set_fact("device", fresh.as_str())?;
                Ok(fresh.clone())
            }
        }
    }

    /// Returns what proves the user without a password, if the server gave something.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn token(&self) -> Kept<Option<String>> {
        Ok(self.fact("token")?.filter(|token| !token.is_empty()))
    }

    /// Keeps what proves the user without a password; `None` forgets it.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn set_token(&self, token: Option<&str>) -> Kept {
        self.set_fact("token", token.unwrap_or_default())
    }

    /// Returns what the user may do, as the server has said last.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn rights(&self) -> Kept<Option<Rights>> {
        Ok(self.fact("rights")?.and_then(|rights| serde_json::from_str(&rights).ok()))
    }

    /// Keeps what the user may do.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn set_rights(&self, rights: &Rights) -> Kept {
        let mut rights = rights.clone();
        // That is about one answer of the server, and holds once.
        rights.groups.iter_mut().for_each(|group| group.reset = false);
        self.set_fact("rights", &serde_json::to_string(&rights).expect("our own types always become JSON"))
    }

    /// Returns what the server has told last of time.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn retention(&self) -> Kept<Option<Retention>> {
        Ok(self.fact("retention")?.and_then(|told| serde_json::from_str(&told).ok()))
    }

    /// Keeps what the server has told of time.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn set_retention(&self, told: Retention) -> Kept {
        self.set_fact("retention", &serde_json::to_string(&told).expect("our own types always become JSON"))
    }

    /// From now on reads nothing from before a time, in milliseconds since 1970.
    pub fn hide_before(&mut self, oldest: u64) {
        self.oldest = oldest;
    }

    fn fact(&self, name: &str) -> Kept<Option<String>> {
        let sql = "SELECT value FROM fact WHERE name = ?1";
        self.database.query_row(sql, [name], |row| row.get(0)).optional().map_err(self.failed())
    }

    fn set_fact(&self, name: &str, value: &str) -> Kept {
        let sql =
            "INSERT INTO fact (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.database.execute(sql, [name, value]).map_err(self.failed())?;
        Ok(())
    }

    /// Returns how far the client has a group.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn place(&self, group: &GroupId) -> Kept<Place> {
        let sql = "SELECT got, rd, hash FROM pos WHERE grp = ?1";
        let place = |row: &Row<'_>| {
            let hash = row.get::<_, Option<Vec<u8>>>(2)?;
            let hash = hash.and_then(|bytes| Some(ChainHash::from_bytes(bytes.try_into().ok()?)));
            Ok(Place { got: seq(row, 0)?, read: seq(row, 1)?, hash })
        };
        let found =
            self.database.query_row(sql, [group.as_str()], place).optional().map_err(self.failed())?;
        Ok(found.unwrap_or(Place::NOTHING))
    }

    /// Stores messages that follow what is there, in one transaction; those of one's own leave the outbox.
    ///
    /// # Errors
    /// [`WeekError`]; nothing is stored then.
    pub fn store(&mut self, group: &GroupId, messages: &[Message]) -> Kept {
        let Some(last) = messages.last() else { return Ok(()) };
        let path = self.path.clone();
        let store = |database: &mut Connection| -> rusqlite::Result<()> {
            let change = database.transaction()?;
            {
                let mut insert = change.prepare_cached(
                    "INSERT INTO msg (grp, seq, ts, sender, cid, text, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT DO UPDATE SET ts = excluded.ts, sender = excluded.sender, cid = excluded.cid,
                     text = excluded.text, hash = excluded.hash",
                )?;
                let mut sent = change.prepare_cached("DELETE FROM outbox WHERE cid = ?1")?;
                for m in messages {
                    let (seq, ts) = (number(m.seq.get()), number(m.ts));
                    let (from, cid, hash) = (m.from.as_str(), m.cid.as_str(), m.h.as_bytes().as_slice());
                    insert.execute(params![group.as_str(), seq, ts, from, cid, m.text, hash])?;
                    sent.execute([cid])?;
                }
            }
            change.execute(
                "INSERT INTO pos (grp, got, rd, hash) VALUES (?1, ?2, 0, ?3)
                 ON CONFLICT DO UPDATE SET got = excluded.got, hash = excluded.hash WHERE excluded.got > got",
                params![group.as_str(), number(last.seq.get()), last.h.as_bytes().as_slice()],
            )?;
            change.commit()
        };
        store(&mut self.database).map_err(|source| WeekError::Database { path, source })
    }

    /// Goes on after a message that is gone, as those up to it are too old.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn skip(&self, group: &GroupId, to: Seq) -> Kept {
        let sql = "INSERT INTO pos (grp, got, rd, hash) VALUES (?1, ?2, 0, NULL)
                   ON CONFLICT DO UPDATE SET got = excluded.got, hash = NULL WHERE excluded.got > got";
        self.database.execute(sql, params![group.as_str(), number(to.get())]).map_err(self.failed())?;
        Ok(())
    }

    /// Notes how far the user has seen a group; it never goes back.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn mark_read(&self, group: &GroupId, to: Seq) -> Kept {
        let sql = "INSERT INTO pos (grp, got, rd, hash) VALUES (?1, 0, ?2, ?3)
                   ON CONFLICT DO UPDATE SET rd = excluded.rd WHERE excluded.rd > rd";
        let root = ChainHash::ROOT;
        let values = params![group.as_str(), number(to.get()), root.as_bytes().as_slice()];
        self.database.execute(sql, values).map_err(self.failed())?;
        Ok(())
    }

    /// Counts the messages of others that the user has not seen, up to [`MANY`].
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn unread(&self, group: &GroupId, me: &str) -> Kept<u64> {
        let sql =
            "SELECT count(*) FROM (SELECT 1 FROM msg WHERE grp = ?1 AND sender <> ?2 AND hash IS NOT NULL
                   AND seq > coalesce((SELECT rd FROM pos WHERE grp = ?1), 0) AND ts >= ?4 LIMIT ?3)";
        let values = params![group.as_str(), me, number(MANY), number(self.oldest)];
        let count: i64 = self.database.query_row(sql, values, |row| row.get(0)).map_err(self.failed())?;
        Ok(count.unsigned_abs())
    }

    /// Returns the last messages of a group that are there without a gap, the oldest first: so many, and however many
    /// there are after `after`.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn last(&self, group: &GroupId, count: u64, after: Seq) -> Kept<Vec<Message>> {
        let sql =
            "SELECT seq, ts, sender, cid, text, hash FROM msg WHERE grp = ?1 AND hash IS NOT NULL AND seq >
                   min(?2, coalesce((SELECT seq FROM msg WHERE grp = ?1 AND hash IS NOT NULL
                                     ORDER BY seq DESC LIMIT 1 OFFSET ?3), 0))
                   AND ts >= ?4 ORDER BY seq";
        let (after, count, oldest) = (number(after.get()), number(count), number(self.oldest));
        self.messages(sql, params![group.as_str(), after, count, oldest])
    }

    /// Returns the messages of a group since a time, the oldest first.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn since(&self, group: &GroupId, ts: u64) -> Kept<Vec<Message>> {
        let sql = "SELECT seq, ts, sender, cid, text, hash FROM msg WHERE grp = ?1 AND hash IS NOT NULL AND ts >= ?2
                   ORDER BY seq";
        self.messages(sql, params![group.as_str(), number(ts.max(self.oldest))])
    }

    fn messages(&self, sql: &str, values: impl rusqlite::Params) -> Kept<Vec<Message>> {
        let mut found = self.database.prepare_cached(sql).map_err(self.failed())?;
        let rows = found.query_map(values, message).map_err(self.failed())?;
        rows.collect::<Result<_, _>>().map_err(self.failed())
    }

    /// Puts a line into the outbox. When this returns it survives the loss of power.
    ///
    /// # Errors
    /// [`WeekError`]; then it must not be sent.
    pub fn queue(&self, line: &Waiting) -> Kept {
        let sql = "INSERT INTO outbox (cid, grp, text) VALUES (?1, ?2, ?3)";
        let values = params![line.cid.as_str(), line.group.as_str(), line.text];
        self.database.execute(sql, values).map_err(self.failed())?;
        Ok(())
    }

    /// Returns the line that has waited longest in each group.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn due(&self) -> Kept<Vec<Waiting>> {
        let sql =
            "SELECT cid, grp, text FROM outbox WHERE place IN (SELECT min(place) FROM outbox GROUP BY grp)
                   ORDER BY place";
        let mut due = self.database.prepare_cached(sql).map_err(self.failed())?;
        let waiting =
            |row: &Row<'_>| Ok(Waiting { cid: name(row, 0)?, group: name(row, 1)?, text: row.get(2)? });
        let rows = due.query_map([], waiting).map_err(self.failed())?;
        rows.collect::<Result<_, _>>().map_err(self.failed())
    }

    /// Returns how many lines wait.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn waiting(&self) -> Kept<u64> {
        let count: i64 = (self.database)
            .query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
            .map_err(self.failed())?;
        Ok(count.unsigned_abs())
    }

    /// Stores the ack of a line, which leaves the outbox in the same transaction. Returns the line, if it still waited.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn acked(
        &mut self,
        cid: &Cid,
        group: &GroupId,
        seq: Seq,
        ts: u64,
        me: &str,
    ) -> Kept<Option<Waiting>> {
        let path = self.path.clone();
        let store = |database: &mut Connection| -> rusqlite::Result<Option<Waiting>> {
            let change = database.transaction()?;
            let sql = "DELETE FROM outbox WHERE cid = ?1 RETURNING cid, grp, text";
            let waiting =
                |row: &Row<'_>| Ok(Waiting { cid: name(row, 0)?, group: name(row, 1)?, text: row.get(2)? });
            let line = change.query_row(sql, [cid.as_str()], waiting).optional()?;
            if let Some(line) = &line {
                // Without its hash, which comes with the message itself: it is no part of the group's order yet.
                change.execute(
                    "INSERT OR IGNORE INTO msg (grp, seq, ts, sender, cid, text, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
                    params![group.as_str(), number(seq.get()), number(ts), me, cid.as_str(), line.text],
                )?;
            }
            change.commit()?;
            Ok(line)
        };
        store(&mut self.database).map_err(|source| WeekError::Database { path, source })
    }

    /// Returns the number and the time of a message that the server has stored, by what its sender calls it.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn stored(&self, group: &GroupId, cid: &Cid) -> Kept<Option<(Seq, u64)>> {
        let sql = "SELECT seq, ts FROM msg WHERE grp = ?1 AND cid = ?2";
        let found = |row: &Row<'_>| Ok((seq(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        self.database.query_row(sql, [group.as_str(), cid.as_str()], found).optional().map_err(self.failed())
    }

    /// Takes a line out of the outbox that will never be stored, and returns it.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn refused(&self, cid: &str) -> Kept<Option<Waiting>> {
        let sql = "DELETE FROM outbox WHERE cid = ?1 RETURNING cid, grp, text";
        let waiting =
            |row: &Row<'_>| Ok(Waiting { cid: name(row, 0)?, group: name(row, 1)?, text: row.get(2)? });
        self.database.query_row(sql, [cid], waiting).optional().map_err(self.failed())
    }

    /// Returns what was begun in a group.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn draft(&self, group: &GroupId) -> Kept<Option<String>> {
        let sql = "SELECT text FROM draft WHERE grp = ?1";
        self.database.query_row(sql, [group.as_str()], |row| row.get(0)).optional().map_err(self.failed())
    }

    /// Forgets what was begun in a group.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn forget_draft(&self, group: &GroupId) -> Kept {
        let sql = "DELETE FROM draft WHERE grp = ?1";
        self.database.execute(sql, [group.as_str()]).map_err(self.failed())?;
        Ok(())
    }

    /// Keeps what was begun in a group.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn set_draft(&self, group: &GroupId, text: &str) -> Kept {
        let sql =
            "INSERT INTO draft (grp, text) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET text = excluded.text";
        self.database.execute(sql, [group.as_str(), text]).map_err(self.failed())?;
        Ok(())
    }

    /// Forgets everything of a group but what waits to be sent there.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn forget(&mut self, group: &GroupId) -> Kept {
        let path = self.path.clone();
        let forget = |database: &mut Connection| -> rusqlite::Result<()> {
            let change = database.transaction()?;
            change.execute("DELETE FROM msg WHERE grp = ?1", [group.as_str()])?;
            change.execute("DELETE FROM pos WHERE grp = ?1", [group.as_str()])?;
            change.commit()
        };
        forget(&mut self.database).map_err(|source| WeekError::Database { path, source })
    }

    /// Returns the groups of which there is something.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn groups(&self) -> Kept<Vec<GroupId>> {
        let mut found = self.database.prepare_cached("SELECT grp FROM pos").map_err(self.failed())?;
        let rows = found.query_map([], |row| name(row, 0)).map_err(self.failed())?;
        rows.collect::<Result<_, _>>().map_err(self.failed())
    }

    /// Deletes the messages from before a time; the file becomes smaller.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn expire(&self, oldest: u64) -> Kept {
        self.database.execute("DELETE FROM msg WHERE ts < ?1", [number(oldest)]).map_err(self.failed())?;
        Ok(())
    }
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let hash: [u8; 32] = row.get(5)?;
    Ok(Message {
        seq: seq(row, 0)?,
        ts: row.get::<_, i64>(1)?.unsigned_abs(),
        from: name(row, 2)?,
        cid: name(row, 3)?,
        text: row.get(4)?,
        h: ChainHash::from_bytes(hash),
    })
}

fn seq(row: &Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    let number: i64 = row.get(column)?;
    Seq::new(number.unsigned_abs()).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

fn name<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// SQLite's integers are signed; numbers of messages and milliseconds are far below their end.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
