//! Commands in a running container.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ExecConfig;
use bollard::query_parameters::ResizeExecOptionsBuilder;
use gx_core::runtime::ExecSpec;
use gx_core::stream::{Gone, Input, InputChunk, Kind, Output};
use gx_core::{ContainerId, ErrorCode, Exit, RuntimeError};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use crate::engine::{Engine, to_the_end};
use crate::frames::{Frames, Run, Stamps};
use crate::{error, kill, spec};

type Connection = TokioIo<Upgraded>;

/// How many bytes are read at a time.
const READ_BYTES: usize = 32 * 1024;
/// What a terminal takes for the end of its input: Ctrl-D.
const END_OF_INPUT: u8 = 4;
/// How long the end of a killed command is waited for.
const DYING: Duration = Duration::from_secs(5);

/// Runs a command and returns how it ended.
pub(crate) async fn exec(
    engine: &Arc<Engine>,
    id: ContainerId,
    spec: ExecSpec,
    input: Input,
    out: Output,
) -> Result<Exit, RuntimeError> {
    let (_wanted, dropped) = oneshot::channel::<()>();
    let engine = engine.clone();
    to_the_end(async move {
        let exec = Exec::create(engine, &id, spec).await?;
        exec.run(input, out, dropped).await
    })
    .await
}

/// Why a command is ended from outside.
enum Cut {
    /// The call was dropped.
    Dropped,
    /// The reader of its output is gone.
    Unread,
    /// Its time is over.
    Late,
}

struct Exec {
    engine: Arc<Engine>,
    id: String,
    spec: ExecSpec,
}

