//! The hosts that were met: which node answered at which address when it was first used, in `DATA/known_hosts.json`.
//!
//! The file is read at each use and replaced as a whole, so that programs that run at the same time agree. One that cannot
//! be read is an error, never an empty one: nobody is trusted anew because of a damaged file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gx_core::{Endpoint, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

const FILE: &str = "known_hosts.json";
/// More than anybody meets; a longer file is damaged.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why it cannot be told who was met.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is there and is of no use.
    #[error("{} is damaged: {fault}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

type Result<T> = std::result::Result<T, KnownError>;

/// A host that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Who answers there.
    pub node: NodeId,
    /// Since when that is known.
    pub since: Timestamp,
}

/// What came of meeting a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It was not known, and is now.
    First,
    /// It is the one that was known.
    Again,
    /// Another node was known at that address, and still is.
    Other(NodeId),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    hosts: BTreeMap<Endpoint, Known>,
}

/// The hosts that were met, by a node with this data folder. Its calls read and write a short file.
#[derive(Debug, Clone)]
pub struct KnownHosts {
    file: PathBuf,
}

impl KnownHosts {
    /// Returns those of a data folder; nothing is read yet.
    pub fn of(data: &Path) -> Self {
        Self { file: data.join(FILE) }
    }

    /// Returns all of them.
    ///
    /// # Errors
    /// [`KnownError`], for this and all other calls.
    pub fn all(&self) -> Result<BTreeMap<Endpoint, Known>> {
        Ok(self.read()?.hosts)
    }

    /// Returns who answered there; `None` when nobody was met yet.
    ///
    /// # Errors
    /// [`KnownError`].
    pub fn at(&self, endpoint: &Endpoint) -> Result<Option<NodeId>> {
        Ok(self.read()?.hosts.get(endpoint).map(|known| known.node))
    }

    /// Writes down who answers there, unless somebody is known already. The node must have proved its key.
    ///
    /// # Errors
    /// [`KnownError`].
    pub fn meet(&self, endpoint: &Endpoint, node: NodeId) -> Result<Met> {
        self.change(|hosts| match hosts.get(endpoint) {
            Some(known) if known.node == node => Met::Again,
            Some(known) => Met::Other(known.node),
            None => {
                hosts.insert(endpoint.clone(), Known { node, since: SystemTime::now().into() });
                Met::First
            }
        })
    }

    /// Forgets who answered there, and returns who it was.
    ///
    /// # Errors
    /// [`KnownError`].
    pub fn forget(&self, endpoint: &Endpoint) -> Result<Option<NodeId>> {
        self.change(|hosts| hosts.remove(endpoint).map(|known| known.node))
    }

    /// Puts a node's new key in the place of its old one, and returns where it is known. That both are the same node must
    /// be proved.
    ///
    /// # Errors
    /// [`KnownError`].
    pub fn rename(&self, old: NodeId, new: NodeId) -> Result<Vec<Endpoint>> {
        self.change(|hosts| {
            let renamed = hosts.iter_mut().filter(|(_, known)| known.node == old);
            renamed
                .map(|(endpoint, known)| {
                    known.node = new;
                    endpoint.clone()
                })
                .collect()
        })
    }

    fn read(&self) -> Result<Book> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(error) => return Err(self.failed("read")(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(self.failed("read"))?;
        serde_json::from_slice(&text)
            .map_err(|error| KnownError::Damaged { path: self.file.clone(), fault: error.to_string() })
    }

    /// Changes the file under its lock, if there is a change.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<Endpoint, Known>) -> T) -> Result<T> {
        let lock = self.file.with_extension("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock = lock.map_err(self.failed("lock"))?;
        lock.lock().map_err(self.failed("lock"))?;
        let mut book = self.read()?;
        let before = book.hosts.clone();
        let value = change(&mut book.hosts);
        if book.hosts != before {
            self.write(&book)?;
        }
        Ok(value)
    }

    fn write(&self, book: &Book) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(book).expect("our own types always become JSON");
        text.push(b'\n');
        let draft = self.file.with_extension("new"); // nobody else has it: the lock is held
        let written = write_private(&draft, &text).and_then(|()| fs::rename(&draft, &self.file));
        written.inspect_err(|_| drop(fs::remove_file(&draft))).map_err(self.failed("write"))
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> KnownError {
        let path = self.file.clone();
        move |source| KnownError::File { what, path, source }
    }
}

fn write_private(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn at(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_to_answer_is_the_one_until_it_is_forgotten() {
        let data = tempfile::tempdir().unwrap();
        let known = KnownHosts::of(data.path());
        assert_eq!(known.at(&at("box")).unwrap(), None);
        assert_eq!(known.forget(&at("box")).unwrap(), None);
        assert_eq!(known.meet(&at("box"), node(1)).unwrap(), Met::First);
        assert_eq!(known.meet(&at("BOX:7467"), node(1)).unwrap(), Met::Again);
        assert_eq!(known.meet(&at("box"), node(2)).unwrap(), Met::Other(node(1)));
        assert_eq!(known.meet(&at("box:1"), node(2)).unwrap(), Met::First, "another port is another host");
        let again = KnownHosts::of(data.path());
        assert_eq!(again.at(&at("box")).unwrap(), Some(node(1)));
        assert_eq!(again.all().unwrap().len(), 2);
        assert_eq!(again.forget(&at("box")).unwrap(), Some(node(1)));
        assert_eq!(known.meet(&at("box"), node(2)).unwrap(), Met::First);
        let mode = fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_old_one() {
        let data = tempfile::tempdir().unwrap();
        let known = KnownHosts::of(data.path());
        for (text, number) in [("a", 1), ("b", 2), ("c", 1)] {
            known.meet(&at(text), node(number)).unwrap();
        }
        assert_eq!(known.rename(node(1), node(3)).unwrap(), [at("a"), at("c")]);
        assert_eq!(known.at(&at("c")).unwrap(), Some(node(3)));
        assert_eq!(known.at(&at("b")).unwrap(), Some(node(2)));
    }

    #[test]
    fn of_many_that_meet_at_once_nobody_is_lost_and_one_is_first() {
        let data = tempfile::tempdir().unwrap();
        let firsts: usize = std::thread::scope(|scope| {
            let meet = |number: u8| {
                let known = KnownHosts::of(data.path());
                known.meet(&at(&format!("own{number}")), node(number)).unwrap();
                usize::from(known.meet(&at("shared"), node(number)).unwrap() == Met::First)
            };
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || meet(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(firsts, 1);
        assert_eq!(KnownHosts::of(data.path()).all().unwrap().len(), 9);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_trusts_nobody() {
        let data = tempfile::tempdir().unwrap();
        let known = KnownHosts::of(data.path());
        for rubbish in ["", "{}", "{\"hosts\":{\"box\":{\"node\":\"x\",\"since\":\"now\"}}}", "{\"hosts\":{}"]
        {
            fs::write(data.path().join(FILE), rubbish).unwrap();
            assert!(matches!(known.at(&at("box")), Err(KnownError::Damaged { .. })), "{rubbish:?}");
            assert!(
                matches!(known.meet(&at("box"), node(1)), Err(KnownError::Damaged { .. })),
                "{rubbish:?}"
            );
            assert_eq!(fs::read_to_string(data.path().join(FILE)).unwrap(), rubbish, "it is left as it is");
        }
    }
}
