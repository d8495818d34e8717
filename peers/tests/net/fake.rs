//! A server of the table that does as it is told, and the tables of those who ask it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gx_core::peers::exchange::answer;
use gx_core::peers::file::Upload;
use gx_core::peers::{PeerRecord, PeerTable, SignedRecord, Source, TableLimits, VerifiedRecord, form};
use gx_core::{NodeId, Timestamp};
use gx_identity::NodeKey;
use gx_identity::tls::Acceptor;
use gx_peers::Peers;
use gx_peers::update::{Options, Progress, Updated, update};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Returns the present.
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// How a server answers an exchange.
#[derive(Clone)]
pub(crate) enum Manner {
    /// As it should.
    Honest,
    /// With this body.
    Says(Vec<u8>),
    /// With this body, which is in gzip.
    SaysPacked(Vec<u8>),
    /// With a head that promises so many bytes, and two of them.
    Promises(u64),
    /// A byte each half second.
    Slow,
    /// Not at all.
    Silent,
    /// So often that it is asked too much, and then as it should.
    Busy(Arc<AtomicU32>),
}

impl Manner {
    /// Returns one that is too busy for so many requests.
    pub(crate) fn busy_for(requests: u32) -> Self {
        Self::Busy(Arc::new(AtomicU32::new(requests)))
    }

    fn is_busy(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        match self {
            Self::Busy(left) => left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok(),
            _ => false,
        }
    }
}

/// What a host says that is asked too often.
const TOO_FAST: &str = r#"{"code":"ResourceExhausted","message":"too many requests","retry_after_ms":20}"#;

/// A server.
pub(crate) struct Fake {
    pub(crate) key: Arc<NodeKey>,
    pub(crate) address: SocketAddr,
    pub(crate) table: Arc<Mutex<PeerTable>>,
    data: tempfile::TempDir,
}

impl Fake {
    /// Starts one that knows itself.
    pub(crate) async fn start(manner: Manner) -> Self {
        let data = tempfile::tempdir().unwrap();
        let key = Arc::new(gx_identity::open(data.path()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut table = PeerTable::new(TableLimits::default(), Some(key.id()));
        table.insert(verified(&signed(&key, address)), Source::Own, now()).unwrap();
        let table = Arc::new(Mutex::new(table));
        let (acceptor, shared) = (Acceptor::new(&key), table.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, table, manner) = (acceptor.clone(), shared.clone(), manner.clone());
                // As a real one: else each answer waits for the acknowledgement of the one before.
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    if let Ok((stream, _)) = acceptor.accept(stream).await {
                        serve(stream, &table, &manner).await;
                    }
                });
            }
        });
        Self { key, address, table, data }
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn id(&self) -> NodeId {
        self.key.id()
    }

    /// Lets it know what this one says of itself.
    pub(crate) fn knows(&self, other: &Fake) {
        self.tells(&verified(&signed(&other.key, other.address)));
    }

    pub(crate) fn tells(&self, record: &VerifiedRecord) {
        self.table.lock().unwrap().insert(record.clone(), Source::Own, now()).unwrap();
    }
}

/// Returns what a server with this key says of itself.
pub(crate) fn signed(key: &NodeKey, address: SocketAddr) -> SignedRecord {
    let seq = now().unix_ms() as u64;
    let record =
        PeerRecord { addresses: vec![address], ..PeerRecord::new(key.id(), seq, now(), PeerRecord::LEASE) };
    record.sign(|message| key.sign(message)).unwrap()
}

pub(crate) fn verified(signed: &SignedRecord) -> VerifiedRecord {
    signed.verify(&gx_identity::verify, now()).unwrap()
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, table: &Mutex<PeerTable>, manner: &Manner) {
    while let Some((head, body)) = request(&mut stream).await {
        let honest = honest(&head, &body, table);
        let (body, packed) = match manner {
            _ if head.starts_with("GET /healthz") || head.starts_with("GET /speedtest/ping") => {
                (b"{}".to_vec(), false)
            }
            Manner::Busy(_) if manner.is_busy() => {
                // A real one closes the connection whose body it has not read.
                let length = TOO_FAST.len();
                let close = if head.starts_with("POST") { "connection: close\r\n" } else { "" };
                let head =
                    format!("HTTP/1.1 429 Too Many Requests\r\n{close}content-length: {length}\r\n\r\n");
                let _ = stream.write_all(format!("{head}{TOO_FAST}").as_bytes()).await;
                let _ = stream.flush().await;
                match close.is_empty() {
                    true => continue,
                    false => return,
                }
            }
            Manner::Honest | Manner::Slow | Manner::Busy(_) => (honest, false),
            Manner::Says(body) => (body.clone(), false),
            Manner::Promises(_) => (b"{}".to_vec(), false),
            Manner::SaysPacked(body) => (body.clone(), true),
            Manner::Silent => std::future::pending().await,
        };
        let packed = if packed { "content-encoding: gzip\r\n" } else { "" };
        let length = match manner {
            Manner::Promises(bytes) if !head.starts_with("GET") => *bytes,
            _ => body.len() as u64,
        };
        let head = format!("HTTP/1.1 200 OK\r\n{packed}content-length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if matches!(manner, Manner::Slow) && body.len() > 2 {
            let mut pause = tokio::time::interval(Duration::from_millis(500));
            for byte in body {
                pause.tick().await;
                if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            continue;
        }
        let _ = stream.write_all(&body).await;
        let _ = stream.flush().await;
    }
}

fn honest(head: &str, body: &[u8], table: &Mutex<PeerTable>) -> Vec<u8> {
    let mut table = table.lock().unwrap();
    let text = if head.starts_with("POST") {
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        let upload: Upload = serde_json::from_slice(form::decode(kind, body).unwrap()).unwrap();
        let answer = answer(&mut table.book(Source::Own, now()), &upload.ask.unwrap());
        serde_json::to_vec(&answer)
    } else {
        let after =
            head.split("after=").nth(1).map(|rest| rest.split([' ', '&']).next().unwrap().parse().unwrap());
        let page: gx_core::peers::file::TablePage = table.page(after, 1, Source::Own, now()).into();
        serde_json::to_vec(&page)
    };
    text.unwrap()
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// Opens the table of somebody who knows these addresses.
pub(crate) fn client(data: &Path, known: &[SocketAddr]) -> Arc<Peers> {
    let key = gx_identity::open(data).unwrap();
    let peers = Peers::open(data, &key, TableLimits::default()).unwrap().peers;
    for address in known {
        peers.change(|table| table.insert_legacy(*address, "", Source::Own, now()).map(drop)).unwrap();
    }
    Arc::new(peers)
}

/// Updates a table, in three rounds.
pub(crate) async fn updated(peers: &Arc<Peers>) -> Updated {
    let options = Options { hops: 3, deadline: Duration::from_secs(30), expected: Default::default() };
    update(peers, &options, watch::Sender::new(Progress::default())).await
}