impl Exec {
    async fn create(
        engine: Arc<Engine>,
        container: &ContainerId,
        spec: ExecSpec,
    ) -> Result<Self, RuntimeError> {
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin || spec.tty),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(spec.tty),
            cmd: Some(spec.argv.clone()),
            env: Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            user: spec.user.clone(),
            working_dir: spec.workdir.clone(),
            ..Default::default()
        };
        let created = engine.docker.create_exec(container.as_str(), config).await;
        let id = created.map_err(|error| engine.error_of(container, error))?.id;
        Ok(Self { engine, id, spec })
    }

    async fn run(
        self,
        input: Input,
        out: Output,
        dropped: oneshot::Receiver<()>,
    ) -> Result<Exit, RuntimeError> {
        let mut conversation = std::pin::pin!(self.converse(input, &out));
        let cut = tokio::select! {
            exit = &mut conversation => return exit,
            _ = dropped => Cut::Dropped,
            () = out.gone() => Cut::Unread,
            () = self.time_out() => Cut::Late,
        };
        // The connection stays open meanwhile: a broken one counts as exit 126 with the engine, and the command
        // goes on.
        kill::kill(&self.engine, &self.id).await;
        match cut {
            Cut::Dropped => Err(RuntimeError::new(ErrorCode::Cancelled, "the command is no longer wanted")),
            Cut::Unread => tokio::time::timeout(DYING, conversation).await.unwrap_or_else(|_| {
                Err(RuntimeError::new(ErrorCode::Cancelled, "the command goes on, and nobody reads it"))
            }),
            Cut::Late => {
                let ms = self.spec.timeout_ms.unwrap_or(0);
                let message = format!("the command ran longer than {ms} ms");
                Err(RuntimeError::new(ErrorCode::DeadlineExceeded, message))
            }
        }
    }

    async fn time_out(&self) {
        match self.spec.timeout_ms {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms.into())).await,
            None => pending().await,
        }
    }

    /// Starts it, passes on input and output, and returns how it ended.
    async fn converse(&self, input: Input, out: &Output) -> Result<Exit, RuntimeError> {
        let mut body = serde_json::json!({ "Detach": false, "Tty": self.spec.tty });
        if let Some((columns, rows)) = self.spec.size {
            body["ConsoleSize"] = serde_json::json!([rows, columns]); // since API 1.42
        }
        let path = format!("/exec/{}/start", self.id);
        let connection =
            self.engine.wire.upgrade(&path, Some(&body)).await.map_err(|error| self.engine.error(error))?;
        let (reader, writer) = tokio::io::split(connection);
        let feed = async {
            self.feed(input, writer).await;
            pending::<()>().await;
        };
        tokio::select! {
            ended = self.output(reader, out) => match ended? {
                Ending::Ran => self.exit().await,
                Ending::NotStarted(text) => not_started(&text, out).await,
            },
            () = feed => unreachable!("it stays pending after the end of the input"),
        }
    }

    /// Passes on input; what the command no longer reads is left.
    async fn feed(&self, mut input: Input, mut writer: WriteHalf<Connection>) {
        if let (true, Some((columns, rows))) = (self.spec.tty, self.spec.size) {
            self.resize(columns, rows).await;
        }
        if self.spec.tty && !self.spec.stdin {
            let _ = writer.write_all(&[END_OF_INPUT]).await;
        }
        let mut mid_line = false;
        while let Some(chunk) = input.next().await {
            match chunk {
                InputChunk::Resize { columns, rows } => self.resize(columns, rows).await,
                InputChunk::Data(bytes) if self.spec.stdin => {
                    mid_line = bytes.last().is_some_and(|byte| *byte != b'\n');
                    if writer.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                InputChunk::Data(_) => {}
            }
        }
        if self.spec.tty && self.spec.stdin {
            // Within a line the first only ends the line.
            let end: &[u8] = if mid_line { &[END_OF_INPUT; 2] } else { &[END_OF_INPUT] };
            let _ = writer.write_all(end).await;
        } else if self.spec.stdin {
            let _ = writer.shutdown().await;
        }
        pending::<()>().await; // closing a terminal's connection would cut its output, too
    }

    /// The engine waits with it until the command runs; one that has ended needs none.
    async fn resize(&self, columns: u16, rows: u16) {
        let options = ResizeExecOptionsBuilder::default().w(columns.into()).h(rows.into()).build();
        let _ = self.engine.docker.resize_exec(&self.id, options).await;
    }

    async fn output(&self, mut reader: ReadHalf<Connection>, out: &Output) -> Result<Ending, RuntimeError> {
        let mut frames = Frames::new(Stamps::Absent);
        let mut buffer = vec![0; READ_BYTES];
        let mut first = true;
        loop {
            let length = reader.read(&mut buffer).await.map_err(|error| self.engine.error(error.into()))?;
            let bytes = &buffer[..length];
            if bytes.is_empty() {
                return Ok(Ending::Ran);
            }
            let runs = if self.spec.tty { vec![(Kind::Stdout, bytes.to_vec())] } else { frames.push(bytes) };
            if first
                && let [(Kind::Stdout, text)] = runs.as_slice()
                && text.ends_with(b"\r\n")
                && self.never_started().await?
            {
                return Ok(Ending::NotStarted(String::from_utf8_lossy(text).into_owned()));
            }
            first &= runs.is_empty();
            let _ = write(out, runs).await; // when the reader is gone `run` ends this, and the rest is dropped
        }
    }

    /// The engine tells why a command cannot start as if it were the command's own output.
    async fn never_started(&self) -> Result<bool, RuntimeError> {
        let exec = self.inspect().await?;
        Ok(exec.pid.unwrap_or(0) == 0 && matches!(exec.exit_code, Some(126 | 127)))
    }

    async fn inspect(&self) -> Result<bollard::models::ExecInspectResponse, RuntimeError> {
        self.engine.docker.inspect_exec(&self.id).await.map_err(|error| self.engine.error(error))
    }

    /// Waits for the end: a command may close its output and go on.
    async fn exit(&self) -> Result<Exit, RuntimeError> {
        let mut pause = Duration::from_millis(5);
        loop {
            let exec = self.inspect().await?;
            if !exec.running.unwrap_or(false) && exec.exit_code.is_some() {
                return Ok(Exit::from_code(spec::exit_code(exec.exit_code)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// How the output of a command ended.
enum Ending {
    /// With the command.
    Ran,
    /// Before it began; the engine's reason.
    NotStarted(String),
}

async fn write(out: &Output, runs: Vec<Run>) -> Result<(), Gone> {
    for (kind, run) in runs {
        out.write(kind, &run).await?;
    }
    Ok(())
}

/// A command that cannot be run is an exit code, as in a shell; anything else is an error.
///
/// 126 and 127 as POSIX has them (Shell Command Language, 2.8.2); the engine itself says 126 for both.
async fn not_started(text: &str, out: &Output) -> Result<Exit, RuntimeError> {
    let reason = error::from_text(400, text);
    if reason.field.as_deref() != Some("command") {
        return Err(reason);
    }
    let missing = text.contains("executable file not found") || text.contains("no such file or directory");
    let _ = out.stderr(format!("{reason}\n").as_bytes()).await;
    Ok(Exit::from_code(if missing { 127 } else { 126 }))
}
