//! A connection's session: what its frames do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::conn::Conn;
use super::door::blocking;
use super::enter::Entry;
use super::rate::Bucket;
use super::trouble::Trouble;
use super::writer::Job;
use super::{Hub, Peer, Signed, count, random_in};
use crate::frames::{
    ClientFrame, ErrorCode, FrameError, Hello, MAX_PAGE, Member, NackCode, ServerFrame, VERSION, WhyClosing,
};
use crate::id::{Cid, GroupId, Seq, UserName};
use crate::policy::{Policy, Verb};
use crate::store::{NewMessage, Range, StoreError};

/// What a connection may ask, other than to send: so many at once, and in so long again.
const ASKS: (u32, Duration) = (200, Duration::from_secs(4));
/// How often somebody is shown to be typing.
const TYPING: (u32, Duration) = (3, Duration::from_secs(6));
/// Frames that may be none before the connection ends.
const MAX_BAD_FRAMES: u32 = 16;

/// What becomes of a connection after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Go,
    /// It ends, once what waits is sent.
    End,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
    peer: Peer,
    conn: Arc<Conn>,
    signed: Option<Signed>,
    asks: Bucket,
    typing: Bucket,
    bad_frames: u32,
}

/// What an answer that is not given is called, and why.
struct NotGiven {
    id: u64,
    code: ErrorCode,
    msg: &'static str,
}

