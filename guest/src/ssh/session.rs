//! A session: a process of the user with a terminal or with pipes, between its start and what is told of its end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Guest;
use super::channel::{Inlet, Outlet, Pipe};
use super::flow::Flow;
use super::terminal::{Size, Terminal, resize};
use crate::account::Account;
use crate::launch::{Environment, Launch, Stance, Trouble};
use crate::reaper::{End, Running};
use crate::shell;

/// Names and values longer than this together are not taken from a client.
const VARIABLE: usize = 32 << 10;
/// Nor more of them than this.
const VARIABLES: usize = 128;
/// How long a terminal may be quiet after its process before it is closed: others may still hold it.
const QUIET: Duration = Duration::from_millis(100);

/// What a client asks to be run.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Shell,
    Command(&'a [u8]),
    Sftp,
}

/// A channel before anything runs in it.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) channel: Channel<Msg>,
    pub(super) terminal: Option<Terminal>,
    variables: Vec<(String, String)>,
    place: OwnedSemaphorePermit,
}

impl Setup {
    /// Returns a channel with nothing asked of it.
    pub(super) fn new(channel: Channel<Msg>, place: OwnedSemaphorePermit) -> Self {
        Self { channel, terminal: None, variables: Vec::new(), place }
    }

    /// Takes a variable from the client; returns whether it was taken. What it may set here it could set by a command
    /// as well, so only nonsense is refused.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let good = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        let taken = good && name.len() + value.len() <= VARIABLE && self.variables.len() < VARIABLES;
        if taken {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        taken
    }
}

/// Whom a session is for.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) guest: Arc<Guest>,
    pub(super) flow: Arc<Flow>,
    pub(super) account: Account,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// Places for channels of the connection.
    pub(super) places: Arc<Semaphore>,
}

/// A process that runs, with our ends of what it reads and writes.
struct Process {
    running: Running,
    input: Pipe,
    output: Pipe,
    /// A terminal has none.
    errors: Option<Pipe>,
}

/// Starts what is asked for, and attends it in the background. That it cannot be started is told on standard error,
/// as a shell does.
pub(super) fn start(visitor: Visitor, mut setup: Setup, what: What<'_>, handle: Handle) {
    let process = launch(&visitor, &mut setup, what);
    let Setup { channel, place, .. } = setup;
    tokio::spawn(async move {
        match process {
            Ok(process) => attend(visitor, channel, process, handle).await,
            Err((text, code)) => {
                let text = format!("gx: {text}\r\n");
                let _ = channel.extended_data_bytes(1, text.into_bytes()).await;
                finish(&channel.split().1, &handle, Ok(End::Code(code))).await;
            }
        }
        drop(place);
    });
}

fn launch(visitor: &Visitor, setup: &mut Setup, what: What<'_>) -> Result<Process, (String, u8)> {
    let account = &visitor.account;
    let words = match what {
        What::Shell => shell::words(account, None),
        What::Command(line) => shell::words(account, Some(OsStr::from_bytes(line))),
        What::Sftp => Some((vec![visitor.guest.program.clone().into(), OsString::from(crate::SFTP)], None)),
    };
    let (argv, arg0) = words.ok_or_else(|| (shell::NO_SHELL.to_owned(), 127))?;
    let environment = environment(visitor, setup);
    let stance = if setup.terminal.is_some() { Stance::Terminal } else { Stance::Session };
    let folder = Some(environment.get("HOME").map_or_else(|| account.home.clone(), PathBuf::from));
    let launch = Launch { argv, arg0, environment: &environment, folder, account, stance };
    let told = |trouble: Trouble| (trouble.to_string(), trouble.code());
    let command = launch.command().map_err(told)?;
    let spawned = match setup.terminal.take() {
        Some(terminal) => with_terminal(visitor, terminal, command),
        None => with_pipes(visitor, command),
    };
    spawned.map_err(|error| told(launch.trouble(error)))
}

fn environment(visitor: &Visitor, setup: &Setup) -> Environment {
    let mut environment = visitor.guest.environment.clone();
    let account = &visitor.account;
    let own_home = visitor.guest.has_own_home(account);
    shell::log_in(&mut environment, account, Some(&*account.home).filter(|_| own_home));
    for (name, value) in &setup.variables {
        environment.set(name, value);
    }
    let (peer, local) = (visitor.peer, visitor.local);
    let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
    environment.set("SSH_CLIENT", format!("{from} {} {}", peer.port(), local.port()));
    environment.set("SSH_CONNECTION", format!("{from} {} {to} {}", peer.port(), local.port()));
    if let Some(terminal) = &setup.terminal {
        environment.set("SSH_TTY", &terminal.name);
        environment.set("TERM", &terminal.term);
    }
    environment
}

fn with_terminal(
    visitor: &Visitor,
    terminal: Terminal,
    mut command: std::process::Command,
) -> io::Result<Process> {
    let slave = terminal.slave;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let master = Pipe::new(terminal.master)?;
    let running = visitor.guest.reaper.spawn(&mut command)?;
    Ok(Process { running, input: master.clone(), output: master, errors: None })
}

