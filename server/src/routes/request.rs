//! Requests: who sent them from where, what is in query and body, and what is wrong with them before the node is asked.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use gx_core::IdempotencyKey;
use gx_core::api::{IDEMPOTENCY_KEY, REQUEST_ID, STREAM_TYPE};
use gx_core::peers::form::{self, FormError};
use gx_core::stream::{Input, InputChunk, InputSender, input};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use warp::http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN};
use warp::http::request::Parts;
use warp::http::uri::Authority;
use warp::http::{HeaderMap, Uri};
use warp::ws::Ws;

use super::failure::Failure;
use super::trail::Trail;
use crate::node::{Caller, Identity};

/// The longest JSON body, in bytes.
pub(crate) const MAX_JSON_BYTES: usize = 256 * 1024;
/// How long a JSON body may take, and how long an upload may be silent.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How much of an upload that nobody wants any more is read, in bytes, so that its sender comes to read the answer.
const MAX_DRAIN_BYTES: usize = 64 << 20;

/// The body of a request, as it comes.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What a connection says of all requests on it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Who is at the other end.
    pub(crate) identity: Identity,
    /// Where from, where that is known.
    pub(crate) from: Option<SocketAddr>,
    cut: Notify,
}

impl Connection {
    pub(crate) fn new(identity: Identity, from: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { identity, from, cut: Notify::new() })
    }

    /// Returns the address it is from.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.from.map(|from| from.ip().to_canonical())
    }

    /// Has it ended at once, from within a request on it.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Waits until it is to end.
    pub(crate) async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// A request whose route is known.
pub(crate) struct Request {
    /// Who asks.
    pub(crate) caller: Caller,
    /// On which connection.
    pub(crate) connection: Arc<Connection>,
    /// What the path has for `{id}`; empty on other paths.
    pub(crate) reference: String,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// There if the request asks for a WebSocket.
    pub(crate) socket: Option<Ws>,
    /// The same, as hyper has it; one of the two is used.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// What becomes of it.
    pub(crate) trail: Trail,
}

/// How a client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As frames, with signs of life, and with errors on the way.
    Frames,
    /// As suits the value.
    Plain,
}

/// Who wants an answer, and how; and where it is noted what becomes of it.
pub(crate) struct Asks {
    pub(crate) format: Format,
    pub(crate) caller: Caller,
    pub(crate) trail: Trail,
}

impl Request {
    /// Returns who wants the answer, and how.
    pub(crate) fn asks(&self) -> Asks {
        Asks { format: self.format(), caller: self.caller.clone(), trail: self.trail.clone() }
    }

    /// Returns how the client wants its answer.
    fn format(&self) -> Format {
        let accepts = self.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let framed = accepts.flat_map(|value| value.split(',')).any(|kind| essence(kind) == STREAM_TYPE);
        if framed { Format::Frames } else { Format::Plain }
    }

    /// Returns the idempotency key.
    pub(crate) fn key(&self) -> Result<Option<IdempotencyKey>, Failure> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or("\u{fffd}");
        let bad = |error: gx_core::id::ParseIdError| Failure::field(IDEMPOTENCY_KEY, error.to_string());
        text.parse().map(Some).map_err(bad)
    }

    /// Reads the query.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(
            self.uri.query().unwrap_or_default().as_bytes(),
        ));
        serde_path_to_error::deserialize(pairs)
            .map_err(|error| Failure::field(error.path().to_string(), error.inner().to_string()))
    }

    /// Reads a JSON body.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let body = self.collect().await?;
        self.check_content_type("application/json")?;
        parse(&body)
    }

    /// Reads the part `json` of a multipart form.
    pub(crate) async fn form(&mut self) -> Result<Vec<u8>, Failure> {
        let body = self.collect().await?;
        let kind = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match form::decode(kind, &body) {
            Ok(text) => Ok(text.to_vec()),
            Err(FormError::Type) => Err(Failure::ContentType { wanted: "multipart/form-data" }),
            Err(error) => Err(Failure::field(form::PART, error.to_string())),
        }
    }

    /// Reads a JSON body; without one the default is meant.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        let body = self.collect().await?;
        if body.is_empty() {
            return Ok(T::default());
        }
        self.check_content_type("application/json")?;
        parse(&body)
    }

    /// Checks what the body is. A page in a browser cannot send these types to another site unasked.
    pub(crate) fn check_content_type(&self, wanted: &'static str) -> Result<(), Failure> {
        let found = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if essence(found).eq_ignore_ascii_case(wanted) {
            Ok(())
        } else {
            Err(Failure::ContentType { wanted })
        }
    }

    /// Takes the body out, for an upload.
    pub(crate) fn take_body(&mut self) -> Body {
        std::mem::replace(&mut self.body, Box::pin(futures_util::stream::empty()))
    }

    async fn collect(&mut self) -> Result<Vec<u8>, Failure> {
        let mut collected = Vec::new();
        let all = async {
            while let Some(bytes) = self.body.next().await {
                collected.extend_from_slice(&bytes.map_err(|_| Failure::BodyLost)?);
                if collected.len() > MAX_JSON_BYTES {
                    return Err(Failure::TooLarge { limit: MAX_JSON_BYTES });
                }
            }
            Ok(())
        };
        tokio::time::timeout(BODY_PATIENCE, all).await.map_err(|_| Failure::BodySlow)??;
        Ok(collected)
    }
}

