//! How far devices have received, and users have read.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Mark;
use super::open::{as_i64, name, seq};
use crate::id::{GroupId, Seq, UserName};

/// Notes how far somebody is; nobody goes back.
pub(super) fn mark(db: &mut Connection, marks: &[Mark]) -> rusqlite::Result<()> {
    let marking = db.transaction()?;
    {
        let mut upsert = marking.prepare_cached(
            "INSERT INTO pos (usr, device, grp, got, rd, at) VALUES (?1, ?2, ?3, ?4, ?5, unixepoch())
             ON CONFLICT DO UPDATE SET got = max(got, ?4), rd = max(rd, ?5), at = unixepoch()",
        )?;
        for Mark { user, device, group, got, read } in marks {
            let (got, read) = (as_i64(*got), as_i64(*read));
            upsert.execute((user.as_str(), device.as_str(), group.as_str(), got, read))?;
        }
    }
    marking.commit()
}

/// Returns how far a user has read, by group.
pub(super) fn of(db: &Connection, user: &UserName) -> rusqlite::Result<BTreeMap<GroupId, Seq>> {
    let mut select = db.prepare_cached("SELECT grp, max(rd) FROM pos WHERE usr = ?1 GROUP BY grp")?;
    select.query_map([user.as_str()], |row| Ok((name(row, 0)?, seq(row, 1)?)))?.collect()
}
