//! What the commands do that the mock knows. All of it is pretence: no process is ever made.
//!
//! `true`, `false`, `echo`, `sleep N`, `cat [FILE]`, `yes [TEXT]`, `head -c N`, `head -n N`, `wc -c`,
//! `pwd`, `id -u`, `stty size`, `nc -l[l] -p PORT -e PROGRAM…`, `sh [-c SCRIPT]`, and within a
//! script `exit N`, `wait` and `trap SCRIPT SIGNAL`.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gx_core::stream::{Gone, Kind, Output};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::files::Files;
use crate::logs::Logs;
use crate::script::{self, Command, Pipeline, Redirect};

const PROGRAMS: [&str; 12] =
    ["true", "false", "echo", "sleep", "cat", "yes", "head", "wc", "pwd", "id", "stty", "nc"];

/// The exit code of a command that is not there, as POSIX has it.
const NOT_FOUND: i32 = 127;
/// The exit code of a process that SIGPIPE ended: nobody reads what it writes.
const BROKEN_PIPE: i32 = 128 + 13;

/// What surrounds a command.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) workdir: String,
    pub(crate) user: String,
    pub(crate) files: Arc<Mutex<Files>>,
    /// The sockets of the published ports, by the port inside.
    pub(crate) listeners: Arc<BTreeMap<u16, TcpListener>>,
    /// What `trap` has set, by signal.
    pub(crate) traps: Arc<Mutex<BTreeMap<i32, String>>>,
    /// The terminal's columns and rows in one number; `None` without a terminal.
    pub(crate) terminal: Option<Arc<AtomicU32>>,
}

/// Joins columns and rows, so that both change at once.
pub(crate) fn size(columns: u16, rows: u16) -> u32 {
    u32::from(columns) << 16 | u32::from(rows)
}

/// Where a command's output goes.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    /// Into the container's logs.
    Logs(Arc<Logs>, Kind),
    /// To the caller of an exec.
    Call(Output, Kind),
    /// The same through a terminal, which ends lines with `\r\n`.
    Terminal(Box<Writer>),
    /// To the next command of a pipeline.
    Pipe(mpsc::Sender<Bytes>),
    /// Kept, for a file or a socket.
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Writer {
    fn write(&self, bytes: Bytes) -> Pin<Box<dyn Future<Output = Result<(), Gone>> + Send + '_>> {
        Box::pin(async move {
            match self {
                Self::Logs(logs, kind) => {
                    logs.push(*kind, bytes);
                    tokio::task::yield_now().await; // `yes` would otherwise never let go of its thread
                    Ok(())
                }
                Self::Call(output, kind) => output.write(*kind, &bytes).await,
                Self::Terminal(inner) => inner.write(with_carriage_returns(&bytes)).await,
                Self::Pipe(next) => next.send(bytes).await.map_err(|_| Gone),
                Self::Memory(kept) => {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
                    Ok(())
                }
            }
        })
    }
}

fn with_carriage_returns(bytes: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        if byte == b'\n' {
            text.push(b'\r');
        }
        text.push(byte);
    }
    text.into()
}

/// The three streams of a command.
pub(crate) struct Streams<'a> {
    pub(crate) stdin: &'a mut mpsc::Receiver<Bytes>,
    pub(crate) stdout: Writer,
    pub(crate) stderr: Writer,
}

/// Returns an input that is at its end.
pub(crate) fn no_input() -> mpsc::Receiver<Bytes> {
    mpsc::channel(1).1
}

/// Returns whether there is such a program.
pub(crate) fn exists(program: &str) -> bool {
    let name = program.strip_prefix("/bin/").unwrap_or(program);
    name == "sh" || PROGRAMS.contains(&name)
}

/// Runs a command and returns its exit code.
pub(crate) fn run<'a>(
    world: &'a World,
    argv: &'a [String],
    mut streams: Streams<'a>,
) -> Pin<Box<dyn Future<Output = i32> + Send + 'a>> {
    Box::pin(async move {
        let Some((program, arguments)) = argv.split_first() else { return NOT_FOUND };
        let name = program.strip_prefix("/bin/").unwrap_or(program);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if name == "sh" {
            return shell(world, &arguments, &mut streams).await;
        }
        match program_of(world, name, &arguments, &mut streams).await {
            Ok(code) => code,
            Err(Gone) => BROKEN_PIPE,
        }
    })
}

