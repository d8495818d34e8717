//! The engine's framing of output: standard output and error in one stream of bytes.
//!
//! Format: <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach>,
//! "Stream format". A terminal's output has no frames.

use gx_core::stream::Kind;

/// How far a frame has been read.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of the header are there.
    Header(usize),
    /// In the payload.
    Payload { stream: Stream, left: usize },
}

/// The engine's streams, by the first byte of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
    /// What the engine itself has to say, an error.
    System,
}

/// Takes frames apart, in whatever pieces they come.
#[derive(Debug)]
pub(crate) struct Frames {
    place: Place,
    header: [u8; 8],
    stamps: Stamps,
    /// Whether the last frame of standard output and error ended within a line.
    mid_line: [bool; 2],
    /// What has come of the time at a frame's beginning, and whether it is left out.
    stamp: Option<(Vec<u8>, bool)>,
    /// The time of the last frame of standard output and error.
    last: Last,
    /// Frames up to these times are left out.
    after: Last,
    /// Whether this frame is left out.
    left_out: bool,
    /// What the engine has to say itself.
    system: Vec<u8>,
}

/// Bytes of one stream.
pub(crate) type Run = (Kind, Vec<u8>);

/// Times of standard output and error, as the engine writes them: in UTC with nine digits of a second, so that their
/// order is that of their bytes.
pub(crate) type Last = [Option<String>; 2];

/// Whether each frame begins with a time and a space, as those of a log may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamps {
    /// None does.
    Absent,
    /// Each does, and who reads is to see none.
    Hidden,
    /// Each does. The engine cuts lines longer than 16 KiB into several frames and stamps each; only the first of a line
    /// keeps its time.
    Shown,
}

impl Frames {
    /// Begins a stream.
    pub(crate) fn new(stamps: Stamps) -> Self {
        Self::after(stamps, Last::default())
    }

    /// Begins a stream again, of which everything up to these times is known.
    pub(crate) fn after(stamps: Stamps, after: Last) -> Self {
        Self {
            place: Place::Header(0),
            header: [0; 8],
            stamps,
            mid_line: [false; 2],
            stamp: None,
            last: Last::default(),
            after,
            left_out: false,
            system: Vec::new(),
        }
    }

    /// Returns when the last frames were written.
    pub(crate) fn last(&self) -> &Last {
        &self.last
    }

    /// Takes the next bytes, and returns what is in them; neighbours of one stream are joined.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Run> {
        let mut runs = Vec::new();
        self.push_to(bytes, &mut runs);
        runs
    }

    /// Takes the next bytes, and adds what is in them.
    pub(crate) fn push_to(&mut self, mut bytes: &[u8], runs: &mut Vec<Run>) {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Header(have) => self.take_header(have, bytes),
                Place::Payload { stream, left } => self.take_payload(stream, left, bytes, runs),
            };
        }
    }

    /// Returns what the engine itself said, an error on its side.
    pub(crate) fn complaint(&self) -> Option<String> {
        (!self.system.is_empty()).then(|| String::from_utf8_lossy(&self.system).trim().to_owned())
    }

    fn take_header<'a>(&mut self, have: usize, bytes: &'a [u8]) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(8 - have));
        self.header[have..have + now.len()].copy_from_slice(now);
        if have + now.len() < 8 {
            self.place = Place::Header(have + now.len());
            return rest;
        }
        let [kind, _, _, _, length @ ..] = self.header;
        let stream = match kind {
            2 => Stream::Err,
            3 => Stream::System,
            _ => Stream::Out,
        };
        let hidden = self.stamps == Stamps::Hidden;
        self.stamp = match (self.stamps, self.line(stream)) {
            (Stamps::Absent, _) | (_, None) => None,
            (_, Some(line)) => Some((Vec::new(), hidden || self.mid_line[line])),
        };
        self.left_out = false;
        self.place = match u32::from_be_bytes(length) {
            0 => Place::Header(0),
            left => Place::Payload { stream, left: left as usize },
        };
        rest
    }

    fn take_payload<'a>(
        &mut self,
        stream: Stream,
        left: usize,
        bytes: &'a [u8],
        runs: &mut Vec<Run>,
    ) -> &'a [u8] {
        let (payload, rest) = bytes.split_at(bytes.len().min(left));
        let left = left - payload.len();
        self.place = if left == 0 { Place::Header(0) } else { Place::Payload { stream, left } };
        if left == 0
            && let Some(line) = self.line(stream)
        {
            self.mid_line[line] = payload.last() != Some(&b'\n');
        }
        self.emit(stream, payload, runs);
        rest
    }

    fn emit(&mut self, stream: Stream, mut payload: &[u8], runs: &mut Vec<Run>) {
        let kind = match stream {
            Stream::Out => Kind::Stdout,
            Stream::Err => Kind::Stderr,
            Stream::System => return self.system.extend_from_slice(payload),
        };
        if let Some((mut stamp, hidden)) = self.stamp.take() {
            let space = payload.iter().position(|byte| *byte == b' ');
            stamp.extend_from_slice(&payload[..space.map_or(payload.len(), |space| space + 1)]);
            let Some(space) = space else {
                self.stamp = Some((stamp, hidden));
                return;
            };
            payload = &payload[space + 1..];
            self.passed(stream, &stamp);
            if !hidden && !self.left_out {
                add(kind, &stamp, runs);
            }
        }
        if !self.left_out {
            add(kind, payload, runs);
        }
    }

    /// Notes the time at a frame's beginning.
    fn passed(&mut self, stream: Stream, stamp: &[u8]) {
        let Some(line) = self.line(stream) else { return };
        let time = String::from_utf8_lossy(stamp).trim_end().to_owned();
        self.left_out = self.after[line].as_ref().is_some_and(|after| time <= *after);
        self.last[line] = Some(time);
    }

    /// Returns which of the two outputs a stream is.
    fn line(&self, stream: Stream) -> Option<usize> {
        match stream {
            Stream::Out => Some(0),
            Stream::Err => Some(1),
            Stream::System => None,
        }
    }
}

