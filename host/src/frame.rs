//! Frames: the verbs of the plugin boundary on a socket between the host and a child.
//!
//! A frame is a head of 24 bytes, little-endian, and a body:
//! `length: u32 | verb: u32 | call: u64 | a: u32 | b: u32`. Neither side trusts the other: lengths and verbs are
//! checked before anything is done with them.

use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes, BytesMut};
use gx_core::plugin::abi::MAX_BODY_BYTES;
use rustix::net::{RecvFlags, recv};

/// The length of a head, in bytes.
pub(crate) const HEAD_BYTES: usize = 24;

/// Bodies at least this long are handed on without a copy; shorter ones would keep a whole buffer alive.
const SHARE_BYTES: usize = 4 * 1024;

/// How much room there is for one read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// What a frame says. `a` and `b` are used as noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Verb {
    /// To the child: the body is a `Hello`.
    Hello = 1,
    /// To the child: `a` method, `b` time-out in ms; the body.
    Call = 2,
    /// To the child.
    Cancel = 3,
    /// To the child: `a` bytes.
    Credit = 4,
    /// To the child: `a` kind; the chunk.
    Input = 5,
    /// To the child: `a` grace in ms.
    Shutdown = 6,
    /// From the child: the library is loaded (empty body), or a `LoadFault`.
    Ready = 16,
    /// From the child: `a` status; the body.
    Complete = 17,
    /// From the child: `a` kind; the item.
    Emit = 18,
    /// From the child: `a` level; a JSON list of target and message.
    Log = 19,
}

impl Verb {
    const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Call,
            3 => Self::Cancel,
            4 => Self::Credit,
            5 => Self::Input,
            6 => Self::Shutdown,
            16 => Self::Ready,
            17 => Self::Complete,
            18 => Self::Emit,
            19 => Self::Log,
            _ => return None,
        })
    }
}

/// The head of a frame, without the length of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) verb: Verb,
    pub(crate) call: u64,
    pub(crate) a: u32,
    pub(crate) b: u32,
}

impl Head {
    pub(crate) const fn new(verb: Verb, call: u64) -> Self {
        Self { verb, call, a: 0, b: 0 }
    }

    pub(crate) const fn with(mut self, a: u32, b: u32) -> Self {
        (self.a, self.b) = (a, b);
        self
    }

    /// Returns the bytes of the head of a frame with a body of this length, at most [`MAX_BODY_BYTES`].
    pub(crate) fn encode(self, length: usize) -> [u8; HEAD_BYTES] {
        debug_assert!(length <= MAX_BODY_BYTES, "checked by whoever sends");
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&(length as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.verb as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.call.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.a.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.b.to_le_bytes());
        bytes
    }
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length is beyond the cap.
    #[error("a frame of {0} bytes is beyond the cap of 16 MiB")]
    TooLong(u32),
    /// Nobody knows this verb.
    #[error("a frame has the unknown verb {0}")]
    Verb(u32),
}

