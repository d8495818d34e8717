//! Public keys as OpenSSH writes them: `ssh-ed25519 AAAA… comment`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The kinds of keys that may log in (RFC 8709, RFC 5656, RFC 8332; OpenSSH's PROTOCOL.u2f).
const KINDS: [&str; 7] = [
    ED25519,
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
const ED25519: &str = "ssh-ed25519";
/// An RSA key of 16384 bits takes 2 KiB; nothing is longer.
const MAX_BLOB_BYTES: usize = 4_096;

/// A public key without its comment. Text: its kind and its blob in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static str,
    blob: Vec<u8>,
}

/// Why a text is not a public key. None of these repeats the text, which may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It is the other half.
    #[error("it is a private key; the public one is beside it, in the file that ends in .pub")]
    Private,
    /// It has restrictions in front, which nobody would keep to.
    #[error("it has options in front of the key")]
    Options,
    /// It begins like no key.
    #[error("it does not begin with the kind of a key, as ssh-ed25519")]
    Kind,
    /// The rest of it is not what its kind has.
    #[error("the key in it is damaged")]
    Damaged,
}

impl PublicKey {
    /// Returns the key of these 32 bytes (RFC 8032).
    pub fn ed25519(bytes: &[u8; 32]) -> Self {
        let mut blob = Vec::with_capacity(51);
        for part in [ED25519.as_bytes(), bytes] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
            blob.extend_from_slice(part);
        }
        Self { kind: ED25519, blob }
    }

    /// Returns the key as it goes over the wire (RFC 4253, section 6.6); its SHA-256 is the fingerprint.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Reads the keys of a file like `authorized_keys`: a line each; empty ones and comments are passed over.
    ///
    /// # Errors
    /// The number of the first line that is no key, counted from 1, and why.
    pub fn read_all(text: &str) -> Result<Vec<Self>, (usize, PublicKeyError)> {
        let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
        let written = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        written.map(|(line, number)| line.parse().map_err(|error| (number, error))).collect()
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;
    fn from_str(line: &str) -> Result<Self, PublicKeyError> {
        if line.contains("PRIVATE KEY") {
            return Err(PublicKeyError::Private);
        }
        let kind_of = |word: &str| KINDS.into_iter().find(|kind| *kind == word);
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next().and_then(kind_of) else {
            let later = words.any(|word| kind_of(word).is_some());
            return Err(if later { PublicKeyError::Options } else { PublicKeyError::Kind });
        };
        let blob = words.next().and_then(|text| STANDARD.decode(text).ok()).ok_or(PublicKeyError::Damaged)?;
        if !is_whole(kind, &blob) {
            return Err(PublicKeyError::Damaged);
        }
        Ok(Self { kind, blob })
    }
}

/// Returns whether a blob is its kind and then parts, each behind its length, to the end.
fn is_whole(kind: &str, blob: &[u8]) -> bool {
    let mut rest = blob;
    let mut parts = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((part, behind)) = behind.split_at_checked(length) else { return false };
        parts.push(part);
        rest = behind;
    }
    let whole = rest.is_empty() && blob.len() <= MAX_BLOB_BYTES && parts.first() == Some(&kind.as_bytes());
    whole && parts.len() > 1 && (kind != ED25519 || (parts.len() == 2 && parts[1].len() == 32))
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, STANDARD.encode(&self.blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

    #[test]
    fn a_key_is_read_with_or_without_a_comment_and_written_without() {
        let key: PublicKey = format!("{LINE} ann@home").parse().unwrap();
        assert_eq!(key.to_string(), LINE);
        assert_eq!(key, PublicKey::ed25519(&[7; 32]));
    }

    #[test]
    fn what_is_no_public_key_is_told_apart() {
        let error = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(error("-----BEGIN OPENSSH PRIVATE KEY-----"), PublicKeyError::Private);
        assert_eq!(error(&format!("command=\"ls\" {LINE}")), PublicKeyError::Options);
        assert_eq!(error("hello"), PublicKeyError::Kind);
        assert_eq!(error(""), PublicKeyError::Kind);
        for damaged in ["ssh-ed25519", "ssh-ed25519 x", &LINE[..LINE.len() - 4], "ssh-rsa AAAAB3NzaC1yc2E="] {
            assert_eq!(error(damaged), PublicKeyError::Damaged, "{damaged}");
        }
        assert_eq!(error(&LINE.replacen("ssh-ed25519", "ssh-rsa", 1)), PublicKeyError::Damaged);
    }

    #[test]
    fn a_file_of_keys_may_have_comments_and_names_its_bad_line() {
        let text = format!("# mine\n\n{LINE} a\r\n{LINE}\n");
        assert_eq!(PublicKey::read_all(&text).unwrap().len(), 2);
        assert_eq!(PublicKey::read_all(&format!("{LINE}\nrubbish")), Err((2, PublicKeyError::Kind)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_an_error(text in "(ssh-(rsa|ed25519) )?[A-Za-z0-9+/= ]{0,80}") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
    }
}
