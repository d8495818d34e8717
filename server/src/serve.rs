//! `gx serve`: an accept loop of our own around the routes, because `warp::serve` hides what it takes to be robust:
//! time-outs, a limit on connections, and an end that waits for what is under way.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use warp::Filter;
use warp::reply::Response;

use crate::error::{Result, ServerError};
use crate::node::{Identity, Node, ServerLock};
use crate::routes::{self, Connection};

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take for the head of a request, and an idle connection is kept.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests that are under way are waited for at the end.
const GRACE: Duration = Duration::from_secs(10);
/// How soon to go on when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When a silent peer is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A server that may serve: it has the data folder to itself, and an address that only this machine reaches.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    node: Arc<Node>,
    _lock: ServerLock,
}

/// Serves a node until `shutdown` is done.
///
/// # Errors
/// Those of [`Server::new`].
pub async fn run(listener: TcpListener, node: Arc<Node>, shutdown: impl Future<Output = ()>) -> Result<()> {
    Server::new(listener, node)?.run(shutdown).await;
    Ok(())
}

impl Server {
    /// Takes the node's data folder for this server.
    ///
    /// # Errors
    /// [`ServerError::NotLoopback`], as nothing is encrypted yet; [`ServerError::Locked`] when the data folder has
    /// another server; [`ServerError::Listen`].
    pub fn new(listener: TcpListener, node: Arc<Node>) -> Result<Self> {
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        if !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback { address });
        }
        let lock = ServerLock::take(node.data())?;
        Ok(Self { listener, node, _lock: lock })
    }

    /// Serves until `shutdown` is done, then waits for what is under way and shuts the node down. Leases end and
    /// engines are watched while this runs.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, node, _lock } = self;
        tracing::info!(node = %node.id(), "serving");
        let mut background = background(&node);
        let (close, closing) = watch::channel(false);
        let routes = routes::all(routes::State::new(node.clone(), closing.clone()));
        let mut connections = accept(&listener, routes, closing, shutdown).await;

        drop(listener);
        let _ = close.send(true);
        let under_way = connections.len();
        tracing::info!(under_way, "shutting down");
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!(left = connections.len(), "connections are cut");
        }
        connections.shutdown().await;
        background.shutdown().await;
        node.shutdown().await;
    }
}

/// Starts what a server does beside answering.
fn background(node: &Arc<Node>) -> JoinSet<()> {
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
    tasks
}

pub(crate) async fn accept(
    listener: &TcpListener,
    routes: impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    closing: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()>,
) -> JoinSet<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return connections,
            (stream, peer, permit) = next(listener, &permits) => {
                let (routes, closing) = (routes.clone(), closing.clone());
                connections.spawn(serve(stream, peer, routes, closing, permit));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns the next connection, as soon as there is room for it.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = permits.clone().acquire_owned().await.expect("nobody closes the semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    routes: impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    mut closing: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%peer, %error, "the connection is gone already");
        return;
    }
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    // Nothing is encrypted yet, and the server listens on this machine only.
    let connection = Connection { identity: Identity::ThisMachine, from: peer.to_string() };
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        routes.call(request)
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "the connection broke");
    }
    drop(permit);
}

/// Waits until the server is asked to end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(())
}
