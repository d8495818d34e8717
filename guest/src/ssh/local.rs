//! Forwarded sockets: `ssh -L PORT:/PATH` and `ssh -R /PATH:…` (OpenSSH's PROTOCOL, section 2.4), and that of the client's
//! agent where it lends it, `ssh -A` (draft-ietf-sshm-ssh-agent, section 6).
//!
//! The guest is root, and files of sockets have owners: they are opened and made on a thread that has become the user.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use russh::Channel;
use russh::server::{Handle, Msg};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use super::forward::carry;
use super::session::Visitor;
use crate::account::Account;
use crate::launch::become_user;

/// Where the folders of lent agents are, one each: only their users may look into them.
const AGENTS: &str = "/tmp";
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
    let made = Made { path: path.clone(), folder: None, account: visitor.account.clone() };
    let listener = as_user(&visitor.account, move || private(&path)).await?;
    Ok((UnixListener::from_std(listener)?, made))
}

/// Listens for the client's agent, in a folder of the user's alone.
///
/// # Errors
/// What the system says, as where the image has no `/tmp`.
pub(super) async fn lend(visitor: &Visitor) -> io::Result<(UnixListener, Made)> {
    let mut name = [0; 8];
    SystemRandom::new().fill(&mut name).map_err(|_| io::Error::other("no random numbers"))?;
    let folder = Path::new(AGENTS).join(format!("gx-agent-{:016x}", u64::from_ne_bytes(name)));
    let path = folder.join("agent");
    let made = Made { path: path.clone(), folder: Some(folder.clone()), account: visitor.account.clone() };
    let listener = as_user(&visitor.account, move || {
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        private(&path)
    });
    Ok((UnixListener::from_std(listener.await?)?, made))
}

/// Where the client leads a connection.
#[derive(Debug, Clone)]
pub(super) enum To {
    /// To what it named with this socket.
    Socket(String),
    /// To its agent.
    Agent,
}

impl To {
    async fn open(self, handle: &Handle) -> Result<Channel<Msg>, russh::Error> {
        match self {
            Self::Socket(path) => handle.channel_open_forwarded_streamlocal(path).await,
            Self::Agent => handle.channel_open_agent().await,
        }
    }
}

/// Opens a channel for each connection to a socket the client listens on.
pub(super) async fn hand_back(visitor: Visitor, listener: UnixListener, made: Made, to: To, handle: Handle) {
    let _made = made;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = visitor.places.clone().try_acquire_owned() else { continue };
        let (visitor, to, handle) = (visitor.clone(), to.clone(), handle.clone());
        tokio::spawn(async move {
            if let Ok(channel) = to.open(&handle).await {
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
    /// The folder it is alone in.
    folder: Option<PathBuf>,
    account: Account,
}

impl Made {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let (path, account) = (std::mem::take(&mut self.path), self.account.clone());
        let folder = self.folder.take();
        // Nobody waits for it; as the user, so that nothing else goes that has come in its place.
        std::thread::spawn(move || {
            become_user(&account)?;
            std::fs::remove_file(path)?;
            folder.map_or(Ok(()), std::fs::remove_dir)
        });
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