async fn program_of(
    world: &World,
    name: &str,
    arguments: &[&str],
    io: &mut Streams<'_>,
) -> Result<i32, Gone> {
    let say = |text: String| Bytes::from(text + "\n");
    match (name, arguments) {
        ("true", _) => return Ok(0),
        ("false", _) => return Ok(1),
        ("echo", words) => io.stdout.write(say(words.join(" "))).await?,
        ("pwd", _) => io.stdout.write(say(world.workdir.clone())).await?,
        ("id", ["-u"]) => io.stdout.write(say(world.user.clone())).await?,
        ("sleep", [seconds]) => match seconds.parse().map(Duration::try_from_secs_f64) {
            Ok(Ok(time)) => tokio::time::sleep(time).await,
            _ => return fail(io, 1, format!("sleep: invalid number '{seconds}'")).await,
        },
        ("stty", ["size"]) => match &world.terminal {
            Some(terminal) => {
                let size = terminal.load(Ordering::Relaxed);
                io.stdout.write(say(format!("{} {}", size & 0xffff, size >> 16))).await?;
            }
            None => return fail(io, 1, "stty: standard input: Inappropriate ioctl for device".into()).await,
        },
        ("cat", []) => {
            while let Some(bytes) = io.stdin.recv().await {
                io.stdout.write(bytes).await?;
            }
        }
        ("cat", [path]) => {
            let content = lock(&world.files).read(&path_in(world, path));
            match content {
                Some(bytes) => io.stdout.write(bytes).await?,
                None => {
                    return fail(io, 1, format!("cat: can't open '{path}': No such file or directory")).await;
                }
            }
        }
        ("wc", ["-c"]) => {
            let mut length = 0;
            while let Some(bytes) = io.stdin.recv().await {
                length += bytes.len();
            }
            io.stdout.write(say(length.to_string())).await?;
        }
        ("yes", words) => {
            let line = if words.is_empty() { "y\n".to_owned() } else { words.join(" ") + "\n" };
            let block = Bytes::from(line.repeat((32 * 1024 / line.len()).max(1)));
            loop {
                io.stdout.write(block.clone()).await?;
            }
        }
        ("head", [unit @ ("-c" | "-n"), count]) => match count.parse() {
            Ok(count) => head(io, *unit == "-n", count).await?,
            Err(_) => return fail(io, 1, format!("head: invalid number '{count}'")).await,
        },
        ("nc", [mode @ ("-l" | "-ll"), "-p", port, "-e", program @ ..]) => {
            return listen(world, *mode == "-ll", port, program, io).await;
        }
        (name, _) if PROGRAMS.contains(&name) => {
            return fail(io, 1, format!("{name}: the mock does not know these arguments")).await;
        }
        (name, _) => return fail(io, NOT_FOUND, format!("sh: {name}: not found")).await,
    }
    Ok(0)
}

async fn fail(io: &Streams<'_>, code: i32, message: String) -> Result<i32, Gone> {
    io.stderr.write(Bytes::from(message + "\n")).await?;
    Ok(code)
}

async fn head(io: &mut Streams<'_>, lines: bool, mut left: usize) -> Result<(), Gone> {
    while left > 0
        && let Some(bytes) = io.stdin.recv().await
    {
        let end = if lines {
            let ends: Vec<usize> =
                bytes.iter().enumerate().filter(|&(_, &b)| b == b'\n').map(|(at, _)| at + 1).collect();
            let end = ends.get(left - 1).copied().unwrap_or(bytes.len());
            left = left.saturating_sub(ends.len());
            end
        } else {
            let end = left.min(bytes.len());
            left -= end;
            end
        };
        io.stdout.write(bytes.slice(..end)).await?;
    }
    Ok(())
}

async fn listen(
    world: &World,
    again: bool,
    port: &str,
    program: &[&str],
    io: &mut Streams<'_>,
) -> Result<i32, Gone> {
    let Some(listener) = port.parse().ok().and_then(|port: u16| world.listeners.get(&port)) else {
        return fail(io, 1, format!("nc: the mock listens on published ports only, not on {port}")).await;
    };
    let argv: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
    loop {
        let Ok((mut socket, _)) = listener.accept().await else { return Ok(1) };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let stdout = Writer::Memory(kept.clone());
        let streams = Streams { stdin: &mut no_input(), stdout, stderr: io.stderr.clone() };
        run(world, &argv, streams).await;
        let answer = std::mem::take(&mut *lock(&kept));
        // A peer that has gone away concerns nobody here.
        let _ = socket.write_all(&answer).await;
        let _ = socket.shutdown().await;
        if !again {
            return Ok(0);
        }
    }
}

