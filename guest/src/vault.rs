//! What the guest was told, and what it keeps of it for a later start of the container.
//!
//! The settings hold the password as it is. A file of them is removed once the state is written, which holds a salted
//! digest. Where nothing can be written, such a file stays, for root alone, and holds at every start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use gx_core::guest::{Credentials, Settings};
use gx_core::secret::Secret;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use crate::account::Accounts;
use crate::place::Place;
use crate::{say, told};

/// A file larger than this is not ours.
pub(crate) const READ_LIMIT: u64 = 1 << 20;
/// The password is random: this is against a look at the digest, not against guessing.
const ROUNDS: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");

/// What is kept beside the program, 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// Of which container it is, where the host said so.
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    home_is_set: bool,
    host_key: Secret,
    #[serde(default)]
    authorized_keys: Vec<String>,
    #[serde(default)]
    password: Option<Digest>,
    /// Whether the passwords are others than the first.
    #[serde(default)]
    changed: bool,
}

/// A password that can be compared and not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Digest {
    salt: [u8; 16],
    hash: [u8; 32],
}

/// Where the settings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file of the contract's.
    File,
    /// The first line of standard input, at the first start of the container with this nonce. An image that was made of
    /// another container may have that one's state in it.
    Input(String),
}

/// What is known of users, keys and the password.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    state: Option<State>,
    keys: Vec<PublicKey>,
}

impl Vault {
    /// Takes in new settings, or else the state of an earlier start. Without both nobody can log in.
    pub(crate) fn open(place: &Place, source: Source) -> Self {
        let mut state = read::<State>(&place.state());
        let (settings, nonce) = match source {
            Source::File => (read::<Settings>(&place.settings()), None),
            Source::Input(nonce) => {
                state = state.map(|state| state.filter(|state| state.nonce.as_ref() == Some(&nonce)));
                (told::settings(matches!(state, Ok(Some(_)))), Some(nonce))
            }
        };
        let settings = settings.unwrap_or_else(|error| {
            say::line(format_args!("the settings cannot be read: {error}"));
            None
        });
        let mut vault = Self::default();
        match settings {
            Some(settings) => vault.take_in(place, settings, nonce),
            None => match state {
                Ok(state) => vault.set(state),
                Err(error) => say::line(format_args!("the state cannot be read: {error}")),
            },
        }
        vault
    }

    /// Reads the state alone, for a word that is not `init`.
    pub(crate) fn of_state(place: &Place) -> Self {
        let mut vault = Self::default();
        let settings = read::<Settings>(&place.settings()).ok().flatten();
        vault.set(read::<State>(&place.state()).ok().flatten().or_else(|| settings.map(State::of)));
        vault
    }

    /// Whom the container runs as, as the settings say it.
    pub(crate) fn user(&self) -> Option<&str> {
        self.state.as_ref().and_then(|state| state.user.as_deref())
    }

