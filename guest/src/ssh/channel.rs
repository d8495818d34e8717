//! Bytes between a channel and a file descriptor, in both directions.

#![expect(unsafe_code, reason = "a file descriptor is promised to stay")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use russh::server::Msg;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::flow::Flow;

/// What is read at once: a packet's worth.
const PIECE: usize = 32 << 10;

/// An end of a pipe or terminal. Its clones are the same end.
#[derive(Debug, Clone)]
pub(super) struct Pipe(Arc<AsyncFd<OwnedFd>>);

impl Pipe {
    /// Takes over a file descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: nobody but the clones of this pipe has the file descriptor, and none takes it out again.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(Arc::new(registered.map_err(io::Error::from)?)))
    }

    /// The file descriptor itself.
    pub(super) fn fd(&self) -> &OwnedFd {
        self.0.get_ref()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let read =
                |fd: &AsyncFd<OwnedFd>| Ok(rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())?);
            match guard.try_io(read) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a channel receives, counted by the connection's flow until it is taken.
#[derive(Debug)]
pub(super) struct Inlet {
    read: ChannelReadHalf,
    channel: ChannelId,
    flow: Arc<Flow>,
}

impl Inlet {
    /// Takes what comes in on a channel that the flow counts for already.
    pub(super) fn new(read: ChannelReadHalf, channel: ChannelId, flow: Arc<Flow>) -> Self {
        Self { read, channel, flow }
    }

    /// Writes what comes in to the sink, tells the rest to `other`, and returns when the channel or the connection is
    /// closed: the sink and what is not written to it yet, if there is any. The sink is shut down at the end of the
    /// input.
    pub(super) async fn feed<W: AsyncWrite + Unpin>(
        &mut self,
        sink: W,
        mut other: impl FnMut(ChannelMsg),
    ) -> Option<(W, VecDeque<Bytes>)> {
        let mut sink = Some(sink);
        let mut queue: VecDeque<Bytes> = VecDeque::new();
        let mut first_len = 0;
        let mut at_end = false;
        loop {
            if first_len == 0
                && let Some(first) = queue.front()
            {
                first_len = first.len();
            }
            let write = async {
                match (&mut sink, queue.front()) {
                    (Some(sink), Some(first)) => sink.write(first).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                written = write => match written {
                    Ok(count) => {
                        let first = queue.front_mut().expect("what was written is there");
                        first.advance(count);
                        if first.is_empty() {
                            queue.pop_front();
                            self.flow.taken(self.channel, std::mem::take(&mut first_len));
                        }
                    }
                    Err(_) => {
                        sink = None;
                        // The first is counted whole until it is gone.
                        self.drop_all(&mut queue, std::mem::take(&mut first_len));
                    }
                },
                message = self.read.wait() => match message {
                    None | Some(ChannelMsg::Close) => return sink.zip(Some(queue)),
                    Some(ChannelMsg::Data { data }) if sink.is_some() && !data.is_empty() => queue.push_back(data),
                    Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                        self.flow.taken(self.channel, data.len());
                    }
                    Some(ChannelMsg::Eof) => at_end = true,
                    Some(message) => other(message),
                },
            }
            if at_end
                && queue.is_empty()
                && let Some(mut sink) = sink.take()
            {
                let _ = sink.shutdown().await;
            }
        }
    }

    fn drop_all(&self, queue: &mut VecDeque<Bytes>, first_len: usize) {
        for (at, bytes) in queue.drain(..).enumerate() {
            self.flow.taken(self.channel, if at == 0 { first_len.max(bytes.len()) } else { bytes.len() });
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.flow.close(self.channel);
    }
}

/// What a channel sends.
#[derive(Debug)]
pub(super) struct Outlet<'a> {
    pub(super) write: &'a ChannelWriteHalf<Msg>,
    pub(super) flow: &'a Arc<Flow>,
    /// The kind of data beside the ordinary: 1 is standard error (RFC 4254, section 5.2).
    pub(super) extended: Option<u32>,
    /// Set while there is nothing to send.
    pub(super) idle: &'a AtomicBool,
}

impl Outlet<'_> {
    /// Sends what the source has until its end, or until nobody takes it.
    pub(super) async fn drain<R: AsyncRead + Unpin>(&self, mut source: R) {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            self.idle.store(true, Ordering::Relaxed);
            // A terminal whose processes are gone has an error instead of an end.
            let read = source.read_buf(&mut piece).await;
            self.idle.store(false, Ordering::Relaxed);
            if !matches!(read, Ok(1..)) || self.send(piece.freeze()).await.is_err() {
                return;
            }
        }
    }

    async fn send(&self, mut piece: Bytes) -> Result<(), russh::Error> {
        while !piece.is_empty() {
            let room = self.write.writable_packet_size().await.min(piece.len());
            let _stuck = (room == 0).then(|| self.flow.stuck());
            let part = piece.split_to(if room == 0 { piece.len() } else { room });
            match self.extended {
                None => self.write.data_bytes(part).await?,
                Some(kind) => self.write.extended_data_bytes(kind, part).await?,
            }
        }
        Ok(())
    }
}
