//! Runs commands in a running container.
//!
//! The engine has no way to end a command it runs, so its processes are killed from outside: this works wherever
//! they can be seen from here, which is the case for a service on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use containers_api::conn::hyper::upgrade::Upgraded;
use gx_core::plugin::*;
use podman_api::opts::{ExecCreateOpts, UserOpt};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{Engine, EngineError};
use crate::tasks::{Running, Tasks};
use crate::{error, lifecycle};

/// After how long without an answer the engine is asked what became of a command. Where a user is missing it never
/// answers (Podman 4.3.1).
const START_LOOK: Duration = Duration::from_millis(500);
/// How long the engine may take to note the exit of a command whose output has ended, or its start.
const NOTE_LIMIT: Duration = Duration::from_secs(10);
const NOTE_POLL: Duration = Duration::from_millis(10);
/// The exit code the engine notes for a command that it could not even hand to its runtime.
const NOT_STARTED: i32 = 125;
/// The exit code of a killed process.
const KILLED: i32 = 137;

/// Runs a command and returns how it ended.
pub(crate) async fn exec(
    engine: &Engine,
    id: &ContainerId,
    spec: &ExecSpec,
    input: Input,
    out: &Output,
    tasks: &Tasks,
) -> Result<Exit> {
    if spec.argv.is_empty() {
        return Err(RuntimeError::new(ErrorCode::InvalidArgument, "no command is named").field("argv"));
    }
    let session = Session {
        engine: engine.clone(),
        container: id.clone(),
        id: create(engine, id, spec).await?,
        started: Arc::default(),
    };
    let mut guard = KillGuard { session: Some((session.clone(), tasks.begin())), runtime: Handle::current() };
    let attached = attached(&session, spec, input, out);
    let done = match spec.timeout_ms {
        None => attached.await,
        Some(ms) => match timeout(Duration::from_millis(ms.into()), attached).await {
            Ok(done) => done,
            Err(_) => {
                session.kill().await;
                let message = format!("the command was killed after {ms} ms");
                Err(RuntimeError::new(ErrorCode::DeadlineExceeded, message))
            }
        },
    };
    guard.session = None;
    match done? {
        Done::Ended => session.exit().await,
        Done::ReaderGone => {
            session.kill().await;
            Ok(Exit::from_code(KILLED))
        }
    }
}

async fn create(engine: &Engine, id: &ContainerId, spec: &ExecSpec) -> Result<String> {
    let mut options = ExecCreateOpts::builder()
        .command(&spec.argv)
        .env(&spec.env)
        .attach_stdout(true)
        .attach_stderr(true)
        .attach_stdin(spec.stdin)
        .tty(spec.tty);
    if let Some(user) = &spec.user {
        options = options.user(UserOpt::User(user.clone()));
    }
    if let Some(folder) = &spec.workdir {
        options = options.working_dir(folder.as_str());
    }
    match engine.container(id).create_exec(&options.build()).await {
        Ok(exec) => Ok(exec.id().to_string()),
        Err(error) => {
            let translated = error::about(id, "exec", &error);
            Err(match translated.code {
                ErrorCode::FailedPrecondition => {
                    RuntimeError { message: format!("container {id} does not run"), ..translated }
                }
                _ => translated,
            })
        }
    }
}

enum Done {
    Ended,
    ReaderGone,
}

/// Starts the command and passes its streams on until they end.
async fn attached(session: &Session, spec: &ExecSpec, input: Input, out: &Output) -> Result<Done> {
    let (reader, writer) = tokio::io::split(session.start(spec).await?);
    tokio::select! {
        done = pass_output(reader, spec.tty, out) => done,
        never = pass_input(session, spec, input, writer) => match never {},
        () = out.gone() => Ok(Done::ReaderGone),
    }
}

/// Passes input and sizes on. The end of the input is passed on too; after that only the output counts.
async fn pass_input(
    session: &Session,
    spec: &ExecSpec,
    mut input: Input,
    mut writer: WriteHalf<Upgraded>,
) -> std::convert::Infallible {
    while let Some(chunk) = input.next().await {
        match chunk {
            // A command that closed its input still has output.
            InputChunk::Data(bytes) if spec.stdin => drop(writer.write_all(&bytes).await),
            InputChunk::Resize { columns, rows } if spec.tty => session.resize(columns, rows).await,
            InputChunk::Data(_) | InputChunk::Resize { .. } => {}
        }
    }
    let _ = writer.shutdown().await;
    std::future::pending().await
}

