//! The sending end of the socket between host and child.
//!
//! The child blocks: a slow host stops it. The host never does: what the socket does not take at once waits in a
//! bounded queue for a thread, so that a stopped child blocks no worker of the host.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::frame::Head;

/// How many bytes may wait for a child that does not read.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// The host's sending end.
pub(crate) struct Outgoing {
    socket: Arc<OwnedFd>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    writer: bool,
    closed: bool,
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The child is gone.
    Closed,
    /// The child has not read for long.
    Full,
}

impl Outgoing {
    pub(crate) fn new(socket: Arc<OwnedFd>) -> Arc<Self> {
        Arc::new(Self { socket, queue: Mutex::default() })
    }

    /// Sends a frame, or leaves it for the writing thread. Never blocks.
    pub(crate) fn send(self: &Arc<Self>, head: Head, body: &[u8]) -> Result<(), NotSent> {
        let head = head.encode(body.len());
        let mut queue = self.lock();
        if queue.closed {
            return Err(NotSent::Closed);
        }
        let sent = if queue.writer { 0 } else { self.try_send(&head, body)? };
        let length = head.len() + body.len();
        if sent == length {
            return Ok(());
        }
        if queue.bytes + length > QUEUE_BYTES {
            return Err(NotSent::Full);
        }
        let rest = [&head[sent.min(head.len())..], &body[sent.saturating_sub(head.len())..]].concat();
        queue.bytes += rest.len();
        queue.waiting.push_back(rest);
        if !std::mem::replace(&mut queue.writer, true) {
            let outgoing = self.clone();
            std::thread::spawn(move || outgoing.write_queue());
        }
        Ok(())
    }

    /// Lets nothing out any more.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.waiting.clear();
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }

    fn try_send(&self, head: &[u8], body: &[u8]) -> Result<usize, NotSent> {
        match send_some(&self.socket, head, body, SendFlags::DONTWAIT) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(NotSent::Closed),
        }
    }

    /// Writes what waits, blocking, and ends when nothing is left.
    fn write_queue(&self) {
        loop {
            let mut queue = self.lock();
            let Some(next) = queue.waiting.pop_front() else {
                queue.writer = false;
                return;
            };
            queue.bytes -= next.len();
            drop(queue);
            if send_all(&self.socket, &next, &[]).is_err() {
                self.lock().closed = true;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a whole frame, blocking.
pub(crate) fn send_frame(socket: &OwnedFd, head: Head, body: &[u8]) -> io::Result<()> {
    send_all(socket, &head.encode(body.len()), body)
}

fn send_all(socket: &OwnedFd, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    while !first.is_empty() || !second.is_empty() {
        let sent = match send_some(socket, first, second, SendFlags::empty()) {
            Ok(sent) => sent,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let of_first = sent.min(first.len());
        first = &first[of_first..];
        second = &second[sent - of_first..];
    }
    Ok(())
}

fn send_some(socket: &OwnedFd, first: &[u8], second: &[u8], flags: SendFlags) -> Result<usize, Errno> {
    let pieces = [IoSlice::new(first), IoSlice::new(second)];
    sendmsg(socket, &pieces, &mut SendAncillaryBuffer::default(), flags | SendFlags::NOSIGNAL)
}
