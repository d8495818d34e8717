//! What a host and the guest in a container agree on: where files are, what they hold, how the guest is called.
//!
//! The guest is a static program that the host copies into a container before it is started, and that runs in front of
//! the image's own entry point: it is the init and an SSH server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The folder in the container with everything of the guest's. Owned by root, mode 0755.
pub const FOLDER: &str = "/.gx";
/// The folder of the program alone: where the engine has volumes, one that all containers share.
pub const PROGRAM_FOLDER: &str = "/.gx/bin";
/// The program. As the entry point: `/.gx/bin/guest init [ARGV…]`, ARGV being the main process.
pub const PROGRAM: &str = "/.gx/bin/guest";
/// [`Settings`] as JSON, mode 0600, read and removed by the guest when it first starts, where it was not told them on
/// its standard input. What it needs at a later start of the container it keeps in a file of its own beside it, 0600,
/// the password as a salted digest only.
pub const SETTINGS: &str = "/.gx/settings.json";
/// The VNC password alone, mode 0600, owned by the user: what a desktop's services read it from.
pub const VNC_PASSWORD: &str = "/.gx/vnc-password";
/// What an image says about the services it has beside its command: [`Services`] as TOML.
pub const SERVICES: &str = "/etc/gx/services.toml";
/// The port in the container where the guest speaks SSH. Not 22, which an image's own server may want.
pub const SSH_PORT: u16 = 7468;
/// The port in the container where a desktop speaks RFB (RFC 6143).
pub const VNC_PORT: u16 = 5900;
/// The label of an image with a desktop: the port it speaks RFB on.
pub const DESKTOP_LABEL: &str = "gx.desktop";

/// The words after the program's name.
pub mod word {
    /// `init [ARGV…]`: be the container's first process; without ARGV, stay until stopped.
    pub const INIT: &str = "init";
    /// `init-told NONCE [ARGV…]`: the same, and unless something is kept of an earlier start with this nonce, the first
    /// line of standard input is [`Settings`](super::Settings) as JSON. The main process finds its input at the end.
    pub const INIT_TOLD: &str = "init-told";
    /// `apply`: reads [`Credentials`](super::Credentials) as JSON from standard input, hands them to the running guest,
    /// and ends with 0 once they hold.
    pub const APPLY: &str = "apply";
    /// `status`: prints [`Status`](super::Status) as JSON.
    pub const STATUS: &str = "status";
    /// `shell [-c COMMAND]`: the user's shell, as an SSH login has it.
    pub const SHELL: &str = "shell";
}

/// What the guest is told before its first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whom the main process and sessions run as: `user`, `uid`, `user:group` or `uid:gid`; `None` is root. The engine
    /// itself starts the guest as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the container's environment sets `HOME` on purpose; else it is the user's home folder.
    #[serde(default)]
    pub home_is_set: bool,
    /// The seed of the ed25519 host key, 32 bytes in hexadecimal digits.
    pub host_key: Secret,
    /// Who may log in.
    pub credentials: Credentials,
}

/// Who may log in, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    /// Public keys, a line each as in `authorized_keys` (sshd(8)), without options; none leaves those there are.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
    /// The password of every user; `None` leaves the one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The desktop's password, at most 8 characters (RFC 6143, section 7.2.2); `None` leaves the one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_password: Option<Secret>,
}

/// What goes on in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// SSH connections that are logged in.
    pub sessions: u32,
    /// How long ago the last of them ended, in seconds; `None` when there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
    /// Whether `apply` has replaced the passwords that the guest began with.
    pub changed: bool,
    /// Processor time that all processes of the container but the guest have used, in milliseconds.
    pub cpu_ms: u64,
}

/// The services of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Services {
    /// Each is started with the container, as the user, and again with a growing pause when it ends.
    pub service: Vec<Service>,
    /// Set for the main process and every session too, as `DISPLAY`.
    pub env: BTreeMap<String, String>,
}

/// A service of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, for the log.
    pub name: String,
    /// Program and arguments; the program is looked for on `PATH`.
    pub command: Vec<String>,
    /// Run before each start, and again when the desktop's password changes.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// Set on top of the container's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The service is started once this TCP port of the container is listened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_port: Option<u16>,
}
