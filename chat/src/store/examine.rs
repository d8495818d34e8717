//! A look at a store from outside, for who runs it: beside the server that has it, and without changing anything.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::sqlite::of;
use super::{SqliteStore, StoreError, open, read};

/// What a store holds, all of which is as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Examined {
    /// Groups that have, or had, messages.
    pub groups: usize,
    /// Messages that are kept.
    pub messages: u64,
}

impl SqliteStore {
    /// Checks the store in this folder as it is at this moment, message by message, while a server may have it open.
    /// Returns nothing where there is no store yet.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Chain`] when it is not what was stored, and others.
    pub fn examine(folder: &Path) -> Result<Option<Examined>, StoreError> {
        let path = folder.join("chat.db");
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => {
                let path = path.display().to_string();
                return Err(StoreError::Failed { path, source: Box::new(source) });
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(of(&path))?;
        db.busy_timeout(open::PATIENCE).map_err(of(&path))?;
        // All of it at one moment, whatever is stored meanwhile.
        let moment = db.unchecked_transaction().map_err(of(&path))?;
        if !open::is_made(&path, &moment)? {
            return Ok(None);
        }
        let heads = open::heads(&path, &moment)?;
        let mut examined = Examined { groups: heads.len(), messages: 0 };
        for (group, kept) in heads {
            examined.messages += read::verify(&moment, &group, kept.head).map_err(of(&path))??;
        }
        Ok(Some(examined))
    }
}
