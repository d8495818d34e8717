//! The frames of a streamed answer ([`STREAM_TYPE`](super::STREAM_TYPE)): an 8-byte header and a payload.

use bytes::{Buf, Bytes, BytesMut};

use super::End;
use crate::stream::{Item, Kind};

/// The length of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 8;
/// The longest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

const ALIVE: u8 = 0;
const END: u8 = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The host is still there and has nothing to say.
    Alive,
    /// An item of the stream.
    Item(Item),
    /// The last frame.
    End(End),
}

/// Says that bytes are not frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header has a kind that is not known.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// The header announces more than [`MAX_PAYLOAD_BYTES`].
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// The last frame is not an [`End`].
    #[error("a last frame that cannot be read")]
    End,
}

impl Frame {
    /// Returns the frame as bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Alive => encode(ALIVE, &[]),
            Self::Item(item) => encode(item.kind as u32 as u8, &item.bytes),
            Self::End(end) => {
                encode(END, &serde_json::to_vec(end).expect("our own types always become JSON"))
            }
        }
    }
}

fn encode(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.into()
}

/// Takes bytes as they come and gives frames.
#[derive(Debug, Default)]
pub struct Decoder(BytesMut);

impl Decoder {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Returns the next frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`]; what follows cannot be read any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.0.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [kind, _, _, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::Length(length));
        }
        if self.0.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.0.advance(HEADER_BYTES);
        let payload = self.0.split_to(length).freeze();
        frame(kind, payload).map(Some)
    }
}

fn frame(kind: u8, payload: Bytes) -> Result<Frame, FrameError> {
    match kind {
        ALIVE => Ok(Frame::Alive),
        END => serde_json::from_slice(&payload).map(Frame::End).map_err(|_| FrameError::End),
        kind => {
            let known = Kind::from_number(u32::from(kind)).ok_or(FrameError::Kind(kind))?;
            Ok(Frame::Item(Item { kind: known, bytes: payload }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_any_division() {
        let frames = [
            Frame::Alive,
            Frame::Item(Item { kind: Kind::Stderr, bytes: Bytes::from_static(b"oh") }),
            Frame::End(End::Ok(serde_json::Value::Null)),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let (mut decoder, mut read) = (Decoder::default(), Vec::new());
        for byte in bytes {
            decoder.push(&[byte]);
            read.extend(decoder.next_frame().unwrap());
        }
        assert_eq!(read, frames);
    }

    #[test]
    fn a_frame_without_end_is_refused_before_it_is_kept() {
        let mut decoder = Decoder::default();
        decoder.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(decoder.next_frame(), Err(FrameError::Length(u32::MAX as usize)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
