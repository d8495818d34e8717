//! The store in SQLite: one connection writes, any number read what it has written. The words are in a file of their own,
//! which is made anew from the messages when it is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::watch;

use super::search::Index;
use super::{ChatStore, Found, Head, Mark, NewMessage, Outcome, Page, Range, StoreError};
use super::{append, expire, open, positions, read};
use crate::id::{GroupId, Seq, UserName};

/// Connections for readers that are kept open.
const KEPT_READERS: usize = 8;

/// The store of one host.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) path: PathBuf,
    // Before the writer, so that it is the last one to go, and puts all that is in the log into the file.
    readers: Mutex<Vec<Connection>>,
    pub(super) writer: Mutex<Writer>,
    heads: RwLock<BTreeMap<GroupId, Head>>,
    index: Mutex<Index>,
    news: watch::Sender<u64>,
    _lock: std::fs::File,
}

/// The connection that writes, and what it has written last.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) heads: HashMap<GroupId, Kept>,
    /// The time of the last message.
    pub(super) ts: u64,
}

/// A group in the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Its number.
    pub(super) key: i64,
    pub(super) head: Head,
}

impl SqliteStore {
    /// Opens the store in this folder, or makes it; nobody else can while it is open.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another program has it, [`StoreError::Damaged`] when it is not what was stored, and
    /// others.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let lock = open::lock(folder)?;
        let path = folder.join("chat.db");
        let db = open::database(&path)?;
        let heads = open::heads(&path, &db)?;
        let ts = open::last_time(&db).map_err(of(&path))?;
        let index = Index::open(&folder.join("search.db"))?;
        Ok(Self {
            heads: RwLock::new(heads.iter().map(|(group, kept)| (group.clone(), kept.head)).collect()),
            writer: Mutex::new(Writer { db, heads, ts }),
            readers: Mutex::default(),
            index: Mutex::new(index),
            news: watch::Sender::new(0),
            path,
            _lock: lock,
        })
    }

    /// Returns the connection that writes.
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody read what is written at this moment.
    pub(super) fn reading<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match kept {
            Some(db) => db,
            None => self.reader().map_err(of(&self.path))?,
        };
        let value = db.unchecked_transaction().and_then(|moment| work(&moment)).map_err(of(&self.path))?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < KEPT_READERS {
            readers.push(db);
        }
        Ok(value)
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(open::PATIENCE)?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    }

    fn publish(&self, heads: impl IntoIterator<Item = (GroupId, Head)>) {
        self.heads.write().unwrap_or_else(PoisonError::into_inner).extend(heads);
        self.news.send_modify(|number| *number = number.wrapping_add(1));
    }
}

impl ChatStore for SqliteStore {
    fn append(&self, batch: &[NewMessage], now: u64) -> Result<Vec<Outcome>, StoreError> {
        let mut writer = self.writer();
        let (outcomes, changed) = append::append(&mut writer, batch, now).map_err(of(&self.path))?;
        // While nobody else can write, so that what is published is never older than what was.
        self.publish(changed.into_iter().map(|(group, kept)| (group, kept.head)));
        Ok(outcomes)
    }

    fn read(&self, group: &GroupId, range: Range, limit: u32, oldest: u64) -> Result<Page, StoreError> {
        let head = self.heads.read().unwrap_or_else(PoisonError::into_inner).get(group).copied();
        let Some(head) = head else {
            return Ok(Page::default());
        };
        self.reading(|db| read::page(db, group, head, range, limit, oldest))
    }

    fn search(
        &self,
        query: &str,
        groups: &BTreeSet<GroupId>,
        limit: u32,
        oldest: u64,
    ) -> Result<Found, StoreError> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).search(self, query, groups, limit, oldest)
    }

    fn heads(&self) -> BTreeMap<GroupId, Head> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mark(&self, marks: &[Mark]) -> Result<(), StoreError> {
        positions::mark(&mut self.writer().db, marks).map_err(of(&self.path))
    }

    fn positions(&self, user: &UserName) -> Result<BTreeMap<GroupId, Seq>, StoreError> {
        self.reading(|db| positions::of(db, user))
    }

    fn expire(&self, oldest: u64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for group in self.heads().into_keys() {
            // The writer is let go each time, so that nobody waits long to store something.
            while let Some((count, head)) =
                expire::expire(&mut self.writer(), &group, oldest).map_err(of(&self.path))?
            {
                deleted += count;
                self.publish([(group.clone(), head)]);
            }
        }
        expire::forget(&self.writer().db).map_err(of(&self.path))?;
        while deleted > 0 && expire::shrink(&self.writer().db).map_err(of(&self.path))? {}
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.keep_up(self)?;
        index.expire(&self.heads())?;
        Ok(deleted)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn verify(&self) -> Result<u64, StoreError> {
        let mut checked = 0;
        for (group, head) in self.heads() {
            checked += self.reading(|db| read::verify(db, &group, head))??;
        }
        Ok(checked)
    }
}

/// Says what SQLite's error means for the database at `path`.
pub(super) fn of(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| {
        let path = path.display().to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            _ if is_growth(&error) => StoreError::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { path, what: error.to_string() }
            }
            _ => StoreError::Failed { path, source: Box::new(error) },
        }
    }
}

/// Returns whether what all connections share could not grow: SQLite does not say why, and it is always for want of room.
fn is_growth(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
