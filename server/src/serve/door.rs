//! The door: who comes in, and who they are. TLS is spoken here and nowhere else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gx_identity::tls::{Acceptor, HANDSHAKE};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::crowd::{Crowd, Full, Group, Place};
use crate::node::{Caller, Identity, Node};
use crate::routes::Connection;

/// When a silent peer is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, who has come without TLS is listened to, so that they come to read the answer.
const FAREWELL: Duration = Duration::from_secs(1);
const MAX_DRAIN_BYTES: u64 = 64 * 1024;

/// What is told to who speaks HTTP without TLS.
const SPEAK_TLS: &str = "this port speaks TLS: use gx, or https and a client that does not ask who signed the \
                         host's certificate\n";

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who is let in, and as whom.
#[derive(Debug)]
pub(crate) enum Door {
    /// With TLS: who has a key is known by it.
    Tls {
        /// Shakes hands.
        acceptor: Acceptor,
        /// Knows whom the host lends to.
        node: Arc<Node>,
    },
    /// Without TLS: everybody is this.
    Plain(Identity),
}

/// Somebody who is in.
pub(super) struct Guest {
    pub(super) stream: Box<dyn Stream>,
    pub(super) connection: Arc<Connection>,
    pub(super) place: Place,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it speaks HTTP without TLS")]
    NoTls,
    #[error("there are too many connections")]
    Full,
    #[error("its place was given to another")]
    Replaced,
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl Door {
    /// Lets somebody in who has just connected.
    pub(super) async fn enter(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        crowd: &Arc<Crowd>,
    ) -> Result<Guest, Refusal> {
        prepare(&stream)?;
        let connection = |identity| Connection::new(identity, Some(peer));
        match self {
            Self::Plain(identity) => {
                let group = match identity {
                    Identity::ThisMachine => Group::ThisMachine,
                    Identity::Key(_) | Identity::Unknown => Group::strangers(peer.ip()),
                };
                let place = crowd.join(group)?;
                Ok(Guest { stream: Box::new(stream), connection: connection(*identity), place })
            }
            Self::Tls { acceptor, node } => {
                let from = Group::strangers(peer.ip());
                let place = crowd.join(from)?;
                let shaken = tokio::select! {
                    shaken = shake_hands(acceptor, stream, crowd.turn(from)) => shaken?,
                    () = place.lost() => return Err(Refusal::Replaced),
                };
                let (stream, identity) = shaken;
                node.refresh_members(); // where the kernel has failed to tell of a change
                if let Identity::Key(id) = identity
                    && !matches!(node.caller(identity), Caller::Stranger(_))
                {
                    crowd.known(from);
                    place.prove(Group::Node(id))?;
                }
                Ok(Guest { stream, connection: connection(identity), place })
            }
        }
    }
}

async fn shake_hands(
    acceptor: &Acceptor,
    mut stream: TcpStream,
    turn: impl Future<Output = Result<(), Full>>,
) -> Result<(Box<dyn Stream>, Identity), Refusal> {
    let mut first = [0];
    let seen = tokio::time::timeout(HANDSHAKE, stream.peek(&mut first)).await;
    let seen = seen.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // A handshake begins with 22 (RFC 8446, section 5.1), and a request of HTTP with a letter.
    if seen > 0 && first[0].is_ascii_alphabetic() {
        let _ = tokio::time::timeout(FAREWELL, turn_away(&mut stream)).await;
        return Err(Refusal::NoTls);
    }
    turn.await?; // it costs something from here on
    let (stream, node) = acceptor.accept(stream).await?;
    Ok((Box::new(stream), node.map_or(Identity::Unknown, Identity::Key)))
}

async fn turn_away(stream: &mut TcpStream) -> io::Result<()> {
    let length = SPEAK_TLS.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n\
         {SPEAK_TLS}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_DRAIN_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(())
}
