//! The user's own SSH identity: a key in `DATA/ssh/id_ed25519`, made on first use, and the files of others' public keys.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use gx_core::ssh::PublicKey;

use crate::error::{CliError, Result};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// The head of a key file that no passphrase locks (OpenSSH's PROTOCOL.key): cipher, KDF, its options, one key.
const UNLOCKED: &[u8] = b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\x01";
/// Nobody has more keys in a file than this many bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A private key that `ssh` reads.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its public half.
    pub(crate) public: PublicKey,
}

impl Identity {
    /// Returns the user's identity, making it on first use.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let folder = folder(data)?;
        let file = folder.join("id_ed25519");
        if !file.exists() {
            make(&folder, &file).map_err(|error| cannot("make the SSH key", &file, &error))?;
        }
        let text = read(&file)?;
        let public = public_half(&text).ok_or_else(|| {
            CliError::failed(format!("{} is no SSH key of gx", file.display()))
                .hint("move it away, and gx makes another; containers know the old one only")
        })?;
        Ok(Self { file, public })
    }
}

/// Returns the folder for everything of SSH, making it on first use.
pub(crate) fn folder(data: &Path) -> Result<PathBuf> {
    let folder = data.join("ssh");
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| cannot("make the folder", &folder, &error))?;
    Ok(folder)
}

/// Writes a file beside its place and moves it there, so that nobody ever reads half of it.
pub(crate) fn replace(file: &Path, text: &str) -> Result {
    let draft = draft_of(file);
    let written = write_private(&draft, text).and_then(|()| fs::rename(&draft, file));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        cannot("write", file, &error)
    })
}

/// Returns the public keys in a file like `id_ed25519.pub` or `authorized_keys`.
pub(crate) fn public_keys(file: &Path) -> Result<Vec<PublicKey>> {
    let shown = file.display();
    if !file.is_file() {
        return Err(CliError::usage(format!("there is no file {shown}")).hint(
            "name a file of public keys, as ~/.ssh/id_ed25519.pub; `ssh-keygen -t ed25519` makes a pair",
        ));
    }
    let keys = PublicKey::read_all(&read(file)?).map_err(|(line, error)| {
        CliError::usage(format!("{shown}:{line}: {error}"))
            .hint("a public key is one line, as `ssh-keygen -t ed25519` writes it into ~/.ssh/id_ed25519.pub")
    })?;
    if keys.is_empty() {
        return Err(CliError::usage(format!("{shown} has no public key in it")));
    }
    Ok(keys)
}

fn read(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(file);
    let read = opened.and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| cannot("read", file, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes the key under a name of its own and links it into place: of two programs that start together one wins.
fn make(folder: &Path, file: &Path) -> io::Result<()> {
    let mut secret = [0; 32];
    rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
    let draft = draft_of(file);
    write_private(&draft, &private_file(&SigningKey::from_bytes(&secret)))?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(folder)?.sync_all(),
    }
}

fn draft_of(file: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    file.with_file_name(format!(".{name}.{}.{count}", std::process::id()))
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Returns a key as `ssh-keygen` writes it (OpenSSH's PROTOCOL.key), without a passphrase.
fn private_file(key: &SigningKey) -> String {
    let public = key.verifying_key().to_bytes();
    let mut secret = Vec::new();
    // The two equal numbers tell who unlocks a key whether the passphrase was right; here there is none.
    secret.extend_from_slice(&[0; 8]);
    put(&mut secret, b"ssh-ed25519");
    put(&mut secret, &public);
    put(&mut secret, &[key.to_bytes(), public].concat());
    put(&mut secret, b"gx");
    let padding = (1..).take(secret.len().next_multiple_of(8) - secret.len());
    secret.extend(padding);
    let mut bytes = UNLOCKED.to_vec();
    put(&mut bytes, PublicKey::ed25519(&public).blob());
    put(&mut bytes, &secret);
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

/// Returns the public half, which a key file has in the clear.
fn public_half(text: &str) -> Option<PublicKey> {
    let body = text.split_once(BEGIN)?.1.split_once(END)?.0;
    let bytes = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    let (length, rest) = bytes.strip_prefix(UNLOCKED)?.split_first_chunk::<4>()?;
    let blob = rest.get(..u32::from_be_bytes(*length) as usize)?;
    format!("ssh-ed25519 {}", STANDARD.encode(blob)).parse().ok()
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> CliError {
    CliError::io(format!("cannot {what} {}", file.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_is_private_and_is_what_ssh_reads() {
        let data = tempfile::tempdir().unwrap();
        let first = Identity::open(data.path()).unwrap();
        assert_eq!(Identity::open(data.path()).unwrap().public, first.public);
        assert_eq!(fs::metadata(&first.file).unwrap().permissions().mode() & 0o777, 0o600);
        let folder = data.path().join("ssh");
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "no draft is left behind");
        let keygen = std::process::Command::new("ssh-keygen").arg("-yf").arg(&first.file).output().unwrap();
        assert!(keygen.status.success(), "{keygen:?}");
        let said = String::from_utf8(keygen.stdout).unwrap();
        assert_eq!(said.trim(), format!("{} gx", first.public));
    }

    #[test]
    fn two_that_start_together_have_one_key() {
        let data = tempfile::tempdir().unwrap();
        folder(data.path()).unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| Identity::open(data.path()).unwrap().public)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn what_is_no_public_key_is_refused_with_its_place_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let own = Identity::open(folder.path()).unwrap();
        let error = public_keys(&own.file).unwrap_err();
        let place = format!("{}:1: it is a private key", own.file.display());
        assert!(error.message.starts_with(&place), "{error:?}");
        let file = folder.path().join("keys.pub");
        fs::write(&file, format!("# two\n{} ann\n\nrubbish\n", own.public)).unwrap();
        let error = public_keys(&file).unwrap_err();
        assert!(error.message.contains("keys.pub:4: it does not begin with") && !error.hints.is_empty());
        fs::write(&file, "# none\n").unwrap();
        assert!(public_keys(&file).unwrap_err().message.ends_with("has no public key in it"));
        fs::write(&file, format!("{} ann\n", own.public)).unwrap();
        assert_eq!(public_keys(&file).unwrap(), [own.public]);
        assert!(
            public_keys(&folder.path().join("none")).unwrap_err().message.starts_with("there is no file")
        );
    }

    #[test]
    fn a_file_of_something_else_is_no_key_of_ours() {
        let data = tempfile::tempdir().unwrap();
        let own = Identity::open(data.path()).unwrap();
        fs::write(&own.file, format!("{BEGIN}\nAAAA\n{END}\n")).unwrap();
        let error = Identity::open(data.path()).unwrap_err();
        assert!(error.message.ends_with("is no SSH key of gx"), "{error:?}");
    }
}
