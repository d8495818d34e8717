//! The guest: which containers get it, and what their engine and the guest are then told.

use std::fmt;

use gx_core::api::CreateRequest;
use gx_core::container::{ContainerSpec, Mount, label};
use gx_core::guest::{self, Credentials, Settings};
use gx_core::image::{Image, ImageProcess};
use gx_core::runtime::{Capabilities, Feature};
use gx_core::{PortRequest, Protocol};

use super::guest_program::GUEST as PROGRAM;
use super::platform;
use super::secrets::Secrets;

mod package;
pub(crate) use package::{Package, Roads, filling, send, stale};

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
    roads: Roads,
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
    /// The root is to be read-only, and the runtime has no volumes.
    ReadOnly,
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it is asked for without"),
            Self::Program => f.write_str("this gx is built without the guest"),
            Self::Process => f.write_str("the runtime does not tell what the image runs"),
            Self::Platform(platform) => write!(f, "the image is for {platform}"),
            Self::Network => f.write_str("it has no network"),
            Self::ReadOnly => {
                f.write_str("the runtime has no volumes, and nothing can be put into a read-only root")
            }
            Self::User(user) => write!(f, "{user:?} is not the name or number of a user"),
        }
    }
}

/// Decides whether a container gets a guest, and with what.
///
/// # Errors
/// Why it gets none.
pub(crate) fn plan(
    request: &CreateRequest,
    image: &Image,
    capabilities: &Capabilities,
) -> Result<Plan, Without> {
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
    let roads = roads(request, capabilities);
    if roads.read_only && !roads.shared {
        return Err(Without::ReadOnly);
    }
    Ok(Plan {
        roads,
        argv: argv(request, process),
        user: (!is_root(&user)).then_some(user),
        home_is_set: request.env.contains_key("HOME") || process.env.iter().any(|e| e.starts_with("HOME=")),
        desktop: image.labels.get(guest::DESKTOP_LABEL).map(|port| port.parse().unwrap_or(guest::VNC_PORT)),
    })
}

fn roads(request: &CreateRequest, capabilities: &Capabilities) -> Roads {
    let keys: usize = request.ssh_keys.iter().map(String::len).sum();
    Roads {
        shared: capabilities.has(Feature::Volumes),
        // A terminal would echo what is told, into the log.
        told: capabilities.has(Feature::Feed) && !request.tty && keys <= package::FEED_MAX,
        read_only: request.read_only,
    }
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
        let words = match self.roads.told {
            true => vec![guest::PROGRAM, guest::word::INIT_TOLD, nonce],
            false => vec![guest::PROGRAM, guest::word::INIT],
        };
        spec.entrypoint = Some(words.into_iter().map(str::to_owned).collect());
        spec.fed = self.roads.told;
        if self.roads.read_only {
            spec.mounts.push(Mount { volume: None, path: guest::FOLDER.to_owned(), read_only: false });
        }
        if self.roads.shared {
            spec.mounts.push(package::mount());
        }
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

    /// Packs what the guest is told.
    pub(crate) fn pack(&self, keys: &[String], secrets: &Secrets<'_>) -> Package {
        let settings = serde_json::to_vec(&self.settings(keys, secrets)).expect("our own types become JSON");
        Package { settings: settings.into(), roads: self.roads }
    }
}

/// Makes of a spec that of a container which fills the volume with the program.
pub(crate) fn filler(spec: &mut ContainerSpec) {
    spec.entrypoint = Some(vec![guest::PROGRAM.to_owned()]);
    spec.user = Some(ROOT.to_owned());
    spec.mounts = vec![Mount { read_only: false, ..package::mount() }];
}

#[cfg(test)]
mod tests;
