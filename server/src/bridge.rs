//! A WebSocket and a stream of bytes, joined: what comes in binary messages goes on as bytes, and the other way round.
//!
//! Nothing is held but one piece in each direction, so that whoever is slow makes the other side wait. There is no half
//! of an end: when either side ends, both do.

use std::fmt::Display;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warp::ws::Message;

/// The longest message that is taken, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The longest message that is sent, in bytes.
const PIECE: usize = 64 * 1024;
/// How long the other side of a WebSocket may take for the last messages.
const CLOSE: Duration = Duration::from_secs(5);

/// How the other side of a WebSocket is asked for signs of life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    /// Asked after so long without anything to send.
    pub(crate) every: Duration,
    /// Given up when nothing has come for so long after it was asked.
    pub(crate) patience: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), patience: Duration::from_secs(60) }
    }
}

/// Why a bridge is cut, as the other side of the WebSocket is told (RFC 6455, section 7.4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    code: u16,
    reason: &'static str,
}

impl Cut {
    /// The server is asked to end.
    pub(crate) const CLOSING: Self = Self { code: 1001, reason: "the host is shutting down" };
    /// The caller is a member no longer.
    pub(crate) const DISMISSED: Self = Self { code: 1008, reason: "the host lends to you no longer" };
}

/// Why a bridge ends.
enum End {
    /// The stream has.
    Stream,
    /// The stream broke.
    Broken(io::Error),
    /// The WebSocket has.
    Socket,
    /// A message was not binary.
    NotBinary,
    /// The other side of the WebSocket gives no sign of life.
    Silent,
    /// It is cut.
    Cut(Cut),
}

impl End {
    /// Returns what the other side of the WebSocket is told (RFC 6455, section 7.4), unless it said so first.
    fn close(&self) -> Option<Message> {
        Some(match self {
            Self::Stream => Message::close_with(1000_u16, "the other side has ended"),
            Self::Broken(_) => Message::close_with(1011_u16, "the connection to the other side broke"),
            Self::Socket => return None,
            Self::NotBinary => Message::close_with(1003_u16, "only binary messages are taken"),
            Self::Silent => Message::close_with(1001_u16, "there was no sign of life"),
            Self::Cut(cut) => Message::close_with(cut.code, cut.reason),
        })
    }
}

/// When a sign of life was asked for that has not come yet.
#[derive(Default)]
struct Asked(Mutex<Option<Instant>>);

impl Asked {
    fn ask(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn since(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|asked| asked.elapsed())
    }
}

/// Joins a WebSocket and a stream until either ends or `cut` is done.
pub(crate) async fn bridge<E: Display>(
    socket: impl Stream<Item = Result<Message, E>> + Sink<Message, Error = E>,
    stream: impl AsyncRead + AsyncWrite,
    cut: impl Future<Output = Cut>,
    pulse: Pulse,
) {
    let (mut sink, mut messages) = socket.split();
    let (reader, writer) = tokio::io::split(stream);
    let asked = Asked::default();
    let end = tokio::select! {
        end = send(&mut sink, reader, &asked, pulse) => end,
        end = receive(&mut messages, writer, &asked, pulse) => end,
        cut = cut => End::Cut(cut),
    };
    if let End::Broken(error) = &end {
        tracing::debug!(%error, "the stream behind a WebSocket broke");
    }
    let last = async {
        let closed = match end.close() {
            Some(close) => sink.send(close).await,
            None => sink.close().await,
        };
        if closed.is_ok() {
            // What is not read when a socket is closed takes with it what is still on its way to the other side.
            while let Some(Ok(_)) = messages.next().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE, last).await;
}

async fn send<E: Display>(
    sink: &mut (impl Sink<Message, Error = E> + Unpin),
    mut reader: impl AsyncRead + Unpin,
    asked: &Asked,
    pulse: Pulse,
) -> End {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let mut piece = (&mut reader).take(PIECE as u64);
        let message = match tokio::time::timeout(pulse.every, piece.read_buf(&mut buffer)).await {
            Err(_) => Message::ping(Bytes::new()),
            Ok(Ok(0)) => return End::Stream,
            Ok(Ok(_)) => Message::binary(buffer.split().freeze()),
            Ok(Err(error)) => return End::Broken(error),
        };
        let asks = message.is_ping();
        if let Err(error) = sink.send(message).await {
            tracing::debug!(%error, "the other side of a WebSocket is gone");
            return End::Socket;
        }
        if asks {
            asked.ask();
        }
    }
}

async fn receive<E: Display>(
    messages: &mut (impl Stream<Item = Result<Message, E>> + Unpin),
    mut writer: impl AsyncWrite + Unpin,
    asked: &Asked,
    pulse: Pulse,
) -> End {
    loop {
        let message = match tokio::time::timeout(pulse.every, messages.next()).await {
            Err(_) if asked.since().is_some_and(|since| since > pulse.patience) => return End::Silent,
            Err(_) => continue,
            Ok(Some(Ok(message))) if !message.is_close() => message,
            Ok(_) => break,
        };
        asked.answered();
        if message.is_text() {
            return End::NotBinary;
        }
        if message.is_binary()
            && let Err(error) = writer.write_all(&message.into_bytes()).await
        {
            return End::Broken(error);
        }
    }
    let _ = writer.shutdown().await;
    End::Socket
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::sync::mpsc;

    use super::*;

    /// A WebSocket whose other side takes everything and says nothing.
    struct Mute(mpsc::UnboundedSender<Message>);

    impl Stream for Mute {
        type Item = Result<Message, Infallible>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }

    impl Sink<Message> for Mute {
        type Error = Infallible;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
            let _ = self.0.send(message);
            Ok(())
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_answers_no_ping_is_given_up() {
        let (sender, mut sent) = mpsc::unbounded_channel();
        let (_far, near) = tokio::io::duplex(64);
        let pulse = Pulse { every: Duration::from_millis(5), patience: Duration::from_millis(20) };
        let bridging = tokio::spawn(bridge(Mute(sender), near, std::future::pending(), pulse));
        assert!(sent.recv().await.unwrap().is_ping());
        loop {
            let message = sent.recv().await.unwrap();
            if let Some((code, reason)) = message.close_frame() {
                assert_eq!((code, reason), (1001, "there was no sign of life"));
                break;
            }
        }
        bridging.abort();
    }
}
