//! A node's change of key: a new key takes the place of the old one, both sign that, and the old one is kept, as the
//! secrets of containers were derived of it.
//!
//! In the data folder: `node.key` is the key, `node.key.next` a new one that is not yet in force, `node.key.1` and on are
//! the old ones, the oldest first, and `rotations.json` has what was signed. After a crash at any step the old key or the
//! new one is in force, and the next try goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gx_core::api::Rotation;
use gx_core::{NodeId, Timestamp};

use crate::key::{self, KEY_FILE, KeyError, NodeKey, Result, state, sync_folder};
use crate::{to_hex, verify};

const NEXT_FILE: &str = "node.key.next";
const FILE: &str = "rotations.json";
/// The most changes of key of one node.
const MAX: usize = 1_000;
/// A statement has about 400 bytes.
const FILE_MAX: u64 = 1 << 20;

/// Signs with both keys that the new one takes the place of the old one.
pub fn sign(old: &NodeKey, new: &NodeKey, at: Timestamp) -> Rotation {
    let message = message(old.id(), new.id(), at);
    let (by_old, by_new) = (to_hex(&old.sign(&message)), to_hex(&new.sign(&message)));
    Rotation { from: old.id(), to: new.id(), at, by_old, by_new }
}

/// Returns whether both keys have signed it.
pub fn is_signed(rotation: &Rotation) -> bool {
    let Rotation { from, to, at, by_old, by_new } = rotation;
    let message = message(*from, *to, *at);
    let by = |node: NodeId, text: &str| signature(text).is_some_and(|bytes| verify(node, &message, &bytes));
    from != to && by(*from, by_old) && by(*to, by_new)
}

/// Returns whether a chain of changes leads from one key to another, each signed by both.
pub fn leads(rotations: &[Rotation], from: NodeId, to: NodeId) -> bool {
    let Some(begin) = rotations.iter().position(|rotation| rotation.from == from) else { return false };
    let mut at = from;
    for rotation in rotations[begin..].iter().take(MAX) {
        if rotation.from != at || !is_signed(rotation) {
            return false;
        }
        at = rotation.to;
        if at == to {
            return true;
        }
    }
    false
}

fn message(from: NodeId, to: NodeId, at: Timestamp) -> Vec<u8> {
    format!("gx change of key 1\n{from}\n{to}\n{at}\n").into_bytes()
}

fn signature(text: &str) -> Option<[u8; 64]> {
    let (first, second) = text.split_at_checked(64)?;
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&key::from_hex(first)?);
    bytes[32..].copy_from_slice(&key::from_hex(second)?);
    Some(bytes)
}

/// Makes a new key for the node with this data folder, or goes on where a crash has left off, and returns what both keys
/// have signed. Nobody else may use the key meanwhile.
///
/// # Errors
/// [`KeyError`]. The old key is in force until the last step.
pub fn rotate(data: &Path, now: Timestamp) -> Result<Rotation> {
    let old = key::open(data)?;
    let next = data.join(NEXT_FILE);
    let new = match key::read_key(&next)? {
        Some(new) => new,
        None => {
            key::write_new(data, &next)?;
            key::read_key(&next)?
                .ok_or(KeyError::Damaged { path: next.clone(), fault: "vanished while it was being made" })?
        }
    };
    let rotation = note(data, &old, &new, now)?;
    keep(data, &old)?;
    let path = data.join(KEY_FILE);
    fs::rename(&next, &path).and_then(|()| sync_folder(data)).map_err(state("write", &path))?;
    Ok(rotation)
}

/// Returns the keys that the node had, the newest first.
///
/// # Errors
/// [`KeyError`] when one of them cannot be read.
pub fn former(data: &Path) -> Result<Vec<NodeKey>> {
    let mut keys = Vec::new();
    for number in 1..=MAX {
        match key::read_key(&numbered(data, number))? {
            Some(key) => keys.push(key),
            None => break,
        }
    }
    let current = key::read_key(&data.join(KEY_FILE))?.map(|key| key.id());
    keys.retain(|key| Some(key.id()) != current); // a crash before the last step
    keys.reverse();
    Ok(keys)
}

/// Returns what was signed so far, the oldest first, up to the key that is in force.
///
/// # Errors
/// [`KeyError`] when the file cannot be read.
pub fn rotations(data: &Path, current: NodeId) -> Result<Vec<Rotation>> {
    let mut all = read(data)?;
    let last = all.iter().rposition(|rotation| rotation.to == current);
    all.truncate(last.map_or(0, |last| last + 1));
    Ok(all)
}

fn numbered(data: &Path, number: usize) -> std::path::PathBuf {
    data.join(format!("{KEY_FILE}.{number}"))
}

