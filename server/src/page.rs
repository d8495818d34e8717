//! A page for a browser on this machine, on loopback: files of the program, WebSockets that lead to where the site says,
//! and what its scripts ask.
//!
//! Another page cannot use it: the address has a port and a token of its own, requests must name that address as their
//! host, and as their origin where they name one. Other users of the machine do not know the token.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::error::{Result, ServerError};
use crate::node::Identity;
use crate::serve::{Door, accept};

mod answer;
mod guard;

/// How long connections are waited for at the end.
const GRACE: Duration = Duration::from_secs(1);

/// A file of a page.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its path below the page's address; `index.html` is also the address itself.
    pub path: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
}

/// What a page is made of.
pub trait Site: Send + Sync + 'static {
    /// What WebSockets are joined to.
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    /// Returns the file at a path below the page's address. The address itself is the empty path.
    fn file(&self, path: &str) -> Option<File>;

    /// Connects what a WebSocket at a path, which ends with `socket`, is joined to. An error is told to the page.
    fn dial(&self, path: &str) -> impl Future<Output = Result<Self::Stream, String>> + Send;

    /// Answers a request of the page's scripts that is for no file.
    fn ask(&self, ask: Ask) -> impl Future<Output = Answer> + Send {
        let _ = ask;
        async { Answer::Missing }
    }
}

/// A request of a page's scripts.
#[derive(Debug)]
pub struct Ask {
    /// Whether it may change something: any method but GET, and it comes from the page for sure.
    pub intent: Intent,
    /// The path below the page's address, still percent-encoded.
    pub path: String,
    /// What comes after the question mark.
    pub query: String,
    /// The body, of at most 64 KiB.
    pub body: Bytes,
}

/// What a request is meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To read: GET.
    Read,
    /// To change something: POST.
    Change,
    /// To remove something: DELETE.
    Remove,
}

/// The answer to a page's scripts.
#[derive(Debug)]
pub enum Answer {
    /// A value, and the status of the answer.
    Json(u16, Value),
    /// Values, each as it comes, as server-sent events
    /// (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
    Events(mpsc::Receiver<Value>),
    /// Text, as it comes.
    Text(mpsc::Receiver<Bytes>),
    /// There is nothing at this path.
    Missing,
}

/// A page that is listened for.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

impl Page {
    /// Listens on a free port of loopback, under a random token.
    ///
    /// # Errors
    /// [`ServerError::Listen`].
    pub async fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ServerError::Listen)?;
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        Ok(Self { listener, address, token: guard::token().map_err(ServerError::Listen)? })
    }

    /// Returns the page's address. Who has it can open the page.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Serves the page until `shutdown` is done.
    pub async fn serve<S: Site>(self, site: S, shutdown: impl Future<Output = ()>) {
        let (close, closing) = watch::channel(false);
        let routes = answer::routes(site, self.address, &self.token, closing.clone());
        let door = Door::Plain(Identity::ThisMachine);
        let routes = TowerToHyperService::new(warp::service(routes));
        let answer = move |_, request| routes.call(request).map(|Ok(response)| response);
        let mut connections = accept(&self.listener, door, &Arc::default(), answer, closing, shutdown).await;
        let _ = close.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all).await;
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::TcpStream;

    use super::*;

    const FILES: &[File] =
        &[File { path: "index.html", bytes: b"<p>hello" }, File { path: "a/b.js", bytes: b"1" }];

    /// A site whose WebSocket leads to these bytes, or fails so.
    struct Fixed(Result<&'static [u8], &'static str>);

    impl Site for Fixed {
        type Stream = DuplexStream;

        fn file(&self, path: &str) -> Option<File> {
            let path = if path.is_empty() { "index.html" } else { path };
            FILES.iter().find(|file| file.path == path).copied()
        }

        async fn dial(&self, _: &str) -> Result<DuplexStream, String> {
            let (mut far, near) = tokio::io::duplex(64);
            far.write_all(self.0?).await.map_err(|error| error.to_string())?;
            Ok(near)
        }

        async fn ask(&self, ask: Ask) -> Answer {
            match ask.path.as_str() {
                "api/echo" => {
                    let told =
                        format!("{:?} {} {}", ask.intent, ask.query, String::from_utf8_lossy(&ask.body));
                    Answer::Json(200, told.into())
                }
                "api/live" => {
                    let (sender, events) = mpsc::channel(1);
                    tokio::spawn(async move { while sender.send(Value::from(7)).await.is_ok() {} });
                    Answer::Events(events)
                }
                _ => Answer::Missing,
            }
        }
    }

    /// Serves the page in the background and returns its address and path.
    async fn served(dial: Result<&'static [u8], &'static str>) -> (SocketAddr, String) {
        let page = Page::listen().await.unwrap();
        let (address, path) = (page.address, format!("/{}/", page.token));
        assert_eq!(page.url(), format!("http://{address}{path}"));
        tokio::spawn(page.serve(Fixed(dial), std::future::pending()));
        (address, path)
    }

    /// Sends a request, and returns the answer.
    async fn ask(address: SocketAddr, path: &str, headers: &str) -> String {
        request(address, "GET", path, headers, "").await
    }

    async fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
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

    #[tokio::test]
    async fn what_changes_something_must_come_from_the_page_and_be_short() {
        let (address, path) = served(Ok(b"")).await;
        let (echo, own) = (format!("{path}api/echo?a=b"), format!("host: {address}\r\n"));
        let page = format!("{own}origin: http://{address}\r\n");
        let read = ask(address, &echo, &own).await;
        assert!(read.starts_with("HTTP/1.1 200") && read.ends_with("\"Read a=b \""), "{read}");
        let changed = request(address, "POST", &echo, &page, "{}").await;
        assert!(changed.ends_with("\"Change a=b {}\""), "{changed}");
        let removed = request(address, "DELETE", &echo, &page, "").await;
        assert!(removed.ends_with("\"Remove a=b \""), "{removed}");
        for (method, headers, body, status) in [
            ("POST", &own, String::new(), "403"),
            ("DELETE", &own, String::new(), "403"),
            ("PUT", &page, String::new(), "405"),
            ("POST", &page, "x".repeat(64 * 1024 + 1), "413"),
        ] {
            let answer = request(address, method, &echo, headers, &body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method}: {answer}");
        }
    }

    #[tokio::test]
    async fn events_come_one_after_another() {
        let (address, path) = served(Ok(b"")).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path}api/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut told = String::new();
        while told.matches("data: 7\n\n").count() < 3 {
            let mut bytes = [0; 256];
            let length = stream.read(&mut bytes).await.unwrap();
            told.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        assert!(told.contains("content-type: text/event-stream"), "{told}");
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
