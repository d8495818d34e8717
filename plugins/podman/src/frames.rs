//! Tells the two streams of a command apart.

use gx_core::plugin::*;

/// A stream that is read in pieces: frames of a kind (1 byte), three zeros, a length (32 bits, network
/// order) and so many bytes, as in Docker's attach. A terminal has one stream and no frames.
pub(crate) struct Frames {
    tty: bool,
    header: Vec<u8>,
    kind: Kind,
    left: usize,
    hidden: bool,
}

const HEADER_BYTES: usize = 8;

impl Frames {
    /// Reads a stream from its start.
    pub(crate) fn new(tty: bool) -> Self {
        let header = Vec::with_capacity(HEADER_BYTES);
        Self { tty, header, kind: Kind::Stdout, left: 0, hidden: false }
    }

    /// Takes the next piece of a stream from what was read.
    pub(crate) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<(Kind, &'a [u8])>> {
        if self.tty {
            let all = std::mem::take(rest);
            return Ok((!all.is_empty()).then_some((Kind::Stdout, all)));
        }
        loop {
            if self.left == 0 && !self.take_header(rest)? {
                return Ok(None);
            }
            let (piece, after) = rest.split_at(rest.len().min(self.left));
            if piece.is_empty() && self.left > 0 {
                return Ok(None);
            }
            self.left -= piece.len();
            *rest = after;
            self.judge(piece);
            if !piece.is_empty() && !self.hidden {
                return Ok(Some((self.kind, piece)));
            }
        }
    }

    fn take_header(&mut self, rest: &mut &[u8]) -> Result<bool> {
        let (piece, after) = rest.split_at(rest.len().min(HEADER_BYTES - self.header.len()));
        self.header.extend_from_slice(piece);
        *rest = after;
        if self.header.len() < HEADER_BYTES {
            return Ok(false);
        }
        self.kind = match self.header[0] {
            0 | 1 => Kind::Stdout,
            2 => Kind::Stderr,
            other => {
                let message = format!("podman sent a stream of the unknown kind {other}");
                return Err(RuntimeError::new(ErrorCode::Internal, message));
            }
        };
        let length = [self.header[4], self.header[5], self.header[6], self.header[7]];
        self.left = u32::from_be_bytes(length) as usize;
        self.header.clear();
        self.hidden = false;
        Ok(true)
    }

    /// Where a command ends before it could be given all its input, or could not be run, Podman tells of its own
    /// socket as if the command did: `Error: read unixpacket @->/proc/self/fd/14/attach: read: connection reset by peer`.
    fn judge(&mut self, piece: &[u8]) {
        let said = |how: &[u8]| piece.starts_with(how) && contains(piece, b"/attach: ");
        self.hidden |= self.kind == Kind::Stderr
            && (said(b"Error: read unixpacket @->/proc/self/fd/")
                || said(b"Error: write unixpacket @->/proc/self/fd/"));
    }
}

fn contains(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text);
        frame
    }

    fn split(bytes: &[u8], piece: usize) -> Vec<(Kind, Vec<u8>)> {
        let mut frames = Frames::new(false);
        let mut all: Vec<(Kind, Vec<u8>)> = Vec::new();
        for mut rest in bytes.chunks(piece) {
            while let Some((kind, bytes)) = frames.next(&mut rest).unwrap() {
                match all.last_mut() {
                    Some((last, text)) if *last == kind => text.extend(bytes),
                    _ => all.push((kind, bytes.to_vec())),
                }
            }
        }
        all
    }

    #[test]
    fn streams_are_told_apart_wherever_a_read_ends() {
        let bytes = [frame(1, b"out"), frame(2, b""), frame(2, b"err"), frame(1, b"more")].concat();
        let expected = [
            (Kind::Stdout, b"out".to_vec()),
            (Kind::Stderr, b"err".to_vec()),
            (Kind::Stdout, b"more".to_vec()),
        ];
        for piece in 1..bytes.len() {
            assert_eq!(split(&bytes, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_line_about_podmans_own_socket_is_left_out() {
        let why = b"Error: runc: exec failed: unable to start container process: OCI permission denied\n";
        let noise = b"Error: read unixpacket @->/proc/self/fd/14/attach: read: connection reset by peer\n";
        let bytes = [frame(2, why), frame(2, noise)].concat();
        assert_eq!(split(&bytes, 1_000), [(Kind::Stderr, why.to_vec())]);
        assert_eq!(split(&frame(1, noise), 1_000).len(), 1, "not an error");
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        assert!(Frames::new(false).next(&mut &frame(9, b"x")[..]).is_err());
    }
}
