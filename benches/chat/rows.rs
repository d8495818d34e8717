//! The measure of what the chat stores: rows that are committed one by one, with SQLite's own promise that they survive the
//! loss of power.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Result;

/// Which tables rows go to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A table of the chat's columns and keys, and one of groups with the last number of each.
    Same,
    /// A table with a number for its key, and no other.
    Plain,
}

impl Kind {
    fn tables(self) -> &'static str {
        match self {
            Self::Same => {
                "CREATE TABLE grp (id INTEGER PRIMARY KEY, last INTEGER NOT NULL, ts INTEGER NOT NULL) STRICT;
                 INSERT INTO grp VALUES (1, 0, 0);
                 CREATE TABLE msg (
                    id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, sender TEXT NOT NULL, cid TEXT NOT NULL,
                    text TEXT NOT NULL, h BLOB NOT NULL, UNIQUE (cid, sender)
                 ) STRICT;"
            }
            Self::Plain => {
                "CREATE TABLE msg (seq INTEGER PRIMARY KEY, ts INTEGER NOT NULL, sender TEXT NOT NULL, text TEXT NOT NULL)"
            }
        }
    }
}

/// Tables in a file.
pub(crate) struct Rows {
    db: Connection,
    kind: Kind,
    count: i64,
}

impl Rows {
    pub(crate) fn create(file: &Path, kind: Kind) -> Result<Self> {
        let db = Connection::open(file)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(kind.tables())?;
        Ok(Self { db, kind, count: 0 })
    }

    /// Adds rows for so long, and returns how many.
    pub(crate) fn commit_one_by_one(&mut self, time: Duration) -> Result<u64> {
        let (began, text) = (Instant::now(), "x".repeat(100));
        let mut rows = 0;
        while began.elapsed() < time {
            self.count += 1;
            self.commit(&text)?;
            rows += 1;
        }
        Ok(rows)
    }

    fn commit(&mut self, text: &str) -> Result<()> {
        let number = self.count;
        match self.kind {
            Kind::Same => {
                let (cid, sender) = (format!("{number:011x}-1"), format!("Writer{}", number % 64 + 1));
                let commit = self.db.transaction()?;
                let insert = "INSERT INTO msg (id, ts, sender, cid, text, h) VALUES ((1 << 40) + ?1, ?1, ?2, ?3, ?4, zeroblob(32))";
                commit.prepare_cached(insert)?.execute((number, sender, cid, text))?;
                let update = "UPDATE grp SET last = ?1, ts = ?1 WHERE id = 1";
                commit.prepare_cached(update)?.execute((number,))?;
                commit.commit()?;
            }
            Kind::Plain => {
                let insert = "INSERT INTO msg (ts, sender, text) VALUES (?1, ?2, ?3)";
                self.db.prepare_cached(insert)?.execute((number, "Writer1", text))?;
            }
        }
        Ok(())
    }
}
