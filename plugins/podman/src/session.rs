//! A command in a container as the engine knows it: begun, looked at, ended.
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
use tokio::time::{Instant, sleep};

use crate::engine::{Engine, EngineError};
use crate::tasks::panicked;
use crate::{error, lifecycle};

/// After how long without an answer the engine is asked what became of a command. Where a user is missing it never
/// answers (Podman 4.3.1).
const START_LOOK: Duration = Duration::from_millis(500);
/// How long a command is looked for that is to be killed: one that is just starting, or dies slowly.
const KILL_LIMIT: Duration = Duration::from_secs(10);
const NOTE_POLL: Duration = Duration::from_millis(10);
/// How often the engine is asked at most whether a command without output has ended.
const EXIT_POLL: Duration = Duration::from_millis(160);
/// The exit code the engine notes for a command that it could not even hand to its runtime.
const NOT_STARTED: i32 = 125;

/// A command as the engine knows it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
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
    /// Makes the command known to the engine; it does not run yet.
    pub(crate) async fn new(engine: &Engine, container: &ContainerId, spec: &ExecSpec) -> Result<Self> {
        let id = create(engine, container, spec).await?;
        Ok(Self { engine: engine.clone(), container: container.clone(), id, started: Arc::default() })
    }

    /// Starts the command and returns its streams. Once asked for it is seen through, whether or not the caller waits:
    /// of a start whose connection breaks off Podman 4.3.1 says that it came to nothing, and runs the command.
    pub(crate) async fn start(&self, spec: &ExecSpec) -> Result<Upgraded> {
        let (session, spec) = (self.clone(), spec.clone());
        let starting = tokio::spawn(async move { session.start_to_the_end(&spec).await });
        starting.await.unwrap_or_else(|error| Err(panicked(&error)))
    }

    async fn start_to_the_end(&self, spec: &ExecSpec) -> Result<Upgraded> {
        let (columns, rows) = spec.size.unwrap_or((80, 24));
        let size = if spec.tty { json!({"w": columns, "h": rows}) } else { json!({}) };
        let mut body = json!({"Detach": false, "Tty": spec.tty});
        body.as_object_mut().expect("made above").extend(size.as_object().expect("made above").clone());
        let path = format!("/exec/{}/start", self.id);
        let starting = self.engine.upgrade(&path, &[], Some(&body));
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

    /// Tells the terminal's size.
    pub(crate) async fn resize(&self, columns: u16, rows: u16) {
        // One that comes when the command is just ending is of no interest to anybody.
        let _ = self.engine.podman().execs().get(self.id.as_str()).resize(columns.into(), rows.into()).await;
    }

    /// Waits until the command is seen to run; for ever where it has ended by then.
    pub(crate) async fn running(&self) {
        while !self.state().await.is_ok_and(|state| state.running) {
            sleep(NOTE_POLL).await;
        }
    }

    /// Returns how the command ended, now that its output has. One that closed its output may go on for long.
    pub(crate) async fn exit(&self) -> Result<Exit> {
        let mut pause = NOTE_POLL;
        loop {
            let state = self.state().await?;
            if !state.running {
                return Ok(Exit::from_code(state.exit_code));
            }
            sleep(pause).await;
            pause = (pause * 2).min(EXIT_POLL);
        }
    }

    /// Kills the command. One that is just starting looks like one that has ended, and is waited for.
    pub(crate) async fn kill(&self) {
        let begun = Instant::now();
        while let Ok(state) = self.state().await {
            if state.running && state.pid > 0 {
                if self.kill_group(state.pid).await.is_some() {
                    self.started.store(true, Ordering::Relaxed);
                }
            } else if !state.running && (state.exit_code != 0 || self.started.load(Ordering::Relaxed)) {
                return;
            }
            if begun.elapsed() > KILL_LIMIT {
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

fn not_started(spec: &ExecSpec) -> RuntimeError {
    match &spec.user {
        Some(user) => {
            let message = format!("the command cannot be run as {user:?}: the container has no such user");
            RuntimeError::new(ErrorCode::InvalidArgument, message).field("user")
        }
        None => RuntimeError::new(ErrorCode::Internal, "podman could not start the command"),
    }
}
