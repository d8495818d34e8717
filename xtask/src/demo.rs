//! `cargo xtask demo`: a host and a borrower on this machine, in a story that a newcomer can follow.
//!
//! Each command is shown as one would type it, with what it printed. The story ends at the first command that
//! fails, and leaves nothing behind, however it ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::build;
use crate::desktop;
use crate::engines::{self, Engines};
use crate::interrupt;
use crate::setup;
use crate::shell::{self, Doing, Failure, Result, say};

/// How gx ends when a host refuses (`gx --help`).
const NOT_ALLOWED: i32 = 5;
const RUNTIMES: [&str; 2] = ["podman", "docker"];
/// How long the host may take to listen, a container to write its first line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sets everything up, tells the story, and ends what it started.
///
/// # Errors
/// The first step that failed.
pub(crate) fn run() -> Result<()> {
    setup::install_missing(&[setup::ENGINES, setup::SSH])?;
    say("building gx and its plugins");
    build::gx(&[])?;
    let engines = Engines::start()?;
    let began = Instant::now();
    let mut story = Story::begin(&engines)?;
    let told = story.tell(&engines);
    if told.is_err() && !interrupt::came() {
        eprintln!("\nThe host's log:\n{}", story.log());
    }
    drop(story);
    told?;
    println!("\nThat was gx in {}. `gx --help` shows the rest.", seconds(began.elapsed()));
    Ok(())
}

/// A host that runs, and what was made on it.
struct Story<'e> {
    engines: &'e Engines,
    gx: PathBuf,
    /// The working folder, and the data of both; gone with the story.
    folder: tempfile::TempDir,
    host: Child,
    address: String,
    containers: Vec<String>,
}

