//! What a container has written: kept in pieces with their time, and read back by lines.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use bytes::Bytes;
use gx_core::Timestamp;
use gx_core::runtime::LogOptions;
use gx_core::stream::Kind;
use tokio::sync::watch;

/// One write of the main process: usually a line, at most a few thousand of them.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

/// All output of one container.
#[derive(Debug)]
pub(crate) struct Logs {
    pieces: Mutex<Vec<Piece>>,
    /// How many pieces there are; followers wait on it.
    pub(crate) length: watch::Sender<usize>,
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self { pieces: Mutex::new(Vec::new()), length: watch::Sender::new(0) }
    }

    /// Appends what was written. The bytes are shared with the writer, not copied.
    pub(crate) fn push(&self, kind: Kind, bytes: Bytes) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.push(Piece { at: SystemTime::now().into(), kind, bytes });
        self.length.send_replace(pieces.len());
    }

    /// Returns the pieces from this one on.
    pub(crate) fn from(&self, first: usize) -> Vec<Piece> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.get(first..).unwrap_or_default().to_vec()
    }

    /// Returns how many bytes were written.
    pub(crate) fn bytes(&self) -> u64 {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
    }
}

/// Leaves what the options ask for, but for `tail`.
pub(crate) fn select(mut pieces: Vec<Piece>, options: &LogOptions) -> Vec<Piece> {
    pieces.retain(|piece| {
        options.since.is_none_or(|since| piece.at >= since)
            && options.until.is_none_or(|until| piece.at < until)
    });
    pieces
}

/// Leaves the last so many lines.
pub(crate) fn tail(mut pieces: Vec<Piece>, lines: u32) -> Vec<Piece> {
    let mut wanted = lines as usize;
    let mut first = pieces.len();
    while wanted > 0 && first > 0 {
        first -= 1;
        let piece = &mut pieces[first];
        let starts = line_starts(&piece.bytes);
        if starts.len() > wanted {
            piece.bytes = piece.bytes.slice(starts[starts.len() - wanted]..);
        }
        wanted = wanted.saturating_sub(starts.len());
    }
    pieces.split_off(first)
}

/// Returns the bytes of a piece, with the time before each line where that was asked for.
pub(crate) fn render(piece: &Piece, timestamps: bool) -> Bytes {
    if !timestamps {
        return piece.bytes.clone();
    }
    let stamp = format!("{} ", piece.at);
    let mut text = Vec::with_capacity(piece.bytes.len() + stamp.len());
    for line in piece.bytes.split_inclusive(|&byte| byte == b'\n') {
        text.extend_from_slice(stamp.as_bytes());
        text.extend_from_slice(line);
    }
    text.into()
}

fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let after = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after).filter(|&start| start < bytes.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: i64, text: &'static str) -> Piece {
        Piece { at: Timestamp::from_unix(at), kind: Kind::Stdout, bytes: Bytes::from_static(text.as_bytes()) }
    }

    fn text(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned()).collect()
    }

    #[test]
    fn tail_counts_lines_across_pieces() {
        let pieces = vec![piece(1, "a\nb\n"), piece(2, "c\nd\n"), piece(3, "e\n")];
        assert_eq!(text(&tail(pieces.clone(), 2)), "d\ne\n");
        assert_eq!(text(&tail(pieces.clone(), 4)), "b\nc\nd\ne\n");
        assert_eq!(text(&tail(pieces.clone(), 9)), "a\nb\nc\nd\ne\n");
        assert_eq!(text(&tail(pieces, 0)), "");
    }

    #[test]
    fn since_is_included_and_until_is_not() {
        let pieces = vec![piece(1, "a\n"), piece(2, "b\n"), piece(3, "c\n")];
        let at = |second| Some(Timestamp::from_unix(second));
        let options = LogOptions { since: at(2), until: at(3), ..LogOptions::default() };
        assert_eq!(text(&select(pieces, &options)), "b\n");
    }

    #[test]
    fn every_line_gets_its_time() {
        let lines = render(&piece(0, "a\nb\n"), true);
        assert_eq!(&lines[..], b"1970-01-01T00:00:00Z a\n1970-01-01T00:00:00Z b\n");
    }
}
