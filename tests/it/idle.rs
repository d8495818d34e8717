//! Idle stops on real engines: what nobody uses is stopped, a session or work keeps it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{IMAGE, Removed, Surroundings, eventually, signal, unique};

#[test]
fn docker_stops_what_is_idle() {
    idle("docker");
}

#[test]
fn podman_stops_what_is_idle() {
    idle("podman");
}

fn idle(runtime: &str) {
    let here = Surroundings::new();
    let host = here.serve();
    let on = |args: &[&str]| here.ok(&[&["--on", &host.address], args].concat());
    let names = ["used", "still", "plain"].map(unique);
    let _removed = names.each_ref().map(|name| Removed(runtime, format!("gx-{name}")));
    let [used, still, plain] = names.each_ref().map(String::as_str);
    let create = |name: &str, more: &[&str]| {
        on(&[&["create", "--runtime", runtime, "--name", name, "--idle", "2s"], more].concat());
    };
    let state = |name: &str| here.json(&["--on", &host.address, "show", name])["state"].clone();
    let stopped = |name: &str| {
        eventually(&format!("{name} is stopped"), || (state(name) == "exited").then_some(()));
    };

    // It works until somebody is in it, who then does nothing.
    create(used, &[IMAGE, "sh", "-c", "while [ ! -e /tmp/in ]; do :; done; sleep 1000 & wait"]);
    let words = ["--on", &host.address, "ssh", used, "--", "touch /tmp/in; echo inside; exec sleep 1000"];
    let mut session =
        here.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("gx starts");
    let mut line = String::new();
    let stdout = session.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the session says something");
    assert_eq!(line, "inside\n");

    create(plain, &["--no-guest", IMAGE, "sh", "-c", "trap exit TERM; sleep 1000 & wait"]);
    create(still, &[IMAGE]);
    assert_eq!(here.json(&["--on", &host.address, "show", still])["idle_s"], 2);
    for _ in 0..2 {
        stopped(still);
        assert_eq!(state(used), "running", "there is a session in it");
        on(&["start", still]);
    }
    stopped(still);
    stopped(plain);
    signal(session.id(), "TERM");
    session.wait().expect("its end can be waited for");
    stopped(used);
}
