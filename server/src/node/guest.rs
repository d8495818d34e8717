//! The guest: which containers get it, what their engine and the guest are then told, and the archive it comes in.

use std::fmt;

use bytes::Bytes;
use gx_core::api::CreateRequest;
use gx_core::container::{ContainerSpec, label};
use gx_core::guest::{self, Credentials, Settings};
use gx_core::image::{Image, ImageProcess};
use gx_core::stream::{InputChunk, InputSender};
use gx_core::{PortRequest, Protocol};
use tar::{EntryType, Header};

use super::guest_program::GUEST as PROGRAM;
use super::platform;
use super::secrets::Secrets;

/// Whom an engine starts the guest as, with a group so that it need not look into the image.
pub(super) const ROOT: &str = "0:0";
/// What an image runs that is of no use without somebody at its input.
const SHELLS: [&str; 5] = ["sh", "ash", "bash", "dash", "zsh"];

/// What makes a container with a guest out of one without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The main process; nothing stays until it is stopped.
    argv: Vec<String>,
    /// Whom it runs as; `None` is root.
    user: Option<String>,
    home_is_set: bool,
    /// The port of the desktop, where the image has one.
    desktop: Option<u16>,
}

/// Why a container gets no guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Without {
    /// Nobody wants it.
    Asked,
    /// It is built for Linux alone.
    Program,
    /// Nobody knows what the image runs, so that nothing can be put in front of it.
    Process,
    /// The image is for another kind of machine.
    Platform(String),
    /// Nobody could reach it.
    Network,
    /// Nobody could log in as this.
    User(String),
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it is asked for without"),
            Self::Program => f.write_str("this gx is built without the guest"),
            Self::Process => f.write_str("the runtime does not tell what the image runs"),
            Self::Platform(platform) => write!(f, "the image is for {platform}"),
            Self::Network => f.write_str("it has no network"),
            Self::User(user) => write!(f, "{user:?} is not the name or number of a user"),
        }
    }
}

/// Decides whether a container gets a guest, and with what.
///
/// # Errors
/// Why it gets none.
pub(crate) fn plan(request: &CreateRequest, image: &Image) -> Result<Plan, Without> {
    if request.no_guest {
        return Err(Without::Asked);
    }
    if PROGRAM.is_empty() {
        return Err(Without::Program);
    }
    let process = image.process.as_ref().ok_or(Without::Process)?;
    if !platform::is_own(&image.platform) {
        return Err(Without::Platform(image.platform.clone()));
    }
    let user = request.user.clone().unwrap_or_else(|| process.user.clone());
    if !is_login(login(&user)) {
        return Err(Without::User(user));
    }
    Ok(Plan {
        argv: argv(request, process),
        user: (!is_root(&user)).then_some(user),
        home_is_set: request.env.contains_key("HOME") || process.env.iter().any(|e| e.starts_with("HOME=")),
        desktop: image.labels.get(guest::DESKTOP_LABEL).map(|port| port.parse().unwrap_or(guest::VNC_PORT)),
    })
}

/// Returns what the container runs, as an engine would choose it; nothing where that is a shell and nobody is at it.
fn argv(request: &CreateRequest, process: &ImageProcess) -> Vec<String> {
    let given = request.entrypoint.is_some() || !request.command.is_empty();
    let entrypoint = request.entrypoint.as_ref().unwrap_or(&process.entrypoint);
    let command = if given { &request.command } else { &process.command };
    let argv = [entrypoint.as_slice(), command.as_slice()].concat();
    match argv.as_slice() {
        [shell] if !given && !request.tty && is_shell(shell) => Vec::new(),
        _ => argv,
    }
}

fn is_shell(program: &str) -> bool {
    SHELLS.contains(&program.rsplit('/').next().unwrap_or(program))
}

fn is_root(user: &str) -> bool {
    matches!(user, "" | "0" | "root" | "0:0" | "0:root" | "root:0" | "root:root")
}

