//! The engines under test: finds those that answer, starts the others, ends what it started.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::images;
use crate::interrupt;
use crate::shell::{self, Doing, Failure, Result, find, say};

/// Where dockerd listens.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Where `podman system service` listens when it runs as root.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// How long an engine may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// How long an engine may take to end.
const STOP: Duration = Duration::from_secs(20);

/// Both engines, answering. Dropping this ends those it started.
pub(crate) struct Engines {
    started: Vec<Started>,
    podman_config: Option<PathBuf>,
}

struct Started {
    name: &'static str,
    process: Child,
    log: PathBuf,
}

impl Engines {
    /// Starts the engines that do not answer, and waits until they do.
    ///
    /// # Errors
    /// [`Failure::Because`] with the end of the engine's log.
    pub(crate) fn start() -> Result<Self> {
        let folder = shell::target().join("engines");
        std::fs::create_dir_all(&folder).doing(folder.display())?;
        let mut engines = Self { started: Vec::new(), podman_config: None };
        engines.start_docker(&folder)?;
        images::build_docker(&engines)?;
        images::build_podman(&engines)?;
        engines.podman_config = podman_config(&engines, &folder)?;
        engines.start_podman(&folder)?;
        Ok(engines)
    }

    /// Docker's client, bound to the engine under test.
    pub(crate) fn docker(&self) -> Command {
        let mut docker = client("docker", DOCKER_SOCKET);
        docker.env_remove("DOCKER_CONTEXT").env("DOCKER_HOST", format!("unix://{DOCKER_SOCKET}"));
        docker
    }

    /// Podman, working in this process and not through the service.
    pub(crate) fn podman(&self) -> Command {
        let mut podman = shell::as_root("podman");
        podman.env_remove("CONTAINER_HOST");
        if let Some(file) = &self.podman_config {
            podman.env("CONTAINERS_CONF", file);
        }
        podman
    }

    /// Lets a command see the engines under test, and no others that the environment may name.
    pub(crate) fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"] {
            command.env_remove(name);
        }
        if let Some(file) = &self.podman_config {
            command.env("CONTAINERS_CONF", file);
        }
        if !shell::is_root() {
            // The engine is root's; without this `podman` would look at the user's own containers.
            command.env("CONTAINER_HOST", format!("unix://{PODMAN_SOCKET}"));
        }
        command
    }

    fn start_docker(&mut self, folder: &Path) -> Result<()> {
        if answers(DOCKER_SOCKET) {
            return Ok(());
        }
        let mut dockerd = shell::as_root(find("dockerd").unwrap_or_else(|| "dockerd".into()));
        dockerd.args(["--log-level", "warn"]);
        if !shell::is_root() {
            dockerd.args(["--group", &rustix::process::getgid().to_string()]);
        }
        self.launch("dockerd", dockerd, folder.join("dockerd.log"), DOCKER_SOCKET)
    }

    fn start_podman(&mut self, folder: &Path) -> Result<()> {
        if answers(PODMAN_SOCKET) {
            return Ok(());
        }
        let parent = Path::new(PODMAN_SOCKET).parent().expect("the socket lies in a folder");
        shell::run(shell::as_root("mkdir").arg("-p").arg(parent))?;
        let mut podman = self.podman();
        podman.args(["system", "service", "--time", "0"]).arg(format!("unix://{PODMAN_SOCKET}"));
        self.launch("podman system service", podman, folder.join("podman.log"), PODMAN_SOCKET)?;
        if !shell::is_root() {
            let owner = rustix::process::getuid().to_string();
            shell::run(shell::as_root("chmod").arg("755").arg(parent))?;
            shell::run(shell::as_root("chown").arg(owner).arg(PODMAN_SOCKET))?;
        }
        Ok(())
    }

    /// Starts one engine, in a group of its own so that Ctrl-C ends the step before the engine.
    fn launch(&mut self, name: &'static str, mut command: Command, log: PathBuf, socket: &str) -> Result<()> {
        say(format_args!("starting {name} (log: {})", log.display()));
        let file = File::create(&log).doing(log.display())?;
        let copy = file.try_clone().doing(log.display())?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        // What an engine's programs leave behind where they run (conmon: a file `oom`) is not to lie in a checkout.
        command.current_dir(log.parent().unwrap_or(Path::new("/")));
        let process = command.spawn().doing(name)?;
        self.started.push(Started { name, process, log });
        let started = self.started.last_mut().expect("pushed above");
        started.wait_for(socket)
    }
}

impl Started {
    fn wait_for(&mut self, socket: &str) -> Result<()> {
        let deadline = Instant::now() + START;
        while !answers(socket) {
            if interrupt::came() {
                return Err(Failure::Interrupted);
            }
            let ended = self.process.try_wait().doing(self.name)?;
            if ended.is_some() || Instant::now() > deadline {
                let state = ended.map_or("does not answer".to_owned(), |status| format!("ended ({status})"));
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n  ");
                return Err(Failure::Because(format!("{} {state}; its last words:\n  {last}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        if shell::is_root() {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
            return;
        }
        // The shell's own `kill`: a small system has no program of that name.
        let kill = format!("kill -{} {}", signal.as_raw(), pid.as_raw_nonzero());
        let _ = shell::as_root("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        for started in self.started.iter_mut().rev() {
            started.signal(Signal::TERM);
            if !ended_within(&mut started.process, STOP) {
                started.signal(Signal::KILL);
                ended_within(&mut started.process, STOP);
            }
        }
    }
}

/// A client of an engine: as oneself where the socket allows it, else as root.
fn client(program: &str, socket: &str) -> Command {
    if UnixStream::connect(socket).is_ok() { Command::new(program) } else { shell::as_root(program) }
}

/// Returns whether a child has ended, after waiting so long at most.
pub(crate) fn ended_within(child: &mut Child, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Returns whether an engine answers at this socket.
fn answers(socket: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// What Podman needs where limits cannot be raised or cgroups are in hybrid mode.
const PODMAN_CONFIG: &str = "\
# Written by `cargo xtask`: plain `podman run` fails on this machine, with this it works.
[containers]
default_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]
[engine]
runtime = \"runc\"
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
";

/// Tries a container; where that fails, writes a configuration with which it works.
fn podman_config(engines: &Engines, folder: &Path) -> Result<Option<PathBuf>> {
    let mut plain = engines.podman();
    let try_run =
        |podman: &mut Command| shell::read(podman.args(["run", "--rm", images::PODMAN_NAME, "true"]));
    let Err(why) = try_run(&mut plain) else { return Ok(None) };
    if interrupt::came() || std::env::var_os("CONTAINERS_CONF").is_some() {
        return Err(why);
    }
    let file = folder.join("containers.conf");
    std::fs::write(&file, PODMAN_CONFIG).doing(file.display())?;
    say(format_args!("plain `podman run` fails here; CONTAINERS_CONF={} is used", file.display()));
    try_run(engines.podman().env("CONTAINERS_CONF", &file))?;
    Ok(Some(file))
}
