//! The engine's program: running its commands, and what its complaints mean.

use std::ffi::OsStr;
use std::process::{Output as Ended, Stdio};
use std::time::Duration;

use gx_core::plugin::serde_json::Value;
use gx_core::plugin::*;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::describe;

/// How long a command may take that neither waits nor follows.
const LIMIT: Duration = Duration::from_secs(60);

/// The program of a container engine.
#[derive(Debug)]
pub(crate) struct Engine {
    program: String,
    slots: Semaphore,
}

impl Engine {
    pub(crate) fn new(program: String, at_a_time: usize) -> Self {
        Self { program, slots: Semaphore::new(at_a_time) }
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Runs a command and returns what it prints.
    pub(crate) async fn run(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Vec<u8>> {
        let ended = self.ended(self.slot().await, words).await?;
        if ended.status.success() { Ok(ended.stdout) } else { Err(error(&ended.stderr)) }
    }

    /// Runs a command that takes as long as a container.
    pub(crate) async fn wait(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let ended = self.command(words).output().await.map_err(|error| self.no_program(&error))?;
        if ended.status.success() { Ok(()) } else { Err(error(&ended.stderr)) }
    }

    /// Waits until one more command may run.
    pub(crate) async fn slot(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect("never closed")
    }

    /// Returns what the engine says of those containers that are still there.
    pub(crate) async fn inspect_those_left(
        &self,
        slot: SemaphorePermit<'_>,
        ids: &[&str],
    ) -> Result<Vec<Value>> {
        let words = ["inspect", "--type", "container"].iter().chain(ids);
        let ended = self.ended(slot, words).await?;
        match error(&ended.stderr) {
            error if !ended.status.success() && error.code != ErrorCode::NotFound => Err(error),
            _ => describe::all(&ended.stdout),
        }
    }

    /// Sends a signal; one that does not run, or is not there, is left alone.
    pub(crate) async fn kill(&self, id: &ContainerId, signal: &str) -> Result<()> {
        match self.run(["kill", "--signal", signal, id.as_str()]).await {
            Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::FailedPrecondition) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Runs a command and writes what it prints as it comes, until it ends or nobody reads.
    pub(crate) async fn stream(&self, words: Vec<String>, out: &Output) -> Result<()> {
        let mut command = self.command(words);
        let mut child = command.spawn().map_err(|error| self.no_program(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        tokio::select! {
            _ = async { tokio::join!(copy(stdout, Kind::Stdout, out), copy(stderr, Kind::Stderr, out)) } => {}
            () = out.gone() => return Ok(()),
        }
        let _ = child.wait().await;
        Ok(())
    }

    async fn ended(
        &self,
        _slot: SemaphorePermit<'_>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Ended> {
        let ended = tokio::time::timeout(LIMIT, self.command(words).output()).await;
        let late =
            |_| RuntimeError::new(ErrorCode::DeadlineExceeded, format!("{} does not end", self.program));
        ended.map_err(late)?.map_err(|error| self.no_program(&error))
    }

    fn command(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A dropped call ends its command.
        command.kill_on_drop(true);
        command
    }

    fn no_program(&self, error: &std::io::Error) -> RuntimeError {
        let message = format!("cannot run {}: {error}", self.program);
        RuntimeError::new(ErrorCode::Unavailable, message)
            .hint("install the engine, or set `program` to its path")
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, kind: Kind, out: &Output) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if out.write(kind, &chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// Words of a complaint, and the code they stand for; the first that fits counts.
const COMPLAINTS: &[(&str, ErrorCode)] = &[
    ("no such container", ErrorCode::NotFound),
    ("no such image", ErrorCode::NotFound),
    ("no such object", ErrorCode::NotFound),
    ("image not known", ErrorCode::NotFound),
    ("failed to find image", ErrorCode::NotFound),
    // Somebody else removes it: as good as gone.
    ("removal of container", ErrorCode::NotFound),
    ("is already in use", ErrorCode::AlreadyExists),
    ("cannot remove", ErrorCode::FailedPrecondition),
    ("is not running", ErrorCode::FailedPrecondition),
    ("can only kill running", ErrorCode::FailedPrecondition),
    ("state improper", ErrorCode::FailedPrecondition),
    ("invalid signal", ErrorCode::InvalidArgument),
    ("not support signal", ErrorCode::InvalidArgument),
    ("cannot connect", ErrorCode::Unavailable),
    ("connection refused", ErrorCode::Unavailable),
    ("daemon running?", ErrorCode::Unavailable),
];

/// Makes an error of what the program says on standard error.
fn error(stderr: &[u8]) -> RuntimeError {
    let said = String::from_utf8_lossy(stderr);
    let first =
        said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed and says nothing");
    let message = first.trim_start_matches("Error: ").trim_start_matches("Error response from daemon: ");
    let lower = said.to_lowercase();
    let code = COMPLAINTS.iter().find(|(words, _)| lower.contains(words)).map(|&(_, code)| code);
    let error = RuntimeError::new(code.unwrap_or(ErrorCode::Internal), message).backend(said.trim());
    match code {
        Some(ErrorCode::Unavailable) => error.hint("start the engine: systemctl start docker"),
        _ => error,
    }
}

/// Tells a command that cannot be run from other failures of a start.
pub(crate) fn start_error(error: RuntimeError) -> RuntimeError {
    let said = error.backend.clone().unwrap_or_default().to_lowercase();
    let command = ["executable file", "no such file or directory", "permission denied", "exec format error"];
    if error.code == ErrorCode::Internal && command.iter().any(|words| said.contains(words)) {
        let message = format!("the command cannot be run: {}", error.message);
        return RuntimeError::new(ErrorCode::InvalidArgument, message).field("command").backend(said);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_have_codes() {
        let docker = error(
            b"Error response from daemon: No such container: x\nError: failed to start containers: x\n",
        );
        assert_eq!((docker.code, docker.message.as_str()), (ErrorCode::NotFound, "No such container: x"));
        let podman = error(b"Error: no container with name or ID \"x\" found: no such container\n");
        assert_eq!(podman.code, ErrorCode::NotFound);
        let down =
            error(b"Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?\n");
        assert_eq!((down.code, down.hint.is_some()), (ErrorCode::Unavailable, true));
        assert_eq!(error(b"").message, "it failed and says nothing");
    }

    #[test]
    fn a_command_that_is_not_there_is_the_callers_fault() {
        let said = error(b"Error response from daemon: OCI runtime create failed: exec: \"x\": executable file not found in $PATH\n");
        assert_eq!(start_error(said).field.as_deref(), Some("command"));
    }
}
