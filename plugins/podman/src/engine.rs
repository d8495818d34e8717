//! One Podman service: the client crate's handles, and requests of our own where those are in the way.
//!
//! podman-api 0.11 knows the libpod API of Podman 4.3 and later. In its way are: an inspect that always measures the
//! disk, a create whose log settings and `no_new_privileges` go under names the service does not know, a wait that
//! drops the exit code, a build that reads the whole context into memory, and JSON streams that break where a chunk
//! ends within a line. These are asked for here, through the same request layer it stands on (containers-api).

use std::path::Path;
use std::time::Duration;

use containers_api::conn::hyper::body::HttpBody;
use containers_api::conn::hyper::{Body, Client, Response};
use containers_api::conn::{Headers, Payload, RequestClient, Transport, get_unix_connector, hyper};
use containers_api::url;
use gx_core::ContainerId;
use podman_api::Podman;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

pub(crate) use podman_api::Error as EngineError;

/// The version of the API in the path of our own requests: the first with all we use, and known to Podman 5 too.
const API: &str = "/v4.3.1/libpod";

/// The longest line of a streamed answer, in bytes; a longer one is cut off.
const MAX_LINE_BYTES: usize = 1024 * 1024;

type Result<T, E = EngineError> = std::result::Result<T, E>;
type Query<'a> = &'a [(&'a str, &'a str)];

/// A service that answers at a socket.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    podman: Podman,
    requests: RequestClient<EngineError>,
}

impl Engine {
    /// Returns the service at this socket; nothing is sent yet.
    pub(crate) fn at(socket: &Path) -> Self {
        // As in podman-api: each request has a connection of its own, for the service ends idle ones without notice.
        let client = Client::builder().pool_max_idle_per_host(0).build(get_unix_connector());
        let transport = Transport::Unix { client, path: socket.to_path_buf() };
        let check = Box::new(checked as fn(_) -> _);
        Self { podman: Podman::unix(socket), requests: RequestClient::new(transport, check) }
    }

    /// Returns the client crate's own handle.
    pub(crate) fn podman(&self) -> &Podman {
        &self.podman
    }

    /// Returns the client crate's handle to a container.
    pub(crate) fn container(&self, id: &ContainerId) -> podman_api::api::Container {
        self.podman.containers().get(id.as_str())
    }

    pub(crate) async fn get_json<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<T> {
        self.requests.get_json(endpoint(path, query)).await
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T> {
        let payload = match body {
            Some(body) => Payload::Json(Body::from(serde_json::to_vec(body)?)),
            None => Payload::None,
        };
        self.requests.post_json(endpoint(path, query), payload, Headers::none()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        self.requests.delete(endpoint(path, &[])).await.map(drop)
    }

    pub(crate) async fn head(&self, path: &str, query: Query<'_>) -> Result<Response<Body>> {
        self.requests.head(endpoint(path, query)).await
    }

    /// Sends a tar archive as the body.
    pub(crate) async fn put_tar(&self, path: &str, query: Query<'_>, tar: Body) -> Result<()> {
        let answer = self.requests.put(endpoint(path, query), Payload::XTar(tar)).await?;
        hyper::body::to_bytes(answer.into_body()).await.map_err(containers_api::conn::Error::from)?;
        Ok(())
    }

    /// Sends a tar archive as the body and returns the answer line by line.
    pub(crate) async fn post_tar_lines(&self, path: &str, query: Query<'_>, tar: Body) -> Result<Lines> {
        let answer = self.requests.post(endpoint(path, query), Payload::XTar(tar), Headers::none()).await?;
        Ok(Lines::new(answer))
    }

    /// Returns the answer line by line.
    pub(crate) async fn get_lines(&self, path: &str, query: Query<'_>) -> Result<Lines> {
        Ok(Lines::new(self.requests.get(endpoint(path, query)).await?))
    }

    /// Asks for something that is answered with nothing but whether it was done.
    pub(crate) async fn post(&self, path: &str) -> Result<()> {
        let answer = self.requests.post(endpoint(path, &[]), Payload::empty(), Headers::none()).await?;
        hyper::body::to_bytes(answer.into_body()).await.map_err(containers_api::conn::Error::from)?;
        Ok(())
    }

    /// Turns the connection of a request into a pipe in both directions.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        query: Query<'_>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<hyper::upgrade::Upgraded> {
        let mut headers = Headers::single("connection", "Upgrade");
        headers.add("upgrade", "tcp");
        let payload = match body {
            Some(body) => Payload::Json(Body::from(serde_json::to_vec(body)?)),
            None => Payload::empty(),
        };
        let answer = self.requests.post(endpoint(path, query), payload, Some(headers)).await?;
        Ok(hyper::upgrade::on(answer).await.map_err(containers_api::conn::Error::from)?)
    }

    /// Returns the answer's body as it comes.
    pub(crate) async fn get_body(&self, path: &str, query: Query<'_>) -> Result<Body> {
        Ok(self.requests.get(endpoint(path, query)).await?.into_body())
    }

    /// Returns the answer of a `POST` line by line, with an extra header where one is given.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        query: Query<'_>,
        header: Option<(&'static str, String)>,
    ) -> Result<Lines> {
        let headers = header.map(|(name, value)| Headers::single(name, value));
        Ok(Lines::new(self.requests.post(endpoint(path, query), Payload::empty(), headers).await?))
    }
}

fn endpoint(path: &str, query: Query<'_>) -> String {
    let query = (!query.is_empty()).then(|| url::encoded_pairs(query.iter().copied()));
    url::construct_ep(format!("{API}{path}"), query)
}

/// An answer of one JSON value per line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Body,
    held: Vec<u8>,
    ended: bool,
}

