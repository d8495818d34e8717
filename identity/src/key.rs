//! The node's identity: an ed25519 key in `DATA/node.key`, readable by its owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use gx_core::NodeId;
use hmac::{Hmac, Mac};
use sha2::Sha256;

pub(crate) const KEY_FILE: &str = "node.key";

/// Why there is no key to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key file is there and is of no use.
    #[error("the key file {} {fault}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
}

pub(crate) type Result<T> = std::result::Result<T, KeyError>;

pub(crate) fn state(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |source| KeyError::File { what, path: path.to_owned(), source }
}

/// A node's identity, and what is derived of its secret. Its `Debug` is silent.
pub struct NodeKey {
    id: NodeId,
    secret: [u8; 32],
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl NodeKey {
    fn new(secret: [u8; 32]) -> Self {
        let id = NodeId::from_bytes(SigningKey::from_bytes(&secret).verifying_key().to_bytes());
        Self { id, secret }
    }

    /// Returns the public half.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Signs a message (RFC 8032). Begin it with what it is for, so that no signature passes for another.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(&self.secret).sign(message).to_bytes()
    }

    /// Returns the secret half in the form that TLS wants.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        crate::certificate::private(&self.secret)
    }

    /// Returns a secret for one purpose: HMAC-SHA256 (RFC 2104) of the key and the purpose's words.
    pub fn derive(&self, purpose: &[&str]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length will do");
        for word in purpose {
            mac.update(&(word.len() as u64).to_be_bytes());
            mac.update(word.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// Returns a text's MAC (HMAC-SHA256, RFC 2104) in hexadecimal; the secret is one of [`NodeKey::derive`].
pub fn mac(secret: &[u8; 32], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
    mac.update(text);
    to_hex(&mac.finalize().into_bytes())
}

/// Returns whether a node has signed this message.
pub fn verify(node: NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(node.as_bytes())
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// Returns the identity kept in the data folder, making the folder and a key on first use.
///
/// The file has the 32 bytes of the secret key (RFC 8032) as 64 hexadecimal digits and a line end.
///
/// # Errors
/// [`KeyError::File`] when it cannot be read or written, [`KeyError::Damaged`] when it is no key or others can read it.
pub fn open(data: &Path) -> Result<NodeKey> {
    let path = data.join(KEY_FILE);
    let secret = match read(&path)? {
        Some(secret) => secret,
        None => {
            let mut folder = DirBuilder::new();
            folder.recursive(true).mode(0o700).create(data).map_err(state("make the folder", data))?;
            write_new(data, &path)?;
            read(&path)?.ok_or(KeyError::Damaged { path, fault: "vanished while it was being made" })?
        }
    };
    Ok(NodeKey::new(secret))
}

/// Returns the key in a file, if there is one.
pub(crate) fn read_key(path: &Path) -> Result<Option<NodeKey>> {
    Ok(read(path)?.map(NodeKey::new))
}

fn read(path: &Path) -> Result<Option<[u8; 32]>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(state("read", path)(error)),
    };
    let fault = |fault| KeyError::Damaged { path: path.to_owned(), fault };
    let mode = file.metadata().map_err(state("read", path))?.mode();
    if mode & 0o077 != 0 {
        return Err(fault("can be read by others: set its mode to 0600"));
    }
    let mut text = String::new();
    file.take(100).read_to_string(&mut text).map_err(state("read", path))?;
    from_hex(text.trim_end()).map(Some).ok_or_else(|| fault("is not 64 hexadecimal digits"))
}

/// Makes the key under a name of its own and links it into place, so that nobody ever sees half of it and, of two
/// processes that start together, one wins.
pub(crate) fn write_new(data: &Path, path: &Path) -> Result<()> {
    let mut secret = [0; 32];
    let random = Path::new("/dev/urandom");
    File::open(random).and_then(|mut file| file.read_exact(&mut secret)).map_err(state("read", random))?;
    let draft = data.join(format!(".{KEY_FILE}.{}.{}", std::process::id(), to_hex(&secret_tag(&secret))));
    let _cleanup = Draft(draft.clone());
    write_draft(&draft, &secret).map_err(state("write", path))?;
    match fs::hard_link(&draft, path) {
        Ok(()) => sync_folder(data).map_err(state("write", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(state("write", path)(error)),
    }
}

fn write_draft(draft: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    writeln!(file, "{}", to_hex(secret))?;
    file.sync_all()
}

pub(crate) fn sync_folder(data: &Path) -> io::Result<()> {
    File::open(data)?.sync_all()
}

/// Returns something that tells drafts apart and says nothing of the key.
fn secret_tag(secret: &[u8; 32]) -> [u8; 4] {
    use sha2::Digest;
    let digest = sha2::Sha256::new().chain_update(b"gx key draft").chain_update(secret).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let data = tempfile::tempdir().unwrap();
        let first = open(data.path()).unwrap();
        assert_eq!(open(data.path()).unwrap().id(), first.id());
        assert_eq!(fs::metadata(data.path().join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn what_is_derived_differs_by_key_and_purpose_and_says_nothing_of_the_key() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = open(data.path()).unwrap();
        assert_eq!(key.derive(&["a", "b"]), open(data.path()).unwrap().derive(&["a", "b"]));
        assert_ne!(key.derive(&["a", "b"]), key.derive(&["ab"]));
        assert_ne!(key.derive(&["a"]), open(other.path()).unwrap().derive(&["a"]));
        assert!(!format!("{key:?}").contains(&to_hex(&key.secret)));
    }

    #[test]
    fn a_signature_is_of_one_node_and_one_message() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = open(data.path()).unwrap();
        let signature = key.sign(b"gx test: one");
        assert!(verify(key.id(), b"gx test: one", &signature));
        assert!(!verify(key.id(), b"gx test: two", &signature));
        assert!(!verify(open(other.path()).unwrap().id(), b"gx test: one", &signature));
        assert!(!verify(NodeId::from_bytes([2; 32]), b"gx test: one", &signature));
    }

    #[test]
    fn two_that_start_together_agree() {
        let data = tempfile::tempdir().unwrap();
        let ids: Vec<NodeId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(data.path()).unwrap().id())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn a_damaged_or_public_key_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(KEY_FILE);
        open(data.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(data.path()), Err(KeyError::Damaged { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(open(data.path()), Err(KeyError::Damaged { .. })));
    }

    #[test]
    fn a_full_disk_is_an_error_that_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let Some(_mounted) = Mount::tiny(data.path()) else {
            eprintln!("skipped: a file system of one page can be mounted by root only");
            return;
        };
        let filler = data.path().join("filler");
        fs::write(&filler, [0; 4096]).unwrap();
        let error = open(data.path()).unwrap_err();
        let path = data.path().join(KEY_FILE);
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        let KeyError::File { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "only the filler is there");
        fs::remove_file(filler).unwrap();
        open(data.path()).unwrap();
    }

    struct Mount<'a>(&'a Path);

    impl<'a> Mount<'a> {
        fn tiny(path: &'a Path) -> Option<Self> {
            let options = ["-t", "tmpfs", "-o", "size=4k", "tmpfs"];
            let mounted = std::process::Command::new("mount").args(options).arg(path).output().ok()?;
            mounted.status.success().then_some(Self(path))
        }
    }

    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0).output();
        }
    }
}
