//! One connection: what the client asks for, answered in the order it asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::Guest;
use super::flow::Flow;
use super::session::{self, Setup, Visitor, What};
use super::terminal::{Size, Terminal};
use super::{forward, local};
use crate::account::Account;

/// So many channels a connection may have at once.
const CHANNELS: usize = 1024;
/// So many ports it may listen on.
const LISTENERS: usize = 64;

/// A connection's state; the library calls it with each request.
#[derive(Debug)]
pub(super) struct Connection {
    guest: Arc<Guest>,
    flow: Arc<Flow>,
    peer: SocketAddr,
    local: SocketAddr,
    known: Known,
    account: Option<Account>,
    /// Channels in which nothing runs yet.
    setups: HashMap<ChannelId, Setup>,
    listeners: HashMap<(String, u32), AbortHandle>,
    /// The socket of the client's agent, where it is lent.
    agent: Option<String>,
    /// Places for channels; each channel has one as long as it is there.
    places: Arc<Semaphore>,
}

/// Whether a connection has logged in.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// Returns whether it has.
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Returns a connection of which nothing is known but its addresses.
    pub(super) fn new(guest: Arc<Guest>, flow: Arc<Flow>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            guest,
            flow,
            peer,
            local,
            known: Known::default(),
            account: None,
            setups: HashMap::new(),
            listeners: HashMap::new(),
            agent: None,
            places: Arc::new(Semaphore::new(CHANNELS)),
        }
    }

    /// Whether it has logged in, also once it is given to the library.
    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    fn visitor(&self) -> Option<Visitor> {
        Some(Visitor {
            guest: self.guest.clone(),
            flow: self.flow.clone(),
            account: self.account.clone()?,
            peer: self.peer,
            local: self.local,
            places: self.places.clone(),
        })
    }

    /// Makes a socket for the client's agent, once a connection, and returns where it is.
    async fn lend(&mut self, session: &mut Session) -> Option<String> {
        if self.agent.is_none() && self.listeners.len() < LISTENERS {
            let visitor = self.visitor()?;
            let (listener, made) = local::lend(&visitor).await.ok()?;
            let path = made.path().to_str()?.to_owned();
            let task = local::hand_back(visitor, listener, made, local::To::Agent, session.handle());
            self.listeners.insert((path.clone(), 0), tokio::spawn(task).abort_handle());
            self.agent = Some(path);
        }
        self.agent.clone()
    }

    /// Takes in a channel, if there are not too many.
    fn open(&mut self, channel: ChannelId) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        self.flow.open(channel);
        Some(place)
    }

    fn run(&mut self, channel: ChannelId, what: What<'_>, session: &mut Session) -> Result<(), russh::Error> {
        match (self.setups.remove(&channel), self.visitor()) {
            (Some(setup), Some(visitor)) => {
                session.channel_success(channel)?;
                session::start(visitor, setup, what, session.handle());
                Ok(())
            }
            _ => session.channel_failure(channel),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for listener in self.listeners.values() {
            listener.abort();
        }
        if self.known.is_known() {
            self.guest.sessions().ended(Instant::now());
        }
    }
}

/// A refusal that leaves both ways open.
fn refused() -> Auth {
    let methods = MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]);
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        Ok(refused())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.account = self.guest.by_password(user, password, self.peer.ip().to_canonical()).await;
        Ok(if self.account.is_some() { Auth::Accept } else { refused() })
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = self.guest.by_key(user, offer.public_key).is_some();
        Ok(if known { Auth::Accept } else { refused() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.account = self.guest.by_key(user, key.public_key);
        Ok(if self.account.is_some() { Auth::Accept } else { refused() })
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        if !self.known.0.swap(true, Ordering::Relaxed) {
            self.guest.no_stranger(&self.flow);
            self.guest.sessions().begun();
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(place) = self.open(channel.id()) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        self.setups.insert(channel.id(), Setup::new(channel, place));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(visitor), Ok(port)) = (self.visitor(), u16::try_from(port)) else { return Ok(()) };
        let Some(place) = self.open(channel.id()) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let host = host.to_owned();
        tokio::spawn(async move {
            match forward::connect(&visitor, &host, port).await {
                Ok(stream) => {
                    reply.accept().await;
                    forward::carry(&visitor, channel, forward::halves(stream)).await;
                }
                Err(_) => {
                    visitor.flow.close(channel.id());
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            drop(place);
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(visitor) = self.visitor() else { return Ok(()) };
        let Some(place) = self.open(channel.id()) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let path = path.to_owned();
        tokio::spawn(async move {
            match local::connect(&visitor, &path).await {
                Ok(stream) => {
                    reply.accept().await;
                    forward::carry(&visitor, channel, stream.into_split()).await;
                }
                Err(_) => {
                    visitor.flow.close(channel.id());
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            drop(place);
        });
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if self.setups.remove(&channel).is_some() {
            self.flow.close(channel);
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.flow.came(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.flow.came(channel, data.len());
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(setup), Some(account)) = (self.setups.get_mut(&channel), &self.account) else {
            return session.channel_failure(channel);
        };
        match Terminal::open(account, term, Size(columns, rows, width, height), modes) {
            Ok(terminal) => {
                setup.terminal = Some(terminal);
                session.channel_success(channel)
            }
            Err(_) => session.channel_failure(channel),
        }
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some(path) = self.lend(session).await else { return Ok(false) };
        Ok(self.setups.get_mut(&channel).is_some_and(|setup| setup.set("SSH_AUTH_SOCK", &path)))
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let taken = self.setups.get_mut(&channel).is_some_and(|setup| setup.set(name, value));
        if taken { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.run(channel, What::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.run(channel, What::Command(line), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match name {
            "sftp" => self.run(channel, What::Sftp, session),
            _ => session.channel_failure(channel),
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let (Some(visitor), Ok(wanted)) = (self.visitor(), u16::try_from(*port)) else { return Ok(false) };
        if self.listeners.len() >= LISTENERS {
            return Ok(false);
        }
        let Ok(listener) = forward::listen(&visitor, address, wanted).await else { return Ok(false) };
        *port = listener.local_addr().map_or(*port, |bound| bound.port().into());
        let asked = (address.to_owned(), *port);
        let task = tokio::spawn(forward::hand_back(visitor, listener, asked.clone(), session.handle()));
        self.listeners.insert(asked, task.abort_handle());
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let listener = self.listeners.remove(&(address.to_owned(), port));
        if let Some(listener) = &listener {
            listener.abort();
        }
        Ok(listener.is_some())
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Self::Error> {
        let Some(visitor) = self.visitor() else { return Ok(false) };
        if self.listeners.len() >= LISTENERS {
            return Ok(false);
        }
        let Ok((listener, made)) = local::listen(&visitor, path).await else { return Ok(false) };
        let to = local::To::Socket(path.to_owned());
        let task = local::hand_back(visitor, listener, made, to, session.handle());
        self.listeners.insert((path.to_owned(), 0), tokio::spawn(task).abort_handle());
        Ok(true)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.cancel_tcpip_forward(path, 0, session).await
    }
}
