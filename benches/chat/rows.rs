//! The measure of what the chat stores: rows that are committed one by one, with SQLite's own promise that they survive the
//! loss of power.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Result;

/// A table in a file.
pub(crate) struct Rows {
    db: Connection,
}

impl Rows {
    pub(crate) fn create(file: &Path) -> Result<Self> {
        let db = Connection::open(file)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(
            "CREATE TABLE msg (seq INTEGER PRIMARY KEY, ts INTEGER NOT NULL, sender TEXT NOT NULL, text TEXT NOT NULL)",
        )?;
        Ok(Self { db })
    }

    /// Adds rows for so long, and returns how many.
    pub(crate) fn commit_one_by_one(&self, time: Duration) -> Result<u64> {
        let mut insert = self.db.prepare("INSERT INTO msg (ts, sender, text) VALUES (?1, ?2, ?3)")?;
        let (began, text) = (Instant::now(), "x".repeat(100));
        let mut rows = 0;
        while began.elapsed() < time {
            insert.execute((i64::try_from(rows)?, "Writer1", &text))?;
            rows += 1;
        }
        Ok(rows)
    }
}
