//! Names for containers nobody named: an adjective, a noun and six digits, made from the idempotency key, so that a
//! repeated request has the same name and the engine's unique names make two racing requests one.

use gx_core::{ContainerName, IdempotencyKey};
use gx_identity::to_hex;
use sha2::{Digest, Sha256};

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "cosy", "eager", "early", "fair", "gentle",
    "glad", "golden", "happy", "honest", "keen", "kind", "lively", "lucky", "merry", "mild", "neat",
    "nimble", "noble", "proud", "quick", "quiet", "rapid", "steady", "sunny", "warm",
];
const NOUNS: [&str; 32] = [
    "acorn", "alder", "badger", "beech", "birch", "brook", "cedar", "comet", "crane", "dune", "falcon",
    "fern", "finch", "fjord", "heron", "ibis", "larch", "lynx", "maple", "marten", "meadow", "otter", "owl",
    "pine", "plover", "raven", "reed", "robin", "spruce", "tern", "willow", "wren",
];

/// Returns the name that belongs to a key.
pub(crate) fn name_for(key: &str) -> ContainerName {
    let digest = Sha256::digest(key);
    let adjective = ADJECTIVES[usize::from(digest[0]) % ADJECTIVES.len()];
    let noun = NOUNS[usize::from(digest[1]) % NOUNS.len()];
    let name = format!("{adjective}-{noun}-{}", to_hex(&digest[2..5]));
    name.parse().expect("words, '-' and hexadecimal digits are a name")
}

/// Returns a key of its own for a request that came without one.
pub(crate) fn new_key() -> IdempotencyKey {
    use std::hash::{BuildHasher, RandomState};
    // Unguessable is not asked for, only different: the keys of RandomState come from the system's random numbers.
    let (high, low) = (RandomState::new().hash_one(std::process::id()), RandomState::new().hash_one(0));
    format!("{high:016x}{low:016x}").parse().expect("hexadecimal digits are a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_one_name() {
        let key = "a";
        assert_eq!(name_for(key), name_for(key));
        assert_ne!(name_for(key), name_for("b"));
        assert!(name_for(key).as_str().len() <= 60);
    }

    #[test]
    fn new_keys_differ() {
        assert_ne!(new_key(), new_key());
    }
}
