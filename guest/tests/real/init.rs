//! The first process: how it starts, hands on and ends.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::support::{Guest, PASSWORD, text, wait_for};

/// Runs a guest nobody gave settings.
fn bare(argv: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gx")).unwrap();
    let mut command: Command = Guest::program(folder.path());
    command.arg("init").args(argv).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn it_ends_as_the_main_process_does() {
    assert_eq!(bare(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(bare(&["sh", "-c", "kill -KILL $$"]).status.code(), Some(137));
    assert_eq!(text(&bare(&["sh", "-c", "echo out"])), "out\n");
}

#[test]
fn a_command_that_cannot_run_is_told_as_engines_do() {
    let missing = bare(&["no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(said, "gx: exec: \"no-such-program\": executable file not found in $PATH\n");
    assert_eq!(bare(&["/no/such/file"]).status.code(), Some(127));
    assert_eq!(bare(&["/etc/passwd"]).status.code(), Some(126));
}

#[test]
fn a_signal_goes_to_the_main_process() {
    let line = "trap 'exit 9' TERM; touch $HOME/ready; while :; do sleep 0.1; done";
    let mut guest = Guest::start(&["sh", "-c", line]);
    wait_for("the trap is set", || guest.path("home/ready").exists());
    guest.signal(Signal::TERM);
    assert_eq!(guest.process.wait().unwrap().code(), Some(9));
}

#[test]
fn without_a_main_process_it_stays_until_it_is_asked_to_end() {
    let mut guest = Guest::start(&[]);
    assert_eq!(text(&guest.run("echo inside", b"")), "inside\n");
    guest.signal(Signal::TERM);
    assert_eq!(guest.process.wait().unwrap().code(), Some(0));
}

#[test]
fn orphans_are_reaped() {
    let guest = Guest::start(&["sleep", "1000"]);
    let pid = text(&guest.run("(sh -c 'echo $$') & wait", b""));
    let orphan = text(&guest.run("(sh -c 'echo $$; exec >/dev/null 2>&1; read x' </dev/null &)", b""));
    for pid in [pid, orphan] {
        let proc = format!("/proc/{}", pid.trim());
        wait_for("nothing is left of it", || !std::path::Path::new(&proc).exists());
    }
}

#[test]
fn the_settings_go_and_the_state_stays_without_the_password() {
    let guest = Guest::start(&["sleep", "1000"]);
    assert!(!guest.file("settings.json").exists());
    let state = std::fs::read_to_string(guest.file("state.json")).unwrap();
    assert!(!state.contains(PASSWORD));
    for name in ["state.json", "vnc-password"] {
        assert_eq!(std::fs::metadata(guest.file(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::read_to_string(guest.file("vnc-password")).unwrap(), "12345678");
    let guest = guest.again(&["sleep", "1000"]);
    let output = guest.by_password("me", PASSWORD, &["echo", "again"]).output().unwrap();
    assert_eq!(text(&output), "again\n", "{output:?}");
    // The host key is the same, or ssh would refuse.
    assert_eq!(text(&guest.run("echo again", b"")), "again\n");
}

#[test]
fn broken_settings_are_told_without_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gx")).unwrap();
    std::fs::write(folder.path().join("gx/settings.json"), r#"{"host_key": "hunter2""#).unwrap();
    let output = Guest::program(folder.path()).args(["init", "sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "the main process runs all the same");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("settings cannot be read") && !said.contains("hunter2"), "{said}");
}

#[test]
fn nothing_of_the_guest_is_in_the_environment() {
    let guest = Guest::start_with(&["sleep", "1000"], &[("OF_THE_IMAGE", "yes")]);
    let variables = text(&guest.run("env", b""));
    assert!(variables.contains("OF_THE_IMAGE=yes\n") && variables.contains("USER=me\n"), "{variables}");
    assert!(!variables.contains("GX_GUEST") && !variables.contains(PASSWORD), "{variables}");
    let home = format!("HOME={}\n", guest.path("home").display());
    assert!(variables.contains(&home), "{variables}");
}

/// Runs a guest with this on its standard input, and returns what it printed.
fn told(folder: &std::path::Path, nonce: &str, said: &str, argv: &[&str]) -> Output {
    use std::io::Write;
    let mut command = Guest::program(folder);
    command.args(["init-told", nonce]).args(argv).stdin(Stdio::piped());
    let mut guest = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    match guest.stdin.take().unwrap().write_all(said.as_bytes()) {
        // One that reads nothing may have ended by now.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    guest.wait_with_output().unwrap()
}

#[test]
fn what_is_told_is_kept_for_this_container_and_its_main_process_has_no_input() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gx")).unwrap();
    let state = folder.path().join("gx/state.json");
    let settings = |seed: &str| {
        let settings =
            serde_json::json!({"host_key": seed.repeat(32), "credentials": {"password": PASSWORD}});
        format!("{settings}\nwhat is behind the line\n")
    };
    let first = told(folder.path(), "n1", &settings("5a"), &["cat"]);
    assert_eq!((text(&first).as_str(), first.status.code()), ("", Some(0)), "{first:?}");
    let kept = std::fs::read_to_string(&state).unwrap();
    assert!(kept.contains(&"5a".repeat(32)) && !kept.contains(PASSWORD));
    assert!(!folder.path().join("gx/settings.json").exists());
    // A later start reads nothing; the same files in another container, as in an image made of the first, are not its.
    told(folder.path(), "n1", &settings("6b"), &["true"]);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), kept);
    told(folder.path(), "n2", &settings("7c"), &["true"]);
    assert!(std::fs::read_to_string(&state).unwrap().contains(&"7c".repeat(32)));
}

#[test]
fn who_is_told_rubbish_or_nothing_has_no_ssh_and_runs_all_the_same() {
    for (said, why) in
        [("{\"host_key\": \"hunter2\"\n", "wrong at line"), ("half", "ends before the line does")]
    {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("gx")).unwrap();
        let ended = told(folder.path(), "n1", said, &["sh", "-c", "exit 3"]);
        let log = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(3), "{log}");
        assert!(log.contains(why) && !log.contains("hunter2"), "{log}");
    }
}
