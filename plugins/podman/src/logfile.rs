//! The format of a log: Kubernetes' container log format, which conmon writes.
//!
//! A record a line: `2016-10-06T00:17:09.669794202Z stdout F the text`, where `P` instead of `F` says that the text
//! goes on in the stream's next record. Source: Kubernetes' "CRI log format" design, and conmon's ctr_logging.c.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gx_core::plugin::{Kind, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// The longest record that is kept whole; conmon writes them of about 8 KiB at most.
const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// How far before the end the search for the last lines begins, in bytes; each further try goes four times as far.
const TAIL_BYTES: u64 = 64 * 1024;

/// One record of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    time: &'a [u8],
    /// The stream it was written to.
    pub(crate) kind: Kind,
    /// Whether it ends its line.
    pub(crate) full: bool,
    /// The text, without the end of the line.
    pub(crate) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record, given without its end of line.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |&b| b == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = match stream {
            b"stdout" => Kind::Stdout,
            b"stderr" => Kind::Stderr,
            _ => return None,
        };
        Some(Self { time, kind, full: tag.first() != Some(&b'P'), text: parts.next().unwrap_or_default() })
    }

    /// Returns when it was written.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse::<Timestamp>().ok().map(utc)
    }
}

fn utc(at: Timestamp) -> Timestamp {
    Timestamp(at.0.to_offset(time::UtcOffset::UTC))
}

/// The time from which and up to which records count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// At or after this time.
    pub(crate) since: Option<Timestamp>,
    /// Before this time.
    pub(crate) until: Option<Timestamp>,
}

impl Window {
    /// Returns whether a record counts.
    pub(crate) fn holds(&self, record: &Record<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        record.at().is_some_and(|at| {
            self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
        })
    }
}

/// Numbers lines by their first records, as the lines of two streams may be mixed record by record.
#[derive(Debug, Clone)]
pub(crate) struct Numbering {
    next: u64,
    /// The number after the last line of which it is not known where it begins.
    base: u64,
    streams: [Stream; 2],
}

/// Where a stream is.
#[derive(Debug, Clone, Copy)]
enum Stream {
    /// Nothing of it was seen yet, and the file not from its start.
    Unknown,
    AtStart,
    /// Within the line of this number.
    Within(Option<u64>),
}

impl Numbering {
    /// Numbers a log from its start.
    pub(crate) fn from_start() -> Self {
        Self { next: 0, base: 0, streams: [Stream::AtStart; 2] }
    }

    fn from_middle() -> Self {
        Self { streams: [Stream::Unknown; 2], ..Self::from_start() }
    }

    /// Returns the number of the line a record belongs to, `None` where its start is not known, and whether the
    /// record begins it.
    pub(crate) fn number(&mut self, record: &Record<'_>) -> (Option<u64>, bool) {
        let stream = &mut self.streams[usize::from(record.kind == Kind::Stderr)];
        let (number, starts) = match *stream {
            Stream::Unknown => {
                self.base = self.next;
                (None, false)
            }
            Stream::Within(number) => (number, false),
            Stream::AtStart => {
                self.next += 1;
                (Some(self.next - 1), true)
            }
        };
        *stream = if record.full { Stream::AtStart } else { Stream::Within(number) };
        (number, starts)
    }
}

/// A log that is read record by record.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    inode: u64,
    /// How far it was read, and how far it is to be read at least, in bytes.
    position: u64,
    stop_at: Option<u64>,
    /// What was read and not yet returned is `held[begun..]`.
    held: Vec<u8>,
    begun: usize,
    /// How much of that is known to have no end of line.
    searched: usize,
}

