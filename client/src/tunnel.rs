//! A connection to a service of a container, through its host.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use gx_core::api::Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::socket::Wire;
use crate::{Client, IDLE, Result};

/// The longest message that is sent, in bytes.
const PIECE: usize = 64 * 1024;

impl Client {
    /// Connects to a service of a container, through the host.
    ///
    /// # Errors
    /// Any [`ClientError`](crate::ClientError).
    pub async fn tunnel(&self, reference: &str, service: Service) -> Result<Tunnel> {
        let socket = self.open_socket(reference, service.as_str()).await?;
        let deadline = Box::pin(tokio::time::sleep(IDLE));
        Ok(Tunnel { socket, unread: Bytes::new(), ended: false, deadline })
    }
}

/// A connection to a service of a container.
///
/// What is written is on its way after a flush. There is no half of an end: a shutdown of the writing side ends the
/// connection. Reading fails when the host breaks it off, with the reason, or gives no sign of life.
pub struct Tunnel {
    socket: WebSocketStream<Box<dyn Wire>>,
    /// The rest of a message.
    unread: Bytes,
    ended: bool,
    /// When the host has been silent for too long.
    deadline: Pin<Box<Sleep>>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Waits until there is something to read, or the end.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !self.ended {
            let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(context) else {
                ready!(self.deadline.as_mut().poll(context));
                return Poll::Ready(Err(silent()));
            };
            self.deadline.as_mut().reset(Instant::now() + IDLE);
            match message {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Close(frame))) => {
                    self.ended = true;
                    told(frame)?;
                }
                Some(Ok(_)) => {} // a ping is answered by the library; it is a sign of life
                Some(Err(Error::ConnectionClosed)) => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_message(context))?;
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(lost)?;
        let piece = &bytes[..bytes.len().min(PIECE)];
        let message = Message::Binary(Bytes::copy_from_slice(piece));
        Pin::new(&mut self.socket).start_send(message).map_err(lost)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(lost)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(lost)
    }
}

/// Tells why the host has ended the connection, where it is not that the service has.
fn told(frame: Option<CloseFrame>) -> io::Result<()> {
    match frame {
        Some(frame) if frame.code != CloseCode::Normal => {
            let reason: String = frame.reason.chars().filter(|letter| !letter.is_control()).collect();
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
        }
        _ => Ok(()),
    }
}

fn silent() -> io::Error {
    let text = format!("the host gave no sign of life for {} s", IDLE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn lost(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
