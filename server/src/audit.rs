//! The audit log: who did what, from where, and whether they were let. One thread writes it; nobody waits for it. What
//! does not fit into its queue, and what strangers do beyond all measure, is counted and told in the next entry.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gx_core::audit::AuditEntry;
use gx_core::config::AuditConfig;

use crate::rates::{Bucket, Rate};

mod file;

/// Entries that wait to be written: some megabytes.
const QUEUE: usize = 4_096;
/// How many entries of strangers, and of those who ask too often, are written, a second and at once: else they could
/// fill the log with themselves and push out everybody else.
const REFUSED: (u32, u32) = (2, 200);
/// How long the last entries may take to be written.
const CLOSE: Duration = Duration::from_secs(2);

/// The audit log of a server.
#[derive(Debug)]
pub(crate) struct Audit {
    data: PathBuf,
    config: AuditConfig,
    refused: Mutex<Bucket>,
    counts: Arc<Counts>,
    writer: OnceLock<Option<Writer>>,
}

/// Entries that are in no file.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Not told yet.
    untold: AtomicU64,
    /// All of them.
    all: AtomicU64,
}

impl Counts {
    fn add(&self, number: u64) {
        self.untold.fetch_add(number, Ordering::Relaxed);
        self.all.fetch_add(number, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Writer {
    entries: Option<SyncSender<AuditEntry>>,
    /// Behind a lock only because others look at it too.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Audit {
    /// Makes the log of this data folder; no file is touched before there is something to write.
    pub(crate) fn new(data: &Path, config: AuditConfig) -> Self {
        Self {
            data: data.to_owned(),
            config,
            refused: Mutex::new(Bucket::full(Instant::now())),
            counts: Arc::default(),
            writer: OnceLock::new(),
        }
    }

    /// Writes an entry, soon; one that there is no room for is counted.
    pub(crate) fn record(&self, entry: AuditEntry) {
        if self.config.enabled && !self.send(entry) {
            self.counts.add(1);
        }
    }

    /// Writes an entry of which there may be as many as somebody likes: those beyond all measure are only counted.
    /// Returns whether this one is not.
    pub(crate) fn record_if_bearable(&self, entry: AuditEntry) -> bool {
        let bearable = self.is_bearable();
        if bearable {
            self.record(entry);
        } else {
            self.counts.add(1);
        }
        bearable
    }

    /// Returns how many entries are in no file.
    pub(crate) fn missing(&self) -> u64 {
        self.counts.all.load(Ordering::Relaxed)
    }

    fn is_bearable(&self) -> bool {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let rate = Rate::new(number(REFUSED.0), number(REFUSED.1));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take(rate, Instant::now()).is_ok()
    }

    fn send(&self, entry: AuditEntry) -> bool {
        let entries =
            self.writer.get_or_init(|| self.spawn()).as_ref().and_then(|writer| writer.entries.as_ref());
        entries.is_some_and(|entries| entries.try_send(entry).is_ok())
    }

    fn spawn(&self) -> Option<Writer> {
        let (entries, queue) = mpsc::sync_channel::<AuditEntry>(QUEUE);
        let (end, ended) = mpsc::channel();
        let mut log = file::Log::new(&self.data, &self.config, self.counts.clone());
        let work = move || {
            queue.iter().for_each(|entry| log.write(entry));
            let _ = end.send(()); // nobody may wait any more
        };
        match std::thread::Builder::new().name("gx-audit".to_owned()).spawn(work) {
            Ok(_) => Some(Writer { entries: Some(entries), ended: Mutex::new(ended) }),
            Err(error) => {
                tracing::error!(%error, "there is no audit log: its thread cannot be started");
                None
            }
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Some(Some(writer)) = self.writer.get_mut() {
            writer.entries = None;
            let ended = writer.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(CLOSE);
        }
    }
}

#[cfg(test)]
mod tests;
