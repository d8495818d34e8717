//! Where the guest's files are. In a container they are where the contract says; tests put them elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gx_core::guest::{FOLDER, SERVICES, SETTINGS, SSH_PORT, VNC_PASSWORD};

/// How long a connection may be without a login.
const GRACE: Duration = Duration::from_secs(30);

/// The guest's own paths, its port, and its patience.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    etc: PathBuf,
    pub(crate) port: u16,
    /// Who has not logged in by then is cut off.
    pub(crate) grace: Duration,
}

impl Place {
    /// Returns the place the contract names. A build for tests lets the environment name another; the program in
    /// containers is built without that.
    pub(crate) fn here() -> Self {
        let mut place = Self { folder: FOLDER.into(), etc: "/etc".into(), port: SSH_PORT, grace: GRACE };
        if cfg!(debug_assertions) {
            if let Some(folder) = std::env::var_os("GX_GUEST_FOLDER") {
                place.folder = folder.into();
            }
            if let Some(etc) = std::env::var_os("GX_GUEST_ETC") {
                place.etc = etc.into();
            }
            if let Some(port) = std::env::var("GX_GUEST_PORT").ok().and_then(|port| port.parse().ok()) {
                place.port = port;
            }
            if let Some(ms) = std::env::var("GX_GUEST_GRACE_MS").ok().and_then(|ms| ms.parse().ok()) {
                place.grace = Duration::from_millis(ms);
            }
        }
        place
    }

    /// Returns whether a variable is meant for the guest alone, and not for what it starts.
    pub(crate) fn is_own(variable: &str) -> bool {
        variable.starts_with("GX_GUEST_")
    }

    /// [`SETTINGS`].
    pub(crate) fn settings(&self) -> PathBuf {
        self.of(SETTINGS)
    }

    /// What the guest keeps for a later start.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// The socket of [`control`](crate::control).
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// [`VNC_PASSWORD`].
    pub(crate) fn vnc_password(&self) -> PathBuf {
        self.of(VNC_PASSWORD)
    }

    /// [`SERVICES`].
    pub(crate) fn services(&self) -> PathBuf {
        self.in_etc(SERVICES.trim_start_matches("/etc/"))
    }

    /// The image's list of users.
    pub(crate) fn passwd(&self) -> PathBuf {
        self.in_etc("passwd")
    }

    /// The image's list of groups.
    pub(crate) fn group(&self) -> PathBuf {
        self.in_etc("group")
    }

    /// The image's list of hosts.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.in_etc("hosts")
    }

    /// The container's name servers.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.in_etc("resolv.conf")
    }

    fn in_etc(&self, name: &str) -> PathBuf {
        self.etc.join(name)
    }

    /// Where a path of the contract is.
    fn of(&self, path: &str) -> PathBuf {
        match Path::new(path).strip_prefix(FOLDER) {
            Ok(inside) => self.folder.join(inside),
            Err(_) => path.into(),
        }
    }
}
