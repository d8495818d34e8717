//! The checks of this machine: the data folder, ports, and the firewall.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use gx_core::config::{PortRange, ServerConfig};

use super::{Check, Verdict};

/// How many ports are tried before the range counts as taken.
const TRIES: u16 = 50;

/// Checks that the data folder is this user's own and can be written.
pub(super) fn data_folder(folder: &Path) -> Check {
    let name = "data folder";
    let shown = folder.display();
    let metadata = match folder.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Check::ok(name, format!("{shown}, made on first use"));
        }
        Err(error) => return Check::new(name, Verdict::Fail, format!("{shown}: {error}")),
    };
    let mode = metadata.permissions().mode() & 0o777;
    let me = rustix::process::geteuid();
    if !metadata.is_dir() {
        Check::new(name, Verdict::Fail, format!("{shown} is not a folder"))
    } else if metadata.uid() != me.as_raw() {
        Check::new(name, Verdict::Fail, format!("{shown} belongs to another user, {}", metadata.uid()))
            .hint(Some("GX_DATA_DIR names another folder".to_owned()))
    } else if mode & 0o022 != 0 {
        Check::new(name, Verdict::Fail, format!("{shown} can be written by others (mode {mode:o})"))
            .hint(Some(format!("chmod 700 {shown}")))
    } else if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
        Check::new(name, Verdict::Fail, format!("{shown} cannot be written"))
            .hint(Some("GX_DATA_DIR names another folder".to_owned()))
    } else {
        Check::ok(name, shown.to_string())
    }
}

/// Checks the address to listen on, and that there are ports for containers.
pub(super) fn ports(server: &ServerConfig) -> [Check; 2] {
    [listen(server.listen), range(server)]
}

fn listen(address: SocketAddr) -> Check {
    let name = "listen";
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free for `gx serve`")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Check::new(
            name,
            Verdict::Warn,
            format!("{address} is taken; by a `gx serve` that runs, if all is well"),
        )
        .hint(Some(format!("`gx --on {address} specs` shows whether it is"))),
        Err(error) => Check::new(name, Verdict::Fail, format!("cannot listen on {address}: {error}"))
            .hint(Some("`listen` in [server] names another address".to_owned())),
    }
}

fn range(server: &ServerConfig) -> Check {
    let name = "ports";
    let PortRange { first, last } = server.limits.ports;
    let address = server.limits.publish_address;
    let shown = format!("{first}-{last} on {address}");
    let tried = (first..=last).take(TRIES.into());
    let mut error = None;
    for port in tried {
        match TcpListener::bind((address, port)) {
            Ok(_) => return Check::ok(name, format!("{shown} for containers")),
            Err(refused) => error = Some(refused),
        }
    }
    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
    Check::new(name, Verdict::Warn, format!("none of the first {TRIES} of {shown} is free{why}"))
        .hint(Some("`ports` and `publish_address` in [server.limits] name others".to_owned()))
}

/// Checks that Docker's firewall does not hide Podman's ports from other machines: dockerd drops what is forwarded and
/// not its own. Ports on loopback are not forwarded.
pub(super) fn forwarding(server: &ServerConfig, podman: bool) -> Option<Check> {
    if !podman || server.limits.publish_address.is_loopback() {
        return None;
    }
    let rules = |chain: &str| {
        let output = Command::new("iptables").args(["-w", "1", "-S", chain]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let forward = rules("FORWARD")?;
    let user = rules("DOCKER-USER").unwrap_or_default();
    Some(judge_forwarding(&forward, &user))
}

fn judge_forwarding(forward: &str, user: &str) -> Check {
    let name = "forwarding";
    let drops = forward.lines().any(|line| line == "-P FORWARD DROP") && forward.contains("DOCKER");
    let lets = |rules: &str| rules.lines().any(|rule| rule.contains("podman") && rule.ends_with("-j ACCEPT"));
    if !drops || lets(user) || lets(forward) {
        return Check::ok(name, "podman's ports can be reached from other machines");
    }
    Check::new(name, Verdict::Warn, "Docker's firewall hides podman's ports from other machines")
        .hint(Some("iptables -I DOCKER-USER -o podman0 -m conntrack --ctstate DNAT -j ACCEPT".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn a_data_folder_that_others_write_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(folder.path()).verdict, Verdict::Ok);
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let check = data_folder(folder.path());
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.hints[0].starts_with("chmod 700 "));
        assert_eq!(data_folder(&folder.path().join("new")).verdict, Verdict::Ok);
    }

    #[test]
    fn a_taken_address_is_seen() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listen(taken.local_addr().unwrap()).verdict, Verdict::Warn);
    }

    #[test]
    fn dockers_drop_hides_podman_unless_a_rule_lets_it_through() {
        let dropped = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n";
        assert_eq!(judge_forwarding(dropped, "-A DOCKER-USER -j RETURN\n").verdict, Verdict::Warn);
        let through = "-A DOCKER-USER -o podman0 -m conntrack --ctstate DNAT -j ACCEPT\n";
        assert_eq!(judge_forwarding(dropped, through).verdict, Verdict::Ok);
        assert_eq!(judge_forwarding("-P FORWARD ACCEPT\n", "").verdict, Verdict::Ok);
    }
}
