//! `gx doctor` on this machine: keys, permissions, clocks, engines, ports and the firewall, and a fix for each fault.

use std::fs::{File, FileTimes, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::Surroundings;

/// Returns what was found of each, and the exit code.
fn examined(here: &Surroundings) -> (Vec<Value>, i32) {
    examined_by(here, &["doctor"])
}

/// Returns what a command of that kind found of each, and its exit code. Each fault has its fix.
pub(crate) fn examined_by(here: &Surroundings, args: &[&str]) -> (Vec<Value>, i32) {
    let run = here.gx(&[&["--json"], args].concat());
    let told: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let checks = told["checks"].as_array().expect("a list").clone();
    for check in &checks {
        let has_hint = check["hints"][0].as_str().is_some_and(|hint| !hint.is_empty());
        assert!(check["verdict"] == "ok" || has_hint, "no fix is told: {check}");
    }
    (checks, run.code)
}

#[track_caller]
fn found(checks: &[Value], name: &str, verdict: &str, hint: &str) {
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("{name} is not checked: {checks:?}"));
    assert_eq!(check["verdict"], verdict, "{check}");
    assert!(check["hints"].to_string().contains(hint), "{check}");
}

#[test]
fn everything_that_matters_is_looked_at() {
    let here = Surroundings::new().configured("[server]\nlisten = \"127.0.0.1:0\"\n");
    here.ok(&["id"]);
    let (checks, code) = examined(&here);
    let names = [
        "configuration",
        "data folder",
        "key",
        "clock",
        "plugin docker",
        "plugin podman",
        "plugin speedtest",
    ];
    for name in names.into_iter().chain(["engine docker", "engine podman", "listen", "ports", "firewall"]) {
        found(&checks, name, "ok", "");
    }
    assert_eq!(code, 0, "{checks:?}");
}

#[test]
fn every_fault_comes_with_its_fix() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let (address, port) =
        (taken.local_addr().expect("it has an address"), taken.local_addr().expect("an address").port());
    let here = Surroundings::new().configured(&format!(
        "[server]\nlisten = \"{address}\"\n[server.limits]\nports = \"{port}-{port}\"\n\
         [plugins.docker.config]\nhost = \"unix:///not/there.sock\"\n[plugins.podman]\nenabled = false\n",
    ));
    // Of a machine whose clock has jumped back, the newest file is from the future.
    here.ok(&["id"]);
    let tomorrow = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(100_000));
    let key = here.data().join("node.key");
    File::options().write(true).open(&key).and_then(|key| key.set_times(tomorrow)).expect("times can be set");
    let (checks, code) = examined(&here);
    found(&checks, "clock", "warn", "timedatectl set-ntp true");
    found(&checks, "engine docker", "warn", "docker");
    found(&checks, "engines", "fail", "apt-get install docker.io");
    found(&checks, "listen", "warn", "shows whether it is");
    found(&checks, "ports", "warn", "[server.limits]");
    assert_eq!(code, 1);

    let data = here.data();
    let mode = |file: &Path, mode| std::fs::set_permissions(file, Permissions::from_mode(mode));
    mode(&key, 0o644).expect("modes can be set");
    found(&examined(&here).0, "key", "fail", "chmod 600 ");
    mode(&key, 0o600).and_then(|()| mode(&data, 0o777)).expect("modes can be set");
    found(&examined(&here).0, "data folder", "fail", "chmod 700 ");
    mode(&data, 0o700).expect("modes can be set");

    let open = Surroundings::new().configured("[server.policy]\nfirewall = false\n");
    found(&examined(&open).0, "firewall", "warn", "`firewall` in [server.policy] is false");
    let wrong = Surroundings::new().configured("[server]\nlissten = \"127.0.0.1:0\"\n");
    found(&examined(&wrong).0, "configuration", "fail", "listen");
}
