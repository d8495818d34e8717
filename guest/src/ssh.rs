//! The SSH server: who may connect, how many, how long.

mod auth;
mod channel;
mod connection;
mod flow;
mod forward;
mod local;
mod session;
mod terminal;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gx_core::guest::Credentials;
use russh::keys::PrivateKey;
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use self::connection::Connection;
use self::flow::{Flow, Line};
use crate::account::{Account, Accounts, Unknown};
use crate::backoff::Backoff;
use crate::launch::Environment;
use crate::place::Place;
use crate::reaper::Reaper;
use crate::say;
use crate::status::Sessions;
use crate::vault::Vault;

/// So many connections may be without a login; one more cuts off the oldest of them, so that those who say nothing
/// keep nobody out.
const STRANGERS: usize = 1024;
/// So many connections there may be at all.
const CONNECTIONS: usize = 4096;
/// So many may wait to be accepted: of a crowd that does not fit, some would take themselves for connected and hear
/// nothing for a minute.
const BACKLOG: u32 = 4096;

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) place: Place,
    /// The container's environment.
    pub(crate) environment: Environment,
    pub(crate) reaper: Reaper,
    /// This program, to be started again in another's name.
    pub(crate) program: PathBuf,
    vault: Mutex<Vault>,
    backoff: Mutex<Backoff>,
    sessions: Mutex<Sessions>,
    strangers: Mutex<VecDeque<Arc<Flow>>>,
    /// How often the desktop's password was changed.
    renewed: watch::Sender<u64>,
}

impl Guest {
    /// Returns a guest nobody is connected to.
    pub(crate) fn new(place: Place, vault: Vault, environment: Environment, reaper: Reaper) -> Self {
        Self {
            place,
            environment,
            reaper,
            program: std::env::current_exe().unwrap_or_else(|_| gx_core::guest::PROGRAM.into()),
            vault: Mutex::new(vault),
            backoff: Mutex::default(),
            sessions: Mutex::default(),
            strangers: Mutex::default(),
            renewed: watch::Sender::default(),
        }
    }

    /// Takes in new credentials.
    ///
    /// # Errors
    /// As [`Vault::apply`].
    pub(crate) fn apply(&self, credentials: Credentials) -> io::Result<()> {
        let renews = credentials.vnc_password.is_some();
        let applied = self.vault().apply(&self.place, credentials);
        if renews {
            self.renewed.send_modify(|count| *count += 1);
        }
        applied
    }

    /// Whether the passwords are others than the first.
    pub(crate) fn is_changed(&self) -> bool {
        self.vault().changed()
    }

    /// Changes with the desktop's password.
    pub(crate) fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// Whom the container runs as.
    ///
    /// # Errors
    /// [`Unknown`] when the image has no such user.
    pub(crate) fn own_account(&self) -> Result<Account, Unknown> {
        Accounts::read(&self.place).resolve(self.vault().user())
    }

    /// The connections that are logged in.
    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vault(&self) -> MutexGuard<'_, Vault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strangers(&self) -> MutexGuard<'_, VecDeque<Arc<Flow>>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection among those without a login.
    fn admit(&self, flow: &Arc<Flow>) {
        let mut strangers = self.strangers();
        strangers.push_back(flow.clone());
        if strangers.len() > STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.cut();
        }
    }

    /// A connection has logged in, or is gone.
    fn no_stranger(&self, flow: &Arc<Flow>) {
        self.strangers().retain(|other| !Arc::ptr_eq(other, flow));
    }
}

/// Listens, if the guest was ever told a host key.
pub(crate) fn serve(guest: &Arc<Guest>) {
    let Some(key) = guest.vault().host_key() else { return };
    let config = Arc::new(config(key));
    let guest = guest.clone();
    tokio::spawn(async move {
        match listen(guest.place.port) {
            Ok(listener) => accept(listener, config, guest).await,
            Err(error) => say::line(format_args!("no SSH on port {}: {error}", guest.place.port)),
        }
    });
}

/// Listens on every address; without IPv6 on those of IPv4.
fn listen(port: u16) -> io::Result<TcpListener> {
    match bind(TcpSocket::new_v6(), (Ipv6Addr::UNSPECIFIED, port).into()) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => bind(TcpSocket::new_v4(), (Ipv4Addr::UNSPECIFIED, port).into()),
    }
}

fn bind(socket: io::Result<TcpSocket>, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn config(key: PrivateKey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-gx_", env!("CARGO_PKG_VERSION")))),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]),
        // Wrong passwords wait in line by address, and wrong keys need not wait.
        auth_rejection_time: Duration::ZERO,
        keys: vec![key],
        // As OpenSSH's: enough for a fast line far away.
        window_size: 2 << 20,
        maximum_packet_size: 32 << 10,
        // A full channel would stop the whole connection; what waits is counted and bounded by `flow`.
        channel_buffer_size: 1 << 20,
        event_buffer_size: 32,
        max_auth_attempts: 10,
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(60)),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred::DEFAULT,
        ..Config::default()
    }
}

async fn accept(listener: TcpListener, config: Arc<Config>, guest: Arc<Guest>) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // No file descriptors are left: somebody will give one back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (config, guest, places) = (config.clone(), guest.clone(), places.clone());
        tokio::spawn(async move {
            attend(stream, peer, config, guest).await;
            drop(place);
            if places.available_permits() == CONNECTIONS {
                give_back();
            }
        });
    }
}

/// Gives memory back to the system: the allocator keeps what a crowd needed, though nobody is here any more.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's own call")]
fn give_back() {
    // SAFETY: it may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give it back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

/// One connection, from the first byte to the last.
async fn attend(stream: TcpStream, peer: SocketAddr, config: Arc<Config>, guest: Arc<Guest>) {
    let _ = stream.set_nodelay(true);
    let flow = Arc::new(Flow::default());
    guest.admit(&flow);
    let grace = guest.place.grace;
    let local = stream.local_addr().unwrap_or(peer);
    let connection = Connection::new(guest.clone(), flow.clone(), peer, local);
    let known = connection.known();
    let line = Line::new(stream, flow.clone());
    let session = async {
        if let Ok(session) = russh::server::run_stream(config, line, connection).await {
            let _ = session.await;
        }
    };
    tokio::pin!(session);
    let late = async {
        tokio::time::sleep(grace).await;
        match known.is_known() {
            true => std::future::pending().await,
            false => flow.cut(),
        }
    };
    tokio::select! {
        () = &mut session => {}
        () = late => session.await,
    }
    guest.no_stranger(&flow);
}