/// Keeps the old key under the first number that is free.
fn keep(data: &Path, old: &NodeKey) -> Result<()> {
    for number in 1..=MAX {
        let place = numbered(data, number);
        if let Some(kept) = key::read_key(&place)? {
            if kept.id() == old.id() {
                return Ok(());
            }
            continue;
        }
        let linked = fs::hard_link(data.join(KEY_FILE), &place).and_then(|()| sync_folder(data));
        return linked.map_err(state("write", &place));
    }
    Err(KeyError::Damaged { path: data.join(KEY_FILE), fault: "was changed too often" })
}

/// Writes down that the new key takes the place of the old one, unless that is written already.
fn note(data: &Path, old: &NodeKey, new: &NodeKey, now: Timestamp) -> Result<Rotation> {
    let mut all = read(data)?;
    if let Some(noted) = all.iter().find(|noted| noted.from == old.id() && noted.to == new.id()) {
        return Ok(noted.clone());
    }
    all.retain(|noted| noted.from != old.id()); // to a key that came to nothing
    let rotation = sign(old, new, now);
    all.push(rotation.clone());
    let path = data.join(FILE);
    let draft = data.join(format!(".{FILE}.{}", std::process::id()));
    let text = serde_json::to_vec_pretty(&all).expect("our own types always become JSON");
    let written =
        write(&draft, &text).and_then(|()| fs::rename(&draft, &path)).and_then(|()| sync_folder(data));
    written.inspect_err(|_| drop(fs::remove_file(&draft))).map_err(state("write", &path))?;
    Ok(rotation)
}

fn write(draft: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read(data: &Path) -> Result<Vec<Rotation>> {
    let path = data.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(state("read", &path)(error)),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(state("read", &path))?;
    serde_json::from_slice(&text)
        .map_err(|_| KeyError::Damaged { path, fault: "is not a list of changes of key" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }

    #[test]
    fn a_change_is_signed_by_both_keys_and_by_nobody_else() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, new) = (key::open(one.path()).unwrap(), key::open(two.path()).unwrap());
        let rotation = sign(&old, &new, now());
        assert!(is_signed(&rotation));
        let other = NodeId::from_bytes([7; 32]);
        for forged in [
            Rotation { from: other, ..rotation.clone() },
            Rotation { to: other, ..rotation.clone() },
            Rotation { at: Timestamp::from_unix(0), ..rotation.clone() },
            Rotation { by_old: rotation.by_new.clone(), ..rotation.clone() },
            Rotation { by_new: "é".repeat(64), ..rotation.clone() },
            Rotation { by_new: String::new(), ..rotation.clone() },
            sign(&old, &old, now()),
        ] {
            assert!(!is_signed(&forged), "{forged:?}");
        }
    }

    #[test]
    fn the_old_keys_are_kept_and_the_chain_leads_to_the_new_one() {
        let data = tempfile::tempdir().unwrap();
        let first = key::open(data.path()).unwrap().id();
        let ids: Vec<NodeId> = (0..3).map(|_| rotate(data.path(), now()).unwrap().to).collect();
        let current = key::open(data.path()).unwrap().id();
        assert_eq!(current, ids[2]);
        let former: Vec<NodeId> = former(data.path()).unwrap().iter().map(NodeKey::id).collect();
        assert_eq!(former, [ids[1], ids[0], first]);
        let chain = rotations(data.path(), current).unwrap();
        assert_eq!(chain.len(), 3);
        assert!(
            leads(&chain, first, current) && leads(&chain, ids[0], current) && !leads(&chain, current, first)
        );
        assert!(!leads(&chain[1..], first, current) && !leads(&[], first, current));
        let mut cut = chain.clone();
        cut.remove(1);
        assert!(!leads(&cut, first, current));
        assert!(rotations(data.path(), NodeId::from_bytes([9; 32])).unwrap().is_empty());
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_key_in_force_and_the_next_try_goes_on() {
        let data = tempfile::tempdir().unwrap();
        let first = key::open(data.path()).unwrap();
        // After the new key was made.
        key::write_new(data.path(), &data.path().join(NEXT_FILE)).unwrap();
        let next = key::read_key(&data.path().join(NEXT_FILE)).unwrap().unwrap();
        assert_eq!(key::open(data.path()).unwrap().id(), first.id());
        // After the statement was written.
        note(data.path(), &first, &next, now()).unwrap();
        assert!(rotations(data.path(), first.id()).unwrap().is_empty(), "it is not in force yet");
        // After the old key was kept.
        keep(data.path(), &first).unwrap();
        assert!(former(data.path()).unwrap().is_empty(), "it is in force still");
        let done = rotate(data.path(), now()).unwrap();
        assert_eq!((done.from, done.to), (first.id(), next.id()));
        assert_eq!(former(data.path()).unwrap().len(), 1);
        assert_eq!(rotations(data.path(), next.id()).unwrap(), [done]);
        let names =
            fs::read_dir(data.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| ["node.key", "node.key.1", FILE].contains(&name.as_str())));
    }
}