impl LogFile {
    /// Opens a log.
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let inode = file.metadata().await?.ino();
        Ok(Self { file, inode, position: 0, stop_at: None, held: Vec::new(), begun: 0, searched: 0 })
    }

    /// Reads no further than what is there now, or a little: a log may grow faster than it is read.
    pub(crate) async fn stop_here(&mut self) -> io::Result<()> {
        self.stop_at = Some(self.file.metadata().await?.len());
        Ok(())
    }

    /// Returns the file that took this one's place, opened.
    pub(crate) async fn successor(&self, path: &Path) -> io::Result<Option<Self>> {
        match tokio::fs::metadata(path).await {
            Ok(now) if now.ino() != self.inode => Self::open(path).await.map(Some),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Goes to where the last so many lines within the window begin; returns how lines are numbered from there, and
    /// the number of the first that is wanted.
    pub(crate) async fn seek_tail(&mut self, lines: u64, window: &Window) -> io::Result<(Numbering, u64)> {
        let length = self.file.metadata().await?.len();
        let mut back = TAIL_BYTES;
        loop {
            let from = length.saturating_sub(back);
            let begin = if from == 0 { Numbering::from_start() } else { Numbering::from_middle() };
            self.seek(from).await?;
            let mut numbering = begin.clone();
            while let Some(record) = self.next().await? {
                if window.holds(&record) {
                    numbering.number(&record);
                }
            }
            if from == 0 || numbering.next - numbering.base >= lines {
                self.seek(from).await?;
                return Ok((begin, numbering.next.saturating_sub(lines)));
            }
            back = back.saturating_mul(4);
        }
    }

    /// Goes to the first record that begins at or after this place.
    async fn seek(&mut self, from: u64) -> io::Result<()> {
        self.position = self.file.seek(SeekFrom::Start(from.saturating_sub(1))).await?;
        (self.begun, self.searched) = (0, 0);
        self.held.clear();
        if from > 0 {
            self.line().await?;
        }
        Ok(())
    }

    /// Returns the next record that is complete, or `None` when there is none yet.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        loop {
            let Some((from, to)) = self.line().await? else { return Ok(None) };
            if Record::parse(&self.held[from..to]).is_some() {
                return Ok(Record::parse(&self.held[from..to]));
            }
        }
    }

    /// Returns where the next complete line is held.
    async fn line(&mut self) -> io::Result<Option<(usize, usize)>> {
        loop {
            let unsearched = self.begun + self.searched;
            if let Some(at) = self.held[unsearched..].iter().position(|&b| b == b'\n') {
                let line = (self.begun, unsearched + at);
                (self.begun, self.searched) = (line.1 + 1, 0);
                return Ok(Some(line));
            }
            self.searched = self.held.len() - self.begun;
            if self.searched > MAX_RECORD_BYTES {
                self.begun = self.held.len();
                self.searched = 0;
            }
            if self.stop_at.is_some_and(|stop| self.position >= stop) {
                return Ok(None);
            }
            self.held.drain(..self.begun);
            self.begun = 0;
            self.held.reserve(READ_BYTES);
            let count = self.file.read_buf(&mut self.held).await?;
            if count == 0 {
                return Ok(None);
            }
            self.position += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-21T23:04:52.000000001+00:00 stdout F one\n\
                       2026-11-21T23:04:53.000000000+00:00 stdout P par\n\
                       2026-11-21T23:04:54.000000000+00:00 stderr F error with spaces\n\
                       2026-11-21T23:04:55.000000000+00:00 stdout F tial\n\
                       rubbish\n\
                       2026-11-21T23:04:56.000000000+01:00 stdout F \n\
                       2026-11-21T23:04:57.000000000+00:00 stdout P no end\n";

    async fn file(text: &str) -> (tempfile::TempDir, LogFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctr.log");
        std::fs::write(&path, text).unwrap();
        let file = LogFile::open(&path).await.unwrap();
        (folder, file)
    }

    const ALL: Window = Window { since: None, until: None };

    async fn tail(text: &str, lines: u64) -> String {
        let (_folder, mut file) = file(text).await;
        let (mut numbering, first) = file.seek_tail(lines, &ALL).await.unwrap();
        let mut all = Vec::new();
        while let Some(record) = file.next().await.unwrap() {
            if numbering.number(&record).0.is_some_and(|number| number >= first) {
                all.extend_from_slice(record.text);
                all.extend_from_slice(if record.full { b"|" } else { b"" });
            }
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn records_are_read_and_rubbish_is_left_out() {
        let (_folder, mut file) = file(LOG).await;
        let mut count = 0;
        while let Some(record) = file.next().await.unwrap() {
            assert!(record.at().is_some());
            count += 1;
        }
        assert_eq!(count, 6);
    }

    #[tokio::test]
    async fn the_last_lines_are_whole_though_streams_are_mixed() {
        assert_eq!(tail(LOG, 0).await, "");
        assert_eq!(tail(LOG, 1).await, "no end");
        assert_eq!(tail(LOG, 2).await, "|no end");
        assert_eq!(tail(LOG, 3).await, "error with spaces||no end");
        assert_eq!(tail(LOG, 4).await, "parerror with spaces|tial||no end");
        assert_eq!(tail(LOG, 99).await, "one|parerror with spaces|tial||no end");
    }

    #[tokio::test]
    async fn the_last_lines_of_a_long_log_are_the_same_as_if_it_were_read_whole() {
        let lines = |from: usize| {
            (from..20_000).map(|n| format!("{n}{}|", ["", " on stderr"][n % 2])).collect::<String>()
        };
        let record = |n: usize| {
            let stream = ["stdout", "stderr"][n % 2];
            let extra = ["", " on stderr"][n % 2];
            format!("2026-11-21T23:04:52.000000001+00:00 {stream} F {n}{extra}\n")
        };
        let log: String = (0..20_000).map(record).collect();
        for count in [1, 7, 3_000, 19_999] {
            assert_eq!(tail(&log, count as u64).await, lines(20_000 - count), "{count}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_speaks_once_at_the_end_is_not_lost() {
        let quiet = "2026-11-21T23:04:52.000000001+00:00 stdout F line\n".repeat(5_000);
        let log = format!("{quiet}2026-11-21T23:04:53.000000001+00:00 stderr F last\n");
        assert_eq!(tail(&log, 1).await, "last|");
        assert_eq!(tail(&log, 2).await, "line|last|");
    }

    #[tokio::test]
    async fn a_window_of_time_is_closed_at_its_start_and_open_at_its_end() {
        let (_folder, mut file) = file(LOG).await;
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let window = Window { since: at("2026-11-21T23:04:53Z"), until: at("2026-11-21T23:04:55Z") };
        let mut texts = Vec::new();
        while let Some(record) = file.next().await.unwrap() {
            if window.holds(&record) {
                texts.push(String::from_utf8_lossy(record.text).into_owned());
            }
        }
        assert_eq!(texts, ["par", "error with spaces"]);
    }

    #[tokio::test]
    async fn a_record_that_is_being_written_is_waited_for() {
        let (folder, mut file) = file("2026-11-21T23:04:52Z stdout F on").await;
        assert!(file.next().await.unwrap().is_none());
        let path = folder.path().join("ctr.log");
        std::fs::write(&path, "2026-11-21T23:04:52Z stdout F one\n").unwrap();
        assert_eq!(file.next().await.unwrap().unwrap().text, b"one");
        assert!(file.successor(&path).await.unwrap().is_none());
        std::fs::write(folder.path().join("new"), "").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(file.successor(&path).await.unwrap().is_some());
    }
}
