//! A guest that runs as an ordinary process, and OpenSSH's programs to visit it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct-horse-battery";
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest; it ends with this value.
pub(crate) struct Guest {
    pub(crate) process: Child,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
}

/// Returns once the condition holds.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns a port that nobody listens on, of those that no system gives out by itself: it stays free until it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Who runs the tests, and therefore whom the guest can be.
pub(crate) fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

impl Guest {
    /// Starts a guest with a main process, and waits until it can be connected to.
    pub(crate) fn start(argv: &[&str]) -> Self {
        Self::start_with(argv, &[])
    }

    /// As [`start`](Self::start), with variables.
    pub(crate) fn start_with(argv: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_in(argv, variables, |_| {})
    }

    /// As [`start_with`](Self::start_with), with what the image has in `/etc`.
    pub(crate) fn start_in(argv: &[&str], variables: &[(&str, &str)], image: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, gx, etc) = (folder.path().join("key"), folder.path().join("gx"), folder.path().join("etc"));
        std::fs::create_dir(&gx).unwrap();
        std::fs::create_dir(&etc).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let home = folder.path().join("home");
        let uid = own_uid();
        let passwd = format!("me:x:{uid}:{uid}::{}:/bin/sh\nada:x:4321:4321::/:/bin/sh\n", home.display());
        std::fs::write(etc.join("passwd"), passwd).unwrap();
        image(&etc);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen runs: install openssh-client").success());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let settings = serde_json::json!({
            "user": "me",
            "home_is_set": false,
            "host_key": "5a".repeat(32),
            "credentials": {
                "authorized_keys": [public.trim()],
                "password": PASSWORD,
                "vnc_password": "12345678",
            },
        });
        std::fs::write(gx.join("settings.json"), settings.to_string()).unwrap();
        let port = free_port();
        let process =
            Self::command(folder.path(), port, argv).envs(variables.iter().copied()).spawn().unwrap();
        let guest = Self { process, folder, port };
        wait_for("the guest listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        guest
    }

    fn command(folder: &Path, port: u16, argv: &[&str]) -> Command {
        let mut command = Self::program(folder);
        command.arg("init").args(argv).env("GX_GUEST_PORT", port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The guest's program for any word, in this guest's place.
    pub(crate) fn program(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gx-guest"));
        command.env("GX_GUEST_FOLDER", folder.join("gx")).env("GX_GUEST_ETC", folder.join("etc"));
        command
    }

    /// Starts the guest anew in the same place, as an engine starts a container that was stopped.
    pub(crate) fn again(mut self, argv: &[&str]) -> Self {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = Self::command(self.folder.path(), self.port, argv).spawn().unwrap();
        let port = self.port;
        wait_for("the guest listens again", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        self
    }

    /// A file in the guest's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("gx").join(name)
    }

    /// A file of the test's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Options that every program of OpenSSH takes.
    pub(crate) fn options(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned(), format!("{folder}/key")];
        for option in [
            format!("UserKnownHostsFile={folder}/known_hosts"),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "ConnectTimeout=30".to_owned(),
            "LogLevel=ERROR".to_owned(),
            format!("Port={}", self.port),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh` to this guest, with what comes before and after the address.
    pub(crate) fn ssh(&self, before: &[&str], after: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).args(before).arg("me@127.0.0.1").args(after);
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    /// `ssh` by password, through `sshpass`.
    pub(crate) fn by_password(&self, user: &str, password: &str, after: &[&str]) -> Command {
        let mut ssh = Command::new("sshpass");
        ssh.env("SSHPASS", password).args(["-e", "ssh"]).args(self.options());
        ssh.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
        ssh.arg(format!("{user}@127.0.0.1")).args(after);
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    /// Runs a command line by `ssh`, with this on its input.
    pub(crate) fn run(&self, line: &str, input: &[u8]) -> Output {
        let mut ssh = self.ssh(&[], &[line]).stdin(Stdio::piped()).spawn().expect("ssh runs");
        let mut stdin = ssh.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = ssh.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs a word of the guest's program, with this on its input.
    pub(crate) fn word(&self, words: &[&str], input: &str) -> Output {
        let mut program = Self::program(self.folder.path());
        program.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = program.spawn().unwrap();
        let _ = program.stdin.take().unwrap().write_all(input.as_bytes());
        program.wait_with_output().unwrap()
    }

    /// What the guest says of itself.
    pub(crate) fn status(&self) -> gx_core::guest::Status {
        let output = self.word(&["status"], "");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Sends a signal to the guest.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program printed.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns whether a process is there and has not ended.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