async fn pass_output(mut reader: ReadHalf<Upgraded>, tty: bool, out: &Output) -> Result<Done> {
    let mut frames = Frames::new(tty);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => return Ok(Done::Ended),
            Ok(count) => count,
            // So ends a command that left some of its input unread; its output comes before.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(Done::Ended),
            Err(error) => {
                let message = "podman broke off the output of the command";
                return Err(RuntimeError::new(ErrorCode::Unavailable, message).backend(error.to_string()));
            }
        };
        let mut rest = &buffer[..count];
        while let Some((kind, bytes)) = frames.next(&mut rest)? {
            if out.write(kind, bytes).await.is_err() {
                return Ok(Done::ReaderGone);
            }
        }
    }
}

/// Tells the two streams of a command apart: frames of a kind (1 byte), three zeros, a length (32 bits, network
/// order) and so many bytes, as in Docker's attach. A terminal has one stream and no frames.
struct Frames {
    tty: bool,
    header: Vec<u8>,
    kind: Kind,
    left: usize,
    failed: bool,
    hidden: bool,
}

const HEADER_BYTES: usize = 8;

impl Frames {
    fn new(tty: bool) -> Self {
        let header = Vec::with_capacity(HEADER_BYTES);
        Self { tty, header, kind: Kind::Stdout, left: 0, failed: false, hidden: false }
    }

    /// Takes the next piece of a stream from what was read.
    fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<(Kind, &'a [u8])>> {
        if self.tty {
            let all = std::mem::take(rest);
            return Ok((!all.is_empty()).then_some((Kind::Stdout, all)));
        }
        loop {
            if self.left == 0 && !self.take_header(rest)? {
                return Ok(None);
            }
            let (piece, after) = rest.split_at(rest.len().min(self.left));
            if piece.is_empty() && self.left > 0 {
                return Ok(None);
            }
            self.left -= piece.len();
            *rest = after;
            self.judge(piece);
            if !piece.is_empty() && !self.hidden {
                return Ok(Some((self.kind, piece)));
            }
        }
    }

    fn take_header(&mut self, rest: &mut &[u8]) -> Result<bool> {
        let (piece, after) = rest.split_at(rest.len().min(HEADER_BYTES - self.header.len()));
        self.header.extend_from_slice(piece);
        *rest = after;
        if self.header.len() < HEADER_BYTES {
            return Ok(false);
        }
        self.kind = match self.header[0] {
            0 | 1 => Kind::Stdout,
            2 => Kind::Stderr,
            other => {
                let message = format!("podman sent a stream of the unknown kind {other}");
                return Err(RuntimeError::new(ErrorCode::Internal, message));
            }
        };
        let length = [self.header[4], self.header[5], self.header[6], self.header[7]];
        self.left = u32::from_be_bytes(length) as usize;
        self.header.clear();
        self.hidden = false;
        Ok(true)
    }

    /// For a command that could not be run, Podman adds a line about its own socket to the one that says why.
    fn judge(&mut self, piece: &[u8]) {
        if self.kind != Kind::Stderr {
            return;
        }
        self.hidden |= self.failed && piece.starts_with(b"Error: read unixpacket ");
        self.failed |= piece.starts_with(b"Error: ") && contains(piece, b": OCI ");
    }
}

fn contains(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}

/// A command as the engine knows it.
#[derive(Debug, Clone)]
struct Session {
    engine: Engine,
    container: ContainerId,
    id: String,
    /// Whether the engine said that it runs, or ran.
    started: Arc<AtomicBool>,
}

/// What the engine says of a command.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SessionState {
    running: bool,
    exit_code: i32,
    pid: i32,
}

