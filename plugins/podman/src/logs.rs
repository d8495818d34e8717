//! What a main process wrote, read from the file in which Podman keeps it.
//!
//! The service has a way to ask for logs too, which is not used: with `follow` on a container that has ended it was
//! seen to send 4 of 111 MB (Podman 4.3.1); a line without an end gets one; times are cut to seconds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gx_core::plugin::*;
use tokio::time::sleep;

use crate::engine::Engine;
use crate::logfile::{LogFile, Numbering, Record, Window};
use crate::{error, lifecycle};

/// How often the file of a running container is looked at while it does not grow: at first, and after a while.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));
/// How many bytes of one stream are gathered before they are written.
const BATCH_BYTES: usize = 64 * 1024;

/// Writes a container's output.
pub(crate) async fn logs(
    engine: &Engine,
    id: &ContainerId,
    options: &LogOptions,
    out: &Output,
) -> Result<()> {
    let inspected = lifecycle::inspect(engine, id).await?;
    let path = match inspected.log() {
        ("k8s-file" | "json-file", path) => PathBuf::from(path),
        ("none" | "passthrough", _) => return Ok(()),
        (driver, _) => {
            let message = format!("the log of this container is kept by {driver:?}, which is not read here");
            return Err(RuntimeError::new(ErrorCode::Unsupported, message));
        }
    };
    let Some(mut file) = opened(&path).await? else { return Ok(()) };
    let follows = options.follow && inspected.state() != ContainerState::Created;
    if !follows {
        file.stop_here().await.map_err(|error| unreadable(&path, &error))?;
    }
    let printer = Printer::new(&path, file, options, out).await;
    let mut printer = printer.map_err(|error| unreadable(&path, &error))?;
    match follows {
        true => follow(engine, id, options, &mut printer, out).await,
        false => printer.read_file().await.map(drop),
    }
}

/// Writes what there is, and what comes until the main process ends.
async fn follow(
    engine: &Engine,
    id: &ContainerId,
    options: &LogOptions,
    printer: &mut Printer<'_>,
    out: &Output,
) -> Result<()> {
    let end = lifecycle::watched_end(engine, id);
    tokio::pin!(end);
    let mut ended = false;
    let mut pause = POLL.0;
    loop {
        let progress = printer.catch_up().await?;
        if progress == Progress::Done || ended || is_past(options.until) {
            return Ok(());
        }
        pause = if progress == Progress::Some { POLL.0 } else { (pause * 2).min(POLL.1) };
        tokio::select! {
            code = &mut end => match code {
                // The engine notes an end once the log is complete, so one more look is all.
                Ok(_) => ended = true,
                Err(error) if error::is_missing(&error) => ended = true,
                Err(error) => return Err(error::about(id, "follow the log", &error)),
            },
            () = sleep(pause) => {}
            () = out.gone() => return Ok(()),
        }
    }
}

fn is_past(until: Option<Timestamp>) -> bool {
    until.is_some_and(|until| Timestamp::from(SystemTime::now()) > until)
}

async fn opened(path: &Path) -> Result<Option<LogFile>> {
    match LogFile::open(path).await {
        Ok(file) => Ok(Some(file)),
        // A container that was never started has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> RuntimeError {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
        _ => ErrorCode::Internal,
    };
    RuntimeError::new(code, format!("the log {} cannot be read: {error}", path.display()))
        .hint("Podman's logs are read from its files: run gx as the user whom the engine belongs to")
}

/// What a look at the file brought.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing new.
    None,
    /// Something new.
    Some,
    /// All that was asked for, or nobody reads any more.
    Done,
}

/// Reads the file and writes the part that is asked for.
struct Printer<'a> {
    path: &'a Path,
    file: LogFile,
    window: Window,
    numbering: Numbering,
    /// The first line that is wanted.
    first: u64,
    timestamps: bool,
    out: &'a Output,
    batch: Vec<u8>,
    batch_kind: Kind,
}

impl<'a> Printer<'a> {
    async fn new(
        path: &'a Path,
        mut file: LogFile,
        options: &LogOptions,
        out: &'a Output,
    ) -> io::Result<Self> {
        let window = Window { since: options.since, until: options.until };
        let (numbering, first) = match options.tail {
            Some(lines) => file.seek_tail(lines.into(), &window).await?,
            None => (Numbering::from_start(), 0),
        };
        let batch = Vec::with_capacity(BATCH_BYTES);
        let timestamps = options.timestamps;
        Ok(Self { path, file, window, numbering, first, timestamps, out, batch, batch_kind: Kind::Stdout })
    }

    /// Writes everything up to the end of the file, and of the files that took its place.
    async fn catch_up(&mut self) -> Result<Progress> {
        let mut progress = Progress::None;
        loop {
            match self.read_file().await? {
                Progress::None => {}
                Progress::Some => progress = Progress::Some,
                Progress::Done => return Ok(Progress::Done),
            }
            // The engine begins a log that has grown too long anew.
            match self.file.successor(self.path).await {
                Ok(Some(next)) => self.file = next,
                Ok(None) => return Ok(progress),
                Err(error) => return Err(unreadable(self.path, &error)),
            }
        }
    }

    async fn read_file(&mut self) -> Result<Progress> {
        let mut progress = Progress::None;
        loop {
            let record = match self.file.next().await {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Err(unreadable(self.path, &error)),
            };
            progress = Progress::Some;
            if !self.window.holds(&record) {
                continue;
            }
            let (number, starts) = self.numbering.number(&record);
            if number.is_none_or(|number| number < self.first) {
                continue;
            }
            if record.kind != self.batch_kind || self.batch.len() + record.text.len() > BATCH_BYTES {
                if write(self.out, self.batch_kind, &mut self.batch).await.is_err() {
                    return Ok(Progress::Done);
                }
                self.batch_kind = record.kind;
            }
            push(&mut self.batch, &record, self.timestamps && starts);
        }
        match write(self.out, self.batch_kind, &mut self.batch).await {
            Ok(()) => Ok(progress),
            Err(Gone) => Ok(Progress::Done),
        }
    }
}

async fn write(out: &Output, kind: Kind, batch: &mut Vec<u8>) -> Result<(), Gone> {
    if !batch.is_empty() {
        out.write(kind, batch).await?;
        batch.clear();
    }
    Ok(())
}

fn push(batch: &mut Vec<u8>, record: &Record<'_>, stamp: bool) {
    if stamp && let Some(at) = record.at() {
        batch.extend_from_slice(at.to_string().as_bytes());
        batch.push(b' ');
    }
    batch.extend_from_slice(record.text);
    if record.full {
        batch.push(b'\n');
    }
}
