//! The whole road, for real: a container is made, seen by its engine, read, entered, copied from and to, and removed;
//! on both engines, on this machine and on a host.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{
    IMAGE, Removed, Surroundings, engine, eventually, installation, run, signal, try_engine, unique,
};

#[test]
fn docker_here() {
    whole_road("docker", &Surroundings::new(), &[]);
}

#[test]
fn podman_here() {
    whole_road("podman", &Surroundings::new(), &[]);
}

#[test]
fn docker_on_a_host() {
    on_a_host("docker");
}

#[test]
fn podman_on_a_host() {
    on_a_host("podman");
}

/// Says which terminal it has, and ends once that has the size of the caller's: an engine may set it only after the
/// start.
const TERMINAL: &str =
    "tty; until [ \"$(stty size 2>/dev/null)\" = \"33 77\" ]; do :; done; echo sized; exit 7";

fn on_a_host(runtime: &str) {
    let here = Surroundings::new();
    let there = Surroundings::new();
    let host = there.serve();
    host.is_owned_from(&here);
    whole_road(runtime, &here, &["--on", &host.address]);
}

fn whole_road(runtime: &str, here: &Surroundings, on: &[&str]) {
    let name = unique("road");
    let args = |rest: &[&'static str]| -> Vec<String> {
        on.iter().chain(rest).map(|s| (*s).replace("NAME", &name)).collect()
    };
    let json = |rest: &[&'static str]| {
        let args = args(rest);
        here.json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ok = |rest: &[&'static str]| {
        let args = args(rest);
        here.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let _removed = Removed(if runtime == "docker" { "docker" } else { "podman" }, format!("gx-{name}"));

    let watch = Watch::begin(here, &args(&["--json", "events"]));
    let chosen: &'static str = if runtime == "docker" { "docker" } else { "podman" };
    let made = json(&[
        "create",
        "--runtime",
        chosen,
        "--name",
        "NAME",
        "--publish",
        "8080",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--env",
        "GREETING=hello there",
        IMAGE,
        "--",
        "sh",
        "-c",
        "echo $GREETING; echo oops >&2; sleep 1000",
    ]);
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!((made["name"].as_str(), made["runtime"].as_str()), (Some(name.as_str()), Some(runtime)));
    assert_eq!(made["state"], "running");
    let port = &made["ports"][0];
    assert_eq!(
        (port["container_port"].as_u64(), port["host_address"].as_str()),
        (Some(8080), Some("127.0.0.1"))
    );
    assert!(port["host_port"].as_u64().is_some_and(|port| (20_000..30_000).contains(&port)), "{port}");

    let seen = engine(runtime, &["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]);
    assert!(seen.contains(&format!("{id} gx-{name}")), "{seen}");
    let told = engine(runtime, &["inspect", &id]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("inspect is JSON");
    assert_eq!(told[0]["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(
        told[0]["HostConfig"]["NanoCpus"].as_u64().filter(|&n| n != 0).or_else(|| {
            let quota = told[0]["HostConfig"]["CpuQuota"].as_u64()?;
            let period = told[0]["HostConfig"]["CpuPeriod"].as_u64()?;
            Some(quota * 1_000_000_000 / period)
        }),
        Some(500_000_000)
    );
    assert!(told[0]["HostConfig"]["SecurityOpt"].to_string().contains("no-new-privileges"), "{told}");

    let listed = json(&["list"]);
    let row =
        listed["containers"].as_array().expect("a list").iter().find(|c| c["id"] == id.as_str()).cloned();
    assert_eq!(row.expect("the container is listed")["name"], name.as_str());
    assert!(ok(&["list"]).contains(&name));

    let logs = eventually("the container wrote its two lines", || {
        let arguments = args(&["logs", "NAME"]);
        let run = here.gx(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        (run.stdout == "hello there\n" && run.stderr == "oops\n").then_some(run)
    });
    assert_eq!(logs.code, 0);

    let ran = {
        let arguments = args(&["exec", "NAME", "--", "sh", "-c", "echo out; echo err >&2; exit 43"]);
        here.gx(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.code), ("out\n", "err\n", 43));
    input_reaches_a_command(here, &args(&["exec", "-i", "NAME", "--", "cat"]));
    a_terminal_is_a_terminal(here, &args(&["exec", "-it", "NAME", "--", "sh", "-c", TERMINAL]));

    std::fs::write(here.path("note.txt"), "carried in\n").expect("a file can be written");
    ok(&["cp", "note.txt", "NAME:/tmp-note"]);
    assert_eq!(ok(&["exec", "NAME", "--", "cat", "/tmp-note"]), "carried in\n");
    ok(&["cp", "NAME:/tmp-note", "back.txt"]);
    assert_eq!(std::fs::read_to_string(here.path("back.txt")).expect("it came back"), "carried in\n");

    let stats = json(&["stats", "--no-stream", "NAME"]);
    assert!(stats.to_string().contains("memory_bytes"), "{stats}");

    following_ends_with_the_container(here, &args(&["logs", "-f", "NAME"]), || {
        ok(&["stop", "NAME"]);
    });
    assert_eq!(json(&["show", "NAME"])["state"], "exited");
    ok(&["start", "NAME"]);
    assert_eq!(json(&["show", "NAME"])["state"], "running");

    let refused = {
        let arguments = args(&["rm", "NAME"]);
        here.gx(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_ne!(refused.code, 0, "a running container is not removed without -f");
    ok(&["rm", "-f", "NAME"]);
    assert_ne!(try_engine(runtime, &["inspect", &id]).code, 0, "it is gone from the engine");
    watch.told(&id, &["create", "start", "exit", "start", "exit", "remove"]);
}

/// `gx events`, while it goes on.
struct Watch(Child);

impl Watch {
    fn begin(here: &Surroundings, args: &[String]) -> Self {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Self(here.command(&args).stdout(Stdio::piped()).spawn().expect("gx starts"))
    }

    /// Reads until all this was told of a container, in this order and nothing else; and ends it as a person does.
    fn told(mut self, id: &str, actions: &[&str]) {
        let stdout = self.0.stdout.take().expect("stdout is piped");
        let events = BufReader::new(stdout).lines().map(|line| {
            let line = line.expect("gx prints text");
            serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{line:?}"))
        });
        let told: Vec<Value> = events
            .filter(|event| event["id"] == id)
            .map(|event| event["action"].clone())
            .take(actions.len())
            .collect();
        assert_eq!(told, actions);
        signal(self.0.id(), "INT");
        assert_eq!(self.0.wait().expect("gx ends").code(), Some(130));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn input_reaches_a_command(here: &Surroundings, args: &[String]) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = here.command(&args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gx starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(b"one\ntwo\n").expect("gx reads");
    drop(stdin);
    let output = child.wait_with_output().expect("gx ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n");
    assert!(output.status.success());
}

fn a_terminal_is_a_terminal(here: &Surroundings, args: &[String]) {
    let words = args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let line = format!("stty rows 33 cols 77; {} {words}", installation().join("bin/gx").display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(here.path(""));
    // A person at a terminal neither types nor hangs up while they look on.
    let (silent, keyboard) = std::io::pipe().expect("a pipe can be made");
    command.env("GX_DATA_DIR", here.data()).env("TERM", "xterm").stdin(silent);
    let ended = run(command);
    drop(keyboard);
    assert!(ended.stdout.contains("/dev/pts/"), "{ended:?}");
    assert!(ended.stdout.contains("sized"), "{ended:?}");
    assert_eq!(ended.code, 7, "{ended:?}");
}

fn following_ends_with_the_container(here: &Surroundings, args: &[String], stop: impl FnOnce()) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = here.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    stop();
    let output = child.wait_with_output().expect("gx ends");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("hello there\n"));
    assert!(output.status.success());
}