impl Session {
    pub(super) fn new(hub: Arc<Hub>, peer: Peer) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let now = Instant::now();
        // Nobody yet: it is replaced when somebody signs in.
        let nobody = Signed {
            user: "nobody".parse().expect("it is a name"),
            device: "none".parse().expect("it is a name"),
            node: None,
        };
        Self {
            conn: Arc::new(Conn::new(NEXT.fetch_add(1, Ordering::Relaxed), nobody)),
            hub,
            peer,
            signed: None,
            asks: Bucket::full(now),
            typing: Bucket::full(now),
            bad_frames: 0,
        }
    }

    /// Returns who is signed in.
    pub fn user(&self) -> Option<&UserName> {
        self.signed.as_ref().map(|signed| &signed.user)
    }

    /// Returns whether it takes another frame now: there is room for what it is answered.
    pub fn may_ask(&self) -> bool {
        self.conn.may_ask()
    }

    /// Returns the next frame to send, or nothing at the end. It loses nothing when it is dropped while it waits.
    pub async fn next(&self) -> Option<Bytes> {
        self.conn.next().await
    }

    /// Returns the next frame to send, if one waits.
    pub fn try_next(&self) -> Option<Bytes> {
        self.conn.pop()
    }

    /// Ends the connection, for a reason of whoever holds it.
    pub fn close(&self, why: WhyClosing) {
        self.conn.end(why, Some(random_in(super::COME_BACK_MS)));
    }

    /// Takes what is no frame at all, as binary messages are.
    pub fn take_nonsense(&mut self) -> Flow {
        self.bad_frame(&FrameError::Malformed { why: "it is not text".to_owned() })
    }

    /// Takes a frame.
    pub async fn take(&mut self, bytes: &[u8]) -> Flow {
        let frame = match ClientFrame::parse(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.bad_frame(&error),
        };
        let Some(signed) = self.signed.clone() else {
            return match frame {
                ClientFrame::Hello(hello) => self.hello(hello).await,
                _ => self.fatal(ErrorCode::Order, None, "the first frame is `hello`"),
            };
        };
        let is_send = matches!(frame, ClientFrame::Send { .. });
        if !is_send && let Err(wait) = self.asks.take(ASKS.0, ASKS.1, Instant::now()) {
            let id = match frame {
                ClientFrame::Hist { id, .. } | ClientFrame::Find { id, .. } | ClientFrame::Who { id, .. } => {
                    Some(id)
                }
                _ => None,
            };
            self.error(id, ErrorCode::Rate, Some(ms(wait)), "too many at once");
            return Flow::Go;
        }
        match frame {
            ClientFrame::Hello(_) => return self.fatal(ErrorCode::Order, None, "`hello` was said before"),
            ClientFrame::Send { cid, g, text } => self.send(&signed, cid, &g, text),
            ClientFrame::Got { g, seq } => self.mark(&signed, g, seq, Seq::ZERO),
            ClientFrame::Read { g, seq } => self.mark(&signed, g, Seq::ZERO, seq),
            ClientFrame::Hist { id, g, after, before, since, limit } => {
                let range = match (after, before, since) {
                    (Some(seq), _, _) => Range::After(seq),
                    (None, Some(seq), _) => Range::Before(seq),
                    (None, None, Some(time)) => Range::Since(time),
                    (None, None, None) => Range::Last,
                };
                let given = self.history(&signed, id, g, range, limit).await;
                self.given(given);
            }
            ClientFrame::Find { id, q, g, limit } => {
                let given = self.find(&signed, id, q, g, limit).await;
                self.given(given);
            }
            ClientFrame::Typing { g } => self.typing(&signed, &g),
            ClientFrame::Who { id, g } => {
                let given = self.who(&signed, id, &g);
                self.given(given);
            }
            ClientFrame::Ping {} => self.conn.tell(&ServerFrame::Pong { now: self.hub.now() }),
            ClientFrame::Bye {} => {
                self.conn.end(WhyClosing::Bye, None);
                return Flow::End;
            }
            ClientFrame::Unknown => {}
        }
        Flow::Go
    }

    async fn hello(&mut self, hello: Hello) -> Flow {
        if hello.v != VERSION {
            return self.fatal(ErrorCode::Version, None, "this server speaks version 1");
        }
        if self.hub.is_stopping() {
            self.close(WhyClosing::Stop);
            return Flow::End;
        }
        let changes = self.hub.account_changes.load(Ordering::SeqCst);
        let (signed, token) = match self.hub.sign_in(&hello, &self.peer).await {
            Ok(signed) => signed,
            Err(refusal) => return self.fatal(refusal.code, refusal.retry_ms, refusal.msg),
        };
        let hub = self.hub.clone();
        let user = signed.user.clone();
        let (resume, chain) = (hello.resume, hello.chain);
        let looked_up = blocking(move || {
            let reset = hub.resets(&user, &resume, &chain)?;
            Ok::<_, StoreError>((hub.store.positions(&user)?, reset, resume))
        });
        let (read, reset, resume) = match looked_up.await {
            Some(Ok(found)) => found,
            _ => return self.fatal(ErrorCode::Unavailable, Some(random_in(1_000..3_000)), "try again later"),
        };
        self.conn = Arc::new(Conn::new(self.conn.id, signed.clone()));
        let entry = Entry { token, read, reset, resume, changes };
        if let Err(why) = self.hub.enter(&self.conn, entry) {
            self.close(why);
            return Flow::End;
        }
        self.signed = Some(signed);
        // It may have begun to end while this one was on its way in.
        if self.hub.is_stopping() {
            self.close(WhyClosing::Stop);
        }
        Flow::Go
    }

    fn send(&mut self, signed: &Signed, cid: String, g: &str, text: String) {
        let refused = |code, msg: &str| (code, None, msg.to_owned());
        let checked = || {
            let cid: Cid = cid
                .parse()
                .map_err(|error: gx_core::id::ParseIdError| (NackCode::BadCid, None, error.to_string()))?;
            let policy = self.hub.policy();
            let user = signed.user.as_str();
            if !policy.allows(user, Verb::Send, g) {
                return Err(match policy.allows(user, Verb::History, g) {
                    true => refused(NackCode::NoWrite, "you may read there, and not write"),
                    false => refused(NackCode::NoGroup, "there is no such group"),
                });
            }
            let group: GroupId =
                g.parse().map_err(|_| refused(NackCode::NoGroup, "there is no such group"))?;
            let limits = policy.limits();
            if text.len() > limits.max_text {
                let told = format!("it has {} bytes, {} at most are taken", text.len(), limits.max_text);
                return Err((NackCode::TooLong, None, told));
            }
            if text.trim().is_empty() {
                return Err(refused(NackCode::Empty, "nothing is said"));
            }
            self.hub
                .take_turn(&signed.user, &policy)
                .map_err(|wait| (NackCode::Rate, Some(ms(wait)), "too many messages at once".to_owned()))?;
            Ok(NewMessage { group, from: signed.user.clone(), cid, text: text.clone() })
        };
        let message = match checked() {
            Ok(message) => message,
            Err((code, retry_ms, msg)) => return self.nack(cid, code, retry_ms, msg),
        };
        self.conn.sends();
        match self.hub.jobs.try_send(Job::Store(message, self.conn.clone())) {
            Ok(()) => {}
            Err(error) => {
                let (code, msg) = match error {
                    tokio::sync::mpsc::error::TrySendError::Closed(_) => {
                        (NackCode::Closed, "the server ends")
                    }
                    tokio::sync::mpsc::error::TrySendError::Full(_) => {
                        (NackCode::Unavailable, "the server has too much to store")
                    }
                };
                count(&self.hub.figures.refused, 1);
                let retry_ms = Some(random_in(500..1_500));
                self.conn.answer(&ServerFrame::Nack { cid, code, retry_ms, msg: msg.to_owned() });
            }
        }
    }

    fn nack(&self, cid: String, code: NackCode, retry_ms: Option<u64>, msg: String) {
        count(&self.hub.figures.refused, 1);
        let cid = cid.chars().take(80).collect();
        self.conn.tell(&ServerFrame::Nack { cid, code, retry_ms, msg });
    }

    fn mark(&self, signed: &Signed, group: GroupId, got: Seq, read: Seq) {
        let policy = self.hub.gate();
        if !policy.allows(signed.user.as_str(), Verb::History, group.as_str()) {
            return;
        }
        let last = self.hub.room().sent.get(&group).copied().unwrap_or(Seq::ZERO);
        // Nobody has what there is not.
        self.hub.note(&signed.user, &signed.device, group, got.min(last), read.min(last));
    }

    async fn history(
        &self,
        signed: &Signed,
        id: u64,
        group: GroupId,
        range: Range,
        limit: u32,
    ) -> Result<(), NotGiven> {
        let no_group = NotGiven { id, code: ErrorCode::NoGroup, msg: "there is no such group" };
        let policy = self.hub.policy();
        let may = |policy: &Policy| policy.allows(signed.user.as_str(), Verb::History, group.as_str());
        if !may(&policy) {
            return Err(no_group);
        }
        let (store, read, oldest) = (self.hub.store.clone(), group.clone(), self.hub.oldest(&policy));
        let limit = limit.clamp(1, MAX_PAGE);
        let page = blocking(move || store.read(&read, range, limit, oldest)).await;
        let page = unless_failed(&self.hub.troubles.reading, id, page)?;
        // The right may have gone meanwhile.
        let policy = self.hub.gate();
        if !may(&policy) {
            return Err(no_group);
        }
        let (m, more, expired) = (page.messages, page.more, page.expired);
        self.conn.tell_of(&group, &ServerFrame::Page { id, g: group.clone(), m, more, expired });
        Ok(())
    }

    async fn find(
        &self,
        signed: &Signed,
        id: u64,
        query: String,
        groups: BTreeSet<GroupId>,
        limit: u32,
    ) -> Result<(), NotGiven> {
        let policy = self.hub.policy();
        let user = signed.user.as_str();
        let may = |policy: &Policy, group: &str| policy.allows(user, Verb::Search, group);
        let groups: BTreeSet<GroupId> = match groups.is_empty() {
            true => policy.groups_of(user).into_iter().filter_map(|group| group.id().parse().ok()).collect(),
            false if groups.iter().all(|group| may(&policy, group.as_str())) => groups,
            false => return Err(NotGiven { id, code: ErrorCode::NoGroup, msg: "there is no such group" }),
        };
        let groups = groups.into_iter().filter(|group| may(&policy, group.as_str())).collect();
        let (store, oldest) = (self.hub.store.clone(), self.hub.oldest(&policy));
        let limit = limit.clamp(1, MAX_PAGE);
        let found = blocking(move || store.search(&query, &groups, limit, oldest)).await;
        let found = unless_failed(&self.hub.troubles.searching, id, found)?;
        let policy = self.hub.gate();
        let seen = found.hits.into_iter().filter(|hit| may(&policy, hit.g.as_str()));
        self.conn.tell(&ServerFrame::Hits { id, m: seen.collect(), more: found.more });
        Ok(())
    }

    fn typing(&mut self, signed: &Signed, group: &GroupId) {
        if self.typing.take(TYPING.0, TYPING.1, Instant::now()).is_err() {
            return;
        }
        let policy = self.hub.gate();
        if !policy.allows(signed.user.as_str(), Verb::Typing, group.as_str()) {
            return;
        }
        let frame = ServerFrame::Typing { g: group.clone(), user: signed.user.clone() };
        let text = Bytes::from(frame.to_text());
        let room = self.hub.room();
        let others = room.live.get(group).into_iter().flat_map(|live| live.values());
        for conn in others.filter(|conn| conn.id != self.conn.id) {
            conn.mention(&text);
        }
    }

    fn who(&self, signed: &Signed, id: u64, group: &GroupId) -> Result<(), NotGiven> {
        let policy = self.hub.gate();
        let user = signed.user.as_str();
        if !policy.allows(user, Verb::Members, group.as_str()) {
            return Err(NotGiven { id, code: ErrorCode::NoGroup, msg: "there is no such group" });
        }
        let sees_presence = policy.allows(user, Verb::Presence, group.as_str());
        let room = self.hub.room();
        let all = policy.who_may(Verb::Members, group.as_str()).into_iter();
        let m = all.filter_map(|name| {
            Some(Member { user: name.parse().ok()?, on: sees_presence && room.presence.is_here(name) })
        });
        self.conn.tell_of(group, &ServerFrame::Members { id, g: group.clone(), m: m.collect() });
        Ok(())
    }

    fn given(&self, given: Result<(), NotGiven>) {
        if let Err(NotGiven { id, code, msg }) = given {
            let retry_ms = (code == ErrorCode::Unavailable).then(|| random_in(500..1_500));
            self.error(Some(id), code, retry_ms, msg);
        }
    }

    fn error(&self, id: Option<u64>, code: ErrorCode, retry_ms: Option<u64>, msg: &str) {
        let msg = msg.to_owned();
        self.conn.tell(&ServerFrame::Error { id, code, fatal: false, retry_ms, msg });
    }

    fn fatal(&self, code: ErrorCode, retry_ms: Option<u64>, msg: &str) -> Flow {
        let msg = msg.to_owned();
        self.conn.finish(&ServerFrame::Error { id: None, code, fatal: true, retry_ms, msg });
        Flow::End
    }

    fn bad_frame(&mut self, error: &FrameError) -> Flow {
        self.bad_frames += 1;
        let told = error.to_string();
        // Who is not signed in yet has nothing to lose.
        if self.signed.is_none() || self.bad_frames > MAX_BAD_FRAMES {
            return self.fatal(ErrorCode::BadFrame, None, &told);
        }
        self.error(None, ErrorCode::BadFrame, None, &told);
        Flow::Go
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.room().leave(&self.conn);
        self.hub.gone.notify_waiters();
    }
}

fn unless_failed<T>(trouble: &Trouble, id: u64, done: Option<Result<T, StoreError>>) -> Result<T, NotGiven> {
    let error = match done {
        Some(Ok(value)) => {
            trouble.worked(Instant::now());
            return Ok(value);
        }
        Some(Err(error)) => error,
        None => return Err(NotGiven { id, code: ErrorCode::Unavailable, msg: "the server ends" }),
    };
    if trouble.failed(&error.to_string(), Instant::now()) {
        tracing::error!(%error, hint = error.hint(), "the chat cannot read what it has stored");
    }
    let msg = match error {
        // The words of what was said last are not in the index yet.
        StoreError::Full { .. } => "the server has no room left to look it up",
        _ => "the server cannot look it up now",
    };
    Err(NotGiven { id, code: ErrorCode::Unavailable, msg })
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}
