//! Forwarded sockets: `ssh -L PORT:/PATH` and `ssh -R /PATH:…` (OpenSSH's PROTOCOL, section 2.4).
//!
//! The guest is root, and files of sockets have owners: they are opened and made on a thread that has become the user.

use std::io;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::server::Handle;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use super::forward::carry;
use super::session::Visitor;
use crate::account::Account;
use crate::launch::become_user;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Connects to a socket as the user.
///
/// # Errors
/// What the system says; a path must be absolute.
pub(super) async fn connect(visitor: &Visitor, path: &str) -> io::Result<UnixStream> {
    let path = absolute(path)?;
    let stream = as_user(&visitor.account, move || StdStream::connect(path)).await?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Listens at a path as the user, for the user alone. What is there already stays, and is an error.
///
/// # Errors
/// What the system says; a path must be absolute.
pub(super) async fn listen(visitor: &Visitor, path: &str) -> io::Result<(UnixListener, Made)> {
    let path = absolute(path)?;
    let made = Made { path: path.clone(), account: visitor.account.clone() };
    let listener = as_user(&visitor.account, move || private(&path)).await?;
    Ok((UnixListener::from_std(listener)?, made))
}

/// Opens a channel for each connection to a socket the client listens on.
pub(super) async fn hand_back(
    visitor: Visitor,
    listener: UnixListener,
    made: Made,
    asked: String,
    handle: Handle,
) {
    let _made = made;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = visitor.places.clone().try_acquire_owned() else { continue };
        let (visitor, asked, handle) = (visitor.clone(), asked.clone(), handle.clone());
        tokio::spawn(async move {
            if let Ok(channel) = handle.channel_open_forwarded_streamlocal(asked).await {
                visitor.flow.open(channel.id());
                carry(&visitor, channel, stream.into_split()).await;
            }
            drop(place);
        });
    }
}

/// A socket's file, which goes with whoever listens there.
pub(super) struct Made {
    path: PathBuf,
    account: Account,
}

impl Drop for Made {
    fn drop(&mut self) {
        let (path, account) = (std::mem::take(&mut self.path), self.account.clone());
        // Nobody waits for it; as the user, so that nothing else goes that has come in its place.
        std::thread::spawn(move || become_user(&account).and_then(|()| std::fs::remove_file(path)));
    }
}

fn absolute(path: &str) -> io::Result<PathBuf> {
    let path = Path::new(path);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Linux gives the file the mode of the socket it is bound to, so that nobody gets in between.
fn private(path: &Path) -> io::Result<StdListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Does something on a thread of its own that has become the user.
async fn as_user<T: Send + 'static>(
    account: &Account,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let account = account.clone();
    let (tell, told) = tokio::sync::oneshot::channel();
    let done = move || drop(tell.send(become_user(&account).and_then(|()| work())));
    std::thread::Builder::new().spawn(done)?;
    told.await.map_err(io::Error::other)?
}