/// Refuses what a page in a browser may send to this machine without its user's knowledge: anything that names the
/// page's origin, or that reached us under another name (a name that the page's owner has pointed at this machine).
/// Programs send neither. By which name we are reached matters only where the connection alone gives rights: a browser has
/// no node's key, and is a stranger by TLS.
pub(crate) fn refuse_browsers(head: &Parts, identity: Identity) -> Result<(), Failure> {
    let headers = &head.headers;
    let cross_site =
        headers.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    if headers.contains_key(ORIGIN) || cross_site {
        return Err(Failure::Browser);
    }
    match host(head)? {
        Some(host) if identity == Identity::ThisMachine && !is_loopback(host.host()) => {
            Err(Failure::Host { host: host.host().chars().take(80).collect() })
        }
        _ => Ok(()), // without a host it is no browser
    }
}

/// Returns under which name a request reached us, which its first line and its head may say (RFC 9112, section 3.2).
fn host(head: &Parts) -> Result<Option<Authority>, Failure> {
    let line = head.uri.authority();
    let mut told = head.headers.get_all(HOST).iter();
    let Some(first) = told.next() else { return Ok(line.cloned()) };
    match (Authority::try_from(first.as_bytes()), line, told.next()) {
        (Ok(first), None, None) => Ok(Some(first)),
        (Ok(first), Some(line), None) if first == *line => Ok(Some(first)),
        _ => Err(Failure::Malformed),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Returns the id of a request: the one it came with, if it is one, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    use std::hash::{BuildHasher, RandomState};
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match given.filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(letter)) {
        Some(id) => id.to_owned(),
        None => format!("{:016x}", RandomState::new().hash_one(())),
    }
}

/// Makes a call whose input is the body of a request. When the body breaks off the call is dropped: half an archive
/// is not an archive.
pub(crate) async fn with_upload<T, F>(mut body: Body, call: impl FnOnce(Input) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let (sender, input) = input();
    let result = tokio::select! {
        result = call(input) => result,
        failure = pump(&mut body, sender) => return Err(failure),
    };
    if result.is_err() {
        let _ = tokio::time::timeout(BODY_PATIENCE, drain(&mut body)).await;
    }
    result
}

/// Passes the body on. It returns only when the body breaks off.
async fn pump(body: &mut Body, sender: InputSender) -> Failure {
    loop {
        match tokio::time::timeout(BODY_PATIENCE, body.next()).await {
            Err(_) => return Failure::BodySlow,
            Ok(Some(Err(_))) => return Failure::BodyLost,
            Ok(None) => break,
            Ok(Some(Ok(bytes))) => {
                if sender.send(InputChunk::Data(bytes)).await.is_err() {
                    break; // the call has read enough, and is about to return
                }
            }
        }
    }
    drop(sender);
    std::future::pending().await
}

async fn drain(body: &mut Body) {
    let mut left = MAX_DRAIN_BYTES;
    while let Some(Ok(bytes)) = body.next().await {
        left = left.saturating_sub(bytes.len());
        if left == 0 {
            break;
        }
    }
}

/// Reads JSON, naming the field that is wrong.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Failure::field(error.path().to_string(), error.inner().to_string()))?;
    json.end().map_err(|error| Failure::field(".", error.to_string()))?;
    Ok(value)
}

fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::ErrorCode;

    #[test]
    fn only_loopback_names_are_ours() {
        for ours in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "::1"] {
            assert!(is_loopback(ours), "{ours}");
        }
        for other in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn by_which_name_it_reached_us_is_said_once_and_is_one() {
        let of = |line: &str, hosts: &[&str]| {
            let mut request = warp::http::Request::get(line);
            for told in hosts {
                request = request.header(HOST, *told);
            }
            let head = request.body(()).unwrap().into_parts().0;
            host(&head).map(|host| host.map(|host| host.to_string())).map_err(|failure| failure.api().1.code)
        };
        assert_eq!(of("/", &[]), Ok(None));
        assert_eq!(of("/", &["a:1"]), Ok(Some("a:1".to_owned())));
        assert_eq!(of("http://a:1/", &["a:1"]), Ok(Some("a:1".to_owned())));
        assert_eq!(of("http://a:1/", &[]), Ok(Some("a:1".to_owned())));
        let wrong: [(&str, &[&str]); 4] =
            [("http://a:1/", &["b:1"]), ("/", &["a b"]), ("/", &[""]), ("/", &["localhost", "b"])];
        for (line, hosts) in wrong {
            assert_eq!(of(line, hosts), Err(ErrorCode::InvalidArgument), "{line} {hosts:?}");
        }
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let text = br#"{"image":"x","ports":[{"container_port":"a"}]}"#;
        let (_, told) = parse::<gx_core::api::CreateRequest>(text).unwrap_err().api();
        let field = told.field.as_deref();
        assert_eq!((told.code, field), (ErrorCode::InvalidArgument, Some("ports[0].container_port")));
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_replaced() {
        let with = |id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(with("abc-1"), "abc-1");
        assert_ne!(with("a b"), "a b");
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