/// Adds bytes of a stream, to the last run if that is of the same.
pub(crate) fn add(kind: Kind, bytes: &[u8], runs: &mut Vec<Run>) {
    match runs.last_mut() {
        Some((last, run)) if *last == kind => run.extend_from_slice(bytes),
        _ if bytes.is_empty() => {}
        _ => runs.push((kind, bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload.as_bytes());
        frame
    }

    fn text(runs: Vec<Run>) -> Vec<(Kind, String)> {
        runs.into_iter().map(|(kind, bytes)| (kind, String::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn streams_are_told_apart_and_neighbours_joined() {
        let bytes = [frame(1, "a\n"), frame(1, "b"), frame(2, "c"), frame(1, ""), frame(1, "d")].concat();
        let runs = text(Frames::new(Stamps::Absent).push(&bytes));
        let expected = [(Kind::Stdout, "a\nb"), (Kind::Stderr, "c"), (Kind::Stdout, "d")];
        assert_eq!(runs, expected.map(|(kind, text)| (kind, text.to_owned())));
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let bytes = [frame(1, "one\n"), frame(2, "two"), frame(1, "three")].concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::new(Stamps::Absent);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                for (kind, run) in frames.push(piece) {
                    if kind == Kind::Stdout { out.extend(run) } else { err.extend(run) }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"one\nthree"[..], &b"two"[..]));
        }
    }

    #[test]
    fn only_the_first_part_of_a_line_keeps_its_time() {
        let parts = [
            frame(1, "T1 aa"),
            frame(2, "T2 x\n"),
            frame(1, "T3 bb"),
            frame(1, "T4 c\n"),
            frame(1, "T5 d\n"),
        ];
        for size in [1, 3, 1000] {
            let mut frames = Frames::new(Stamps::Shown);
            let mut out = Vec::new();
            for piece in parts.concat().chunks(size) {
                out.extend(
                    frames
                        .push(piece)
                        .into_iter()
                        .filter(|(kind, _)| *kind == Kind::Stdout)
                        .flat_map(|run| run.1),
                );
            }
            assert_eq!(String::from_utf8(out).unwrap(), "T1 aabbc\nT5 d\n");
        }
    }

    #[test]
    fn a_stream_read_again_goes_on_after_what_is_known() {
        let first = [frame(1, "T1 a\n"), frame(2, "T2 b\n")].concat();
        let more = [frame(1, "T3 c "), frame(2, "T2 b2"), frame(2, "T4 d\n"), frame(1, "T5 e")].concat();
        for (stamps, expected) in [(Stamps::Hidden, ["c e", "d\n"]), (Stamps::Shown, ["T3 c e", "d\n"])] {
            for size in [1, 2, 5, 1000] {
                let mut frames = Frames::new(stamps);
                first.chunks(size).for_each(|piece| drop(frames.push(piece)));
                assert_eq!(frames.last(), &["T1", "T2"].map(|time| Some(time.to_owned())));
                let mut again = Frames::after(stamps, frames.last().clone());
                let mut seen = [String::new(), String::new()];
                for piece in first.iter().chain(&more).copied().collect::<Vec<_>>().chunks(size) {
                    for (kind, text) in text(again.push(piece)) {
                        seen[usize::from(kind == Kind::Stderr)] += &text;
                    }
                }
                assert_eq!(seen, expected, "{stamps:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_the_engine_says_itself_is_no_output() {
        let mut frames = Frames::new(Stamps::Absent);
        assert_eq!(frames.push(&frame(3, "error grabbing logs\n")), []);
        assert_eq!(frames.complaint().as_deref(), Some("error grabbing logs"));
    }
}
