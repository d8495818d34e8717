//! What a connection's bytes go through: nothing, or TLS in the way of nodes. A plugin has no key: whoever measures is a
//! stranger to the peer, and the peer proves that it is the node that was meant.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use gx_core::measurement::Target;
use gx_identity::tls::{ClientStream, Connector, WrongNode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::fault::Fault;

/// A connection's bytes.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<ClientStream<TcpStream>>),
}

impl Wire {
    /// Shakes hands, where the peer speaks TLS; without a node that is expected, with whoever is there.
    pub(crate) async fn new(stream: TcpStream, target: &Target) -> Result<Self, Fault> {
        if target.plain {
            return Ok(Self::Plain(stream));
        }
        let connector = target.node_id.map_or_else(Connector::to_anybody, Connector::to_node_as_nobody);
        match connector.connect(stream).await {
            Ok((stream, _)) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => Err(WrongNode::behind(&error).map_or(Fault::Handshake(error), Fault::Other)),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
