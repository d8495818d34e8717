//! Runs commands in a running container.

use std::time::Duration;

use containers_api::conn::hyper::upgrade::Upgraded;
use gx_core::plugin::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::engine::Engine;
use crate::frames::Frames;
use crate::session::Session;
use crate::tasks::{Running, Tasks};

/// How long input is held back once a command runs, unless it has said something. Where one ends while input for it
/// is on the way, Podman 4.3.1 throws away output that is on the way too: of `echo hello`, given ten bytes that it
/// does not read, two runs in three said nothing. A machine that is slow to start a command is slow to run it, so the hold
/// is as long as the start took, within these bounds.
const INPUT_HOLD: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// After which pauses a new size is told again. Of the sizes that conmon 2.1.6 finds waiting it takes the first as often
/// as there are some, and drops the others: a busy one leaves the terminal with an old size, unless the new one comes
/// once more and alone.
const SIZE_AGAIN: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
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
    let session = Session::new(engine, id, spec).await?;
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

enum Done {
    Ended,
    ReaderGone,
}

/// Starts the command and passes its streams on until they end.
async fn attached(session: &Session, spec: &ExecSpec, input: Input, out: &Output) -> Result<Done> {
    let begun = Instant::now();
    let (reader, writer) = tokio::io::split(session.start(spec).await?);
    let spoken = Notify::new();
    tokio::select! {
        done = pass_output(reader, spec.tty, out, &spoken) => done,
        never = pass_input(session, spec, begun, input, writer, &spoken) => match never {},
        () = out.gone() => Ok(Done::ReaderGone),
    }
}

/// Passes input and sizes on. The end of the input is passed on too; after that only the output counts.
async fn pass_input(
    session: &Session,
    spec: &ExecSpec,
    begun: Instant,
    mut input: Input,
    mut writer: WriteHalf<Upgraded>,
    spoken: &Notify,
) -> std::convert::Infallible {
    tokio::select! {
        () = spoken.notified() => {}
        () = async { session.running().await; sleep(begun.elapsed().clamp(INPUT_HOLD[0], INPUT_HOLD[1])).await } => {}
    }
    let (mut open, mut told) = (true, Told::default());
    loop {
        tokio::select! {
            chunk = input.next(), if open => match chunk {
                // A command that closed its input still has output.
                Some(InputChunk::Data(bytes)) if spec.stdin => drop(writer.write_all(&bytes).await),
                Some(InputChunk::Resize { columns, rows }) if spec.tty => {
                    session.resize(columns, rows).await;
                    told = Told::first(columns, rows);
                }
                Some(InputChunk::Data(_) | InputChunk::Resize { .. }) => {}
                None => {
                    open = false;
                    let _ = writer.shutdown().await;
                }
            },
            () = told.due() => {
                session.resize(told.columns, told.rows).await;
                told.again();
            }
        }
    }
}

/// The size that the terminal was told last.
#[derive(Default)]
struct Told {
    columns: u16,
    rows: u16,
    /// When to tell it again, and after which pauses from then on.
    due: Option<Instant>,
    pauses: std::slice::Iter<'static, Duration>,
}

impl Told {
    fn first(columns: u16, rows: u16) -> Self {
        let mut told = Self { columns, rows, due: None, pauses: SIZE_AGAIN.iter() };
        told.again();
        told
    }

    fn again(&mut self) {
        self.due = self.pauses.next().map(|&pause| Instant::now() + pause);
    }

    /// Waits until it is to be told again; for ever when that was often enough.
    async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

async fn pass_output(
    mut reader: ReadHalf<Upgraded>,
    tty: bool,
    out: &Output,
    spoken: &Notify,
) -> Result<Done> {
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
        spoken.notify_one();
        let mut rest = &buffer[..count];
        while let Some((kind, bytes)) = frames.next(&mut rest)? {
            if out.write(kind, bytes).await.is_err() {
                return Ok(Done::ReaderGone);
            }
        }
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
