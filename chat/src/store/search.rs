//! The words of all messages, in a file of their own (FTS5). It follows the messages and may lag behind them: whoever
//! searches has it keep up first. When it is lost, damaged or of another database, it is made anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::expire::shrink;
use super::open::{as_i64, connect, hash_of, key, name, seq};
use super::sqlite::{SqliteStore, of};
use super::{ChatStore, Found, Head, Range, StoreError, read};
use crate::frames::{Hit, Message};
use crate::id::{ChainHash, GroupId, Seq};

/// The version of the tables.
const VERSION: i64 = 2;
/// Of a message's number in the index, which is in order of time, so many bits tell messages of one millisecond apart.
const APART: u32 = 20;
/// Messages that are taken in at a time.
const STEP: u32 = 1_000;

const TABLES: &str = "
CREATE VIRTUAL TABLE word USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE place (id INTEGER PRIMARY KEY, grp TEXT NOT NULL, seq INTEGER NOT NULL, UNIQUE (grp, seq)) STRICT;
CREATE TABLE upto (grp TEXT PRIMARY KEY, seq INTEGER NOT NULL, h BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// The index of words.
#[derive(Debug)]
pub(super) struct Index {
    db: Connection,
    path: PathBuf,
    upto: HashMap<GroupId, Seq>,
    /// Whether it is known to be of this database.
    is_known: bool,
}

impl Index {
    /// Opens the index, or makes it anew.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::try_open(path) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the index of words is made anew");
                Self::anew(path)
            }
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let mut db = connect(path)?;
        // It can be made anew, so nobody waits for the disk.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found != VERSION {
            let making = db.transaction()?;
            if found != 0 {
                making.execute_batch("DROP TABLE word; DROP TABLE place; DROP TABLE upto;")?;
            }
            making.execute_batch(TABLES)?;
            making.pragma_update(None, "user_version", VERSION)?;
            making.commit()?;
        }
        let mut select = db.prepare("SELECT grp, seq FROM upto")?;
        let upto =
            select.query_map([], |row| Ok((name(row, 0)?, seq(row, 1)?)))?.collect::<Result<_, _>>()?;
        drop(select);
        Ok(Self { db, path: path.to_owned(), upto, is_known: false })
    }

    fn anew(path: &Path) -> Result<Self, StoreError> {
        for ending in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(ending);
            match std::fs::remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    let path = path.display().to_string();
                    return Err(StoreError::Failed { path, source: Box::new(source) });
                }
                _ => {}
            }
        }
        Self::try_open(path).map_err(of(path))
    }

    /// Takes in what was stored since, and begins anew where it does not fit the messages.
    pub(super) fn keep_up(&mut self, store: &SqliteStore) -> Result<(), StoreError> {
        let kept_up = self.take_in(store);
        match kept_up {
            Err(error @ (StoreError::Damaged { .. } | StoreError::Failed { .. })) => {
                tracing::warn!(path = %self.path.display(), %error, "the index of words is made anew");
                // Whoever closes a database last deletes its log: that must not be the one of the new file.
                self.db = Connection::open_in_memory().map_err(of(&self.path))?;
                *self = Self::anew(&self.path)?;
                self.take_in(store)
            }
            kept_up => kept_up,
        }
    }

    fn take_in(&mut self, store: &SqliteStore) -> Result<(), StoreError> {
        if !self.is_known && !self.fits(store)? {
            return Err(StoreError::Damaged {
                path: self.path.display().to_string(),
                what: "it is of other messages".to_owned(),
            });
        }
        self.is_known = true;
        for (group, head) in store.heads() {
            while self.upto.get(&group).is_none_or(|upto| *upto < head.last) {
                let upto = self.upto.get(&group).copied().unwrap_or(Seq::ZERO);
                let page = store.read(&group, Range::After(upto), STEP, 0)?;
                let Some(last) = page.messages.last() else { break };
                self.add(&group, &page.messages, last.h).map_err(of(&self.path))?;
                self.upto.insert(group.clone(), last.seq);
            }
        }
        Ok(())
    }

    /// Returns whether the last message it has of each group is the one that is stored.
    fn fits(&self, store: &SqliteStore) -> Result<bool, StoreError> {
        let heads = store.heads();
        let mut select = self.db.prepare("SELECT grp, seq, h FROM upto").map_err(of(&self.path))?;
        let rows = select.query_map([], |row| Ok((name(row, 0)?, seq(row, 1)?, super::open::hash(row, 2)?)));
        for row in rows.map_err(of(&self.path))? {
            let (group, seq, known): (GroupId, Seq, ChainHash) = row.map_err(of(&self.path))?;
            let head = heads.get(&group).copied().unwrap_or(Head::EMPTY);
            let is_expired = seq < head.first;
            if !is_expired && store.reading(|db| hash_of(db, key(db, &group)?, seq))? != Some(known) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(&mut self, group: &GroupId, messages: &[Message], last: ChainHash) -> rusqlite::Result<()> {
        let adding = self.db.transaction()?;
        {
            let mut is_taken = adding.prepare_cached("SELECT 1 FROM place WHERE id = ?1")?;
            let mut place = adding.prepare_cached("INSERT INTO place (id, grp, seq) VALUES (?1, ?2, ?3)")?;
            let mut word = adding.prepare_cached("INSERT INTO word (rowid, text) VALUES (?1, ?2)")?;
            for message in messages {
                let mut id = number_of(message);
                // Another group has one of the same millisecond there.
                while is_taken.exists([id])? {
                    id += 1;
                }
                place.execute((id, group.as_str(), as_i64(message.seq)))?;
                word.execute((id, &message.text))?;
            }
            let upto = messages.last().map_or(Seq::ZERO, |message| message.seq);
            adding
                .prepare_cached("INSERT OR REPLACE INTO upto (grp, seq, h) VALUES (?1, ?2, ?3)")?
                .execute((group.as_str(), as_i64(upto), last.as_bytes()))?;
        }
        adding.commit()
    }

    /// Searches.
    pub(super) fn search(
        &mut self,
        store: &SqliteStore,
        query: &str,
        groups: &BTreeSet<GroupId>,
        limit: u32,
        oldest: u64,
    ) -> Result<Found, StoreError> {
        let words = words(query);
        if words.is_empty() || groups.is_empty() {
            return Ok(Found::default());
        }
        self.keep_up(store)?;
        let places = self.places(&words, groups, limit.saturating_add(1)).map_err(of(&self.path))?;
        let more = places.len() > limit as usize;
        let mut hits = Vec::with_capacity(places.len());
        for (group, seq) in places.into_iter().take(limit as usize) {
            let message = store.reading(|db| read::one(db, &group, seq))?;
            hits.extend(message.filter(|m| m.ts >= oldest).map(|m| Hit { g: group, m }));
        }
        Ok(Found { hits, more })
    }

    fn places(
        &self,
        words: &str,
        groups: &BTreeSet<GroupId>,
        limit: u32,
    ) -> rusqlite::Result<Vec<(GroupId, Seq)>> {
        let marks = vec!["?"; groups.len()].join(", ");
        let mut select = self.db.prepare_cached(&format!(
            "SELECT place.grp, place.seq FROM word JOIN place ON place.id = word.rowid
             WHERE word MATCH ? AND place.grp IN ({marks}) ORDER BY word.rowid DESC LIMIT {limit}"
        ))?;
        let values = std::iter::once(words).chain(groups.iter().map(GroupId::as_str));
        let rows = rusqlite::params_from_iter(values);
        select.query_map(rows, |row| Ok((name(row, 0)?, seq(row, 1)?)))?.collect()
    }

    /// Forgets what is no longer kept.
    pub(super) fn expire(&mut self, heads: &BTreeMap<GroupId, Head>) -> Result<(), StoreError> {
        let mut deleted = 0;
        for (group, head) in heads {
            deleted += self.delete(group, head.first).map_err(of(&self.path))?;
        }
        while deleted > 0 && shrink(&self.db).map_err(of(&self.path))? {}
        Ok(())
    }

    fn delete(&mut self, group: &GroupId, first: Seq) -> rusqlite::Result<usize> {
        let deleting = self.db.transaction()?;
        let bounds = (group.as_str(), as_i64(first));
        deleting
            .prepare_cached(
                "DELETE FROM word WHERE rowid IN (SELECT id FROM place WHERE grp = ?1 AND seq < ?2)",
            )?
            .execute(bounds)?;
        let count =
            deleting.prepare_cached("DELETE FROM place WHERE grp = ?1 AND seq < ?2")?.execute(bounds)?;
        if count > 0 {
            // The words of deleted messages stay in the index until parts of it are merged: so many pages of it now.
            deleting.execute("INSERT INTO word (word, rank) VALUES ('merge', 500)", [])?;
        }
        deleting.commit()?;
        Ok(count)
    }
}

/// Returns the number that a message has in the index, unless another has it.
fn number_of(message: &Message) -> i64 {
    let apart = message.seq.get() & ((1 << APART) - 1);
    let at = message.ts.min((i64::MAX as u64 >> APART) - 1);
    i64::try_from((at << APART) | apart).unwrap_or(i64::MAX)
}

/// Returns the words of a query as FTS5 wants them: each a string of its own, none an operator.
fn words(query: &str) -> String {
    let words = query.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
    let quoted: Vec<String> = words.map(|word| format!("\"{}\"", word.replace(['"', '\0'], " "))).collect();
    quoted.join(" ")
}
