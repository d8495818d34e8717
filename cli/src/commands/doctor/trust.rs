//! The checks of what trust rests on: the node's key, clocks, and who can reach this host.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use gx_core::Timestamp;
use gx_core::config::ServerConfig;
use gx_server::Node;

use super::{Check, Verdict};

/// How far two clocks may be apart: leases, invites and logs are off by as much.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// Checks that the node's key is this user's own and nobody else's.
pub(super) fn key(data: &Path) -> Check {
    let name = "key";
    let file = data.join("node.key");
    let shown = file.display();
    let metadata = match file.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Check::ok(name, format!("{shown}, made on first use"));
        }
        Err(error) => return Check::new(name, Verdict::Fail, format!("{shown}: {error}")),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_file() {
        Check::new(name, Verdict::Fail, format!("{shown} is not a file"))
            .hint(Some("move it away, and put the key back from your copy".to_owned()))
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        Check::new(name, Verdict::Fail, format!("{shown} belongs to another user, {}", metadata.uid()))
            .hint(Some(format!("chown $(id -u) {shown}")))
    } else if mode & 0o077 != 0 {
        Check::new(name, Verdict::Fail, format!("{shown} can be read by others (mode {mode:o})")).hint(Some(
            format!(
                "chmod 600 {shown}; if somebody may have read it, `gx id rotate` makes a new one after that"
            ),
        ))
    } else {
        Check::ok(name, shown.to_string())
    }
}

/// Checks this machine's clock against what cannot be newer than now: the program and the data folder.
pub(super) fn clock(data: &Path) -> Check {
    let program = std::env::current_exe().ok();
    let files = [program.as_deref(), Some(data), Some(&*data.join("node.key"))];
    let written = |file: &Path| Some((file.display().to_string(), file.metadata().ok()?.modified().ok()?));
    let newest = files.into_iter().flatten().filter_map(written).max_by_key(|(_, at)| *at);
    judge_clock(newest, SystemTime::now())
}

fn judge_clock(newest: Option<(String, SystemTime)>, now: SystemTime) -> Check {
    let name = "clock";
    let behind = newest.and_then(|(file, at)| Some((file, at.duration_since(now).ok()?)));
    match behind {
        Some((file, by)) if by > CLOCKS_APART => {
            let by = gx_core::units::Span(Duration::from_secs(by.as_secs()));
            Check::new(name, Verdict::Warn, format!("it is {by} behind the date of {file}")).hint(Some(
                "set it, as with `timedatectl set-ntp true`: leases and invites end by it".to_owned(),
            ))
        }
        _ => Check::ok(name, Timestamp::from(now).to_string()),
    }
}

/// Compares this machine's clock with that of a host, by when it last looked at itself.
pub(super) fn clocks(host: &str, sampled_at: Option<Timestamp>, now: SystemTime) -> Option<Check> {
    let apart = Duration::from_millis(sampled_at?.unix_ms().abs_diff(Timestamp::from(now).unix_ms()));
    if apart <= CLOCKS_APART {
        return None;
    }
    let apart = gx_core::units::Span(Duration::from_secs(apart.as_secs()));
    let check = Check::new("clocks", Verdict::Warn, format!("the clock of {host} is {apart} off this one"));
    Some(
        check.hint(Some("its leases and invites end by its own clock: set the one that is wrong".to_owned())),
    )
}

/// Tells who can reach this host's containers, where that is probably not what is meant.
pub(super) fn reach(server: &ServerConfig) -> Option<Check> {
    let public = !server.listen.ip().is_loopback();
    if public && server.limits.publish_address.is_loopback() {
        let hint = "`publish_address` in [server.limits], as \"0.0.0.0\", publishes them to other machines; without \
                    it borrowers come in through this host alone, by `gx ssh`, `gx vnc` and `gx exec`";
        let told = format!("others reach this host at {}, and not the ports of containers", server.listen);
        return Some(Check::ok("reach", told).hint(Some(hint.to_owned())));
    }
    None
}

/// Checks that members' containers can be kept from one another and from this machine. Without members nobody needs it.
pub(super) async fn firewall(node: &Node) -> Check {
    const NAME: &str = "firewall";
    match node.check_firewall().await {
        Ok(Some(())) => Check::ok(NAME, "members' containers can be closed off"),
        Ok(None) => Check::new(NAME, Verdict::Warn, "members' containers are not closed off by gx")
            .hint(Some("`firewall` in [server.policy] is false: see that something else does it".to_owned())),
        Err(error) => {
            let hint = error.hint().map(|hint| format!("to lend to others, {hint}"));
            Check::new(NAME, Verdict::Warn, error.to_string()).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn a_key_that_others_can_read_comes_with_the_way_to_close_it() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(key(data.path()).verdict, Verdict::Ok, "it is made on first use");
        gx_identity::open(data.path()).unwrap();
        assert_eq!(key(data.path()).verdict, Verdict::Ok);
        let file = data.path().join("node.key");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let check = key(data.path());
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.hints[0].starts_with("chmod 600 "), "{check:?}");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert_eq!(key(data.path()).verdict, Verdict::Fail);
    }

    #[test]
    fn a_clock_behind_its_own_files_is_seen() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let file = |at| Some(("gx".to_owned(), at));
        assert_eq!(judge_clock(file(now), now).verdict, Verdict::Ok);
        assert_eq!(judge_clock(None, now).verdict, Verdict::Ok);
        let behind = judge_clock(file(now + Duration::from_secs(86_400)), now);
        assert_eq!((behind.verdict, &*behind.message), (Verdict::Warn, "it is 1d behind the date of gx"));
    }

    #[test]
    fn two_clocks_apart_are_told_either_way() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let at = |by: i64| Some(Timestamp::from_unix(1_700_000_000 + by));
        assert!(clocks("box", at(30), now).is_none() && clocks("box", None, now).is_none());
        for by in [-7_200, 7_200] {
            let told = clocks("box", at(by), now).unwrap();
            assert_eq!(told.message, "the clock of box is 2h off this one");
        }
    }
}