fn with_pipes(visitor: &Visitor, mut command: std::process::Command) -> io::Result<Process> {
    let ((input, ours_in), (ours_out, output), (ours_err, errors)) = (pipe()?, pipe()?, pipe()?);
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    let running = visitor.guest.reaper.spawn(&mut command)?;
    Ok(Process {
        running,
        input: Pipe::new(ours_in)?,
        output: Pipe::new(ours_out)?,
        errors: Some(Pipe::new(ours_err)?),
    })
}

fn pipe() -> io::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // More than the usual 64 KiB: less waking of each other. Where it is refused, that will do.
    let _ = rustix::pipe::fcntl_setpipe_size(&ends.1, 256 << 10);
    Ok(ends)
}

/// Carries bytes and signals until the process has ended or the client is gone, and tells the end.
async fn attend(visitor: Visitor, channel: Channel<Msg>, process: Process, handle: Handle) {
    let id = channel.id();
    let (read, write) = channel.split();
    let mut inlet = Inlet::new(read, id, visitor.flow.clone());
    let Process { running, input, output, errors } = process;
    let pid = running.pid;
    let master = errors.is_none().then(|| output.clone());
    let told = |message| on_message(message, pid, master.as_ref());
    let ended = tokio::select! {
        _ = inlet.feed(input, told) => None,
        ended = all_output(&visitor.flow, &write, output, errors, running.ended) => Some(ended),
    };
    match ended {
        Some(ended) => finish(&write, &handle, ended).await,
        // As a terminal that is hung up does: what wants to outlive its session says so by nohup.
        None => signal(pid, Signal::HUP),
    }
}

/// Sends all output; returns how the process ended, once it has and there is no more.
async fn all_output(
    flow: &Arc<Flow>,
    write: &ChannelWriteHalf<Msg>,
    output: Pipe,
    errors: Option<Pipe>,
    mut ended: oneshot::Receiver<End>,
) -> Result<End, oneshot::error::RecvError> {
    let idle = AtomicBool::new(false);
    let also_idle = AtomicBool::new(false);
    let out = Outlet { write, flow, extended: None, idle: &idle };
    let err = Outlet { write, flow, extended: Some(1), idle: &also_idle };
    match errors {
        Some(errors) => {
            tokio::join!(out.drain(output), err.drain(errors));
            ended.await
        }
        None => {
            let drained = out.drain(output);
            tokio::pin!(drained);
            let end = tokio::select! {
                () = &mut drained => return ended.await,
                end = &mut ended => end,
            };
            while tokio::time::timeout(QUIET, &mut drained).await.is_err() {
                if idle.load(Ordering::Relaxed) {
                    break;
                }
            }
            end
        }
    }
}

fn on_message(message: ChannelMsg, pid: i32, terminal: Option<&Pipe>) {
    match message {
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            if let Some(terminal) = terminal {
                resize(terminal.fd(), Size(col_width, row_height, pix_width, pix_height));
            }
        }
        ChannelMsg::Signal { signal: named } => {
            if let Some(number) = number_of(&named) {
                signal(pid, number);
            }
        }
        _ => {}
    }
}

/// Sends a signal to a session's processes.
fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn number_of(named: &Sig) -> Option<Signal> {
    Some(match named {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    })
}

/// Tells the client how it ended, and closes the channel.
async fn finish(
    write: &ChannelWriteHalf<Msg>,
    handle: &Handle,
    ended: Result<End, oneshot::error::RecvError>,
) {
    match ended {
        Ok(End::Signal(number)) => {
            let _ = handle
                .exit_signal_request(write.id(), name_of(number), false, String::new(), String::new())
                .await;
        }
        Ok(End::Code(code)) => drop(write.exit_status(code.into()).await),
        // Nobody knows; 255 is what ssh gives for its own failures.
        Err(_) => drop(write.exit_status(255).await),
    }
    let _ = write.eof().await;
    let _ = write.close().await;
}

fn name_of(number: i32) -> Sig {
    match number {
        libc::SIGABRT => Sig::ABRT,
        libc::SIGALRM => Sig::ALRM,
        libc::SIGFPE => Sig::FPE,
        libc::SIGHUP => Sig::HUP,
        libc::SIGILL => Sig::ILL,
        libc::SIGINT => Sig::INT,
        libc::SIGKILL => Sig::KILL,
        libc::SIGPIPE => Sig::PIPE,
        libc::SIGQUIT => Sig::QUIT,
        libc::SIGSEGV => Sig::SEGV,
        libc::SIGTERM => Sig::TERM,
        libc::SIGUSR1 => Sig::USR1,
        libc::SIGUSR2 => Sig::Custom("USR2".to_owned()),
        // A name of one's own has an at sign (RFC 4250, section 4.6.1).
        other => Sig::Custom(format!("{other}@gx")),
    }
}
