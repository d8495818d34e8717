//! The server's side of the chat, without a socket: frames come in, frames go out.
//!
//! A message goes this way: [`Session::take`] reads and checks it; the writer stores many at once and answers each; what is
//! stored is read by its number and goes to whoever may see it; each connection has a queue with a bound. Whoever reads too
//! slowly is told from where to catch up: nobody waits for them, and nothing is lost in silence.
//!
//! Every frame about a group enters a queue while the policy cannot change, and only when the policy lets it: a right that is
//! taken away is gone everywhere when [`Hub::reload`] returns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use gx_core::NodeId;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::frames::{self, RightsIn, ServerFrame, WhyClosing};
use crate::id::{DeviceId, GroupId, Seq, UserName};
use crate::policy::{Policy, Verb};
use crate::store::{AccountStore, ChatStore, Head, SqliteStore, StoreError};

mod accounts;
mod conn;
mod door;
mod enter;
mod fan;
mod keep;
mod presence;
mod rate;
mod session;
#[cfg(test)]
mod tests;
mod trouble;
mod writer;

pub use accounts::{AccountError, AccountInfo, AccountRequest};
pub use session::{Flow, Session};

use conn::Conn;
use door::Door;
use rate::Bucket;
use trouble::Trouble;
use writer::Job;

/// Messages that wait to be stored.
const WAITING: usize = 8_192;
/// Connections of one user at a time.
const MAX_OF_A_USER: usize = 32;
/// The span over which clients come back after an end, in milliseconds.
const COME_BACK_MS: std::ops::Range<u64> = 500..5_500;

/// What a hub stands on.
pub trait Store: ChatStore + AccountStore + 'static {}

impl<T: ChatStore + AccountStore + 'static> Store for T {}

/// Returns the time in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Who connects, as far as the connection itself proves it.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The node whose key it has.
    pub node: Option<NodeId>,
    /// Where it comes from.
    pub from: Option<IpAddr>,
}

/// The chat of a server.
pub struct Hub {
    server: NodeId,
    store: Arc<dyn Store>,
    clock: Clock,
    /// Whoever lets a frame about a group into a queue, or a message into the store, holds it meanwhile.
    policy: RwLock<Arc<Policy>>,
    room: Mutex<Room>,
    door: Door,
    jobs: mpsc::Sender<Job>,
    rates: Mutex<HashMap<UserName, Bucket>>,
    marks: Mutex<keep::Marks>,
    /// Held by whoever sends what was stored.
    fan: Mutex<()>,
    stopping: AtomicBool,
    /// Held by whoever changes accounts.
    accounts: Mutex<()>,
    /// How often accounts were changed.
    account_changes: AtomicU64,
    /// Somebody is gone.
    gone: Notify,
    troubles: Troubles,
    figures: Figures,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Who is there.
#[derive(Default)]
struct Room {
    conns: HashMap<u64, Arc<Conn>>,
    /// Who gets the messages of a group as they come.
    live: HashMap<GroupId, HashMap<u64, Arc<Conn>>>,
    /// Up to which message a group's were sent.
    sent: HashMap<GroupId, Seq>,
    presence: presence::Presence,
}

/// What the store cannot do at this moment.
#[derive(Debug, Default)]
struct Troubles {
    sending: Trouble,
    storing: Trouble,
    marking: Trouble,
    keeping_tokens: Trouble,
    expiring: Trouble,
    reading: Trouble,
    searching: Trouble,
}

/// What the hub has done so far.
#[derive(Debug, Default)]
struct Figures {
    connections: AtomicU64,
    stored: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
    lags: AtomicU64,
    failures: AtomicU64,
    sign_ins: AtomicU64,
    sign_ins_refused: AtomicU64,
}

fn count(figure: &AtomicU64, number: usize) {
    figure.fetch_add(number as u64, Ordering::Relaxed);
}

impl Hub {
    /// Opens the store in `folder` and begins to work, on the runtime it is called on.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub fn open(folder: &std::path::Path, policy: Policy, server: NodeId) -> Result<Arc<Self>, StoreError> {
        let store = Arc::new(SqliteStore::open(folder)?);
        let since_1970 = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let clock =
            move || since_1970().map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        Ok(Self::new(store, policy, server, Arc::new(clock)))
    }