impl Session {
    /// Starts the command and returns its streams.
    async fn start(&self, spec: &ExecSpec) -> Result<Upgraded> {
        let (columns, rows) = spec.size.unwrap_or((80, 24));
        let size = if spec.tty { json!({"w": columns, "h": rows}) } else { json!({}) };
        let mut body = json!({"Detach": false, "Tty": spec.tty});
        body.as_object_mut().expect("made above").extend(size.as_object().expect("made above").clone());
        let path = format!("/exec/{}/start", self.id);
        let starting = self.engine.upgrade(&path, &body);
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => {
                    self.started.store(true, Ordering::Relaxed);
                    return started.map_err(|error| self.of_start(spec, &error));
                }
                () = sleep(START_LOOK) => {
                    let state = self.state().await?;
                    if !state.running && state.exit_code == NOT_STARTED {
                        return Err(not_started(spec));
                    }
                }
            }
        }
    }

    fn of_start(&self, spec: &ExecSpec, error: &EngineError) -> RuntimeError {
        match error::said(error) {
            Some((_, text)) if text.contains("unable to find user") => not_started(spec).backend(text),
            _ => error::about(&self.container, "exec", error),
        }
    }

    async fn state(&self) -> Result<SessionState> {
        let path = format!("/exec/{}/json", self.id);
        let state = self.engine.get_json(&path, &[]).await;
        state.map_err(|error| error::about(&self.container, "look at the command", &error))
    }

    async fn resize(&self, columns: u16, rows: u16) {
        // One that comes when the command is just ending is of no interest to anybody.
        let _ = self.engine.podman().execs().get(self.id.as_str()).resize(columns.into(), rows.into()).await;
    }

    /// Returns how the command ended, now that its output has.
    async fn exit(&self) -> Result<Exit> {
        let begun = Instant::now();
        loop {
            let state = self.state().await?;
            if !state.running {
                return Ok(Exit::from_code(state.exit_code));
            }
            if begun.elapsed() > NOTE_LIMIT {
                let message = "podman does not say how the command ended";
                return Err(RuntimeError::new(ErrorCode::Internal, message));
            }
            sleep(NOTE_POLL).await;
        }
    }

    /// Kills the command. One that is just starting looks like one that has ended, and is waited for.
    async fn kill(&self) {
        let begun = Instant::now();
        while let Ok(state) = self.state().await {
            if state.running && state.pid > 0 {
                if self.kill_group(state.pid).await.is_none() {
                    return;
                }
                self.started.store(true, Ordering::Relaxed);
            } else if !state.running && (state.exit_code != 0 || self.started.load(Ordering::Relaxed)) {
                return;
            }
            if begun.elapsed() > NOTE_LIMIT {
                return;
            }
            sleep(NOTE_POLL).await;
        }
    }

    /// Kills the command's process group; runc makes each command the leader of one. `None` where this cannot be
    /// done from here.
    ///
    /// A number may have gone to another process by now. So the process is held by a descriptor, must be in the
    /// container's own namespace, and must still be the command's after all that.
    async fn kill_group(&self, number: i32) -> Option<()> {
        let pid = Pid::from_raw(number)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let main = lifecycle::inspect(&self.engine, &self.container).await.ok()?.state.pid;
        let namespace = pid_namespace(&number.to_string())?;
        if Some(&namespace) != pid_namespace(&main.to_string()).as_ref()
            || Some(&namespace) == pid_namespace("self").as_ref()
        {
            return None;
        }
        let state = self.state().await.ok()?;
        if state.running && state.pid == number {
            let _ = kill_process_group(pid, Signal::KILL);
            pidfd_send_signal(&process, Signal::KILL).ok()?;
        }
        Some(())
    }
}

fn pid_namespace(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

fn not_started(spec: &ExecSpec) -> RuntimeError {
    match &spec.user {
        Some(user) => {
            let message = format!("the command cannot be run as {user:?}: the container has no such user");
            RuntimeError::new(ErrorCode::InvalidArgument, message).field("user")
        }
        None => RuntimeError::new(ErrorCode::Internal, "podman could not start the command"),
    }
}

/// Kills the command of a call that is dropped.
struct KillGuard {
    session: Option<(Session, Running)>,
    runtime: Handle,
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        if let Some((session, running)) = self.session.take() {
            self.runtime.spawn(async move {
                session.kill().await;
                drop(running);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text);
        frame
    }

    fn split(bytes: &[u8], piece: usize) -> Vec<(Kind, Vec<u8>)> {
        let mut frames = Frames::new(false);
        let mut all: Vec<(Kind, Vec<u8>)> = Vec::new();
        for mut rest in bytes.chunks(piece) {
            while let Some((kind, bytes)) = frames.next(&mut rest).unwrap() {
                match all.last_mut() {
                    Some((last, text)) if *last == kind => text.extend(bytes),
                    _ => all.push((kind, bytes.to_vec())),
                }
            }
        }
        all
    }

    #[test]
    fn streams_are_told_apart_wherever_a_read_ends() {
        let bytes = [frame(1, b"out"), frame(2, b""), frame(2, b"err"), frame(1, b"more")].concat();
        let expected = [
            (Kind::Stdout, b"out".to_vec()),
            (Kind::Stderr, b"err".to_vec()),
            (Kind::Stdout, b"more".to_vec()),
        ];
        for piece in 1..bytes.len() {
            assert_eq!(split(&bytes, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_line_about_podmans_own_socket_is_left_out() {
        let why = b"Error: runc: exec failed: unable to start container process: OCI permission denied\n";
        let noise = b"Error: read unixpacket @->/proc/self/fd/14/attach: read: connection reset by peer\n";
        let bytes = [frame(2, why), frame(2, noise)].concat();
        assert_eq!(split(&bytes, 1_000), [(Kind::Stderr, why.to_vec())]);
        assert_eq!(split(&frame(2, noise), 1_000).len(), 1, "a command may well say that");
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        assert!(Frames::new(false).next(&mut &frame(9, b"x")[..]).is_err());
    }
}
