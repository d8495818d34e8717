//! A page for a browser on this machine, on loopback: files of the program, and a WebSocket that leads to where the
//! caller says.
//!
//! Another page cannot use it: the address has a port and a token of its own, requests must name that address as their
//! host, and as their origin where they name one. Other users of the machine do not know the token.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use warp::Filter;
use warp::http::header::{
    self, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::ws::{Message, WebSocket, Ws};

use crate::bridge::{Cut, MAX_MESSAGE_BYTES, Pulse, bridge};
use crate::error::{Result, ServerError};
use crate::node::Identity;
use crate::serve::{Door, accept, closed};

/// The last part of the WebSocket's address.
const SOCKET: &str = "socket";
/// Connections through a page at a time.
const MAX_SOCKETS: usize = 8;
/// How long connections are waited for at the end.
const GRACE: Duration = Duration::from_secs(1);
/// The code of a WebSocket's close for a connection that could not be made; the reason says why.
const NOT_MADE: u16 = 4000;
/// How much of a reason fits into a close (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 120;

/// A file of a page.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its path below the page's address; `index.html` is also the address itself.
    pub path: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
}

/// A page that is listened for.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    files: &'static [File],
}

/// What every request needs.
struct Site<D> {
    address: SocketAddr,
    /// The beginning of every path: `/TOKEN/`.
    prefix: String,
    files: &'static [File],
    dial: D,
    sockets: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

impl Page {
    /// Listens on a free port of loopback, under a random token.
    ///
    /// # Errors
    /// [`ServerError::Listen`].
    pub async fn listen(files: &'static [File]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ServerError::Listen)?;
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        Ok(Self { listener, address, token: token().map_err(ServerError::Listen)?, files })
    }

    /// Returns the page's address. Who has it can open the page.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Serves the page until `shutdown` is done. A WebSocket of the page is joined to what `dial` connects to; why it
    /// could not connect is told to the page.
    pub async fn serve<D, F, S>(self, dial: D, shutdown: impl Future<Output = ()>)
    where
        D: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, String>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (close, closing) = watch::channel(false);
        let site = Arc::new(Site {
            address: self.address,
            prefix: format!("/{}/", self.token),
            files: self.files,
            dial,
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            closing: closing.clone(),
        });
        let door = Door::Plain(Identity::ThisMachine);
        let mut connections =
            accept(&self.listener, door, &Arc::default(), routes(site), closing, shutdown).await;
        let _ = close.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all).await;
        connections.shutdown().await;
    }
}

fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn routes<D, F, S>(
    site: Arc<Site<D>>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, String>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let socket = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    warp::method().and(warp::path::full()).and(warp::header::headers_cloned()).and(socket).map(
        move |method: Method, path: FullPath, headers: HeaderMap, socket: Option<Ws>| {
            let answer = answer(&site, &method, path.as_str(), &headers, socket);
            guarded(answer.unwrap_or_else(Reply::into_response), site.address)
        },
    )
}

fn answer<D, F, S>(
    site: &Arc<Site<D>>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    socket: Option<Ws>,
) -> Result<Response, StatusCode>
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, String>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    if !from_the_page(headers, site.address) {
        return Err(StatusCode::FORBIDDEN);
    }
    let path = below(&site.prefix, path).ok_or(StatusCode::NOT_FOUND)?;
    if path == SOCKET {
        // A browser always says which page opens a WebSocket.
        return match socket.filter(|_| headers.contains_key(ORIGIN)) {
            Some(socket) => Ok(upgrade(site.clone(), socket)),
            None => Err(StatusCode::UPGRADE_REQUIRED),
        };
    }
    if method != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let path = if path.is_empty() { "index.html" } else { path };
    let file = site.files.iter().find(|file| file.path == path).ok_or(StatusCode::NOT_FOUND)?;
    Ok(HttpResponse::builder()
        .header(CONTENT_TYPE, kind_of(file.path))
        .body(file.bytes.into())
        .expect("a fixed header and bytes are an answer"))
}

/// Returns whether a request is for this address, and from the page itself or from nobody: another site can point a
/// name of its own at loopback, and its pages can send requests there, but a browser then says so.
fn from_the_page(headers: &HeaderMap, address: SocketAddr) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let here = address.to_string();
    let host = text(HOST).is_some_and(|host| host == here);
    let origin = text(ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(&here));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    host && origin && site.is_none_or(|site| matches!(site, "none" | "same-origin"))
}

