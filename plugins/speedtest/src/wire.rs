//! What a connection's bytes go through: nothing, or TLS in the way of nodes. A plugin has no key: whoever measures is a
//! stranger to the peer, and the peer proves that it is the node that was meant.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gx_core::measurement::Target;
use gx_identity::tls::{ClientStream, Connector, WrongNode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::fault::Fault;

/// What may wait to be sent, at first and at most. What waits when an upload is over is still to arrive: on a slow link all
/// that the kernel takes (`tcp_wmem`) would be seconds of it.
const BACKLOG: (u32, u32) = (4 << 10, 4 << 20);
/// So many backlogs in less than so long are too fast for it: the link would wait for more.
const BACKLOGS: u64 = 4;
const TOO_FAST: Duration = Duration::from_millis(40);
/// What of it may be enciphered already.
const ENCIPHERED: u32 = 64 << 10;

/// A connection's bytes.
pub(crate) struct Wire {
    stream: Stream,
    backlog: Backlog,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<ClientStream<TcpStream>>),
}

impl Wire {
    /// Shakes hands, where the peer speaks TLS; without a node that is expected, with whoever is there.
    pub(crate) async fn new(stream: TcpStream, target: &Target) -> Result<Self, Fault> {
        let stream = match target.plain {
            true => Stream::Plain(stream),
            false => {
                let connector =
                    target.node_id.map_or_else(Connector::to_anybody, Connector::to_node_as_nobody);
                match connector.connect(stream).await {
                    Ok((stream, _)) => Stream::Tls(Box::new(stream)),
                    Err(error) => {
                        return Err(WrongNode::behind(&error).map_or(Fault::Handshake(error), Fault::Other));
                    }
                }
            }
        };
        let mut wire = Self { stream, backlog: Backlog::new(Instant::now()) };
        wire.bound(BACKLOG.0);
        Ok(wire)
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Bounds what may wait to be sent.
    fn bound(&mut self, bytes: u32) {
        let tcp = match &mut self.stream {
            Stream::Plain(tcp) => &*tcp,
            Stream::Tls(stream) => {
                let (tcp, session) = stream.get_mut();
                session.set_buffer_limit(Some(bytes.min(ENCIPHERED) as usize));
                &*tcp
            }
        };
        // Where the kernel does not know how, more waits, and the end of an upload takes longer.
        let _ = SockRef::from(tcp).set_tcp_notsent_lowat(bytes);
    }
}

/// How much may wait to be sent: little, unless the link takes it away fast.
#[derive(Debug)]
struct Backlog {
    bytes: u32,
    /// What was sent since when.
    sent: u64,
    since: Instant,
}

impl Backlog {
    fn new(now: Instant) -> Self {
        Self { bytes: BACKLOG.0, sent: 0, since: now }
    }

    /// Counts what was sent; returns how much may wait from now on, where that is more than before.
    fn sent(&mut self, bytes: usize, now: Instant) -> Option<u32> {
        self.sent += bytes as u64;
        if self.sent < BACKLOGS * u64::from(self.bytes) {
            return None;
        }
        let is_fast = now.saturating_duration_since(self.since) < TOO_FAST;
        (self.sent, self.since) = (0, now);
        let more = (self.bytes * 2).min(BACKLOG.1);
        (is_fast && more > self.bytes).then(|| {
            self.bytes = more;
            more
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let wrote = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        if let Poll::Ready(Ok(bytes)) = wrote
            && let Some(more) = wire.backlog.sent(bytes, Instant::now())
        {
            wire.bound(more);
        }
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at a rate for ten seconds, and returns how much may wait then.
    fn after(bytes_per_ms: u64) -> u32 {
        let begin = Instant::now();
        let mut backlog = Backlog::new(begin);
        for ms in 0..10_000 {
            backlog.sent(bytes_per_ms as usize, begin + Duration::from_millis(ms));
        }
        backlog.bytes
    }

    #[test]
    fn what_waits_is_a_moment_of_the_link() {
        assert_eq!(after(0), BACKLOG.0);
        assert_eq!(after(312), BACKLOG.0, "a stream of 2.5 Mbit/s");
        for bytes_per_ms in [3_000, 30_000, 100_000] {
            let ms = f64::from(after(bytes_per_ms)) / bytes_per_ms as f64;
            assert!((9.0..=20.0).contains(&ms), "{ms} ms of {bytes_per_ms} bytes a ms");
        }
        assert_eq!(after(1_000_000), BACKLOG.1);
    }

    #[test]
    fn it_does_not_grow_by_a_burst_after_silence() {
        let begin = Instant::now();
        let mut backlog = Backlog::new(begin);
        let later = begin + Duration::from_secs(1);
        assert_eq!(backlog.sent(4 * BACKLOG.0 as usize, later), None);
        assert_eq!(backlog.sent(4 * BACKLOG.0 as usize, later), Some(2 * BACKLOG.0));
    }
}
