//! The link to a plugin in a child process: the host's side of the socket.
//!
//! One thread of the host belongs to each child: it starts it, reads everything it says, and reaps it. It also is
//! the thread whose end would end the child (parent-death signal).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::plugin::abi::status;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::calls::{Body, Calls};
use crate::frame::{Decoder, Frame, Head, Verb};
use crate::library::LoadFault;
use crate::link::Link;
use crate::outgoing::{NotSent, Outgoing};
use crate::process::{Process, Start};

/// What is asked of the system for each direction of the socket, in bytes. It may give less.
const SOCKET_BYTES: usize = 1024 * 1024;

/// The link to a child.
pub(crate) struct Child {
    outgoing: Arc<Outgoing>,
    process: Arc<Process>,
}

/// The reading end, which belongs to the child's thread.
pub(crate) struct Reader {
    socket: Arc<OwnedFd>,
    decoder: Decoder,
    calls: Arc<Calls>,
    process: Arc<Process>,
    ready: Option<Result<(), LoadFault>>,
}

/// Why a child does not become ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// It has said why.
    Fault(LoadFault),
    /// It has ended.
    Ended,
    /// It says nothing.
    Silent,
}

/// Starts a child.
///
/// # Errors
/// Those of the system.
pub(crate) fn start(start: &Start<'_>, calls: &Arc<Calls>) -> std::io::Result<(Child, Reader)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for end in [&ours, &theirs] {
        let _ = set_socket_send_buffer_size(end, SOCKET_BYTES);
    }
    let process = Arc::new(Process::start(start, &theirs)?);
    let socket = Arc::new(ours);
    let link = Child { outgoing: Outgoing::new(socket.clone()), process: process.clone() };
    let reader = Reader { socket, decoder: Decoder::default(), calls: calls.clone(), process, ready: None };
    Ok((link, reader))
}

impl Child {
    /// Sends what `create` is to be told.
    pub(crate) fn hello(&self, hello: &[u8]) {
        let _ = self.outgoing.send(Head::new(Verb::Hello, 0), hello); // a child that is gone shows when it is read
    }

    fn send(&self, head: Head, body: &[u8]) -> i32 {
        match self.outgoing.send(head, body) {
            Ok(()) => status::OK,
            Err(NotSent::Closed) => status::GONE,
            Err(NotSent::Full) => status::NO_CREDIT,
        }
    }
}

impl Link for Child {
    fn call(&self, call: u64, method: u32, timeout_ms: u32, body: &[u8]) -> i32 {
        self.send(Head::new(Verb::Call, call).with(method, timeout_ms), body)
    }

    fn cancel(&self, call: u64) {
        self.send(Head::new(Verb::Cancel, call), &[]);
    }

    fn credit(&self, call: u64, bytes: u32) {
        self.send(Head::new(Verb::Credit, call).with(bytes, 0), &[]);
    }

    fn input(&self, call: u64, kind: u32, chunk: &[u8]) -> i32 {
        self.send(Head::new(Verb::Input, call).with(kind, 0), chunk)
    }

    fn shutdown(&self, grace: Duration) {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.send(Head::new(Verb::Shutdown, 0).with(grace_ms, 0), &[]);
        if !self.process.wait_reaped(grace + Duration::from_millis(500)) {
            self.kill("it did not end in time when it was asked to");
            self.process.wait_reaped(Duration::from_secs(1));
        }
    }

    fn kill(&self, why: &str) {
        self.process.kill(why);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.outgoing.close();
    }
}

impl Reader {
    /// Reads until the child has said that it is ready.
    ///
    /// # Errors
    /// [`NotReady`].
    pub(crate) fn wait_ready(&mut self, limit: Duration) -> Result<(), NotReady> {
        let deadline = Instant::now() + limit;
        while self.ready.is_none() {
            self.step(deadline)?;
        }
        self.ready.take().unwrap_or(Ok(())).map_err(NotReady::Fault)
    }

    /// Reads until `done` says so.
    ///
    /// # Errors
    /// [`NotReady`].
    pub(crate) fn wait_for(
        &mut self,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), NotReady> {
        let deadline = Instant::now() + limit;
        while !done() {
            self.step(deadline)?;
        }
        Ok(())
    }

    /// Reads until the child is gone.
    pub(crate) fn run(&mut self) {
        let _ = set_socket_timeout(&*self.socket, Timeout::Recv, None);
        while let Ok(1..) = self.read() {}
    }

    /// Sees to it that the child has ended, and returns how.
    pub(crate) fn reap(&self) -> String {
        self.process.reap()
    }

    /// Kills the child.
    pub(crate) fn kill(&self, why: &str) {
        self.process.kill(why);
    }

    fn step(&mut self, deadline: Instant) -> Result<(), NotReady> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotReady::Silent);
        }
        let _ = set_socket_timeout(&*self.socket, Timeout::Recv, Some(left));
        match self.read() {
            Ok(1..) => Ok(()),
            Err(Errno::AGAIN) => Err(NotReady::Silent),
            _ => Err(NotReady::Ended),
        }
    }

    /// Reads once and handles all frames that are whole. 0 is the end, also after bytes that are no frames.
    fn read(&mut self) -> rustix::io::Result<usize> {
        let read = match self.decoder.fill(&self.socket) {
            Err(Errno::INTR) => return Ok(1),
            read => read?,
        };
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => self.take(frame),
                Ok(None) => return Ok(read),
                Err(error) => {
                    self.kill(&error.to_string());
                    return Ok(0);
                }
            }
        }
    }

    fn take(&mut self, Frame { head, body }: Frame) {
        match head.verb {
            Verb::Complete => self.calls.complete(head.call, head.a as i32, Body::Owned(body)),
            Verb::Emit => drop(self.calls.emit(head.call, head.a, Body::Owned(body))),
            Verb::Log => {
                let (target, message): (String, String) = serde_json::from_slice(&body).unwrap_or_default();
                self.calls.log(head.a, target.as_bytes(), message.as_bytes());
            }
            Verb::Ready => self.ready = Some(read_fault(&body)),
            Verb::Hello | Verb::Call | Verb::Cancel | Verb::Credit | Verb::Input | Verb::Shutdown => {
                self.kill("it sent a frame that only the host sends");
            }
        }
    }
}

fn read_fault(body: &[u8]) -> Result<(), LoadFault> {
    if body.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(body).unwrap_or(LoadFault::Create(status::ERR)))
}
