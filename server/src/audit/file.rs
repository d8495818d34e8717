//! The files of the audit log: whole lines only, private, and of bounded size.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gx_core::audit::{self, AuditEntry};
use gx_core::config::AuditConfig;

use super::Counts;

/// How far back the end of the last whole line is looked for: entries are shorter by far.
const LINE_MAX: u64 = 64 << 10;

/// The log that is written.
pub(super) struct Log {
    path: PathBuf,
    max_bytes: u64,
    files: u32,
    current: Option<Current>,
    counts: Arc<Counts>,
    /// Whether it was said that nothing can be written.
    complained: bool,
}

/// The file that is written, and how long it is with whole lines.
struct Current {
    file: File,
    length: u64,
}

impl Log {
    pub(super) fn new(data: &Path, config: &AuditConfig, counts: Arc<Counts>) -> Self {
        let path = data.join(audit::FILE);
        let (max_bytes, files) = (config.max_size.0, config.files.get());
        Self { path, max_bytes, files, current: None, counts, complained: false }
    }

    /// Writes an entry. What cannot be written is counted; the log says so once, and when it can be again.
    pub(super) fn write(&mut self, mut entry: AuditEntry) {
        entry.missing = self.counts.untold.swap(0, Ordering::Relaxed);
        match self.append(&entry) {
            Ok(()) if self.complained => {
                self.complained = false;
                tracing::info!(path = %self.path.display(), missing = entry.missing, "the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.counts.untold.fetch_add(entry.missing, Ordering::Relaxed);
                self.counts.add(1);
                if !self.complained {
                    self.complained = true;
                    tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written; gx goes on");
                }
            }
        }
    }

    fn append(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut current = match self.current.take() {
            Some(current) => current,
            None => open(&self.path)?,
        };
        if current.length > 0 && current.length + line.len() as u64 > self.max_bytes {
            current.file.sync_data()?;
            self.rotate()?;
            current = open(&self.path)?;
        }
        // In one call, so that a server that is killed leaves the whole line or none.
        if let Err(error) = current.file.write_all(&line) {
            current.file.set_len(current.length)?;
            return Err(error);
        }
        current.length += line.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    /// Makes room: every file gets the next number, and the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
        };
        // Where the configuration kept more of them, more than one is too many.
        let mut too_many = (self.files.max(1)..).map(numbered).take_while(|path| path.exists());
        too_many.try_for_each(fs::remove_file)?;
        for number in (0..self.files).rev() {
            let kept = number + 1 < self.files;
            let done = if kept {
                fs::rename(numbered(number), numbered(number + 1))
            } else {
                fs::remove_file(numbered(number))
            };
            match done {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens the log; the part of a line that a crash has left is cut off.
fn open(path: &Path) -> io::Result<Current> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let there = file.metadata()?.len();
    let from = there.saturating_sub(LINE_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    (&file).take(LINE_MAX).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(from, |at| from + at as u64 + 1);
    if whole < there {
        tracing::warn!(path = %path.display(), bytes = there - whole, "cut off half an entry of the audit log");
        file.set_len(whole)?;
    }
    Ok(Current { file, length: whole })
}
