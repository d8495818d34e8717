//! `gx serve`: an accept loop of our own around the routes, because `warp::serve` hides what it takes to be robust:
//! TLS, time-outs, limits on connections, and an end that waits for what is under way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gx_core::config::ServerConfig;
use gx_identity::tls::Acceptor;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use warp::reply::Response;

use crate::counters::Counters;
use crate::error::{Result, ServerError};
use crate::node::{Identity, Node, ServerLock};
use crate::routes::{self, Connection};

mod crowd;
mod door;
mod handshakes;

use crowd::{Busy, Crowd, Places};
pub(crate) use door::Door;
use door::Guest;

/// Connections at a time, where the system allows so many files.
const MAX_CONNECTIONS: usize = 16_384;
/// Connections of strangers at one address at a time.
const MAX_OF_AN_ADDRESS: usize = 256;
/// Connections of one node at a time.
const MAX_OF_A_NODE: usize = 1_024;
/// How long a client may take for the head of a request, and an idle connection is kept.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the head of a request may be, in bytes, and how much of a body is read ahead.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How many lines the head of a request may have.
const MAX_HEADERS: usize = 100;
/// How long requests that are under way are waited for at the end.
const GRACE: Duration = Duration::from_secs(10);
/// How soon to go on when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How connections are protected, and what they prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS: who has a key is known by it, and anybody else is a stranger.
    Tls,
    /// Nothing, on loopback only: whoever connects is this machine's own user.
    Plain,
    /// Nothing, at any address; at one beyond loopback everybody is a stranger.
    Insecure,
}

impl From<&ServerConfig> for Transport {
    fn from(config: &ServerConfig) -> Self {
        match (config.plain, config.insecure) {
            (false, _) => Self::Tls,
            (true, false) => Self::Plain,
            (true, true) => Self::Insecure,
        }
    }
}

/// A server that may serve: it has the data folder to itself, and an address that it may have.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    door: Door,
    node: Arc<Node>,
    _lock: ServerLock,
}

/// Serves a node until `shutdown` is done.
///
/// # Errors
/// Those of [`Server::new`].
pub async fn run(
    listener: TcpListener,
    node: Arc<Node>,
    transport: Transport,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    Server::new(listener, node, transport)?.run(shutdown).await;
    Ok(())
}

impl Server {
    /// Takes the node's data folder for this server.
    ///
    /// # Errors
    /// [`ServerError::NotLoopback`] without TLS at an address that others reach; [`ServerError::Locked`] when the data
    /// folder has another server; [`ServerError::Chat`] when the chat is configured and cannot be served;
    /// [`ServerError::Listen`]. It is called on a runtime.
    pub fn new(listener: TcpListener, node: Arc<Node>, transport: Transport) -> Result<Self> {
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        let door = match (transport, address.ip().is_loopback()) {
            (Transport::Tls, _) => Door::Tls { acceptor: Acceptor::new(node.key()), node: node.clone() },
            (Transport::Plain | Transport::Insecure, true) => Door::Plain(Identity::ThisMachine),
            (Transport::Plain, false) => return Err(ServerError::NotLoopback { address }),
            (Transport::Insecure, false) => Door::Plain(Identity::Unknown),
        };
        let lock = ServerLock::take(node.data())?;
        node.open_chat()?;
        lock.announce(address);
        Ok(Self { listener, door, node, _lock: lock })
    }

    /// Serves until `shutdown` is done, then waits for what is under way and shuts the node down. Leases end and
    /// engines are watched while this runs.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, door, node, _lock } = self;
        tracing::info!(node = %node.id(), "serving");
        let tls = matches!(door, Door::Tls { .. });
        let listening = listener.local_addr().ok().filter(|_| tls);
        // Before anybody comes in: who left while no server ran is out. What fails is told, and tried again beside it.
        let _ = node.settle_chat().await;
        let mut background = background(&node, listening);
        let (close, closing) = watch::channel(false);
        let state = routes::State::new(node.clone(), closing.clone());
        let counters = state.counters().clone();
        let answer = move |connection, request| routes::answer(state.clone(), connection, request);
        let mut connections = accept(&listener, door, &counters, answer, closing, shutdown).await;