impl Lines {
    fn new(answer: Response<Body>) -> Self {
        Self { body: answer.into_body(), held: Vec::new(), ended: false }
    }

    /// Returns the next value that is of this shape, or `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        while let Some(line) = self.line().await? {
            if let Ok(value) = serde_json::from_slice(&line) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.held[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.held.split_off(searched + at + 1);
                return Ok(Some(std::mem::replace(&mut self.held, rest)));
            }
            searched = self.held.len();
            if self.ended {
                return Ok((searched > 0).then(|| std::mem::take(&mut self.held)));
            }
            match self.body.data().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(containers_api::conn::Error::from)?;
                    let room = MAX_LINE_BYTES.saturating_sub(self.held.len());
                    let fits = chunk.len() <= room || chunk.contains(&b'\n');
                    self.held.extend_from_slice(if fits { &chunk } else { &chunk[..room] });
                }
                None => self.ended = true,
            }
        }
    }
}

/// For how long is asked again, and after which pause.
const AGAIN_LIMIT: Duration = Duration::from_secs(10);
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// Asks again while the service fails for want of something that is just coming, going or ending.
pub(crate) async fn again<T, F: Future<Output = Result<T>>>(
    is_passing: impl Fn(&EngineError) -> bool,
    ask: impl Fn() -> F,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && begun.elapsed() < AGAIN_LIMIT => sleep(AGAIN_PAUSE).await,
            answer => return answer,
        }
    }
}

/// What the service answers when it fails.
#[derive(Debug, Deserialize)]
struct Fault {
    message: String,
}

type Checked = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send + Sync>>;

fn checked(answer: Response<Body>) -> Checked {
    Box::pin(async move {
        let code = answer.status();
        if code.is_success() || code == hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let body =
            hyper::body::to_bytes(answer.into_body()).await.map_err(containers_api::conn::Error::from)?;
        // A failed build answers several values in one body; the first says it.
        let mut faults = serde_json::Deserializer::from_slice(&body).into_iter::<Fault>();
        let message = match faults.next() {
            Some(Ok(fault)) => fault.message,
            _ => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(EngineError::Fault { code, message })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &'static [&'static str]) -> Lines {
        let chunks = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk));
        Lines::new(Response::new(Body::wrap_stream(futures_util::stream::iter(chunks))))
    }

    #[tokio::test]
    async fn a_value_may_be_split_anywhere() {
        let mut lines =
            lines(&["{\"message\":", "\"a\"}\n{\"mess", "age\":\"b\"}\nrubbish\n{\"message\":\"c\"}"]);
        let mut all = Vec::new();
        while let Some(fault) = lines.next::<Fault>().await.unwrap() {
            all.push(fault.message);
        }
        assert_eq!(all, ["a", "b", "c"]);
    }

    #[test]
    fn a_query_is_written_so_that_nothing_breaks_out_of_it() {
        assert_eq!(endpoint("/events", &[]), "/v4.3.1/libpod/events");
        assert_eq!(endpoint("/x", &[("path", "/a b&c=d?#")]), "/v4.3.1/libpod/x?path=%2Fa+b%26c%3Dd%3F%23");
    }
}