    /// Whether `HOME` is the container's own.
    pub(crate) fn home_is_set(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.home_is_set)
    }

    /// Whether the passwords are others than the first.
    pub(crate) fn changed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.changed)
    }

    /// Returns the host key, if the guest was ever told one.
    pub(crate) fn host_key(&self) -> Option<PrivateKey> {
        let seed = self.state.as_ref().map(|state| bytes_of_hex(state.host_key.reveal()))?;
        let Some(seed) = seed else {
            say::line("the host key is not 32 bytes in hexadecimal digits: no SSH");
            return None;
        };
        let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
        Some(PrivateKey::from(pair))
    }

    /// Returns whether a key may log in.
    pub(crate) fn knows(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|known| known.key_data() == key.key_data())
    }

    /// Returns whether this is the password; it takes as long for a wrong one.
    pub(crate) fn opens_with(&self, password: &str) -> bool {
        let digest = self.state.as_ref().and_then(|state| state.password.as_ref());
        digest.is_some_and(|digest| digest.is_of(password))
    }

    /// Takes in new credentials and keeps them.
    ///
    /// # Errors
    /// The first file that cannot be written. The credentials hold all the same, until the next start.
    pub(crate) fn apply(&mut self, place: &Place, credentials: Credentials) -> io::Result<()> {
        let Some(state) = &mut self.state else {
            return Err(io::Error::other("this guest was started without settings, and has no SSH"));
        };
        if !credentials.authorized_keys.is_empty() {
            state.authorized_keys = credentials.authorized_keys;
            self.keys = public_keys(&state.authorized_keys);
        }
        if let Some(password) = &credentials.password {
            state.password = Some(Digest::of(password.reveal()));
        }
        state.changed |= credentials.password.is_some() || credentials.vnc_password.is_some();
        let state = serde_json::to_vec(state).map_err(io::Error::other)?;
        match write(&place.state(), &state, None) {
            // Nothing can be kept there, and nothing was before.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            written => written?,
        }
        match &credentials.vnc_password {
            Some(password) => self.write_vnc_password(place, password),
            None => Ok(()),
        }
    }

    fn take_in(&mut self, place: &Place, settings: Settings, nonce: Option<String>) {
        let vnc_password = settings.credentials.vnc_password.clone();
        let state = State { nonce, ..State::of(settings) };
        let written = serde_json::to_vec(&state).map_err(io::Error::other);
        self.set(Some(state));
        let kept = written.and_then(|state| write(&place.state(), &state, None));
        let vnc = vnc_password.map_or(Ok(()), |password| self.write_vnc_password(place, &password));
        match kept.and(vnc) {
            Ok(()) => drop(std::fs::remove_file(place.settings())),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => say::line(format_args!("the settings stay where they are: {error}")),
        }
    }

    fn set(&mut self, state: Option<State>) {
        self.keys = state.as_ref().map(|state| public_keys(&state.authorized_keys)).unwrap_or_default();
        self.state = state;
    }

    fn write_vnc_password(&self, place: &Place, password: &Secret) -> io::Result<()> {
        let owner = Accounts::read(place).resolve(self.user()).ok().map(|user| (user.uid, user.gid));
        write(&place.vnc_password(), password.reveal().as_bytes(), owner)
    }
}

impl State {
    fn of(settings: Settings) -> Self {
        Self {
            nonce: None,
            user: settings.user,
            home_is_set: settings.home_is_set,
            host_key: settings.host_key,
            authorized_keys: settings.credentials.authorized_keys,
            password: settings.credentials.password.map(|password| Digest::of(password.reveal())),
            changed: false,
        }
    }
}

impl Digest {
    fn of(password: &str) -> Self {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).expect("the kernel has random numbers");
        let mut hash = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, password.as_bytes(), &mut hash);
        Self { salt, hash }
    }

    fn is_of(&self, password: &str) -> bool {
        let password = password.as_bytes();
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &self.salt, password, &self.hash).is_ok()
    }
}

fn public_keys(lines: &[String]) -> Vec<PublicKey> {
    let keys: Vec<PublicKey> =
        lines.iter().filter_map(|line| PublicKey::from_openssh(line.trim()).ok()).collect();
    if keys.len() < lines.len() {
        say::line(format_args!("{} of {} public keys cannot be read", lines.len() - keys.len(), lines.len()));
    }
    keys
}

/// Returns 32 bytes written as 64 hexadecimal digits.
fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// Reads a file of ours, `None` if there is none.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    parsed(&bytes).map(Some)
}

/// Reads JSON. What is said of it is not in the parser's own words: they quote what they stumble over.
pub(crate) fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        io::Error::other(format!("wrong at line {} column {}", error.line(), error.column()))
    })
}

/// Writes a file for its owner alone, whole or not at all.
fn write(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written = fresh(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner.filter(|_| rustix::process::geteuid().is_root()) {
            fchown(&file, Some(uid), Some(gid))?;
        }
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn fresh(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            open()
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_its_password_alone() {
        let digest = Digest::of("correct horse");
        assert!(digest.is_of("correct horse"));
        assert!(!digest.is_of("correct horse "));
        assert!(!digest.is_of(""));
        assert_ne!(digest, Digest::of("correct horse"), "each has a salt of its own");
    }

    #[test]
    fn a_seed_is_64_digits() {
        assert_eq!(bytes_of_hex(&"0f".repeat(32)), Some([0x0f; 32]));
        assert_eq!(bytes_of_hex(&"0F".repeat(32)), Some([0x0f; 32]));
        for wrong in ["", "00", &"g0".repeat(32), &"00".repeat(33), &"é".repeat(32)] {
            assert_eq!(bytes_of_hex(wrong), None);
        }
    }

    #[test]
    fn nobody_gets_in_without_settings() {
        let vault = Vault::default();
        assert!(!vault.opens_with(""));
        assert!(vault.host_key().is_none());
    }

    #[test]
    fn an_error_does_not_quote_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        std::fs::write(&path, r#"{"host_key": "00", "credentials": "hunter2"}"#).unwrap();
        let error = read::<Settings>(&path).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