/// Returns what comes after the prefix, without telling by its time how much of the prefix was right.
fn below<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let (start, rest) = path.split_at_checked(prefix.len())?;
    let differing = start.bytes().zip(prefix.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    (differing == 0).then_some(rest)
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn upgrade<D, F, S>(site: Arc<Site<D>>, socket: Ws) -> Response
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, String>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Ok(permit) = site.sockets.clone().try_acquire_owned() else {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    };
    let join = move |socket: WebSocket| async move {
        let mut closing = site.closing.clone();
        match (site.dial)().await {
            Ok(stream) => {
                let cut = async {
                    closed(&mut closing).await;
                    Cut::CLOSING
                };
                bridge(socket, stream, cut, Pulse::default()).await;
            }
            Err(why) => not_made(socket, &why).await,
        }
        drop(permit);
    };
    let socket = socket.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    socket.on_upgrade(join).into_response()
}

async fn not_made(mut socket: WebSocket, why: &str) {
    let mut reason = why.to_owned();
    while reason.len() > MAX_REASON_BYTES {
        reason.pop();
    }
    let _ = socket.send(Message::close_with(NOT_MADE, reason)).await;
    let _ = socket.close().await;
}

/// Adds what keeps the page to itself: nothing of other sites in it, and it in no other.
fn guarded(mut response: Response, address: SocketAddr) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self' ws://{address}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy).expect("an address is visible ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const FILES: &[File] =
        &[File { path: "index.html", bytes: b"<p>hello" }, File { path: "a/b.js", bytes: b"1" }];

    /// Serves the page in the background and returns its address and path.
    async fn served(dial: Result<&'static [u8], &'static str>) -> (SocketAddr, String) {
        let page = Page::listen(FILES).await.unwrap();
        let (address, path) = (page.address, format!("/{}/", page.token));
        assert_eq!(page.url(), format!("http://{address}{path}"));
        let dial = move || async move {
            let (mut far, near) = tokio::io::duplex(64);
            far.write_all(dial?).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(near)
        };
        tokio::spawn(page.serve(dial, std::future::pending()));
        (address, path)
    }

    /// Sends a request, and returns the beginning of the answer.
    async fn ask(address: SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn files_are_served_under_the_token_with_what_guards_them() {
        let (address, path) = served(Ok(b"")).await;
        let host = format!("host: {address}\r\n");
        let page = ask(address, &path, &host).await;
        assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("<p>hello"), "{page}");
        assert!(page.contains("frame-ancestors 'none'") && page.contains("no-store"), "{page}");
        let script = ask(address, &format!("{path}a/b.js"), &host).await;
        assert!(script.contains("text/javascript"), "{script}");
        for missing in ["/", "/index.html", &path.replace(&path[1..2], "g"), &format!("{path}../Cargo.toml")]
        {
            assert!(ask(address, missing, &host).await.starts_with("HTTP/1.1 404"), "{missing}");
        }
    }

    #[tokio::test]
    async fn other_hosts_and_origins_are_refused() {
        let (address, path) = served(Ok(b"")).await;
        let own = format!("host: {address}\r\n");
        for headers in [
            "host: evil.example\r\n".to_owned(),
            format!("host: localhost:{}\r\n", address.port()),
            String::new(),
            format!("{own}origin: http://evil.example\r\n"),
            format!("{own}origin: null\r\n"),
            format!("{own}sec-fetch-site: cross-site\r\n"),
        ] {
            assert!(ask(address, &path, &headers).await.starts_with("HTTP/1.1 403"), "{headers}");
        }
        let same = format!("{own}origin: http://{address}\r\nsec-fetch-site: same-origin\r\n");
        assert!(ask(address, &path, &same).await.starts_with("HTTP/1.1 200"));
    }

    /// Opens the WebSocket, and returns what comes after the answer's head, up to this end.
    async fn socket(address: SocketAddr, path: &str, origin: &str, end: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path}socket HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(end) {
            answer.push(stream.read_u8().await.unwrap());
        }
        answer
    }

    #[tokio::test]
    async fn the_socket_leads_to_what_is_dialled_for_the_page_only() {
        let (address, path) = served(Ok(b"RFB 003.008\n")).await;
        let own = format!("origin: http://{address}\r\n");
        assert!(socket(address, &path, &own, b"\x82\x0cRFB 003.008\n").await.starts_with(b"HTTP/1.1 101"));
        assert!(socket(address, &path, "", b"\r\n\r\n").await.starts_with(b"HTTP/1.1 426"));
        let other = "origin: http://evil.example\r\n";
        assert!(socket(address, &path, other, b"\r\n\r\n").await.starts_with(b"HTTP/1.1 403"));

        let (address, path) = served(Err("web is not running")).await;
        let own = format!("origin: http://{address}\r\n");
        socket(address, &path, &own, b"\x0f\xa0web is not running").await; // 4000
    }
}
