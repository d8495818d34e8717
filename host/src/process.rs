//! A child process that runs a plugin: how it is started, what it may, how it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit,
};

use crate::text::clean;

/// What a child is started with.
pub(crate) struct Start<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) program: &'a PathBuf,
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) library: &'a File,
}

/// A child process, from its start until it is reaped.
pub(crate) struct Process {
    child: Mutex<Option<Child>>,
    ended: Condvar,
    killed_for: Mutex<Option<String>>,
    last_words: Arc<Mutex<String>>,
    heard_all: Mutex<Receiver<()>>,
}

impl Process {
    /// Starts a child, with its end of the socket. Must be called by a thread that outlives it: the parent-death signal goes by threads.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn start(start: &Start<'_>, socket: &OwnedFd) -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let (socket, library) = (socket.as_raw_fd(), start.library.as_raw_fd());
        let mut command = Command::new(start.program);
        command.arg("plugin-host").arg(socket.to_string()).arg(format!("/proc/self/fd/{library}"));
        command.env_clear().envs(start.env).current_dir("/");
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // A group of its own: Ctrl-C is for the host, which then ends the child in order.
        command.process_group(0);
        confine(&mut command, socket, library);
        let child = command.spawn()?;
        drop(command); // the last handle of the pipe's writing end here
        let (last_words, heard_all) = listen(start.plugin.to_owned(), reader);
        Ok(Self {
            child: Mutex::new(Some(child)),
            ended: Condvar::new(),
            killed_for: Mutex::default(),
            last_words,
            heard_all: Mutex::new(heard_all),
        })
    }

    /// Kills the child, if it still is there.
    pub(crate) fn kill(&self, why: &str) {
        let mut child = lock(&self.child);
        if let Some(child) = child.as_mut() {
            lock(&self.killed_for).get_or_insert_with(|| why.to_owned());
            let _ = child.kill();
        }
    }

    /// Sees to it that the child has ended, and returns how.
    pub(crate) fn reap(&self) -> String {
        let mut child = lock(&self.child);
        let status = child.take().map(|mut child| match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            // It has closed its socket, but may still run; what it is doing is of no use any more.
            _ => finish(&mut child),
        });
        self.ended.notify_all();
        drop(child);
        let _ = lock(&self.heard_all).recv_timeout(Duration::from_millis(10));
        let how = match (lock(&self.killed_for).take(), status) {
            (Some(why), _) => format!("killed: {why}"),
            (None, Some(Ok(status))) => describe(status),
            (None, _) => "ended".to_owned(),
        };
        let words = std::mem::take(&mut *lock(&self.last_words));
        if words.is_empty() { how } else { format!("{how}: {words}") }
    }

    /// Waits until the child is reaped; returns whether it is.
    pub(crate) fn wait_reaped(&self, limit: Duration) -> bool {
        let child = lock(&self.child);
        let waited = self.ended.wait_timeout_while(child, limit, |child| child.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A child that closed its socket is given a moment to end by itself, so that its own status is told.
fn finish(child: &mut Child) -> std::io::Result<ExitStatus> {
    let deadline = std::time::Instant::now() + Duration::from_millis(50);
    while std::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill()?;
    child.wait()
}

#[expect(
    unsafe_code,
    reason = "between fork and exec only system calls may be made, which Rust cannot check"
)]
fn confine(command: &mut Command, socket: i32, library: i32) {
    let parent = getpid();
    let confine = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            return Err(std::io::ErrorKind::Interrupted.into()); // the parent died before it was asked for
        }
        rustix::thread::set_no_new_privs(true)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        for fd in [socket, library] {
            // SAFETY: both are open in the parent until the child has started.
            fcntl_setfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only: it takes no lock and no memory.
    unsafe { command.pre_exec(confine) };
}

/// Passes on to the log what a child writes to its standard output and error, and keeps the last line.
fn listen(plugin: String, mut pipe: PipeReader) -> (Arc<Mutex<String>>, Receiver<()>) {
    let last = Arc::new(Mutex::new(String::new()));
    let (done, heard_all) = channel();
    let keep = last.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            for line in
                String::from_utf8_lossy(&buffer[..read]).lines().filter(|line| !line.trim().is_empty())
            {
                let line: String = clean(line).chars().take(400).collect();
                tracing::debug!(plugin, "{line}");
                *lock(&keep) = line;
            }
        }
        let _ = done.send(());
    });
    (last, heard_all)
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended by signal {signal}{}", signal_name(signal)),
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
