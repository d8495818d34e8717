//! The secrets of a container. They are derived of the node's key and a nonce among the labels, so that nothing keeps
//! them and a repeated request is answered alike; `gx passwd` makes fresh ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::SigningKey;
use gx_core::secret::Secret;
use gx_core::ssh::PublicKey;
use gx_identity::{NodeKey, to_hex};
use sha2::{Digest, Sha256};

use crate::error::{Result, ServerError};

/// What passwords are made of: letters and digits that nobody takes for one another.
const LETTERS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 117 bits.
const SSH_LENGTH: usize = 20;
/// RFB takes no more (RFC 6143, section 7.2.2).
const VNC_LENGTH: usize = 8;

/// The secrets that a container begins with.
pub(crate) struct Secrets<'a> {
    key: &'a NodeKey,
    nonce: &'a str,
}

impl<'a> Secrets<'a> {
    pub(crate) fn new(key: &'a NodeKey, nonce: &'a str) -> Self {
        Self { key, nonce }
    }

    /// Returns the seed of the SSH server's ed25519 key, in hexadecimal digits.
    pub(crate) fn host_key_seed(&self) -> Secret {
        Secret::new(to_hex(&self.derive("ssh host key")))
    }

    /// Returns the public half of that key.
    pub(crate) fn host_key(&self) -> PublicKey {
        let secret = SigningKey::from_bytes(&self.derive("ssh host key"));
        PublicKey::ed25519(secret.verifying_key().as_bytes())
    }

    pub(crate) fn ssh_password(&self) -> Secret {
        self.password(SSH_LENGTH, "ssh password")
    }

    pub(crate) fn vnc_password(&self) -> Secret {
        self.password(VNC_LENGTH, "vnc password")
    }

    fn password(&self, length: usize, purpose: &str) -> Secret {
        let blocks = (0_u32..).map(|number| self.derive(&format!("{purpose} {number}")));
        password(length, blocks)
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        self.key.derive(&["container", purpose, self.nonce])
    }
}

/// Returns the nonce of the container that a request makes: another for each key, and alike in every process that is
/// sent the same request at the same time.
pub(crate) fn nonce(key: &str, digest: &str) -> String {
    let hash = Sha256::new().chain_update("gx nonce ").chain_update(digest).chain_update(key).finalize();
    to_hex(&hash[..16])
}

/// Returns fresh passwords for SSH and the desktop.
///
/// # Errors
/// [`ServerError::Internal`] when the system gives no random numbers.
pub(crate) fn fresh() -> Result<(Secret, Secret)> {
    let mut bytes = [0; 128];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ServerError::Internal(format!("no random numbers: {error}")))?;
    let (ssh, vnc) = bytes.split_at(64);
    let seed = |bytes: &[u8], number: u32| -> [u8; 32] {
        Sha256::new().chain_update(bytes).chain_update(number.to_be_bytes()).finalize().into()
    };
    Ok((
        password(SSH_LENGTH, (0..).map(|number| seed(ssh, number))),
        password(VNC_LENGTH, (0..).map(|number| seed(vnc, number))),
    ))
}

/// Returns a password of random bytes, every letter as likely as any other.
fn password(length: usize, blocks: impl Iterator<Item = [u8; 32]>) -> Secret {
    let fair = LETTERS.len() * (256 / LETTERS.len());
    let bytes = blocks.flatten().map(usize::from).filter(|byte| *byte < fair);
    Secret::new(bytes.take(length).map(|byte| char::from(LETTERS[byte % LETTERS.len()])).collect::<String>())
}

/// Returns a key's fingerprint, as `ssh` shows it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key.blob())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_again_and_others_for_another_container() {
        let data = tempfile::tempdir().unwrap();
        let key = gx_identity::open(data.path()).unwrap();
        let of = |nonce| Secrets::new(&key, nonce);
        assert_eq!(of("a").ssh_password(), of("a").ssh_password());
        assert_ne!(of("a").ssh_password(), of("b").ssh_password());
        assert_ne!(of("a").host_key(), of("b").host_key());
        let (ssh, vnc) = (of("a").ssh_password(), of("a").vnc_password());
        assert_eq!((ssh.reveal().len(), vnc.reveal().len()), (SSH_LENGTH, VNC_LENGTH));
        assert!(!ssh.reveal().starts_with(vnc.reveal()));
        assert!(ssh.reveal().bytes().all(|byte| LETTERS.contains(&byte)));
    }

    #[test]
    fn fresh_passwords_are_never_the_same() {
        let (first, second) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(first.0, second.0);
        assert_ne!(first.1, second.1);
        assert_ne!(&first.0.reveal()[..VNC_LENGTH], first.1.reveal());
    }

    #[test]
    fn a_password_takes_as_many_blocks_as_it_needs() {
        let blocks = [[255; 32], [0; 32], [57; 32]];
        assert_eq!(password(33, blocks.into_iter()).reveal(), format!("{}z", "1".repeat(32)));
    }

    #[test]
    fn a_fingerprint_is_as_ssh_shows_it() {
        let shown = "SHA256:gNSIRW+2Iyiuvsdp/bgjy38bvWHw6wQm3tuoXrl3WjQ"; // by ssh-keygen -l
        assert_eq!(fingerprint(&PublicKey::ed25519(&[7; 32])), shown);
    }
}
