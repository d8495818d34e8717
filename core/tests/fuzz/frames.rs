//! A streamed answer of a host: frames or an error, the same however the bytes are cut, and never more kept than came.

use gx_core::api::frame::{Decoder, Frame, FrameError};
use proptest::prelude::*;

use crate::mutate::{cases, corpus, inputs};

const WORDS: &[&str] = &[
    "\0\0\0\0\0\0\0\0",
    "\x01\0\0\0\0\0\0\x04text",
    "\x02\0\0\0\0\0\0\x01",
    "\x05\0\0\0\0\0\0\x0b{\"ok\":null}",
    "\x05\0\0\0\0\0\0\x02{}",
    "\x7f",
    "\x01\0\0\0\x01\0\0\0",
];

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[test]
fn the_corpus_is_read() {
    for input in corpus("frames") {
        assert_eq!(read(input.chunks(1)), read(std::iter::once(&input[..])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(4_000), ..ProptestConfig::default() })]
    #[test]
    fn frames_are_the_same_however_they_come(input in inputs("frames", WORDS), piece in 1..64_usize) {
        let whole = read(std::iter::once(&input[..]));
        prop_assert_eq!(&read(input.chunks(piece)), &whole);
        let bytes: usize = whole.0.iter().map(|frame| frame.encode().len()).sum();
        // An end that was written with more white space than ours is shorter when it is written anew.
        prop_assert!(bytes <= input.len() + 64 * whole.0.len());
    }
}