/// Makes frames of bytes, in whatever pieces they come.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Reads once from a socket and returns how many bytes came; 0 is its end.
    ///
    /// # Errors
    /// Those of recv(2).
    #[expect(unsafe_code, reason = "the system writes into memory that is not initialised yet")]
    pub(crate) fn fill(&mut self, socket: &OwnedFd) -> rustix::io::Result<usize> {
        let room = self.room();
        let ((read, _), _) = recv(socket, room.spare_capacity_mut(), RecvFlags::empty())?;
        let read = read.len();
        // SAFETY: so many bytes behind the length were just written.
        unsafe { room.set_len(room.len() + read) };
        Ok(read)
    }

    /// Returns the buffer to append to, with room for a good read.
    fn room(&mut self) -> &mut BytesMut {
        let wanted = self.missing().clamp(READ_BYTES / 4, READ_BYTES);
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// Returns the next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]; nothing that follows can be read then.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, length)) = self.head()? else { return Ok(None) };
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let body = if length < SHARE_BYTES {
            let copy = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            copy
        } else {
            self.buffer.split_to(length).freeze()
        };
        Ok(Some(Frame { head, body }))
    }

    fn head(&self) -> Result<Option<(Head, usize)>, FrameError> {
        if self.buffer.len() < HEAD_BYTES {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEAD_BYTES];
        let (length, verb) = (head.get_u32_le(), head.get_u32_le());
        let (call, a, b) = (head.get_u64_le(), head.get_u32_le(), head.get_u32_le());
        if length as usize > MAX_BODY_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let verb = Verb::from_number(verb).ok_or(FrameError::Verb(verb))?;
        Ok(Some((Head { verb, call, a, b }, length as usize)))
    }

    fn missing(&self) -> usize {
        match self.head() {
            Ok(Some((_, length))) => (HEAD_BYTES + length).saturating_sub(self.buffer.len()),
            _ => HEAD_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verb() -> impl Strategy<Value = Verb> {
        prop::sample::select(vec![
            Verb::Hello,
            Verb::Call,
            Verb::Cancel,
            Verb::Emit,
            Verb::Complete,
            Verb::Log,
        ])
    }

    /// Mostly the body's own.
    fn hostile_length() -> impl Strategy<Value = Option<u32>> {
        let cap = MAX_BODY_BYTES as u32;
        prop_oneof![
            6 => Just(None),
            1 => prop::sample::select(vec![0, 1, 23, 4_095, 4_096, cap, cap + 1, u32::MAX]).prop_map(Some),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_a_round_trip_in_any_pieces(
            frames in prop::collection::vec((verb(), any::<(u64, u32, u32)>(), 0..10_000_usize), 0..8),
            piece in 1..5_000_usize,
        ) {
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            for (verb, (call, a, b), length) in frames {
                let head = Head::new(verb, call).with(a, b);
                let body = Bytes::from(vec![a as u8; length]);
                bytes.extend(head.encode(length));
                bytes.extend(&body);
                sent.push(Frame { head, body });
            }
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                decoder.room().extend_from_slice(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, sent);
        }

        /// The fuzz target of this boundary: heads that are nearly right, bodies that are not all there, cut anywhere.
        #[test]
        fn hostile_frames_are_the_same_however_they_come(
            frames in prop::collection::vec((hostile_length(), 0..24_u32, any::<(u64, u32, u32)>(), 0..6_000_usize), 0..6),
            piece in 1..3_000_usize,
        ) {
            let mut bytes = Vec::new();
            for (length, verb, (call, a, b), body) in frames {
                let length = length.unwrap_or(body as u32);
                for word in [length, verb] {
                    bytes.extend(word.to_le_bytes());
                }
                bytes.extend(call.to_le_bytes());
                for word in [a, b] {
                    bytes.extend(word.to_le_bytes());
                }
                bytes.extend(vec![b as u8; body]);
            }
            let read = |piece: usize| {
                let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
                for piece in bytes.chunks(piece) {
                    decoder.room().extend_from_slice(piece);
                    loop {
                        match decoder.next() {
                            Ok(Some(frame)) => frames.push(frame),
                            Ok(None) => break,
                            Err(error) => return (frames, Some(error)),
                        }
                    }
                }
                (frames, None)
            };
            prop_assert_eq!(read(piece), read(bytes.len().max(1)));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(pieces: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.room().extend_from_slice(&piece);
                while let Ok(Some(frame)) = decoder.next() {
                    prop_assert!(frame.body.len() <= MAX_BODY_BYTES);
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_the_cap_is_refused_before_any_memory_is_taken() {
        let mut decoder = Decoder::default();
        decoder.room().extend_from_slice(&[0xff; HEAD_BYTES]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong(u32::MAX)));
        assert!(decoder.room().capacity() <= 2 * READ_BYTES);
    }

    #[test]
    fn an_unknown_verb_is_refused() {
        let mut head = Head::new(Verb::Call, 1).encode(0);
        head[4] = 99;
        let mut decoder = Decoder::default();
        decoder.room().extend_from_slice(&head);
        assert_eq!(decoder.next(), Err(FrameError::Verb(99)));
    }
}
