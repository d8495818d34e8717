//! Forwarded ports: from the client to the container's network (`ssh -L`), and back (`ssh -R`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use russh::Channel;
use russh::server::{Handle, Msg};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::channel::{Inlet, Outlet};
use super::session::Visitor;

/// How long a connection to a port may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to a port as the container sees it.
///
/// # Errors
/// The last address's error, or that there is none by this name.
pub(super) async fn connect(visitor: &Visitor, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = crate::resolve::addresses(&visitor.guest.place, host).await;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address by this name");
    for address in addresses {
        match tokio::time::timeout(PATIENCE, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Returns both halves of a connection that sends what it is given at once.
pub(super) fn halves(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let _ = stream.set_nodelay(true);
    stream.into_split()
}

/// Carries bytes between a channel and a connection until both directions have ended.
pub(super) async fn carry<R, W>(visitor: &Visitor, channel: Channel<Msg>, (source, sink): (R, W))
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let id = channel.id();
    let (read, write) = channel.split();
    let mut inlet = Inlet::new(read, id, visitor.flow.clone());
    let idle = AtomicBool::new(false);
    let outlet = Outlet { write: &write, flow: &visitor.flow, extended: None, idle: &idle };
    let out = async {
        outlet.drain(source).await;
        let _ = write.eof().await;
    };
    let (tell, shut) = tokio::sync::oneshot::channel();
    let feed = inlet.feed(Telling { sink, tell: Some(tell) }, |_| {});
    tokio::select! {
        rest = feed => {
            if let Some((mut sink, queue)) = rest {
                // The client has closed behind its last bytes: they are still to be handed over.
                let all = async {
                    for bytes in queue {
                        sink.write_all(&bytes).await?;
                    }
                    sink.shutdown().await
                };
                let _ = tokio::time::timeout(PATIENCE, all).await;
            }
        }
        () = async { tokio::join!(out, async { drop(shut.await) }); } => {}
    }
    let _ = write.close().await;
}

/// A sink that tells when nothing more will be written to it.
struct Telling<W> {
    sink: W,
    #[expect(dead_code, reason = "dropping it is what tells")]
    tell: Option<tokio::sync::oneshot::Sender<()>>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Telling<W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.sink).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.sink).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.sink).poll_shutdown(context)
    }
}

/// Listens for a client (`ssh -R`), where it says: on loopback, or on every address when it asks for that.
///
/// # Errors
/// What the system says; ports below 1024 are root's.
pub(super) async fn listen(visitor: &Visitor, address: &str, port: u16) -> io::Result<TcpListener> {
    if port != 0 && port < 1024 && visitor.account.uid != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let wanted: IpAddr = match address {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        "" | "*" => Ipv6Addr::UNSPECIFIED.into(),
        literal => literal.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
    };
    match TcpListener::bind((wanted, port)).await {
        Err(_) if wanted == IpAddr::from(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Opens a channel for each connection to a port the client listens on.
pub(super) async fn hand_back(visitor: Visitor, listener: TcpListener, asked: (String, u32), handle: Handle) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // No place, no channel: the connection is closed.
        let Ok(place) = visitor.places.clone().try_acquire_owned() else { continue };
        let (visitor, asked, handle) = (visitor.clone(), asked.clone(), handle.clone());
        tokio::spawn(async move {
            let origin = from.ip().to_canonical().to_string();
            let opened =
                handle.channel_open_forwarded_tcpip(asked.0, asked.1, origin, from.port().into()).await;
            if let Ok(channel) = opened {
                visitor.flow.open(channel.id());
                carry(&visitor, channel, halves(stream)).await;
            }
            drop(place);
        });
    }
}
