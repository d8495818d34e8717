//! The table in `DATA/peers.json`, which several programs may change at the same time.
//!
//! Each has the table in memory and brings it together with the file under a lock, so that nobody's news is lost. The
//! file is written beside and renamed: whoever reads it, at whatever moment somebody is killed, reads a whole one. At its
//! end is a seal, the MAC of all before by the node's key: what has it was written by this node, and its signatures are
//! not checked again. A file that a person has changed has none that fits, and is checked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gx_core::NodeId;
use gx_core::peers::file::{FileError, Row};
use gx_core::peers::{
    Base, DialBudget, Inserted, Merged, PeerTable, RECORD_PURPOSE_BYTES, Refused, SignedRecord, Source,
    TableLimits,
};
use gx_identity::NodeKey;

use crate::now;

const FILE: &str = "peers.json";
/// A hundred thousand records are half of it; a longer file is damaged.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why the table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
}

/// A file that is damaged, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; the file is {} now", .kept.display())]
pub struct SetAside {
    /// Where it is kept.
    pub kept: PathBuf,
    /// What is wrong with it.
    pub why: FileError,
}

/// A table that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The table.
    pub peers: Peers,
    /// The file that was in its place and is damaged; the table is then empty.
    pub set_aside: Option<SetAside>,
}

/// The table of servers of a data folder.
#[derive(Debug)]
pub struct Peers {
    file: PathBuf,
    seal: Seal,
    limits: TableLimits,
    own: NodeId,
    /// The highest seq of a record of this node that somebody else has shown.
    seq_shown: AtomicU64,
    table: Mutex<PeerTable>,
    kept: Mutex<Kept>,
    changed: AtomicBool,
    /// What is left of the dials to addresses nobody has reached, where they are metered.
    dials: Mutex<Option<DialBudget>>,
    /// Whether what was changed is more than what was measured.
    news: AtomicBool,
}

/// What the file was when it was last read or written here.
#[derive(Debug, Default)]
struct Kept {
    base: Base,
    version: Option<Version>,
}

/// What tells a file from the one that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