async fn shell(world: &World, arguments: &[&str], io: &mut Streams<'_>) -> i32 {
    match arguments {
        ["-c", script, ..] => match script_in(world, script, io).await {
            ControlFlow::Break(code) | ControlFlow::Continue(code) => code,
        },
        [] => {
            let mut typed = Vec::new();
            while let Some(bytes) = io.stdin.recv().await {
                typed.extend_from_slice(&bytes);
            }
            match script_in(world, &String::from_utf8_lossy(&typed), io).await {
                ControlFlow::Break(code) | ControlFlow::Continue(code) => code,
            }
        }
        _ => fail(io, 2, "sh: the mock knows only -c SCRIPT".into()).await.unwrap_or(BROKEN_PIPE),
    }
}

/// Runs a script; `Break` when it said `exit`.
pub(crate) async fn script_in(world: &World, text: &str, io: &mut Streams<'_>) -> ControlFlow<i32, i32> {
    let pipelines = match script::parse(text, &world.env) {
        Ok(pipelines) => pipelines,
        Err(why) => {
            return ControlFlow::Break(fail(io, 2, format!("sh: {why}")).await.unwrap_or(BROKEN_PIPE));
        }
    };
    let mut last = 0;
    let mut jobs = JoinSet::new(); // what is still in the background ends with the shell
    for pipeline in pipelines {
        let words: Vec<&str> = pipeline.commands[0].argv.iter().map(String::as_str).collect();
        match words[..] {
            ["exit"] => return ControlFlow::Break(last),
            ["exit", code] => return ControlFlow::Break(code.parse().unwrap_or(2)),
            ["wait"] => while jobs.join_next().await.is_some() {},
            ["trap", body, name] => {
                if let Some(signal) = signal_number(name) {
                    lock(&world.traps).insert(signal, body.to_owned());
                }
            }
            _ if pipeline.background => {
                let (world, stdout, stderr) = (world.clone(), io.stdout.clone(), io.stderr.clone());
                jobs.spawn(async move {
                    pipeline_in(&world, &pipeline, Streams { stdin: &mut no_input(), stdout, stderr }).await
                });
            }
            _ => {
                let streams =
                    Streams { stdin: io.stdin, stdout: io.stdout.clone(), stderr: io.stderr.clone() };
                last = pipeline_in(world, &pipeline, streams).await;
            }
        }
    }
    ControlFlow::Continue(last)
}

async fn pipeline_in(world: &World, pipeline: &Pipeline, streams: Streams<'_>) -> i32 {
    chain(world, &pipeline.commands, streams).await
}

fn chain<'a>(
    world: &'a World,
    commands: &'a [Command],
    streams: Streams<'a>,
) -> Pin<Box<dyn Future<Output = i32> + Send + 'a>> {
    Box::pin(async move {
        match commands {
            [] => 0,
            [only] => redirected(world, only, streams).await,
            [first, rest @ ..] => {
                let (sender, mut receiver) = mpsc::channel(2);
                let Streams { stdin, stdout, stderr } = streams;
                let before = Streams { stdin, stdout: Writer::Pipe(sender), stderr: stderr.clone() };
                // The reader's end goes away with the last command, which ends an endless writer.
                let after =
                    async move { chain(world, rest, Streams { stdin: &mut receiver, stdout, stderr }).await };
                tokio::join!(redirected(world, first, before), after).1
            }
        }
    })
}

async fn redirected(world: &World, command: &Command, mut streams: Streams<'_>) -> i32 {
    match &command.redirect {
        None => run(world, &command.argv, streams).await,
        Some(Redirect::Stderr) => {
            streams.stdout = streams.stderr.clone();
            run(world, &command.argv, streams).await
        }
        Some(Redirect::File(path)) => {
            let kept = Arc::new(Mutex::new(Vec::new()));
            let stderr = streams.stderr.clone();
            streams.stdout = Writer::Memory(kept.clone());
            let code = run(world, &command.argv, streams).await;
            let content = std::mem::take(&mut *lock(&kept));
            if lock(&world.files).write(&path_in(world, path), content.into()) {
                return code;
            }
            let message = format!("sh: can't create {path}: nonexistent directory\n");
            stderr.write(message.into()).await.map_or(BROKEN_PIPE, |()| 1)
        }
    }
}

fn path_in(world: &World, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", world.workdir) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of a signal, named with or without `SIG` or given as a number (signal(7)).
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 8] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("WINCH", 28),
    ];
    if let Ok(number) = name.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    NAMES.iter().find(|(known, _)| *known == bare).map(|&(_, number)| number)
}
