//! Running other programs, and what can go wrong with that.

use std::ffi::OsStr;
use std::fmt;
use std::io::IsTerminal;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::interrupt;

/// What a step ends in.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a step failed.
pub(crate) enum Failure {
    /// What failed, and what to do.
    Because(String),
    /// The child has said it; only the code remains.
    Told(u8),
    /// Ctrl-C or `kill`.
    Interrupted,
}

impl Failure {
    /// Returns the program's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Because(_) => 1,
            Self::Told(code) => *code,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(text) => f.write_str(text),
            Self::Told(code) => write!(f, "ended with code {code}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Because(text)
    }
}

/// Adds what was being done to an error.
pub(crate) trait Doing<T> {
    /// Turns the error into "WHAT: why".
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::Because(format!("{what}: {error}")))
    }
}

/// Tells the person at the terminal what comes.
pub(crate) fn say(text: impl fmt::Display) {
    println!("xtask: {text}");
}

/// Returns the repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// Returns the folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Finds a program on the path, and where only root's path leads.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    root_path().map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The path with what root has in addition: engines look for iptables there.
fn root_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.into_iter().chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
}

/// Returns whether this program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as root: as it is, or through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        if let Ok(path) = std::env::join_paths(root_path()) {
            command.env("PATH", path);
        }
        return command;
    }
    let mut sudo = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        sudo.arg("--non-interactive");
    }
    sudo.arg("--preserve-env=CONTAINERS_CONF,DEBIAN_FRONTEND,DOCKER_BUILDKIT").arg(program);
    sudo
}

/// Cargo, in the repository and without what `cargo run` has put into the environment.
///
/// Build scripts watch some of these names; left in, each crate of theirs would be built again.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            cargo.env_remove(&name);
        }
    }
    cargo.args(arguments).current_dir(root()).stdin(Stdio::null());
    cargo
}

/// Runs a command to its end with its output shown.
///
/// # Errors
/// [`Failure::Because`] names the command where it cannot start or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Because(format!("`{}` failed ({status})", line(command))))
}

/// Runs a command whose own last words say how it went.
///
/// # Errors
/// [`Failure::Told`] with its exit code.
pub(crate) fn run_telling(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Err(Failure::Told(u8::try_from(code).unwrap_or(1)))
}

/// Runs a command to its end and returns what it wrote to stdout, without the last line break.
///
/// # Errors
/// [`Failure::Because`] with what it wrote to stderr.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().doing(format!("`{}`", line(command)))?;
    if interrupt::came() {
        return Err(Failure::Interrupted);
    }
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Because(format!(
            "`{}` failed ({}): {}",
            line(command),
            output.status,
            error.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Returns a command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Waits for a child so that a signal to this program ends the child first.
fn status(command: &mut Command) -> Result<ExitStatus> {
    // From a terminal Ctrl-C reaches the child by itself, as it does in a shell. Without one the child
    // gets a group of its own, which then ends as a whole.
    let apart = !std::io::stdin().is_terminal();
    if apart {
        command.stdin(Stdio::null()).process_group(0);
    }
    let mut child = command.spawn().doing(format!("`{}`", line(command)))?;
    interrupt::pass_to(apart.then(|| child.id()));
    let status = child.wait();
    interrupt::pass_to(None);
    if interrupt::came() {
        return Err(Failure::Interrupted);
    }
    status.doing(format!("`{}`", line(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("gx");
        command.args(["exec", "web", "--", "sh", "-c", "echo it's"]);
        assert_eq!(line(&command), r"gx exec web -- sh -c 'echo it'\''s'");
    }
}
