//! Notices changes of files in a folder, by inotify(7): the kernel tells, nobody asks again and again.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::net::unix::pipe::Receiver;

/// A folder that is watched. Its events are read as from a pipe, which is what they look like to a program.
pub(crate) struct FolderWatch(Receiver);

impl FolderWatch {
    /// Watches a folder for files that are replaced, written or removed in it.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what =
            WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
        add_watch(&events, folder, what | WatchFlags::ONLYDIR)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(events)?))
    }

    /// Waits until something has changed since the last time; what it was must be looked for.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut events = [0; 4096];
        let mut some = false;
        loop {
            match self.0.try_read(&mut events) {
                Ok(_) => some = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if some => return Ok(()),
                Err(_) => self.0.readable().await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let watch = FolderWatch::new(folder.path()).unwrap();
        std::fs::write(folder.path().join("draft"), "x").unwrap();
        watch.changed().await.unwrap();
        std::fs::rename(folder.path().join("draft"), folder.path().join("file")).unwrap();
        watch.changed().await.unwrap();
        let still = tokio::time::timeout(std::time::Duration::from_millis(50), watch.changed()).await;
        assert!(still.is_err(), "and once is enough");
    }
}
