//! What is sent and what comes: random bytes. What could be compressed on the way would be measured faster than the link.

use std::sync::LazyLock;

use rustix::rand::{GetRandomFlags, getrandom};

/// The bytes of one chunk of an upload: on a slow link the last one is not to take long.
const CHUNK: usize = 8 << 10;
/// How a chunk begins and ends (RFC 9112 §7.1).
const BEGIN: &[u8] = b"2000\r\n";
const END: &[u8] = b"\r\n";
/// A chunk as it is sent.
const FRAME: usize = BEGIN.len() + CHUNK + END.len();
/// How many chunks are sent again and again.
const FRAMES: usize = 128;
/// The body's end.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// How much of what comes is looked at.
const LOOK: usize = 4 << 10;
/// Every so many reads; the first is one of them.
const LOOK_EVERY: u32 = 128;
/// How far back compressors on links look (RFC 1951 §2), and how much has to come again to be no accident.
const WINDOW: usize = 32 << 10;
const MARK: usize = 32;
/// Bits a byte that random bytes have, nearly: 4 KiB of them have 7.95. Text has 4 to 5, base64 6.
const RANDOM: f64 = 7.6;

/// Returns a word that was never used before.
pub(crate) fn nonce() -> String {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

fn fill(bytes: &mut [u8]) {
    for part in bytes.chunks_mut(256) {
        // Up to 256 bytes are always given whole (getrandom(2)).
        getrandom(part, GetRandomFlags::empty()).expect("the kernel has random bytes");
    }
}

/// Random bytes, chunked already, sent in a circle: nothing is copied or framed while the clock runs.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    sent: u64,
}

impl Chunks {
    /// Returns what comes next: at least one byte.
    pub(crate) fn next(&self) -> &'static [u8] {
        &ring()[self.position()..]
    }

    /// Returns what is left of the chunk that has begun.
    pub(crate) fn rest(&self) -> &'static [u8] {
        let at = self.position();
        &ring()[at..at.next_multiple_of(FRAME)]
    }

    /// Notes that so many bytes were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Returns the payload of the chunks that have begun.
    pub(crate) fn payload(&self) -> u64 {
        self.sent.div_ceil(FRAME as u64) * CHUNK as u64
    }

    fn position(&self) -> usize {
        (self.sent % (FRAMES * FRAME) as u64) as usize
    }
}

fn ring() -> &'static [u8] {
    static RING: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut ring = Vec::with_capacity(FRAMES * FRAME);
        for _ in 0..FRAMES {
            ring.extend_from_slice(BEGIN);
            let at = ring.len();
            ring.resize(at + CHUNK, 0);
            fill(&mut ring[at..]);
            ring.extend_from_slice(END);
        }
        ring
    });
    &RING
}

/// Looks at parts of what comes, and says whether any of it was not random.
#[derive(Debug, Default)]
pub(crate) struct Look {
    reads: u32,
}

impl Look {
    /// Looks at a read; returns whether it could be compressed.
    pub(crate) fn compressible(&mut self, bytes: &[u8]) -> bool {
        let turn = self.reads.is_multiple_of(LOOK_EVERY);
        let due = turn && bytes.len() >= LOOK;
        self.reads += u32::from(due || !turn);
        due && (entropy(&bytes[..LOOK]) < RANDOM || repeats(&bytes[..bytes.len().min(WINDOW)]))
    }
}

/// Returns whether the beginning of this comes again.
fn repeats(bytes: &[u8]) -> bool {
    let (beginning, rest) = bytes.split_at(MARK);
    rest.windows(MARK).any(|piece| piece == beginning)
}

/// Returns the bits a byte would take without regard to its neighbours (Shannon).
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = bytes.len().max(1) as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|p| -p * p.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_go_round_and_end_where_one_ends() {
        let mut chunks = Chunks::default();
        assert!(chunks.next().starts_with(BEGIN) && chunks.rest().is_empty());
        chunks.sent(FRAME + 10);
        assert_eq!((chunks.payload(), chunks.rest().len()), (2 * CHUNK as u64, FRAME - 10));
        assert!(chunks.rest().ends_with(END));
        chunks.sent(FRAMES * FRAME - 10);
        assert_eq!((chunks.rest().len(), chunks.next().len()), (0, (FRAMES - 1) * FRAME));
    }

    #[test]
    fn random_bytes_pass_and_all_else_does_not() {
        let mut random = vec![0; 64 << 10];
        fill(&mut random);
        let seen = |bytes: &[u8]| Look::default().compressible(bytes);
        assert!(!seen(&random));
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(200);
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let again = [&random[..9_000], &random[..9_000]].concat();
        for bad in [&vec![0; 8 << 10], text.as_bytes(), hex.as_bytes(), &again] {
            assert!(seen(bad), "{:?}", &bad[..8]);
        }
        let mut look = Look::default();
        assert!(!look.compressible(&random[..100]), "too little to tell");
        assert!((0..LOOK_EVERY).all(|_| !look.compressible(&random)));
        assert!(look.compressible(&[0; LOOK]), "it is looked at again");
        assert_ne!(nonce(), nonce());
    }
}
