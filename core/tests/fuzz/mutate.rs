//! Inputs: those of the corpus, each with a few changes.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// The longest input that is made.
const MAX_BYTES: usize = 64 * 1024;

/// A change to an input.
#[derive(Debug, Clone)]
enum Change {
    /// Replaces a byte.
    Byte(Index, u8),
    /// Takes a piece out.
    Cut(Index, Index),
    /// Puts a piece in twice.
    Repeat(Index, Index),
    /// Puts a piece of another input in.
    Splice(Index, Index, Index, Index),
    /// Puts a word of the format in.
    Word(Index, Index),
    /// Puts anything in.
    Bytes(Index, Vec<u8>),
    /// Puts one byte in very often.
    Flood(Index, u8, u16),
    /// Takes the end away.
    Truncate(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => (at(), at(), at(), at()).prop_map(|(at, other, from, to)| Change::Splice(at, other, from, to)),
        4 => (at(), at()).prop_map(|(at, word)| Change::Word(at, word)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Bytes(at, bytes)),
        1 => (at(), any::<u8>(), any::<u16>()).prop_map(|(at, byte, often)| Change::Flood(at, byte, often)),
        1 => at().prop_map(Change::Truncate),
    ]
}

/// Returns how many cases are tried: so many in an ordinary run, or what the environment says.
pub(crate) fn cases(ordinary: u32) -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    said.and_then(|cases| cases.parse().ok()).unwrap_or(ordinary)
}

/// Returns the inputs of a target. `words` are those of its format.
pub(crate) fn inputs(target: &str, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let corpus = corpus(target);
    let changes = prop::collection::vec(change(), 1..6);
    (any::<Index>(), changes).prop_map(move |(which, changes)| {
        let mut input = corpus[which.index(corpus.len())].clone();
        for change in &changes {
            apply(&mut input, change, &corpus, words);
            input.truncate(MAX_BYTES);
        }
        input
    })
}

/// Returns what is in the corpus of a target.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has a corpus");
    files.iter().map(|file| std::fs::read(file).expect("a file")).collect()
}

fn apply(input: &mut Vec<u8>, change: &Change, corpus: &[Vec<u8>], words: &[&str]) {
    let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
    let piece = |from: &Index, to: &Index, input: &[u8]| {
        let (from, to) = (place(from, input), place(to, input));
        from.min(to)..from.max(to)
    };
    match change {
        Change::Byte(at, byte) if !input.is_empty() => {
            let at = at.index(input.len());
            input[at] = *byte;
        }
        Change::Byte(..) => {}
        Change::Cut(from, to) => drop(input.drain(piece(from, to, input))),
        Change::Repeat(from, to) => {
            let range = piece(from, to, input);
            let (end, copy) = (range.end, input[range].to_vec());
            input.splice(end..end, copy);
        }
        Change::Splice(at, other, from, to) => {
            let other = &corpus[other.index(corpus.len())];
            let (at, copy) = (place(at, input), other[piece(from, to, other)].to_vec());
            input.splice(at..at, copy);
        }
        Change::Word(at, word) => {
            let (at, word) = (place(at, input), words[word.index(words.len())]);
            input.splice(at..at, word.bytes());
        }
        Change::Bytes(at, bytes) => {
            let at = place(at, input);
            input.splice(at..at, bytes.iter().copied());
        }
        Change::Flood(at, byte, often) => {
            let at = place(at, input);
            input.splice(at..at, std::iter::repeat_n(*byte, usize::from(*often)));
        }
        Change::Truncate(at) => input.truncate(place(at, input)),
    }
}
