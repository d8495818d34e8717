//! Settings that are told on standard input: on no file system, and with nothing to be removed.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gx_core::guest::Settings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::vault::{READ_LIMIT, parsed};

/// How long the line is waited for. Whoever is told nothing by then was started by somebody else than the host.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the settings on the first line of standard input, unless they are known of an earlier start. Standard input
/// is at its end afterwards: it is the main process's.
pub(crate) fn settings(known: bool) -> io::Result<Option<Settings>> {
    let settings = match known {
        true => Ok(None),
        false => line(rustix::stdio::stdin(), PATIENCE).and_then(|line| parsed(&line)).map(Some),
    };
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(nothing)?;
    settings
}

/// Reads to the first end of a line.
fn line(input: BorrowedFd<'_>, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut file = std::fs::File::from(input.try_clone_to_owned()?);
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        readable(input, deadline)?;
        let length = file.read(&mut buffer)?;
        match buffer[..length].iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(&buffer[..end]);
                return Ok(line);
            }
            None if length == 0 => return Err(io::Error::other("the input ends before the line does")),
            None if (line.len() + length) as u64 > READ_LIMIT => {
                return Err(io::Error::other("the line is too long"));
            }
            None => line.extend_from_slice(&buffer[..length]),
        }
    }
}

fn readable(input: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&input.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(io::Error::other("nobody told any")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn the_line_may_come_in_pieces_and_what_is_behind_it_is_left() {
        let (reader, mut writer) = io::pipe().unwrap();
        let long = "x".repeat(10_000);
        let writing = std::thread::spawn(move || {
            for piece in ["one ", &long, " two\nthree"] {
                writer.write_all(piece.as_bytes()).unwrap();
            }
        });
        let line = line(reader.as_fd(), Duration::from_secs(10)).unwrap();
        assert_eq!(line.len(), 10_008);
        assert!(line.starts_with(b"one x") && line.ends_with(b"x two"));
        writing.join().unwrap();
    }

    #[test]
    fn who_says_nothing_half_a_line_or_no_end_of_one_is_not_waited_for() {
        let said = |bytes: &[u8], open: bool| {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(bytes).unwrap();
            let kept = open.then_some(writer);
            let error = line(reader.as_fd(), SHORT).unwrap_err().to_string();
            drop(kept);
            error
        };
        assert_eq!(said(b"", true), "nobody told any");
        assert_eq!(said(b"half", true), "nobody told any");
        assert_eq!(said(b"half", false), "the input ends before the line does");
        let (reader, mut writer) = io::pipe().unwrap();
        let flood = std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(
            line(reader.as_fd(), Duration::from_secs(10)).unwrap_err().to_string(),
            "the line is too long"
        );
        drop(reader);
        flood.join().unwrap();
    }
}
