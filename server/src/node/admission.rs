//! Who gets what is left: requests in parallel never go beyond a limit together; and one request at a time for each
//! idempotency key.
//!
//! Whoever wants something gets in line, then lists what there is, then is admitted or not. What is listed is all that
//! was made before; whoever was in line before and is not refused counts as well, made or not. So of all that are
//! admitted the last has counted all others, and nobody is refused for the sake of who comes later.
//!
//! Those in other processes on the same data folder are seen by their files, `DATA/making/NAME`, locked for as long as
//! the container is being made: one that nobody has locked is of a process that has died.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::amounts::{Holding, Scope};
use super::lock::TurnLock;
use crate::error::{Result, ServerError};

/// How long another process is waited for that gets in line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest file of one that is in line.
const FILE_MAX: u64 = 4_096;

/// Those in line.
#[derive(Debug)]
pub(crate) struct Admission {
    folder: PathBuf,
    lock: TurnLock,
    line: Arc<Mutex<Line>>,
    keys: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// Those of this process, by what each is in line for.
type Line = HashMap<String, Entry>;

/// One in line.
#[derive(Debug, Clone)]
struct Entry {
    holding: Arc<Holding>,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Admitted,
    Refused,
}

/// A place in line; it counts until this is dropped, or, where the container is made, for as long as anybody asks who
/// has not seen it.
#[derive(Debug)]
pub(crate) struct Ticket {
    what: String,
    holding: Arc<Holding>,
    before: Vec<Entry>,
    /// Of other processes.
    foreign: Vec<Holding>,
    phase: watch::Sender<Phase>,
    /// Nothing where somebody else is in line for the same.
    place: Option<Place>,
    made: bool,
}

/// What others see of one in line.
#[derive(Debug)]
struct Place {
    line: Arc<Mutex<Line>>,
    path: PathBuf,
    _file: File,
}

impl Admission {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            folder: data.join("making"),
            lock: TurnLock::new(data, "making.lock"),
            line: Arc::default(),
            keys: Mutex::default(),
        }
    }

    /// Waits until no other request with this key is under way.
    pub(crate) async fn one_at_a_time(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|_, turn| turn.strong_count() > 0);
            match keys.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    keys.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }

    /// Gets in line for a container that is to be made. The containers that exist must be listed after this, and given
    /// to [`Ticket::admit`].
    ///
    /// # Errors
    /// [`ServerError::State`].
    pub(crate) async fn enter(&self, holding: Holding) -> Result<Ticket> {
        self.enter_for(holding.name.clone(), holding).await
    }

    /// Gets in line for a container that is there and is to run.
    ///
    /// # Errors
    /// [`ServerError::State`].
    pub(crate) async fn enter_to_start(&self, holding: Holding) -> Result<Ticket> {
        self.enter_for(format!("start:{}", holding.name), holding).await
    }

    async fn enter_for(&self, what: String, holding: Holding) -> Result<Ticket> {
        let _turn = self.lock.take(PATIENCE).await?;
        let path = self.folder.join(&what);
        let (foreign, file) = {
            let line = self.line();
            let foreign = self.foreign(&line).map_err(ServerError::state("read", &self.folder))?;
            let is_taken = line.contains_key(&what);
            let file = if is_taken {
                None
            } else {
                self.claim(&path, &holding).map_err(ServerError::state("write", &path))?
            };
            (foreign, file)
        };
        let holding = Arc::new(holding);
        let (phase, told) = watch::channel(Phase::Waiting);
        let mut line = self.line();
        let before = line.values().cloned().collect();
        let place = file.map(|file| {
            line.insert(what.clone(), Entry { holding: holding.clone(), phase: told });
            Place { line: self.line.clone(), path, _file: file }
        });
        Ok(Ticket { what, holding, before, foreign, phase, place, made: false })
    }

    /// Returns those in line in other processes, and clears up after the dead.
    fn foreign(&self, line: &Line) -> std::io::Result<Vec<Holding>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut found = Vec::new();
        for file in fs::read_dir(&self.folder)?.flatten() {
            if file.file_name().to_str().is_some_and(|name| line.contains_key(name)) {
                continue;
            }
            let Ok(open) = File::open(file.path()) else { continue }; // its maker has come to an end
            match open.try_lock_shared() {
                Ok(()) => _ = fs::remove_file(file.path()),
                Err(_) => found.extend(read(open)),
            }
        }
        Ok(found)
    }

    /// Makes the file of one in line; `None` when another process has it.
    fn claim(&self, path: &Path, holding: &Holding) -> std::io::Result<Option<File>> {
        loop {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) if file.metadata()?.nlink() == 0 => {} // whoever had it has removed it meanwhile
                Ok(()) => {
                    file.set_len(0)?;
                    file.rewind()?;
                    file.write_all(&serde_json::to_vec(holding)?)?;
                    return Ok(Some(file));
                }
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: File) -> Option<Holding> {
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Ticket {
    /// Decides whether there is room within all scopes, waiting for those before where it depends on them.
    ///
    /// # Errors
    /// [`ServerError::Full`], [`ServerError::OverTotal`]; [`ServerError::NameInUse`] when a container of this name is
    /// being made or started just now.
    pub(crate) async fn admit(&self, listed: &[Holding], scopes: &[Scope]) -> Result<()> {
        if self.place.is_none() {
            return Err(ServerError::NameInUse { name: self.holding.name.clone() });
        }
        loop {
            let phases: Vec<(Phase, &Entry)> =
                self.before.iter().map(|entry| (*entry.phase.borrow(), entry)).collect();
            let of = |wanted: Phase| {
                let fitting = phases.iter().filter(move |(phase, _)| *phase == wanted);
                fitting.map(|(_, entry)| &*entry.holding)
            };
            let certain = || listed.iter().chain(&self.foreign).chain(of(Phase::Admitted));
            let check = |others: Vec<&Holding>| {
                scopes.iter().try_for_each(|scope| scope.check(&self.holding, others.iter().copied()))
            };
            check(certain().collect())?;
            let fits = check(certain().chain(of(Phase::Waiting)).collect()).is_ok();
            let waiting = phases.iter().find(|(phase, _)| *phase == Phase::Waiting);
            let Some((_, first)) = waiting.filter(|_| !fits) else {
                self.phase.send_replace(Phase::Admitted);
                return Ok(());
            };
            // It fails only where who was before has come to an end, and then that is decided too.
            let _ = first.phase.clone().wait_for(|phase| *phase != Phase::Waiting).await;
        }
    }

    /// Says that the container is there: whoever listed before it was, and is still undecided, counts it.
    pub(crate) fn made(&mut self) {
        self.made = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.made {
            self.phase.send_replace(Phase::Refused);
        }
        if let Some(place) = self.place.take() {
            // Both in one: without its entry the file would pass for one of another process.
            let mut line = place.line.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = fs::remove_file(&place.path); // what is left is unlocked, and cleared up by the next
            line.remove(&self.what);
        }
    }
}

#[cfg(test)]
mod tests;
