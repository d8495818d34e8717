//! The chat in containers, as `examples/chat` has it: the script builds the images and starts it, its people talk, its server is
//! killed, and in the end nothing of it is left.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::support::{Run, engine, eventually, installation, root, run, try_engine, unique};

/// The example under a name of its own, so that any number of them run at a time.
struct Example {
    project: String,
}

impl Example {
    /// Builds and starts it with its script.
    fn up() -> Self {
        let example = Self { project: unique("gx-chat-test") };
        let mut script = example.command(root().join("examples/chat/up.sh"));
        script.arg(installation().join("bin/gx"));
        let up = run(script);
        assert_eq!(up.code, 0, "up.sh: {}{}", up.stdout, up.stderr);
        example
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env_remove("COMPOSE_FILE");
        command.env("COMPOSE_PROJECT_NAME", &self.project).env("GX_CHAT_TAG", &self.project);
        command
    }

    /// Returns Docker Compose: a part of Docker's client, or a program of its own.
    fn compose(&self, args: &[&str]) -> Command {
        let is_plugin = run({
            let mut version = Command::new("docker");
            version.args(["compose", "version"]);
            version
        });
        let mut compose = match is_plugin.code {
            0 => self.command("docker"),
            _ => self.command("docker-compose"),
        };
        if is_plugin.code == 0 {
            compose.arg("compose");
        }
        compose.arg("--file").arg(root().join("examples/chat/compose.yaml")).args(args);
        compose
    }

    /// Runs `gx chat` once as one of the people, in a container that is gone with it.
    fn gx_chat(&self, service: &str, args: &[&str]) -> Run {
        run(self.compose(&[&["run", "--rm", "-T", service], args].concat()))
    }

    /// Opens a session of one of the people, who types into a pipe.
    fn session(&self, service: &str, args: &[&str]) -> Session {
        let mut command = self.compose(&[&["run", "--rm", "-T", service], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("docker compose starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let typed = child.stdin.take().expect("stdin is piped");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = shown.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Session { child, typed, shown }
    }

    fn server(&self) -> String {
        let format = "label=com.docker.compose.service=server";
        engine("docker", &["ps", "--all", "--quiet", "--filter", &self.label(), "--filter", format])
            .trim()
            .to_owned()
    }

    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.project)
    }

    fn down(&self) {
        let left = try_engine("docker", &["ps", "--all", "--quiet", "--filter", &self.label()]).stdout;
        for container in left.split_whitespace() {
            try_engine("docker", &["rm", "--force", "--volumes", container]);
        }
        run(self.compose(&["down", "--volumes"]));
        for image in ["gx-chat-client", "gx-chat-server"] {
            try_engine("docker", &["image", "rm", &format!("{image}:{}", self.project)]);
        }
    }

    /// Returns what Docker has of it: containers, volumes, networks, images.
    fn left(&self) -> String {
        let label = self.label();
        let tags = format!("reference=gx-chat-*:{}", self.project);
        [
            engine("docker", &["ps", "--all", "--quiet", "--filter", &label]),
            engine("docker", &["volume", "ls", "--quiet", "--filter", &label]),
            engine("docker", &["network", "ls", "--quiet", "--filter", &label]),
            engine("docker", &["image", "ls", "--quiet", "--filter", &tags]),
        ]
        .concat()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.down();
    }
}

/// Somebody who talks.
struct Session {
    child: Child,
    typed: ChildStdin,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn types(&mut self, line: &str) {
        writeln!(self.typed, "{line}").expect("the session takes lines");
    }

    /// Waits until a line is shown that ends so.
    fn sees(&self, end: &str) {
        eventually(end, || {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.iter().any(|line| line.ends_with(end)).then_some(())
        });
    }

    /// Returns what was said, without what the client itself says.
    fn said(&self) -> Vec<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().filter(|line| !line.starts_with(['*', '!'])).cloned().collect()
    }

    /// Ends the session as its user does.
    fn logs_out(&mut self) {
        self.types("logmeout");
        let code = eventually("the session ends", || self.child.try_wait().expect("it can be asked"));
        assert!(code.success(), "{code}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_example_talks_in_containers_and_survives_a_kill() {
    let example = Example::up();
    nothing_of_the_machine_is_in_it(&example);

    let mut marshal = example.session("marshal", &["--group", "n"]);
    let sent = example.gx_chat("navy7", &["send", "all well"]);
    assert_eq!((sent.stdout.as_str(), sent.code), ("stored as 1 of n\n", 0), "{}", sent.stderr);
    marshal.sees("Navy7: all well");
    marshal.types("well done");
    marshal.sees("NavyMarshal (me): well done");

    let refused = example.gx_chat("commander", &["send", "--group", "n", "to all"]);
    assert_eq!(refused.code, 5, "the commander may only read there: {}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("you may only read navy"), "{}", refused.stderr);
    let refused = example.gx_chat("navy7", &["send", "--group", "h", "to the heads"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(refused.stderr.contains("you have no group h"), "{}", refused.stderr);

    let server = example.server();
    engine("docker", &["kill", "--signal", "KILL", &server]);
    marshal.types("while nobody listens");
    engine("docker", &["start", &server]);
    marshal.sees("NavyMarshal (me): while nobody listens");
    let history = example.gx_chat("commander", &["history", "--group", "n", "--json"]);
    let texts = history.stdout.lines().map(|line| {
        let message: Value = serde_json::from_str(line).expect("a message is JSON");
        (message["seq"].as_u64().expect("a number"), message["text"].as_str().expect("a text").to_owned())
    });
    let expected = [(1, "all well"), (2, "well done"), (3, "while nobody listens")];
    assert_eq!(texts.collect::<Vec<_>>(), expected.map(|(seq, text)| (seq, text.to_owned())));
    let expected =
        ["Navy7: all well", "NavyMarshal (me): well done", "NavyMarshal (me): while nobody listens"];
    assert_eq!(marshal.said(), expected, "once each");
    marshal.logs_out();

    example.down();
    assert_eq!(example.left(), "");
}

/// The server's container is no way into the machine, and what Docker tells of it is no secret.
#[track_caller]
fn nothing_of_the_machine_is_in_it(example: &Example) {
    let told: Value = serde_json::from_str(&engine("docker", &["inspect", &example.server()]))
        .expect("what docker inspect prints is JSON");
    let server = &told[0];
    assert_eq!(server["Config"]["User"], "10001:10001");
    assert_eq!(server["State"]["Health"]["Status"], "healthy");
    assert_eq!(server["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(server["HostConfig"]["CapDrop"][0], "ALL");
    let mounts = server["Mounts"].as_array().expect("a list");
    let places: Vec<_> = mounts.iter().map(|mount| (&mount["Type"], &mount["Destination"])).collect();
    assert_eq!(places, [(&Value::from("volume"), &Value::from("/var/lib/gx"))]);
    let env = server["Config"]["Env"].as_array().expect("a list");
    assert_eq!(env, &["PATH=/usr/bin", "HOME=/var/lib/gx"].map(Value::from));
}
