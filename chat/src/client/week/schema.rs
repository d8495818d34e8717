//! The tables of the client's file.

use std::time::Duration;

use super::{Kept, Week, WeekError};

/// The version of the tables.
const VERSION: i64 = 1;
/// How long another program of the same user may hold the file.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS msg (
    grp TEXT NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL, sender TEXT NOT NULL, cid TEXT NOT NULL,
    text TEXT NOT NULL, hash BLOB, PRIMARY KEY (grp, seq)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS msg_ts ON msg (ts);
CREATE TABLE IF NOT EXISTS pos (
    grp TEXT PRIMARY KEY, got INTEGER NOT NULL, rd INTEGER NOT NULL, hash BLOB) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    place INTEGER PRIMARY KEY AUTOINCREMENT, cid TEXT NOT NULL UNIQUE, grp TEXT NOT NULL, text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS draft (grp TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

impl Week {
    pub(super) fn prepare(&self) -> Kept {
        let prepare = || -> rusqlite::Result<i64> {
            self.database.busy_timeout(BUSY)?;
            // What is deleted is overwritten, and the file becomes smaller: nothing too old stays in it.
            self.database.pragma_update(None, "auto_vacuum", "FULL")?;
            self.database.pragma_update(None, "secure_delete", "ON")?;
            self.database.pragma_update(None, "journal_mode", "WAL")?;
            self.database.pragma_update(None, "synchronous", "FULL")?;
            self.database.query_row("PRAGMA user_version", [], |row| row.get(0))
        };
        let found: i64 = prepare().map_err(self.failed())?;
        if found > VERSION {
            return Err(WeekError::Newer { path: self.path.clone(), found });
        }
        self.database.execute_batch(SCHEMA).map_err(self.failed())?;
        self.database.pragma_update(None, "user_version", VERSION).map_err(self.failed())
    }
}
