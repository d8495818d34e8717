//! What is needed to log in to a container. It comes from a host, which may be hostile, and goes into other programs'
//! command lines and files: nothing is taken that could mean something else there.

use std::net::SocketAddr;

use gx_core::ContainerId;
use gx_core::api::ContainerInfo;
use gx_core::ssh::PublicKey;

use crate::error::{CliError, Result};

/// Whom to log in as, and what the server's key is.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) id: ContainerId,
    /// What ssh knows the container by, whatever its address.
    pub(crate) alias: String,
    pub(crate) user: String,
    pub(crate) host_key: PublicKey,
    pub(crate) address: Option<SocketAddr>,
}

impl Login {
    /// Reads what a host tells.
    pub(crate) fn of(info: &ContainerInfo) -> Result<Self> {
        let name = &info.name;
        let ssh = info.ssh.as_ref().ok_or_else(|| {
            CliError::failed(format!("{name} has no SSH: it was made without the guest"))
                .hint(format!("`gx exec -it {name} -- sh` gives a shell in it, if it has one"))
        })?;
        let odd = |what| CliError::failed(format!("the host tells no {what} of {name} that ssh could use"));
        if !is_plain(&ssh.user) {
            return Err(odd("user"));
        }
        if !is_plain(info.id.short()) {
            return Err(odd("id"));
        }
        let host_key = ssh.host_key.parse().map_err(|_| odd("host key"))?;
        let alias = alias(&info.id);
        Ok(Self { id: info.id.clone(), alias, user: ssh.user.clone(), host_key, address: ssh.address })
    }

    /// Returns the line of a `known_hosts` file.
    pub(crate) fn known_host(&self) -> String {
        format!("{} {}\n", self.alias, self.host_key)
    }

    /// Returns where the container may be reached from another machine, that of a host being known as `host`, with its
    /// port. What is published on the host's loopback cannot.
    pub(crate) fn afar(&self, host: &str) -> Option<(String, u16)> {
        let address = self.address.filter(|address| !address.ip().is_loopback())?;
        if !address.ip().is_unspecified() {
            return Some((address.ip().to_string(), address.port()));
        }
        let bare = host.rsplit_once(':')?.0.trim_start_matches('[').trim_end_matches(']');
        Some((bare.to_owned(), address.port()))
    }
}

/// Returns what ssh knows a container by.
pub(crate) fn alias(id: &ContainerId) -> String {
    format!("gx-{}", id.short())
}

fn is_plain(word: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=64).contains(&word.len()) && word.bytes().all(letter) && !word.starts_with(['-', '.'])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::commands::list;
    use gx_core::ContainerState;

    pub(crate) fn info(user: &str, address: &str) -> ContainerInfo {
        let mut info = list::tests::container("web", ContainerState::Running);
        let ssh = serde_json::json!({
            "user": user, "host_key": PublicKey::ed25519(&[7; 32]).to_string(), "fingerprint": "SHA256:x",
            "address": address,
        });
        info.ssh = Some(serde_json::from_value(ssh).unwrap());
        info
    }

    #[test]
    fn what_could_mean_something_else_to_ssh_is_refused() {
        assert_eq!(Login::of(&info("app", "127.0.0.1:1")).unwrap().alias, "gx-0123456789ab");
        for odd in ["-oProxyCommand=x", "", "a b", "a\nb", "a%h", "a/b"] {
            assert!(Login::of(&info(odd, "127.0.0.1:1")).is_err(), "{odd:?}");
        }
        let mut forged = info("app", "127.0.0.1:1");
        forged.ssh.as_mut().unwrap().host_key = "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB".to_owned();
        assert!(Login::of(&forged).is_err());
        let none = Login::of(&ContainerInfo { ssh: None, ..forged }).unwrap_err();
        assert_eq!(none.message, "web has no SSH: it was made without the guest");
    }

    #[test]
    fn only_what_is_not_on_loopback_is_reached_afar() {
        let from = |address: &str| Login::of(&info("app", address)).unwrap().afar("host.example:7467");
        assert_eq!(from("127.0.0.1:20001"), None);
        assert_eq!(from("0.0.0.0:20001"), Some(("host.example".to_owned(), 20_001)));
        assert_eq!(from("10.1.2.3:20001"), Some(("10.1.2.3".to_owned(), 20_001)));
        let six = Login::of(&info("app", "[::]:20001")).unwrap().afar("[2001:db8::1]:7467");
        assert_eq!(six, Some(("2001:db8::1".to_owned(), 20_001)));
    }
}
