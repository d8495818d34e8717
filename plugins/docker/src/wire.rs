//! The connection to the engine, under bollard and beside it.
//!
//! bollard opens a new connection for each call, and reads a terminal's raw output as if it had frames. So the
//! connections are made here: kept alive and shared, with raw access for logs and exec.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use futures_util::{Stream, TryFutureExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::config::{Config, Endpoint};

type ByteStream = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;
/// The body of a request, as bollard has it.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<ByteStream>>;

/// How many lookups run at a time: more only wait in the engine, and each holds a connection.
const LOOKUPS_AT_A_TIME: usize = 64;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// The longest body of an error that is read, in bytes.
const ERROR_BYTES: usize = 64 * 1024;

/// A client of the engine's HTTP API.
pub(crate) enum Wire {
    /// Over a socket of this machine.
    Unix(Client<UnixConnector, Body>),
    /// Over the network.
    Tcp(Client<HttpConnector, Body>, String),
}

impl Wire {
    /// Makes a client; connects when it is first used.
    pub(crate) fn new(endpoint: &Endpoint, connect_timeout: Duration) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(hyper_util::rt::TokioTimer::new());
        match endpoint {
            Endpoint::Unix(paths) => {
                Self::Unix(builder.build(UnixConnector { paths: paths.clone().into(), connect_timeout }))
            }
            Endpoint::Tcp(address) => {
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                connector.set_connect_timeout(Some(connect_timeout));
                Self::Tcp(builder.build(connector), address.clone())
            }
        }
    }

    fn request(&self, request: Request<Body>) -> ResponseFuture {
        match self {
            Self::Unix(client) => client.request(request),
            Self::Tcp(client, _) => client.request(request),
        }
    }

    fn authority(&self) -> &str {
        match self {
            Self::Unix(_) => "docker",
            Self::Tcp(_, address) => address,
        }
    }

    /// Sends a request and returns the answer's body, once its head says that it went well.
    ///
    /// HTTP/1.0 has no chunks: the engine makes one of each line of a log, and taking those apart is ten times the
    /// work. The price is that a broken connection looks like the end.
    pub(crate) async fn get(&self, path_and_query: &str) -> Result<Incoming, Error> {
        let uri = format!("http://{}{path_and_query}", self.authority());
        let request = Request::get(uri).version(Version::HTTP_10).body(Either::Left(Full::default()))?;
        Ok(checked(self.request(request).await?).await?.into_body())
    }

    /// Sends a JSON body, where there is one, and returns the raw connection in both directions.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<TokioIo<Upgraded>, Error> {
        let uri = format!("http://{}{path}", self.authority());
        let body = body.map(serde_json::Value::to_string).unwrap_or_default();
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .body(Either::Left(Full::from(body)))?;
        let response = checked(self.request(request).await?).await?;
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }
}

async fn checked(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let body = http_body_util::Limited::new(response.into_body(), ERROR_BYTES);
    let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let message =
        json["message"].as_str().map_or_else(|| String::from_utf8_lossy(&text).into_owned(), str::to_owned);
    Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// Returns bollard's client on top of this connection.
///
/// The paths it asks for carry no version (its `Uri::parse` joins them away), so the engine answers in its own
/// newest one, and there is nothing to negotiate.
pub(crate) fn docker(wire: &Arc<Wire>, config: &Config) -> Result<Docker, Error> {
    let lookups = Arc::new(Semaphore::new(LOOKUPS_AT_A_TIME));
    let transport = {
        let wire = wire.clone();
        move |request: Request<Body>| {
            let (wire, lookups) = (wire.clone(), lookups.clone());
            async move {
                let lookup = request.method() == Method::GET && request.uri().path().ends_with("/json");
                let _permit = if lookup { lookups.acquire().await.ok() } else { None };
                wire.request(request).map_err(Error::from).await
            }
        }
    };
    let address = format!("http://{}", wire.authority());
    let seconds = config.request_timeout.0.as_secs().max(1);
    let docker = Docker::connect_with_custom_transport(
        transport,
        Some(address),
        seconds,
        bollard::API_DEFAULT_VERSION,
    )?;
    Ok(docker.with_request_modifier(url_safe_auth))
}

/// The engine reads logins as URL-safe base64 (RFC 4648, section 5) and takes others for none at all; bollard
/// writes plain base64.
fn url_safe_auth(mut request: Request<Body>) -> Request<Body> {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = value.to_str()
        && let Ok(mut safe) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        safe.set_sensitive(true);
        *value = safe;
    }
    request
}

/// Opens connections to the first socket that is there.
#[derive(Clone)]
pub(crate) struct UnixConnector {
    paths: Arc<[PathBuf]>,
    connect_timeout: Duration,
}

impl tower::Service<Uri> for UnixConnector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { paths, connect_timeout } = self.clone();
        Box::pin(async move {
            let connecting = tokio::time::timeout(connect_timeout, connect(&paths));
            connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(TokioIo::new)
        })
    }
}

/// Connects to the first of these sockets that is there; the error is the last one's that was, else the first's.
pub(crate) async fn connect(paths: &[PathBuf]) -> io::Result<UnixStream> {
    let mut refused = None;
    for path in paths {
        match connect_to(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refused.get_or_insert(error);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

async fn connect_to(path: &PathBuf) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            // The socket's queue is full, which the kernel says instead of waiting (unix(7), EAGAIN).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            connected => return connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_url_safe() {
        let request =
            Request::get("/").header("x-registry-auth", "a+b/c=").body(Either::Left(Full::default()));
        let request = url_safe_auth(request.unwrap());
        assert_eq!(request.headers()["x-registry-auth"], "a-b_c=");
    }
}
