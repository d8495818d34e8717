//! The measure of the store's price: the same hub and the same WebSockets, with messages in memory and no hash of any.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gx_chat::frames::{MAX_FRAME_BYTES, Message as Said};
use gx_chat::hub::{Flow, Hub, Peer, Session};
use gx_chat::policy::Policy;
use gx_chat::store::{
    Account, AccountStore, ChatStore, Found, Head, Mark, NewMessage, Outcome, Page, Range, StoreError,
    TokenHash,
};
use gx_chat::{ChainHash, DeviceId, GroupId, Seq, UserName};
use gx_core::NodeId;
use http_body_util::Empty;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::Result;

const POLICY: &str = include_str!("policy.toml");
/// Frames that are sent together, as `gx serve` does.
const TOGETHER: usize = 64;

/// Serves until the program's input ends. Everybody in the policy has an account by the server's own key.
pub(crate) async fn serve() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = gx_identity::open(folder.path())?.id();
    let clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    let policy = Policy::parse(POLICY, "policy.toml")?;
    let hub = Hub::new(Arc::new(Memory::of(node)), policy, node, Arc::new(clock));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "listening": listener.local_addr()?, "node_id": node }));
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream, hub.clone(), node));
        }
    };
    let mut input = Vec::new();
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = stdin.read_to_end(&mut input) => Ok(ended.map(drop)?),
        failed = accepting => failed,
    }
}

async fn answer(stream: TcpStream, hub: Arc<Hub>, node: NodeId) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let session = hub.connect(Peer { node: Some(node), from: None });
        let upgrade = hyper::upgrade::on(&mut request);
        let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                converse(upgraded, session).await;
            }
        });
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = key.unwrap_or_default();
        for (name, value) in
            [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, &accept)]
        {
            response.headers_mut().extend(value.parse().ok().map(|value| (name, value)));
        }
        async { Ok::<_, Infallible>(response) }
    });
    // A client that goes away is no failure of the bench.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// Passes frames on, both ways, as `gx serve` does.
async fn converse(upgraded: Upgraded, mut session: Session) -> Option<()> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(4 << 20)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    loop {
        tokio::select! {
            next = session.next() => {
                socket.feed(text(next?)?).await.ok()?;
                for _ in 1..TOGETHER {
                    let Some(next) = session.try_next() else { break };
                    socket.feed(text(next)?).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
            message = socket.next(), if session.may_ask() => {
                if let Message::Text(text) = message?.ok()?
                    && session.take(text.as_bytes()).await == Flow::End
                {
                    return None;
                }
            }
        }
    }
}

fn text(bytes: Bytes) -> Option<Message> {
    Utf8Bytes::try_from(bytes).ok().map(Message::Text)
}

/// Messages in memory.
struct Memory {
    /// Whose key everybody signs in with.
    node: NodeId,
    said: RwLock<BTreeMap<GroupId, Vec<Said>>>,
    news: watch::Sender<u64>,
}

impl Memory {
    fn of(node: NodeId) -> Self {
        Self { node, said: RwLock::default(), news: watch::Sender::new(0) }
    }

    fn said(&self) -> RwLockReadGuard<'_, BTreeMap<GroupId, Vec<Said>>> {
        self.said.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChatStore for Memory {
    fn append(&self, batch: &[NewMessage], now: u64) -> std::result::Result<Vec<Outcome>, StoreError> {
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        let stored = batch.iter().map(|message| {
            let group = said.entry(message.group.clone()).or_default();
            let seq = group.last().map_or(Seq::ONE, |last| last.seq.next());
            group.push(Said {
                seq,
                ts: now,
                from: message.from.clone(),
                cid: message.cid.clone(),
                text: message.text.clone(),
                h: ChainHash::ROOT,
            });
            Outcome::Stored { seq, ts: now }
        });
        let stored = stored.collect();
        drop(said);
        self.news.send_modify(|number| *number += 1);
        Ok(stored)
    }

    fn read(
        &self,
        group: &GroupId,
        range: Range,
        limit: u32,
        _: u64,
    ) -> std::result::Result<Page, StoreError> {
        let said = self.said();
        let all = said.get(group).map(Vec::as_slice).unwrap_or_default();
        let first = match range {
            Range::After(seq) => usize::try_from(seq.get()).unwrap_or(usize::MAX).min(all.len()),
            Range::Before(_) | Range::Last | Range::Since(_) => all.len().saturating_sub(limit as usize),
        };
        let end = all.len().min(first + limit as usize);
        Ok(Page { messages: all[first..end].to_vec(), more: end < all.len(), expired: 0 })
    }

    fn search(
        &self,
        _: &str,
        _: &std::collections::BTreeSet<GroupId>,
        _: u32,
        _: u64,
    ) -> std::result::Result<Found, StoreError> {
        Ok(Found::default())
    }

    fn heads(&self) -> BTreeMap<GroupId, Head> {
        let head = |all: &Vec<Said>| {
            let last = all.last().map_or(Seq::ZERO, |last| last.seq);
            Head { first: Seq::ONE, last, hash: ChainHash::ROOT }
        };
        self.said().iter().map(|(group, all)| (group.clone(), head(all))).collect()
    }

    fn mark(&self, _: &[Mark]) -> std::result::Result<(), StoreError> {
        Ok(())
    }

    fn positions(&self, _: &UserName) -> std::result::Result<BTreeMap<GroupId, Seq>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn expire(&self, _: u64) -> std::result::Result<u64, StoreError> {
        Ok(0)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn verify(&self) -> std::result::Result<u64, StoreError> {
        Ok(0)
    }
}

impl AccountStore for Memory {
    fn account(&self, user: &UserName) -> std::result::Result<Option<Account>, StoreError> {
        let node = Some(self.node);
        Ok(Some(Account { user: user.clone(), password: None, node, disabled: false }))
    }

    fn accounts(&self) -> std::result::Result<Vec<Account>, StoreError> {
        Ok(Vec::new())
    }

    fn put_account(&self, _: &Account) -> std::result::Result<(), StoreError> {
        Ok(())
    }

    fn put_token(
        &self,
        _: &TokenHash,
        _: &UserName,
        _: &DeviceId,
        _: u64,
    ) -> std::result::Result<(), StoreError> {
        Ok(())
    }

    fn has_token(
        &self,
        _: &TokenHash,
        _: &UserName,
        _: &DeviceId,
        _: u64,
    ) -> std::result::Result<bool, StoreError> {
        Ok(false)
    }
}