/// Returns the user's part of `user:group`, and root for nobody.
fn login(user: &str) -> &str {
    match user.split(':').next().unwrap_or_default() {
        "" | "0" => "root",
        name => name,
    }
}

/// What useradd(8) takes at most; an image may say anything, and this goes into people's command lines.
fn is_login(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    name.len() <= 64 && name.bytes().all(word) && !name.starts_with(['-', '.'])
}

impl Plan {
    /// Returns the ports in the container that have to be published, unless the request has them already.
    pub(crate) fn ports(&self) -> impl Iterator<Item = PortRequest> {
        let port = |container_port| PortRequest {
            container_port,
            protocol: Protocol::Tcp,
            host_port: None,
            host_address: None,
        };
        [Some(guest::SSH_PORT), self.desktop].into_iter().flatten().map(port)
    }

    /// Puts the guest in front of what the container runs, and says in its labels how to get in.
    pub(crate) fn dress(&self, spec: &mut ContainerSpec, nonce: &str, secrets: &Secrets<'_>) {
        spec.entrypoint = Some(vec![guest::PROGRAM.to_owned(), guest::word::INIT.to_owned()]);
        spec.command = self.argv.clone();
        spec.user = Some(ROOT.to_owned());
        let login = login(self.user.as_deref().unwrap_or_default());
        let mut label = |key: &str, value: String| spec.labels.insert(key.to_owned(), value);
        label(label::SSH_USER, login.to_owned());
        label(label::SSH_HOSTKEY, secrets.host_key().to_string());
        label(label::NONCE, nonce.to_owned());
        if let Some(user) = &self.user {
            label(label::USER, user.clone());
        }
        if let Some(port) = self.desktop {
            label(label::VNC, port.to_string());
        }
    }

    /// Returns what the guest is told.
    fn settings(&self, keys: &[String], secrets: &Secrets<'_>) -> Settings {
        Settings {
            user: self.user.clone(),
            home_is_set: self.home_is_set,
            host_key: secrets.host_key_seed(),
            credentials: Credentials {
                authorized_keys: keys.to_vec(),
                password: Some(secrets.ssh_password()),
                vnc_password: self.desktop.map(|_| secrets.vnc_password()),
            },
        }
    }

    /// Packs the guest and what it is told.
    pub(crate) fn pack(&self, keys: &[String], secrets: &Secrets<'_>) -> Package {
        let settings = serde_json::to_vec(&self.settings(keys, secrets)).expect("our own types become JSON");
        Package { settings: entry(guest::SETTINGS, 0o600, &settings) }
    }
}

/// The guest and its settings, as a tar archive to unpack at `/`. It has secrets in it, and no `Debug`.
#[derive(Clone)]
pub(crate) struct Package {
    settings: Bytes,
}

impl Package {
    /// Writes the archive. When the reader is gone it knows why.
    pub(crate) async fn send(&self, to: InputSender) {
        let parts =
            [head(), Bytes::from_static(PROGRAM), padding(PROGRAM.len()), self.settings.clone(), end()];
        for part in parts {
            if to.send(InputChunk::Data(part)).await.is_err() {
                return;
            }
        }
    }
}

/// Returns what comes before the program: the folder and the program's own header.
fn head() -> Bytes {
    let folder = header(&format!("{}/", guest::FOLDER), EntryType::Directory, 0o755, 0);
    let program = header(guest::PROGRAM, EntryType::Regular, 0o755, PROGRAM.len());
    Bytes::from([*folder.as_bytes(), *program.as_bytes()].concat())
}

fn entry(path: &str, mode: u32, bytes: &[u8]) -> Bytes {
    let header = header(path, EntryType::Regular, mode, bytes.len());
    Bytes::from([header.as_bytes(), bytes, &padding(bytes.len())].concat())
}

fn header(path: &str, kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(path.trim_start_matches('/')).expect("our own paths are short and relative");
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

const BLOCK: usize = 512;

fn padding(length: usize) -> Bytes {
    Bytes::from_static(&[0; BLOCK]).slice(..length.next_multiple_of(BLOCK) - length)
}

fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests;
