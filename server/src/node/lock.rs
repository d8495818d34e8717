//! Locks between processes that share a data folder: files that are locked, not files that exist, so that nothing
//! is left locked after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::error::{Result, ServerError};

/// How long a server that was killed may still seem to be there: a program that it was about to start has its files until
/// it has become that program. Who looks whether a server runs ([`served_at`]) has the lock for a moment, too.
const FAREWELL: Duration = Duration::from_millis(500);

/// Held by the one server of a data folder. The file says where it listens.
#[derive(Debug)]
pub(crate) struct ServerLock(File);

impl ServerLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`ServerError::Locked`] when another server has it; [`ServerError::State`].
    pub(crate) fn take(data: &Path) -> Result<Self> {
        let path = data.join("server.lock");
        let file = open(&path)?;
        let deadline = Instant::now() + FAREWELL;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(error)) => return Err(ServerError::state("lock", &path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(ServerError::Locked { data: data.to_owned() });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
            }
        }
    }

    /// Says where the server listens, for others with the same folder.
    pub(crate) fn announce(&self, address: SocketAddr) {
        use std::os::unix::fs::FileExt;
        let text = address.to_string();
        let written = self.0.set_len(0).and_then(|()| self.0.write_all_at(text.as_bytes(), 0));
        if let Err(error) = written {
            tracing::debug!(%error, "others are not told where this server listens");
        }
    }
}

/// Returns where the server of a data folder listens, if one runs.
pub(crate) fn served_at(data: &Path) -> Option<SocketAddr> {
    let file = File::open(data.join("server.lock")).ok()?;
    let mut text = String::new();
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None, // what it says is of a server that has ended
    }
    file.take(100).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// The lock that tells a container which is just being made from one whose maker has died: makers share it from
/// `create` to `start`, and whoever clears up has it alone.
#[derive(Debug, Clone)]
pub(crate) struct CreatingLock(PathBuf);

/// A lock that one at a time has, over all processes; in this process those who wait have an order. One is held from
/// the choice of GPUs until the engine has the container, so that nobody else chooses the same ones, another while the
/// list of members is changed.
#[derive(Debug, Clone)]
pub(crate) struct TurnLock {
    turns: Arc<tokio::sync::Mutex<()>>,
    file: PathBuf,
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _file: Held,
    _turn: OwnedMutexGuard<()>,
}

impl TurnLock {
    /// Makes one over this file in the data folder.
    pub(crate) fn new(data: &Path, file: &str) -> Self {
        Self { turns: Arc::default(), file: data.join(file) }
    }

    /// Waits for the turn: as long as it takes in this process, and for others at most `patience`.
    pub(crate) async fn take(&self, patience: Duration) -> Result<Turn> {
        let turn = self.turns.clone().lock_owned().await;
        let file = take(&self.file, patience, File::try_lock).await?;
        Ok(Turn { _file: file, _turn: turn })
    }
}

/// The lock that is held while a lease is made longer, and while it is looked whether one is over.
#[derive(Debug, Clone)]
pub(crate) struct LeaseLock(PathBuf);

impl LeaseLock {
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.join("leases.lock"))
    }

    pub(crate) async fn take(&self, patience: Duration) -> Result<Held> {
        take(&self.0, patience, File::try_lock).await
    }
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// How often a lock that somebody else has is tried again. The kernel has no wait with a time limit for these locks,
/// and a thread that waits without one would keep the process from ending.
const RETRY: Duration = Duration::from_millis(20);

impl CreatingLock {
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.join("creating.lock"))
    }

    /// Takes it together with other makers.
    pub(crate) async fn share(&self, patience: Duration) -> Result<Held> {
        take(&self.0, patience, File::try_lock_shared).await
    }

    /// Takes it alone.
    pub(crate) async fn alone(&self, patience: Duration) -> Result<Held> {
        take(&self.0, patience, File::try_lock).await
    }
}

async fn take(path: &Path, patience: Duration, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Held> {
    let file = open(path)?;
    let deadline = Instant::now() + patience;
    loop {
        match lock(&file) {
            Ok(()) => return Ok(Held(file)),
            Err(TryLockError::Error(error)) => return Err(ServerError::state("lock", path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(ServerError::state("lock", path)(error));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(ServerError::state("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_has_one_server() {
        let data = tempfile::tempdir().unwrap();
        let first = ServerLock::take(data.path()).unwrap();
        let error = ServerLock::take(data.path()).unwrap_err();
        assert!(error.to_string().contains(&data.path().display().to_string()), "{error}");
        first.announce("127.0.0.1:7467".parse().unwrap());
        assert_eq!(served_at(data.path()), Some("127.0.0.1:7467".parse().unwrap()));
        drop(first);
        assert_eq!(served_at(data.path()), None, "nobody serves any more");
        ServerLock::take(data.path()).unwrap();
    }

    #[test]
    fn a_server_that_is_about_to_be_gone_is_waited_for() {
        let data = tempfile::tempdir().unwrap();
        let leaving = ServerLock::take(data.path()).unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| ServerLock::take(data.path()));
            drop(leaving);
            next.join().unwrap().unwrap();
        });
    }

    #[tokio::test]
    async fn makers_share_and_whoever_clears_up_waits_for_them() {
        let data = tempfile::tempdir().unwrap();
        let lock = CreatingLock::new(data.path());
        let makers = (lock.share(Duration::ZERO).await.unwrap(), lock.share(Duration::ZERO).await.unwrap());
        assert!(lock.alone(Duration::ZERO).await.is_err());
        let waiting = tokio::spawn({
            let lock = lock.clone();
            async move { lock.alone(Duration::from_secs(10)).await }
        });
        drop(makers);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_turn_is_had_by_one_at_a_time_over_all_processes() {
        let data = tempfile::tempdir().unwrap();
        let (here, there) =
            (TurnLock::new(data.path(), "gpus.lock"), TurnLock::new(data.path(), "gpus.lock"));
        let turn = here.take(Duration::ZERO).await.unwrap();
        assert!(there.take(Duration::ZERO).await.is_err());
        drop(turn);
        there.take(Duration::ZERO).await.unwrap();
    }
}
