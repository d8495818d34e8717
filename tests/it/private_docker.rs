//! A Docker engine of a test's own: in a network of its own, with its own data, so that it can be ended, started again and
//! configured while other tests use the shared one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{IMAGE, Run, engine, eventually, run, unique};

/// The engine, and the network namespace it is in; both are gone with this.
pub(crate) struct PrivateDocker {
    space: String,
    folder: tempfile::TempDir,
    args: Vec<String>,
    child: Option<Child>,
}

impl PrivateDocker {
    /// Starts an engine with these arguments beside those that keep it apart.
    pub(crate) fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        Self::start_on(folder, &data, args)
    }

    /// Starts one whose data are there, in a folder that goes with it.
    pub(crate) fn start_on(folder: tempfile::TempDir, data: &Path, args: &[&str]) -> Self {
        let space = unique("gxd").replace('-', "");
        ip(&["netns", "add", &space]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.push(format!("--data-root={}", data.display()));
        let mut docker = Self { space, folder, args, child: None };
        docker.begin();
        let archive = docker.folder.path().join("image.tar").display().to_string();
        engine("docker", &["save", "--output", &archive, IMAGE]);
        docker.ok(&["load", "--input", &archive]);
        docker
    }

    /// Returns the network namespace.
    pub(crate) fn network(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.space)
    }

    /// Returns the configuration of gx with this engine alone.
    pub(crate) fn config(&self) -> String {
        format!("[plugins.podman]\nenabled = false\n[plugins.docker.config]\nhost = \"{}\"\n", self.host())
    }

    /// Runs Docker's own program, which must succeed, and returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "docker {}: {}", args.join(" "), ran.stderr);
        ran.stdout
    }

    /// Runs Docker's own program.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let mut docker = Command::new("/usr/bin/docker");
        docker.args(["--host", &self.host()]).args(args);
        run(docker)
    }

    /// Runs a program in the engine's network.
    pub(crate) fn inside(&self, program: &str, args: &[&str]) -> Run {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network().display())).arg(program).args(args);
        run(command)
    }

    /// Ends the engine and starts it again.
    pub(crate) fn restart(&mut self) {
        self.end();
        self.begin();
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("sock").display())
    }

    fn begin(&mut self) {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        let place = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network().display()));
        // Gone with the test even when that is killed.
        command.args(["setpriv", "--pdeathsig", "TERM", "--", "dockerd", "--log-level", "warn"]);
        command.args(["--exec-root", &place("exec"), "--pidfile", &place("pid"), "--host", &self.host()]);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("dockerd starts");
        eventually("dockerd answers", || {
            let ended = child.try_wait().expect("it can be asked");
            let said = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd: {}", said());
            (self.run(&["version"]).code == 0).then_some(())
        });
        self.child = Some(child);
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        crate::support::signal(child.id(), "TERM");
        let _ = child.wait();
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        let left = self.run(&["ps", "--all", "--quiet"]).stdout;
        let left: Vec<&str> = left.split_whitespace().collect();
        if !left.is_empty() {
            self.run(&[&["rm", "--force", "--volumes"], left.as_slice()].concat());
        }
        self.end();
        let mut delete = Command::new("ip");
        delete.args(["netns", "delete", &self.space]);
        run(delete);
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let mut command = Command::new("ip");
    command.args(args);
    let ran = run(command);
    assert_eq!(ran.code, 0, "ip {}: {}", args.join(" "), ran.stderr);
}