/// Makes the MAC of a text by a node's key.
struct Seal(Box<dyn Fn(&str) -> String + Send + Sync>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Peers {
    /// Opens the table of a data folder, as the node with this key; without a file it is empty.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read, or a damaged one not be set aside.
    pub fn open(data: &Path, key: &NodeKey, limits: TableLimits) -> Result<Opened, StoreError> {
        let mac = key.derive(&["seal of peers.json"]);
        let seal = Seal(Box::new(move |text| gx_identity::mac(&mac, text.as_bytes())));
        let (file, own) = (data.join(FILE), key.id());
        let (table, kept) = (Mutex::new(PeerTable::new(limits, Some(own))), Mutex::default());
        let peers = Self {
            file,
            seal,
            limits,
            own,
            seq_shown: AtomicU64::new(0),
            table,
            kept,
            changed: AtomicBool::new(false),
            dials: Mutex::default(),
            news: AtomicBool::new(false),
        };
        let set_aside = peers.refresh()?;
        peers.changed.store(false, Ordering::Relaxed);
        Ok(Opened { peers, set_aside })
    }

    /// Reads or changes the table.
    pub fn with<T>(&self, work: impl FnOnce(&mut PeerTable) -> T) -> T {
        work(&mut self.table())
    }

    /// Changes the table, and notes that it is to be written.
    pub fn change<T>(&self, work: impl FnOnce(&mut PeerTable) -> T) -> T {
        self.news.store(true, Ordering::Relaxed);
        self.note(work)
    }

    /// Notes in the table what was measured, which is to be written when there is an occasion.
    pub fn note<T>(&self, work: impl FnOnce(&mut PeerTable) -> T) -> T {
        self.changed.store(true, Ordering::Relaxed);
        self.with(work)
    }

    /// Returns whether there is more to be written than what was measured.
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Returns whether there is something to be written.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Returns the node whose table it is.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Returns the highest seq of a record of this node that somebody else has shown: the next one has to be above.
    pub(crate) fn seq_shown(&self) -> u64 {
        self.seq_shown.load(Ordering::Relaxed)
    }

    /// Has dials to addresses nobody has reached metered from now on, as a host does whose table anybody may add to.
    pub fn meter_dials(&self) {
        self.dials().get_or_insert_default();
    }

    /// Takes one dial to an address nobody has reached; `false` when there is none left for now.
    pub fn take_dial(&self) -> bool {
        self.dials().as_mut().is_none_or(|budget| budget.take(now()))
    }

    /// Checks what one end of an exchange has sent, and takes in what is good. Records that are known are not checked again.
    pub fn merge(&self, records: &[SignedRecord], source: Source) -> Merged {
        let mut merged = Merged::default();
        let verify = self.verifier();
        for signed in records {
            let now = now();
            match signed.verify(&verify, now) {
                Ok(record) => {
                    let result = self.with(|table| table.insert(record, source, now));
                    self.noted(result);
                    merged.count(result);
                }
                Err(_) => merged.refused += 1,
            }
        }
        merged
    }

    /// Takes in rows that somebody else uploaded, as [`merge`](Peers::merge) does.
    pub fn merge_rows(&self, rows: &[Row], source: Source) -> Merged {
        let records: Vec<SignedRecord> = rows.iter().filter_map(Row::signed).collect();
        let merged = self.merge(&records, source);
        for row in rows.iter().filter(|row| row.signed().is_none()) {
            let Some(address) = row.address() else { continue };
            let known = self.with(|table| table.is_some_nodes(address));
            if !known {
                let result = self.with(|table| table.insert_legacy(address, &row.name, source, now()));
                self.noted(result);
            }
        }
        merged
    }

    fn noted(&self, result: Result<Inserted, Refused>) {
        match result {
            Ok(Inserted::New | Inserted::Newer | Inserted::Rival) => {
                self.changed.store(true, Ordering::Relaxed);
                self.news.store(true, Ordering::Relaxed);
            }
            Err(Refused::Own { seq }) => drop(self.seq_shown.fetch_max(seq, Ordering::Relaxed)),
            Ok(Inserted::Known | Inserted::Older) | Err(_) => {}
        }
    }

    /// Returns what checks signatures, but for those that are held already.
    fn verifier(&self) -> impl Fn(NodeId, &[u8], &[u8; 64]) -> bool {
        |node, message, signature| {
            let held = self.with(|table| {
                let record = table.get(node).map(|entry| entry.record().clone());
                record.is_some_and(|record| {
                    message.ends_with(record.text().as_bytes())
                        && message.len() == RECORD_PURPOSE_BYTES + record.text().len()
                        && record.signed().signature.0 == *signature
                })
            });
            held || gx_identity::verify(node, message, signature)
        }
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Takes in what others have written since. Returns the file where it was damaged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn refresh(&self) -> Result<Option<SetAside>, StoreError> {
        let mut kept = self.kept();
        if version(&self.file).map_err(self.failed("read"))? == kept.version {
            return Ok(None);
        }
        let _lock = self.lock()?;
        self.take_in(&mut kept)
    }

    /// Brings this table and the file together, and writes it.
    ///
    /// # Errors
    /// [`StoreError`]; the file is then as it was.
    pub fn save(&self) -> Result<Option<SetAside>, StoreError> {
        let mut kept = self.kept();
        let _lock = self.lock()?;
        let set_aside = self.take_in(&mut kept)?;
        if !self.is_changed() && kept.version.is_some() {
            return Ok(set_aside);
        }
        self.changed.store(false, Ordering::Relaxed);
        self.news.store(false, Ordering::Relaxed);
        let (text, base) = self.with(|table| (table.to_text(), table.base()));
        let written = self.write(&self.sealed(text));
        *kept = Kept { base, version: written.inspect_err(|_| self.changed.store(true, Ordering::Relaxed))? };
        Ok(set_aside)
    }

    /// Reads the file, unless it is the one that is known. The lock is held.
    fn take_in(&self, kept: &mut Kept) -> Result<Option<SetAside>, StoreError> {
        let found = version(&self.file).map_err(self.failed("read"))?;
        if found == kept.version {
            return Ok(None);
        }
        let text = match found {
            Some(_) => self.read()?,
            None => String::new(),
        };
        let mut theirs = PeerTable::new(self.limits, Some(self.own));
        if found.is_some()
            && let Err(why) = self.parse(&text, &mut theirs)
        {
            return self.set_aside(why).map(Some);
        }
        let base = theirs.base();
        // A file that somebody took away removes nobody: it was damaged, or is to be begun anew.
        if found.is_some() {
            self.with(|table| table.combine(theirs, &kept.base, now()));
        }
        *kept = Kept { base, version: found };
        Ok(None)
    }

    fn parse(&self, text: &str, table: &mut PeerTable) -> Result<(), FileError> {
        let is_own = unsealed(text).is_some_and(|(body, seal)| (self.seal.0)(body) == seal);
        let read = match is_own {
            true => table.read_own(text, &|_, _, _| true, now()),
            false => table.read_own(text, &gx_identity::verify, now()),
        };
        let read = read?;
        if !read.skipped.is_empty() {
            tracing::debug!(skipped = read.skipped.len(), "rows of the table are over, or no good");
        }
        Ok(())
    }

    /// Returns a table's text with its seal.
    fn sealed(&self, text: String) -> String {
        let body = text.strip_suffix(CLOSE).unwrap_or(&text);
        let seal = (self.seal.0)(body);
        format!("{body}{SEAL}{seal}{END}")
    }

    fn set_aside(&self, why: FileError) -> Result<SetAside, StoreError> {
        let names = (0..).map(|number| self.file.with_extension(format!("damaged-{number}.json")));
        let kept = names.into_iter().find(|name| !name.exists()).expect("there is always another number");
        fs::rename(&self.file, &kept).map_err(self.failed("set aside"))?;
        Ok(SetAside { kept, why })
    }

    fn read(&self) -> Result<String, StoreError> {
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(self.failed("read"))?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(self.failed("read"))?;
        // What is not UTF-8 is damaged, and JSON says where.
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn write(&self, text: &str) -> Result<Option<Version>, StoreError> {
        let draft = self.file.with_extension("json.new"); // nobody else has it: the lock is held
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&draft).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.file)?;
            // The new name is on the disk only when the folder is; until then a power cut brings the old table back.
            self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        });
        written.inspect_err(|_| drop(fs::remove_file(&draft))).map_err(self.failed("write"))?;
        version(&self.file).map_err(self.failed("read"))
    }

    fn lock(&self) -> Result<File, StoreError> {
        let path = self.file.with_extension("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = opened.map_err(self.failed("lock"))?;
        lock.lock().map_err(self.failed("lock"))?;
        Ok(lock)
    }

    fn table(&self) -> MutexGuard<'_, PeerTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dials(&self) -> MutexGuard<'_, Option<DialBudget>> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.file.clone();
        move |source| StoreError::File { what, path, source }
    }
}

/// What a table's text ends with, and what takes its place.
const CLOSE: &str = "]}\n";
const SEAL: &str = "],\"seal\":\"";
const END: &str = "\"}\n";

/// Returns what is under the seal, and the seal.
fn unsealed(text: &str) -> Option<(&str, &str)> {
    let (body, seal) = text.strip_suffix(END)?.rsplit_once(SEAL)?;
    (seal.len() == 64).then_some((body, seal))
}

fn version(file: &Path) -> io::Result<Option<Version>> {
    match fs::metadata(file) {
        Ok(data) => Ok(Some(Version {
            inode: data.ino(),
            modified: (data.mtime(), data.mtime_nsec()),
            bytes: data.len(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