impl<'e> Story<'e> {
    fn begin(engines: &'e Engines) -> Result<Self> {
        for runtime in RUNTIMES {
            // One that a demo has left that was killed.
            remove_stray(engines, runtime);
        }
        let gx = shell::target().join("debug/gx");
        let folder = tempfile::Builder::new().prefix("gx-demo-").tempdir().doing("a folder for the demo")?;
        title("A host lends this machine. It listens on loopback, on a port of its own choice.");
        // Rules in the kernel are root's; who tries gx as somebody else sees the rest of it.
        let firewall = if shell::is_root() { "" } else { "[server.policy]\nfirewall = false\n" };
        fs::write(folder.path().join("gx.toml"), firewall).doing("gx.toml")?;
        if !firewall.is_empty() {
            println!(
                "As you are not root, containers are not kept from this machine: firewall = false in gx.toml."
            );
        }
        let mut serve = command(engines, &gx, &folder, Who::Host);
        serve.args(["serve", "--listen", "127.0.0.1:0"]);
        println!("host$ gx serve --listen 127.0.0.1:0 2>serve.log &");
        let log = File::create(folder.path().join("serve.log")).doing("serve.log")?;
        // In a group of its own: after Ctrl-C it is still there to remove what was made.
        let mut host = serve
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .doing("gx serve")?;
        let mut line = String::new();
        let stdout = host.stdout.as_mut().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut line).doing("gx serve");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split([',', ' ']).next());
        let address = address.unwrap_or_default().to_owned();
        print!("{line}");
        let story = Self { engines, gx, folder, host, address, containers: Vec::new() };
        read?;
        if story.address.is_empty() {
            return Err(Failure::Because(format!(
                "`gx serve` does not say where it listens: {}",
                story.log()
            )));
        }
        Ok(story)
    }

    fn tell(&mut self, engines: &Engines) -> Result<()> {
        self.invite()?;
        title("The borrower asks what the host is and what it can run.");
        self.gx(&["specs"])?;
        for runtime in RUNTIMES {
            self.container(engines, runtime)?;
        }
        self.desktop()?;
        title("All were made through plugins; the same commands work on either.");
        self.gx(&["list"])?;
        title("The borrower gives them back.");
        let names = self.containers.clone();
        for name in &names {
            self.gx(&["rm", "--force", name])?;
        }
        self.containers.clear();
        self.gx(&["list"])?;
        self.part()
    }

    /// The borrower, who has a folder and a key of its own, is let in.
    fn invite(&self) -> Result<()> {
        title(
            "Somebody else, a node with a key of its own, is let in by a ticket: one string to paste, for one use.",
        );
        let mut invite =
            self.command(Who::Host, &["invite", "--containers", "4", "--address", &self.address]);
        shown_of(Who::Host, &invite, &self.gx);
        let ticket = shell::read(&mut invite)?;
        let ticket = ticket.trim();
        let shortened = format!("{}…", ticket.chars().take(24).collect::<String>());
        println!("{shortened}");
        let mut join = self.command(Who::Borrower, &["join", "-"]);
        shown(format_args!("echo {shortened} | gx join -"));
        let mut join = join.stdin(Stdio::piped()).spawn().doing("gx join")?;
        let mut stdin = join.stdin.take().expect("stdin is piped");
        stdin.write_all(ticket.as_bytes()).doing("gx join")?;
        drop(stdin);
        match join.wait().doing("gx join")?.success() {
            true => Ok(()),
            false => Err(Failure::Because("`gx join` failed".to_owned())),
        }
    }

    /// The borrower is let in no longer.
    fn part(&self) -> Result<()> {
        title("The host takes back what it gave: from then on the borrower is a stranger.");
        let id = shell::read(&mut self.command(Who::Borrower, &["--json", "id"]))?;
        let id: Value = serde_json::from_str(&id).doing("gx id --json")?;
        let id = id["node_id"].as_str().unwrap_or_default();
        for arguments in [&["allow", "list"][..], &["allow", "remove", id]] {
            let mut gx = self.command(Who::Host, arguments);
            shown_of(Who::Host, &gx, &self.gx);
            shell::run(&mut gx)?;
        }
        let mut list = self.command(Who::Borrower, &["--on", &self.address, "list"]);
        shown_of(Who::Borrower, &list, &self.gx);
        let refused = list.stdin(Stdio::null()).output().doing("gx list")?;
        print!("{}", String::from_utf8_lossy(&refused.stderr));
        match refused.status.code() {
            Some(NOT_ALLOWED) => Ok(()),
            code => Err(Failure::Because(format!("a stranger's `gx list` ended with {code:?}"))),
        }
    }

    fn command(&self, who: Who, arguments: &[&str]) -> Command {
        let mut gx = command(self.engines, &self.gx, &self.folder, who);
        gx.args(arguments).current_dir(self.folder.path());
        gx
    }

    fn container(&mut self, engines: &Engines, runtime: &str) -> Result<()> {
        let name = format!("demo-{runtime}");
        title(format_args!("A container with {runtime}, on the host."));
        self.containers.push(name.clone());
        let script = "echo hello from $HOSTNAME; sleep 600";
        self.gx(&["create", "--runtime", runtime, "--name", &name, "gx-busybox", "--", "sh", "-c", script])?;
        let engine = if runtime == "podman" { engines.podman() } else { engines.docker() };
        self.engine_shows(engine, &name)?;
        self.wait_for_output(&name)?;
        self.gx(&["logs", &name])?;
        title("SSH works in any image: this one is a single program.");
        self.gx(&["ssh", &name, "--", "sh", "-c", "uname -sm; ls /"])?;
        let note = self.folder.path().join("note.txt");
        fs::write(note, format!("brought to {runtime}\n")).doing("note.txt")?;
        self.gx(&["cp", "note.txt", &format!("{name}:/tmp/note.txt")])?;
        self.gx(&["exec", &name, "--", "cat", "/tmp/note.txt"])
    }

    /// A picture of a desktop, where the image and a client that can be told what to do are there.
    fn desktop(&mut self) -> Result<()> {
        let mut image = self.engines.docker();
        let image =
            shell::read(image.args(["image", "inspect", "--format", "{{.Id}}", desktop::DOCKER_NAME]));
        let python = shell::target().join("tmp/venv/bin/python");
        if image.is_err() || !python.exists() {
            title("A desktop is another image: `cargo xtask images --desktop` builds it.");
            return Ok(());
        }
        title(
            "A container with a desktop, for VNC clients and for the browser: `gx vnc --open demo-desktop`.",
        );
        self.containers.push("demo-desktop".to_owned());
        let arguments = ["--json", "create", "--runtime", "docker", "--name", "demo-desktop", "gx-desktop"];
        let mut create = self.command(Who::Borrower, &["--on", &self.address]);
        create.args(arguments);
        shown_of(Who::Borrower, &create, &self.gx);
        let told: Value = serde_json::from_str(&shell::read(&mut create)?).doing("gx create --json")?;
        self.gx(&["vnc", "demo-desktop"])?;
        let text = |key: &str| told["vnc"][key].as_str().unwrap_or_default().to_owned();
        let picture = shell::target().join("artifacts/demo-desktop.png");
        fs::create_dir_all(picture.parent().expect("it is in a folder")).doing("target/artifacts")?;
        look(&python, &text("address"), &text("password"), &picture)?;
        println!("its screen, taken over VNC: {}", picture.display());
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("serve.log")).unwrap_or_default()
    }

    /// Runs gx as the borrower against the host, shown as one would type it.
    fn gx(&self, arguments: &[&str]) -> Result<()> {
        let mut gx = self.command(Who::Borrower, &["--on", &self.address]);
        gx.args(arguments);
        shown_of(Who::Borrower, &gx, &self.gx);
        shell::run(&mut gx)
    }

    /// Asks the engine itself for the container: it is a real one.
    fn engine_shows(&self, mut engine: Command, name: &str) -> Result<()> {
        let filter = format!("label=gx.name={name}");
        let format = "table {{.ID}}\\t{{.Image}}\\t{{.Status}}\\t{{.Names}}";
        engine.args(["ps", "--filter", &filter, "--format", format]);
        shown(shell::line(&engine));
        let list = shell::read(&mut engine)?;
        println!("{list}");
        if !list.contains(&format!("gx-{name}")) {
            return Err(Failure::Because(format!("the engine does not show gx-{name}")));
        }
        Ok(())
    }

    fn wait_for_output(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut logs = self.command(Who::Borrower, &["--on", &self.address, "logs", name]);
            if !shell::read(&mut logs)?.is_empty() {
                return Ok(());
            }
            if interrupt::came() || Instant::now() > deadline {
                return Err(Failure::Because(format!("{name} wrote nothing")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Takes a picture of a desktop with a VNC client. The password goes by standard input: arguments are for all to see.
fn look(python: &Path, address: &str, password: &str, picture: &Path) -> Result<()> {
    const SCRIPT: &str = "\
import sys, time
from vncdotool import api
address, port = sys.argv[1].rsplit(':', 1)
password = sys.stdin.read()
for attempt in range(100):
    try:
        with api.connect(f'{address}::{port}', password=password, timeout=10) as client:
            client.captureScreen(sys.argv[2])
        break
    except Exception:
        if attempt == 99: raise
        time.sleep(0.1)
api.shutdown()
";
    let mut client = Command::new(python);
    client.args(["-c", SCRIPT, address]).arg(picture);
    let mut client = client.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().doing("vncdotool")?;
    let mut stdin = client.stdin.take().expect("stdin is piped");
    stdin.write_all(password.as_bytes()).doing("vncdotool")?;
    drop(stdin);
    match client.wait().doing("vncdotool")?.success() && picture.exists() {
        true => Ok(()),
        false => Err(Failure::Because("no picture of the desktop could be taken over VNC".to_owned())),
    }
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        for name in &self.containers {
            let mut rm = self.command(Who::Host, &["--on", &self.address, "rm", "--force", name]);
            let _ = rm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = kill_process(Pid::from_child(&self.host), Signal::TERM);
        if !engines::ended_within(&mut self.host, PATIENCE) {
            let _ = self.host.kill();
            let _ = self.host.wait();
        }
    }
}

/// The two nodes of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Host,
    Borrower,
}

/// gx with a configuration and data of the demo's own, whatever this user has.
fn command(engines: &Engines, gx: &PathBuf, folder: &tempfile::TempDir, who: Who) -> Command {
    let data = match who {
        Who::Host => "host",
        Who::Borrower => "borrower",
    };
    let mut command = Command::new(gx);
    for name in ["GX_ON", "GX_RUNTIME"] {
        command.env_remove(name);
    }
    command.env("GX_CONFIG", folder.path().join("gx.toml")).env("GX_DATA_DIR", folder.path().join(data));
    engines.apply(&mut command);
    command
}

fn remove_stray(engines: &Engines, runtime: &str) {
    let mut engine = if runtime == "podman" { engines.podman() } else { engines.docker() };
    engine.args(["rm", "--force", &format!("gx-demo-{runtime}")]);
    let _ = engine.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn title(text: impl std::fmt::Display) {
    println!("\n# {text}");
}

fn shown(line: impl std::fmt::Display) {
    println!("$ {line}");
}

/// Shows a command of gx as one would type it; the host's with a prompt of its own.
fn shown_of(who: Who, command: &Command, gx: &Path) {
    let line = shell::line(command).replacen(&*gx.to_string_lossy(), "gx", 1);
    match who {
        Who::Host => println!("host$ {line}"),
        Who::Borrower => shown(line),
    }
}

/// Returns whole seconds with their noun.
fn seconds(took: Duration) -> String {
    match took.as_secs() {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_is_one() {
        let said = [0, 1, 2].map(|s| seconds(Duration::from_secs(s)));
        assert_eq!(said, ["0 seconds", "1 second", "2 seconds"]);
    }
}