    /// Begins to work on a store, on the runtime it is called on.
    pub fn new(store: Arc<dyn Store>, policy: Policy, server: NodeId, clock: Clock) -> Arc<Self> {
        let (jobs, queue) = mpsc::channel(WAITING);
        let sent = store.heads().into_iter().map(|(group, head)| (group, head.last)).collect();
        let news = store.watch();
        let hub = Arc::new(Self {
            server,
            store,
            clock,
            policy: RwLock::new(Arc::new(policy)),
            room: Mutex::new(Room { sent, ..Room::default() }),
            door: Door::default(),
            jobs,
            rates: Mutex::default(),
            marks: Mutex::default(),
            fan: Mutex::default(),
            stopping: AtomicBool::new(false),
            accounts: Mutex::default(),
            account_changes: AtomicU64::new(0),
            gone: Notify::new(),
            troubles: Troubles::default(),
            figures: Figures::default(),
        });
        writer::start(&hub, queue);
        fan::start(&hub, news);
        tokio::spawn(keep::keep(Arc::downgrade(&hub)));
        hub
    }

    /// Lets somebody connect.
    pub fn connect(self: &Arc<Self>, peer: Peer) -> Session {
        count(&self.figures.connections, 1);
        Session::new(self.clone(), peer)
    }

    /// Puts another policy in force. When this returns nobody gets, or stores, what they no longer may.
    pub fn reload(&self, policy: Policy) {
        let mut gate = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *gate = Arc::new(policy);
        let mut room = self.room();
        let conns: Vec<Arc<Conn>> = room.conns.values().cloned().collect();
        room.live.clear();
        for conn in conns {
            if gate.user_name(conn.user().as_str()) != Some(conn.user().as_str()) {
                conn.cut(WhyClosing::Removed);
                continue;
            }
            conn.purge(|group| gate.allows(conn.user().as_str(), Verb::Live, group.as_str()));
            room.subscribe(&gate, &conn);
            let rights = self.rights(&gate, &room, conn.user(), &BTreeMap::new(), &BTreeSet::new());
            conn.tell(&ServerFrame::Policy { rights });
        }
        room.presence.all_is_stale();
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.gate().clone()
    }

    /// Ends: takes no more messages, stores and acknowledges those it has taken, sends them, and tells everybody to come back
    /// later. Connections end when they have sent what is theirs.
    pub async fn stop(self: &Arc<Self>) {
        self.stopping.store(true, Ordering::SeqCst);
        let (done, is_done) = oneshot::channel();
        if self.jobs.send(Job::Stop(done)).await.is_ok() {
            let _ = is_done.await;
        }
        let hub = self.clone();
        let last = move || {
            hub.send_news();
            hub.flush_marks();
        };
        let _ = tokio::task::spawn_blocking(last).await;
        let conns: Vec<Arc<Conn>> = self.room().conns.values().cloned().collect();
        for conn in conns {
            conn.end(WhyClosing::Stop, Some(random_in(COME_BACK_MS)));
        }
    }

    /// Returns how many connections are signed in.
    pub fn connections(&self) -> usize {
        self.room().conns.len()
    }

    /// Waits until everybody is gone.
    pub async fn drained(&self) {
        loop {
            let mut gone = std::pin::pin!(self.gone.notified());
            gone.as_mut().enable();
            if self.room().conns.is_empty() {
                return;
            }
            gone.await;
        }
    }

