//! Digests of secrets: what a host keeps of a ticket.

use gx_identity::to_hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a ticket's secret, in hexadecimal digits. The secret has 256 random bits, so that nothing slower is
/// needed to keep it from being guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Digest(String);

impl Digest {
    /// Returns the digest of a secret.
    pub(super) fn of(secret: &[u8; 32]) -> Self {
        Self(to_hex(&Sha256::new().chain_update(b"gx ticket ").chain_update(secret).finalize()))
    }

    /// Compares two in a time that says nothing of where they differ.
    pub(super) fn same(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let different = ours.iter().zip(theirs).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        ours.len() == theirs.len() && different == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_secret_has_one_digest() {
        assert!(Digest::of(&[1; 32]).same(&Digest::of(&[1; 32])));
        assert!(!Digest::of(&[1; 32]).same(&Digest::of(&[2; 32])));
        assert!(!Digest(String::new()).same(&Digest::of(&[1; 32])), "half a digest is none");
    }
}