        drop(listener);
        let _ = close.send(true);
        node.close_chat().await;
        let under_way = connections.len();
        tracing::info!(under_way, "shutting down");
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!(left = connections.len(), "connections are cut");
        }
        connections.shutdown().await;
        background.shutdown().await;
        node.leave_peers().await;
        node.shutdown().await;
    }
}

/// Starts what a server does beside answering.
fn background(node: &Arc<Node>, listening: Option<SocketAddr>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for name in node.runtime_names() {
        let node = node.clone();
        tasks.spawn(async move { node.watch(&name).await });
    }
    let sampled = node.clone();
    tasks.spawn(async move { sampled.keep_sampling().await });
    let leased = node.clone();
    tasks.spawn(async move { leased.keep_leases().await });
    let idle = node.clone();
    tasks.spawn(async move { idle.keep_idle().await });
    let walled = node.clone();
    tasks.spawn(async move { walled.keep_firewall().await });
    let (watched, kept) = (node.clone(), node.clone());
    tasks.spawn(async move { watched.watch_members().await });
    tasks.spawn(async move { kept.keep_members().await });
    let talking = node.clone();
    tasks.spawn(async move { talking.keep_chat().await });
    tasks.spawn(node.clone().keep_peers(listening));
    tasks
}

/// What answers requests, and knows on which connection they came.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    /// Answers a request.
    fn answer(
        &self,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;
}

impl<F, A> Answer for F
where
    F: Fn(Arc<Connection>, Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send,
{
    fn answer(
        &self,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send {
        self(connection, request)
    }
}

/// Lets in who connects, until `shutdown` is done; what is returned are those who are still in.
pub(crate) async fn accept(
    listener: &TcpListener,
    door: Door,
    counters: &Arc<Counters>,
    answer: impl Answer,
    closing: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()>,
) -> JoinSet<()> {
    let crowd = Crowd::new(places());
    let door = Arc::new(door);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return connections,
            (stream, peer) = next(listener, &crowd) => {
                let (door, crowd) = (door.clone(), crowd.clone());
                let (answer, closing, counters) = (answer.clone(), closing.clone(), counters.clone());
                connections.spawn(async move {
                    let _open = counters.connection();
                    match door.enter(stream, peer, &crowd).await {
                        Ok(guest) => serve(guest, answer, closing).await,
                        Err(refusal) => {
                            counters.turned_away();
                            tracing::debug!(%peer, %refusal, "a connection is refused");
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns how many connections there may be: each is an open file, and a quarter of those is for the engines.
fn places() -> Places {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let total = files.map_or(MAX_CONNECTIONS, |files| MAX_CONNECTIONS.min(files / 4 * 3));
    Places { total, address: MAX_OF_AN_ADDRESS, node: MAX_OF_A_NODE }
}

/// Returns the next connection.
async fn next(listener: &TcpListener, crowd: &Crowd) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, connections = crowd.len(), "cannot accept a connection");
                crowd.shed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(guest: Guest, answer: impl Answer, mut closing: watch::Receiver<bool>) {
    let Guest { stream, connection, place } = guest;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let service = service_fn(|request| {
        let busy = place.begin();
        let answer = answer.answer(connection.clone(), request);
        // On the heap, so that a connection that asks nothing takes little.
        Box::pin(async move { Ok::<_, Infallible>(answer.await.map(|body| Sending { body, _busy: busy })) })
    });
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = place.lost() => return,
        () = connection.is_cut() => return,
        () = closed(&mut closing) => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(from = ?connection.from, %error, "the connection broke");
    }
}

/// The body of an answer; its request is under way until it is sent.
struct Sending<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Sending<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits until the server is asked to end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}