    /// Returns whether it ends.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns the hub's figures by name: `true` for those that only rise.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, bool, u64)> {
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (connections, users) = {
            let room = self.room();
            (room.conns.len() as u64, room.presence.users() as u64)
        };
        let f = &self.figures;
        vec![
            ("gx_chat_connections", "Signed-in connections of the chat.", false, connections),
            ("gx_chat_users", "Users who are there.", false, users),
            ("gx_chat_connections_total", "Connections to the chat so far.", true, of(&f.connections)),
            ("gx_chat_messages_total", "Messages stored so far.", true, of(&f.stored)),
            ("gx_chat_duplicates_total", "Messages that were stored before.", true, of(&f.duplicates)),
            ("gx_chat_refused_total", "Messages that were refused.", true, of(&f.refused)),
            ("gx_chat_deliveries_total", "Messages sent to connections.", true, of(&f.delivered)),
            ("gx_chat_lags_total", "Connections that were too slow, each time.", true, of(&f.lags)),
            ("gx_chat_store_failures_total", "Batches that could not be stored.", true, of(&f.failures)),
            ("gx_chat_sign_ins_total", "Sign-ins so far.", true, of(&f.sign_ins)),
            ("gx_chat_sign_ins_refused_total", "Sign-ins that were refused.", true, of(&f.sign_ins_refused)),
        ]
    }

    fn gate(&self) -> RwLockReadGuard<'_, Arc<Policy>> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Returns the time before which nothing is readable.
    fn oldest(&self, policy: &Policy) -> u64 {
        let kept = u64::try_from(policy.retention().as_millis()).unwrap_or(u64::MAX);
        self.now().saturating_sub(kept)
    }

    /// Returns what a user may do, and what there is.
    fn rights(
        &self,
        policy: &Policy,
        room: &Room,
        user: &UserName,
        read: &BTreeMap<GroupId, Seq>,
        reset: &BTreeSet<GroupId>,
    ) -> frames::Rights {
        let heads = self.store.heads();
        let of = |seat: crate::policy::Seat<'_>| {
            let group: GroupId = seat.group.id().parse().ok()?;
            let last = room.sent.get(&group).copied().unwrap_or(Seq::ZERO);
            Some(RightsIn {
                name: seat.group.name().to_owned(),
                command: seat.command.map(str::to_owned),
                r: policy.allows(user.as_str(), Verb::History, group.as_str()),
                w: policy.allows(user.as_str(), Verb::Send, group.as_str()),
                first: heads.get(&group).copied().unwrap_or(Head::EMPTY).first,
                last,
                read: read.get(&group).copied().unwrap_or(Seq::ZERO).min(last),
                reset: reset.contains(&group),
                g: group,
            })
        };
        let id = |group: &crate::policy::Group| group.id().parse().ok();
        frames::Rights {
            groups: policy.seats(user.as_str()).into_iter().filter_map(of).collect(),
            default: policy.default_of(user.as_str()).and_then(id),
            moves: policy.moves_of(user.as_str()),
            redirect: policy.redirect_of(user.as_str()).and_then(id),
        }
    }

    /// Ends all connections of a user.
    fn cut_user(&self, user: &UserName) {
        self.cut(|conn| conn.user() == user);
    }

    fn cut(&self, is_meant: impl Fn(&Conn) -> bool) {
        self.room()
            .conns
            .values()
            .filter(|conn| is_meant(conn))
            .for_each(|conn| conn.cut(WhyClosing::Removed));
    }
}

impl Room {
    /// Has a connection get what its user may see, as it comes.
    fn subscribe(&mut self, policy: &Policy, conn: &Arc<Conn>) {
        let user = conn.user().as_str();
        for group in policy.groups_of(user) {
            if policy.allows(user, Verb::Live, group.id())
                && let Ok(group) = group.id().parse::<GroupId>()
            {
                self.live.entry(group).or_default().insert(conn.id, conn.clone());
            }
        }
    }

    fn join(&mut self, policy: &Policy, conn: &Arc<Conn>) {
        self.subscribe(policy, conn);
        self.conns.insert(conn.id, conn.clone());
        self.presence.came(conn);
    }

    fn leave(&mut self, conn: &Conn) {
        if self.conns.remove(&conn.id).is_some() {
            self.live.values_mut().for_each(|live| drop(live.remove(&conn.id)));
            self.presence.went(conn);
        }
    }
}

/// Returns a random number in a range.
fn random_in(range: std::ops::Range<u64>) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness everybody comes at once, which is no fault.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    range.start + u64::from_ne_bytes(bytes) % (range.end - range.start).max(1)
}

/// Who is signed in on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signed {
    user: UserName,
    device: DeviceId,
    /// The node whose key the connection has.
    node: Option<NodeId>,
}
