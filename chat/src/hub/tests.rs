//! The hub with the army of the example: who sees what, in which order, and what becomes of who is slow, gone or forbidden.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::chain::Chain;
use crate::frames::{Auth, ClientFrame, ErrorCode, Hello, Message, NackCode};
use crate::id::ChainHash;
use crate::store::{Mark, NewMessage, Outcome, Page, Range, TokenHash};

const ARMY: &str = include_str!("../../../examples/chat/army.toml");
/// When the tests begin, in milliseconds since 1970.
const START: u64 = 1_800_000_000_000;

fn node() -> NodeId {
    NodeId::from_bytes([1; 32])
}

fn army() -> Policy {
    Policy::parse(ARMY, "army.toml").unwrap()
}

struct Chat {
    hub: Arc<Hub>,
    clock: Arc<AtomicU64>,
    folder: TempDir,
}

impl Chat {
    async fn new() -> Self {
        Self::with(army(), |store| store).await
    }

    /// Has the chat stand on a store around the real one.
    async fn with(policy: Policy, around: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let hub = open(folder.path(), policy, &clock, around);
        let chat = Self { hub, clock, folder };
        for user in ["ChiefCommander", "ArmyGeneral", "NavyMarshal", "Army1", "Army2", "Navy1"] {
            chat.account(user).await;
        }
        chat
    }

    async fn account(&self, user: &str) {
        let request = AccountRequest { node: Some(node()), ..AccountRequest::default() };
        self.hub.put_account(&user.parse().unwrap(), request).await.unwrap();
    }

    fn connect(&self) -> Session {
        self.hub.connect(Peer { node: Some(node()), from: None })
    }

    async fn client(&self, user: &str) -> Client {
        self.back(user, &[]).await
    }

    /// Signs somebody in who has these messages.
    async fn back(&self, user: &str, resume: &[(&str, u64)]) -> Client {
        let mut client = Client::new(self.connect());
        assert_eq!(client.say(hello(user, resume)).await, Flow::Go, "{:?}", client.session.try_next());
        client
    }
}

fn open(
    folder: &Path,
    policy: Policy,
    clock: &Arc<AtomicU64>,
    around: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Arc<Hub> {
    let clock = clock.clone();
    let store = around(Arc::new(SqliteStore::open(folder).unwrap()));
    Hub::new(store, policy, node(), Arc::new(move || clock.load(Ordering::SeqCst)))
}

fn hello(user: &str, resume: &[(&str, u64)]) -> ClientFrame {
    ClientFrame::Hello(Hello {
        v: 1,
        user: user.parse().unwrap(),
        auth: Auth::Key {},
        device: "d".parse().unwrap(),
        resume: resume.iter().map(|(group, seq)| (group.parse().unwrap(), Seq::new(*seq).unwrap())).collect(),
        chain: BTreeMap::new(),
    })
}

struct Client {
    session: Session,
    /// Messages that came while something else was waited for.
    kept: Mutex<VecDeque<ServerFrame>>,
}

impl Client {
    fn new(session: Session) -> Self {
        Self { session, kept: Mutex::default() }
    }

    async fn say(&mut self, frame: ClientFrame) -> Flow {
        self.session.take(frame.to_text().as_bytes()).await
    }

    async fn send(&mut self, cid: &str, group: &str, text: &str) {
        let (cid, g, text) = (cid.to_owned(), group.to_owned(), text.to_owned());
        self.say(ClientFrame::Send { cid, g, text }).await;
    }

    /// Sends, and waits for the number.
    async fn sent(&mut self, cid: &str, group: &str, text: &str) -> u64 {
        self.send(cid, group, text).await;
        let is_ack = |frame: &ServerFrame| matches!(frame, ServerFrame::Ack { cid: acked, .. } if acked.as_str() == cid);
        match self.until(is_ack).await {
            ServerFrame::Ack { seq, .. } => seq.get(),
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(&mut self, cid: &str, group: &str, text: &str) -> NackCode {
        self.send(cid, group, text).await;
        match self.until(|frame| matches!(frame, ServerFrame::Nack { .. })).await {
            ServerFrame::Nack { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    async fn next(&self) -> Option<ServerFrame> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.session.next()).await;
        next.expect("there is a frame").map(|text| ServerFrame::parse(&text).unwrap())
    }

    async fn until(&self, fits: impl Fn(&ServerFrame) -> bool) -> ServerFrame {
        let place = self.kept.lock().unwrap().iter().position(&fits);
        if let Some(place) = place {
            return self.kept.lock().unwrap().remove(place).unwrap();
        }
        loop {
            let frame = self.next().await.expect("the connection lasts");
            if fits(&frame) {
                return frame;
            }
            if matches!(frame, ServerFrame::Msgs { .. }) {
                self.kept.lock().unwrap().push_back(frame);
            }
        }
    }

    /// Returns the texts of the next messages of a group, this many.
    async fn texts(&self, group: &str, number: usize) -> Vec<String> {
        let messages = self.messages(group, number).await;
        messages.into_iter().map(|message| message.text).collect()
    }

    async fn messages(&self, group: &str, number: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < number {
            let frame = self.until(|f| matches!(f, ServerFrame::Msgs { g, .. } if g.as_str() == group)).await;
            if let ServerFrame::Msgs { m, .. } = frame {
                messages.extend(m);
            }
        }
        messages
    }

    /// Asks something of which the answer comes after all that came before, and returns what came.
    async fn all_so_far(&mut self) -> Vec<ServerFrame> {
        self.say(ClientFrame::Ping {}).await;
        let mut frames: Vec<_> = self.kept.lock().unwrap().drain(..).collect();
        loop {
            match self.next().await.unwrap() {
                ServerFrame::Pong { .. } => return frames,
                frame => frames.push(frame),
            }
        }
    }

    async fn history(&mut self, group: &str) -> Result<Vec<String>, ErrorCode> {
        let g = group.parse().unwrap();
        self.say(ClientFrame::Hist { id: 7, g, after: None, before: None, since: None, limit: 30 }).await;
        let is_answer = |f: &ServerFrame| {
            matches!(f, ServerFrame::Page { id: 7, .. } | ServerFrame::Error { id: Some(7), .. })
        };
        match self.until(is_answer).await {
            ServerFrame::Page { m, .. } => Ok(m.into_iter().map(|message| message.text).collect()),
            ServerFrame::Error { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    }
}

fn groups_of(frames: &[ServerFrame]) -> BTreeSet<String> {
    let group = |frame: &ServerFrame| match frame {
        ServerFrame::Msgs { g, .. } | ServerFrame::Typing { g, .. } => Some(g.to_string()),
        _ => None,
    };
    frames.iter().filter_map(group).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_what_the_policy_lets_them_and_nothing_else() {
    let chat = Chat::new().await;
    let (mut chief, mut general, mut marshal) = (
        chat.client("ChiefCommander").await,
        chat.client("ArmyGeneral").await,
        chat.client("NavyMarshal").await,
    );
    let (mut army, mut navy) = (chat.client("Army1").await, chat.client("Navy1").await);
    army.sent("1", "r", "from the army").await;
    navy.sent("1", "n", "from the navy").await;
    general.sent("1", "h", "to the heads").await;
    chief.sent("1", "h", "to all heads").await;
    for (client, groups) in [
        (&mut chief, vec!["h", "n", "r"]),
        (&mut general, vec!["h", "r"]),
        (&mut marshal, vec!["h", "n"]),
        (&mut army, vec!["r"]),
        (&mut navy, vec!["n"]),
    ] {
        for group in &groups {
            client.until(|f| matches!(f, ServerFrame::Msgs { g, .. } if g.as_str() == *group)).await;
        }
        let others = groups_of(&client.all_so_far().await);
        assert!(others.iter().all(|group| groups.contains(&group.as_str())), "{others:?}");
        for group in ["h", "n", "a", "r"] {
            let may = client.history(group).await;
            let expected =
                groups.contains(&group) || client.session.user().unwrap().as_str() == "ChiefCommander";
            assert_eq!(may.is_ok(), expected, "{group}: {may:?}");
        }
    }
    assert_eq!(chief.refusal("2", "n", "x").await, NackCode::NoWrite);
    assert_eq!(army.refusal("2", "h", "x").await, NackCode::NoGroup);
    assert_eq!(army.refusal("2", "nowhere", "x").await, NackCode::NoGroup, "as one there is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_told_from_where_to_go_on() {
    let chat = Chat::new().await;
    let mut army = chat.client("Army1").await;
    for number in 1..=3 {
        army.sent(&number.to_string(), "r", &format!("text {number}")).await;
    }
    army.texts("r", 3).await;
    let other = chat.back("Army2", &[("r", 1), ("n", 5)]).await;
    let welcome = other.next().await.unwrap();
    let ServerFrame::Welcome { rights, token: None, limits, now: START, .. } = welcome else {
        panic!("{welcome:?}")
    };
    assert_eq!((limits.text_bytes, limits.burst, limits.retention_s), (4_096, 50, 7 * 86_400));
    let [r] = &rights.groups[..] else { panic!("{rights:?}") };
    assert_eq!(
        (r.g.as_str(), r.first.get(), r.last.get(), r.r, r.w, r.reset),
        ("r", 1, 3, true, true, false)
    );
    let lag = ServerFrame::Lag { g: "r".parse().unwrap(), from: Seq::new(2).unwrap() };
    assert_eq!(other.next().await, Some(lag), "and of no other group");

    let beyond = chat.back("Army2", &[("r", 9)]).await;
    let ServerFrame::Welcome { rights, .. } = beyond.next().await.unwrap() else { panic!() };
    assert!(rights.groups[0].reset, "the server was restored from a backup");
    let lag = ServerFrame::Lag { g: "r".parse().unwrap(), from: Seq::ONE };
    assert_eq!(beyond.next().await, Some(lag));

    let ClientFrame::Hello(mut hello) = hello("Army2", &[("r", 2)]) else { panic!() };
    hello.chain.insert("r".parse().unwrap(), ChainHash::from_bytes([9; 32]));
    let mut changed = Client::new(chat.connect());
    changed.say(ClientFrame::Hello(hello)).await;
    let ServerFrame::Welcome { rights, .. } = changed.next().await.unwrap() else { panic!() };
    assert!(rights.groups[0].reset, "its messages are other ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_have_one_order_and_each_keeps_its_own() {
    let chat = Arc::new(Chat::new().await);
    let mut first = chat.client("Army1").await;
    let watcher = chat.client("ArmyGeneral").await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let (chat, user) = (chat.clone(), if sender % 2 == 0 { "Army1" } else { "Army2" });
        senders.spawn(async move {
            let mut client = chat.client(user).await;
            // In all as many as may be sent at once.
            for number in 0..10 {
                client.sent(&format!("{sender}-{number}"), "r", &format!("{sender} {number}")).await;
            }
        });
    }
    while senders.join_next().await.transpose().unwrap().is_some() {}
    let (one, other) = (first.messages("r", 80).await, watcher.messages("r", 80).await);
    assert_eq!(one, other);
    let mut chain = Chain::new("r".parse().unwrap());
    one.iter().for_each(|message| chain.take(message).unwrap());
    for sender in 0..8 {
        let prefix = format!("{sender} ");
        let own: Vec<&str> = one.iter().filter_map(|m| m.text.strip_prefix(&prefix)).collect();
        assert_eq!(own, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }
    assert_eq!(first.history("r").await.unwrap().len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_twice_is_stored_once_and_what_is_wrong_is_refused() {
    let chat = Chat::new().await;
    let mut army = chat.client("Army1").await;
    let begun = std::time::Instant::now();
    army.sent("1", "r", "x").await;
    army.send("1", "r", "x").await;
    let again = army.until(|f| matches!(f, ServerFrame::Ack { .. })).await;
    assert!(matches!(again, ServerFrame::Ack { dup: true, seq: Seq::ONE, .. }));
    assert_eq!(army.refusal("1", "r", "y").await, NackCode::Conflict);
    assert_eq!(army.refusal("2", "r", " \n\t").await, NackCode::Empty);
    assert_eq!(army.refusal("2", "r", &"ä".repeat(2_049)).await, NackCode::TooLong);
    assert_eq!(army.refusal("a b", "r", "x").await, NackCode::BadCid);
    let odd = "\u{202e}\u{1b}[2J\0 e\u{301}\u{301}\u{301}";
    army.sent("2", "r", odd).await;
    assert_eq!(army.history("r").await.unwrap(), ["x", odd], "exactly as it was said");
    // The rate: 50 at once, of which 4 were used.
    let mut refused = 0;
    for number in 10..70 {
        army.send(&number.to_string(), "r", "x").await;
    }
    for _ in 10..70 {
        let answer = |f: &ServerFrame| matches!(f, ServerFrame::Ack { .. } | ServerFrame::Nack { .. });
        if let ServerFrame::Nack { code, retry_ms, .. } = army.until(answer).await {
            assert_eq!((code, retry_ms.is_some()), (NackCode::Rate, true));
            refused += 1;
        }
    }
    // One is given back each fifth of a second: on a slow machine fewer are refused, by as many as that.
    let back = begun.elapsed().as_millis() / 200;
    assert!(refused < 20 && refused + back >= 10, "{refused} refused, {back} given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_is_gone_when_the_reload_returns() {
    let chat = Chat::new().await;
    let mut general = chat.client("ArmyGeneral").await;
    let mut army = chat.client("Army1").await;
    army.sent("1", "r", "before").await;
    army.texts("r", 1).await;
    chat.hub.send_news(); // so that it waits in the general's queue
    let without = ARMY.replace(
        "{ group = \"h\", read = true, write = true },\n    { group = \"own\", read = true, write = true },",
        "{ group = \"h\", read = true, write = true },",
    );
    let without = without.replace("toggle = true\n", "");
    assert_ne!(without, ARMY);
    chat.hub.reload(Policy::parse(&without, "army.toml").unwrap());
    army.sent("2", "r", "after").await;
    army.texts("r", 1).await;
    chat.hub.send_news();
    let frames = general.all_so_far().await;
    assert_eq!(groups_of(&frames), BTreeSet::new(), "not even what waited: {frames:?}");
    let told = frames.iter().find_map(|frame| match frame {
        ServerFrame::Policy { rights } => {
            Some(rights.groups.iter().map(|r| r.g.to_string()).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(told, Some(vec!["h".to_owned()]));
    assert_eq!(general.history("r").await, Err(ErrorCode::NoGroup));
    assert_eq!(general.refusal("1", "r", "x").await, NackCode::NoGroup);

    chat.hub.reload(Policy::parse(&ARMY.replace("Army{1..50}", "Army{2..50}"), "army.toml").unwrap());
    let closing = army.until(|f| matches!(f, ServerFrame::Closing { .. })).await;
    assert_eq!(closing, ServerFrame::Closing { why: WhyClosing::Removed, retry_ms: None });
    assert_eq!(army.next().await, None);
    let mut gone = Client::new(chat.connect());
    assert_eq!(gone.say(hello("Army1", &[])).await, Flow::End);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_holds_up_nobody_and_is_told_what_it_missed() {
    let text = ARMY.replace("50/10s", "100000/1s");
    let chat = Chat::with(Policy::parse(&text, "army.toml").unwrap(), |store| store).await;
    let idle = chat.client("Army2").await;
    let mut army = chat.client("Army1").await;
    let long = "x".repeat(4_000);
    for number in 1..=400 {
        army.sent(&number.to_string(), "r", &long).await;
    }
    let mut seen = 0;
    let from = loop {
        match idle.next().await.unwrap() {
            ServerFrame::Msgs { m, .. } => {
                seen += m.len() as u64;
                assert_eq!(m.last().unwrap().seq.get(), seen, "without gaps");
            }
            ServerFrame::Lag { from, .. } => break from,
            _ => {}
        }
    };
    assert!(seen < 200, "the memory for it is bounded: {seen}");
    assert_eq!(from.get(), seen + 1);
    army.sent("last", "r", "the last").await;
    // And then it goes on.
    while idle.messages("r", 1).await.last().unwrap().seq.get() < 401 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_stores_and_answers_all_that_was_taken() {
    let chat = Chat::new().await;
    let mut army = chat.client("Army1").await;
    let general = chat.client("ArmyGeneral").await;
    for number in 0..40 {
        army.send(&number.to_string(), "r", "x").await;
    }
    chat.hub.stop().await;
    army.send("late", "r", "x").await;
    let mut acks = 0;
    while let Some(frame) = army.next().await {
        match frame {
            ServerFrame::Ack { .. } => acks += 1,
            ServerFrame::Closing { why, retry_ms } => {
                assert_eq!((why, retry_ms.is_some()), (WhyClosing::Stop, true));
            }
            _ => {}
        }
    }
    assert_eq!(acks, 40);
    assert_eq!(general.messages("r", 40).await.len(), 40);
    let mut late = Client::new(chat.connect());
    assert_eq!(late.say(hello("Army2", &[])).await, Flow::End);
    drop((army, general, late));
    let Chat { hub, clock, folder } = chat;
    drop(hub);
    // The threads let go of it soon.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while SqliteStore::open(folder.path()).is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let hub = open(folder.path(), self::army(), &clock, |store| store);
    let chat = Chat { hub, clock, folder };
    assert_eq!(chat.client("Army1").await.history("r").await.unwrap().len(), 30);
}

/// A store without room, when it is told so, but for one account.
struct Full {
    inner: Arc<dyn Store>,
    is_full: Arc<AtomicBool>,
    has_account: AtomicBool,
    /// Whether nothing can be read either.
    is_blind: Arc<AtomicBool>,
}

impl Full {
    fn new(inner: Arc<dyn Store>, is_full: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self { inner, is_full, has_account: AtomicBool::new(false), is_blind: Arc::default() })
    }

    fn blind(inner: Arc<dyn Store>, is_blind: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self { inner, is_full: Arc::default(), has_account: AtomicBool::new(false), is_blind })
    }

    fn room(&self) -> Result<(), StoreError> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(StoreError::Full { path: "chat.db".to_owned() }),
            false => Ok(()),
        }
    }
}

impl ChatStore for Full {
    fn append(&self, batch: &[NewMessage], now: u64) -> Result<Vec<Outcome>, StoreError> {
        self.room()?;
        self.inner.append(batch, now)
    }

    fn read(&self, group: &GroupId, range: Range, limit: u32, oldest: u64) -> Result<Page, StoreError> {
        match self.is_blind.load(Ordering::SeqCst) {
            true => Err(StoreError::Full { path: "chat.db-shm".to_owned() }),
            false => self.inner.read(group, range, limit, oldest),
        }
    }

    fn search(
        &self,
        query: &str,
        groups: &BTreeSet<GroupId>,
        limit: u32,
        oldest: u64,
    ) -> Result<crate::store::Found, StoreError> {
        self.inner.search(query, groups, limit, oldest)
    }

    fn heads(&self) -> BTreeMap<GroupId, Head> {
        self.inner.heads()
    }

    fn mark(&self, marks: &[Mark]) -> Result<(), StoreError> {
        self.inner.mark(marks)
    }

    fn positions(&self, user: &UserName) -> Result<BTreeMap<GroupId, Seq>, StoreError> {
        self.inner.positions(user)
    }

    fn expire(&self, oldest: u64) -> Result<u64, StoreError> {
        self.inner.expire(oldest)
    }

    fn watch(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.watch()
    }

    fn verify(&self) -> Result<u64, StoreError> {
        self.inner.verify()
    }
}

impl AccountStore for Full {
    fn account(&self, user: &UserName) -> Result<Option<crate::store::Account>, StoreError> {
        self.inner.account(user)
    }

    fn accounts(&self) -> Result<Vec<crate::store::Account>, StoreError> {
        self.inner.accounts()
    }

    fn put_account(&self, account: &crate::store::Account) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::SeqCst) && self.has_account.swap(true, Ordering::SeqCst) {
            self.room()?;
        }
        self.inner.put_account(account)
    }

    fn put_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        ends: u64,
    ) -> Result<(), StoreError> {
        self.inner.put_token(hash, user, device, ends)
    }

    fn has_token(
        &self,
        hash: &TokenHash,
        user: &UserName,
        device: &DeviceId,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.inner.has_token(hash, user, device, now)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_nothing_is_acknowledged_and_it_recovers() {
    let is_full = Arc::new(AtomicBool::new(false));
    let switch = is_full.clone();
    let chat = Chat::with(army(), |inner| Full::new(inner, switch)).await;
    let mut army = chat.client("Army1").await;
    is_full.store(true, Ordering::SeqCst);
    army.send("1", "r", "x").await;
    let refused = army.until(|f| matches!(f, ServerFrame::Nack { .. } | ServerFrame::Ack { .. })).await;
    let ServerFrame::Nack { code: NackCode::Unavailable, retry_ms: Some(_), msg, .. } = refused else {
        panic!("{refused:?}")
    };
    assert!(msg.contains("no room"), "{msg}");
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(army.sent("1", "r", "x").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_back_is_sent_once_it_can_be() {
    let is_blind = Arc::new(AtomicBool::new(false));
    let switch = is_blind.clone();
    let chat = Chat::with(army(), |inner| Full::blind(inner, switch)).await;
    let (mut army, general) = (chat.client("Army1").await, chat.client("ArmyGeneral").await);
    is_blind.store(true, Ordering::SeqCst);
    assert_eq!(army.sent("1", "r", "stored").await, 1);
    assert!(!chat.hub.send_news(), "it cannot be read");
    is_blind.store(false, Ordering::SeqCst);
    // Nobody says anything more.
    assert_eq!(general.texts("r", 1).await, ["stored"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_that_is_older_than_what_is_kept() {
    let chat = Chat::new().await;
    let mut army = chat.client("Army1").await;
    army.sent("1", "r", "old").await;
    chat.clock.fetch_add(7 * 86_400_000 + 1, Ordering::SeqCst);
    army.sent("2", "r", "fresh").await;
    assert_eq!(army.history("r").await.unwrap(), ["fresh"]);
    let g = "r".parse().unwrap();
    army.say(ClientFrame::Hist { id: 1, g, after: Some(Seq::ZERO), before: None, since: None, limit: 9 })
        .await;
    let page = army.until(|f| matches!(f, ServerFrame::Page { .. })).await;
    assert!(matches!(page, ServerFrame::Page { expired: 1, ref m, .. } if m.len() == 1), "{page:?}");
    army.say(ClientFrame::Find { id: 2, q: "old".to_owned(), g: BTreeSet::new(), limit: 9 }).await;
    let hits = army.until(|f| matches!(f, ServerFrame::Hits { .. })).await;
    assert_eq!(hits, ServerFrame::Hits { id: 2, m: Vec::new(), more: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_finds_only_what_may_be_read() {
    let chat = Chat::new().await;
    let (mut army, mut navy) = (chat.client("Army1").await, chat.client("Navy1").await);
    army.sent("1", "r", "the secret of the army").await;
    navy.sent("1", "n", "the secret of the navy").await;
    army.say(ClientFrame::Find { id: 1, q: "secret".to_owned(), g: BTreeSet::new(), limit: 9 }).await;
    let hits = army.until(|f| matches!(f, ServerFrame::Hits { .. })).await;
    let ServerFrame::Hits { m, .. } = hits else { panic!() };
    assert_eq!(m.iter().map(|hit| hit.g.as_str()).collect::<Vec<_>>(), ["r"]);
    let groups = BTreeSet::from(["n".parse().unwrap()]);
    army.say(ClientFrame::Find { id: 2, q: "secret".to_owned(), g: groups, limit: 9 }).await;
    let refused = army.until(|f| matches!(f, ServerFrame::Error { .. } | ServerFrame::Hits { .. })).await;
    assert!(
        matches!(refused, ServerFrame::Error { id: Some(2), code: ErrorCode::NoGroup, .. }),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_and_goes_is_told_to_those_who_may_see_it() {
    let chat = Chat::new().await;
    let (army, mut navy) = (chat.client("Army1").await, chat.client("Navy1").await);
    let is_digest = |f: &ServerFrame| matches!(f, ServerFrame::Presence { .. });
    let ServerFrame::Presence { all: true, on, .. } = army.until(is_digest).await else { panic!() };
    let r: GroupId = "r".parse().unwrap();
    assert_eq!(on.keys().collect::<Vec<_>>(), [&r]);
    let other = chat.client("Army2").await;
    let digest = army.until(is_digest).await;
    let army2: UserName = "Army2".parse().unwrap();
    assert!(matches!(&digest, ServerFrame::Presence { on, .. } if on[&r].contains(&army2)), "{digest:?}");
    drop(other);
    let digest = army.until(is_digest).await;
    assert!(matches!(&digest, ServerFrame::Presence { off, .. } if off[&r].contains(&army2)), "{digest:?}");

    for frame in navy.all_so_far().await {
        assert!(!frame.to_text().contains("Army"), "{frame:?}");
    }
    navy.say(ClientFrame::Who { id: 3, g: r.clone() }).await;
    let refused = navy.until(|f| matches!(f, ServerFrame::Error { .. } | ServerFrame::Members { .. })).await;
    assert!(matches!(refused, ServerFrame::Error { id: Some(3), code: ErrorCode::NoGroup, .. }));
    let mut army = army;
    army.say(ClientFrame::Who { id: 4, g: r }).await;
    let told = army.until(|f| matches!(f, ServerFrame::Members { .. })).await;
    let ServerFrame::Members { m, .. } = told else { panic!() };
    let here: Vec<&str> = m.iter().filter(|member| member.on).map(|member| member.user.as_str()).collect();
    assert_eq!((m.len(), here), (52, vec!["Army1"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_proved_by_password_token_or_key_and_by_nothing_else() {
    let chat = Chat::new().await;
    let user: UserName = "Army3".parse().unwrap();
    let made_up = chat.hub.put_account(&user, AccountRequest::default()).await.unwrap().unwrap();
    let attempt = async |user: &str, auth: Auth, device: &str, node: Option<NodeId>| {
        let ClientFrame::Hello(hello) = hello(user, &[]) else { panic!() };
        let mut client = Client::new(chat.hub.connect(Peer { node, from: None }));
        let hello = Hello { auth, device: device.parse().unwrap(), ..hello };
        client.say(ClientFrame::Hello(hello)).await;
        client.next().await.unwrap()
    };
    let by = |password: &str| Auth::Password { password: password.to_owned() };
    let welcome = attempt("Army3", by(&made_up), "d", None).await;
    let ServerFrame::Welcome { token: Some(token), .. } = welcome else { panic!("{welcome:?}") };
    let with = |token: &str| Auth::Token { token: token.to_owned() };
    let is_in = |frame: &ServerFrame| matches!(frame, ServerFrame::Welcome { .. });
    assert!(is_in(&attempt("Army3", with(&token), "d", None).await));
    assert!(is_in(&attempt("Army1", Auth::Key {}, "d", Some(node())).await));
    let refused = ServerFrame::Error {
        id: None,
        code: ErrorCode::Auth,
        fatal: true,
        retry_ms: None,
        msg: "wrong user or password".to_owned(),
    };
    let other = NodeId::from_bytes([2; 32]);
    for (user, auth, device, node) in [
        ("Army1", Auth::Key {}, "d", Some(other)),
        ("Army2", Auth::Key {}, "d", None),
        ("Navy1", with(&token), "d", None),
        ("Army3", with(&token), "e", None),
        ("NavyMarshal", by(&made_up), "d", None),
        ("Nobody", by(&made_up), "d", None),
        ("Army9", by(&made_up), "d", None),
    ] {
        assert_eq!(attempt(user, auth, device, node).await, refused, "{user}");
    }
    // Whoever goes on guessing waits, the longer the more they guess: a slow machine sits out a second.
    let is_rate = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::Rate, .. });
    for guess in 0..6 {
        let answer = attempt("Army3", by("wrong password"), "d", None).await;
        assert!(answer == refused || (guess >= 2 && is_rate(&answer)), "{answer:?}");
    }
    let told = attempt("Army3", by(&made_up), "d", None).await;
    assert!(matches!(told, ServerFrame::Error { code: ErrorCode::Rate, retry_ms: Some(_), .. }), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_user_is_out_at_once() {
    let chat = Chat::new().await;
    let army = chat.client("Army1").await;
    let user: UserName = "Army1".parse().unwrap();
    let request = AccountRequest { node: Some(node()), disabled: true, ..AccountRequest::default() };
    chat.hub.put_account(&user, request).await.unwrap();
    army.until(|f| matches!(f, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
    assert_eq!(army.next().await, None);
    let mut again = Client::new(chat.connect());
    assert_eq!(again.say(hello("Army1", &[])).await, Flow::End);
    let unknown = chat.hub.put_account(&"Army51".parse().unwrap(), AccountRequest::default()).await;
    assert!(matches!(unknown, Err(AccountError::NoUser { near: Some(_), .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dismissed_is_out_at_once_and_others_stay() {
    let chat = Chat::new().await;
    let (army, navy) = (chat.client("Army1").await, chat.client("Navy1").await);
    let other = NodeId::from_bytes([2; 32]);
    // One is there by the key of that node, another by a password.
    let request = AccountRequest { node: Some(other), ..AccountRequest::default() };
    chat.hub.put_account(&"Navy2".parse().unwrap(), request).await.unwrap();
    let password = AccountRequest { password: Some("correct horse".to_owned()), ..AccountRequest::default() };
    chat.hub.put_account(&"Navy3".parse().unwrap(), password).await.unwrap();
    let from_other = async |user: &str, auth: Auth| {
        let ClientFrame::Hello(hello) = hello(user, &[]) else { panic!() };
        let mut client = Client::new(chat.hub.connect(Peer { node: Some(other), from: None }));
        client.say(ClientFrame::Hello(Hello { auth, ..hello })).await;
        client
    };
    let by_key = from_other("Navy2", Auth::Key {}).await;
    let by_password = from_other("Navy3", Auth::Password { password: "correct horse".to_owned() }).await;
    for client in [&by_key, &by_password] {
        client.until(|f| matches!(f, ServerFrame::Welcome { .. })).await;
    }
    chat.hub.dismiss(other).await.unwrap();
    for client in [by_key, by_password] {
        client.until(|f| matches!(f, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
        assert_eq!(client.next().await, None);
    }
    let again = from_other("Navy2", Auth::Key {}).await;
    again.until(|f| matches!(f, ServerFrame::Error { code: ErrorCode::Auth, fatal: true, .. })).await;
    let (mut army, mut navy) = (army, navy);
    army.sent("1", "r", "still here").await;
    navy.sent("1", "n", "and here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stands_for_another_is_the_accounts_and_the_old_one_is_out() {
    let chat = Chat::new().await;
    let army = chat.client("Army1").await;
    let new = NodeId::from_bytes([2; 32]);
    let renewed = chat.hub.renew_keys(move |key| if key == node() { new } else { key }).await.unwrap();
    assert_eq!(renewed.len(), 6);
    army.until(|f| matches!(f, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
    assert_eq!(army.next().await, None);
    for (key, expected) in [(new, Flow::Go), (node(), Flow::End)] {
        let mut client = Client::new(chat.hub.connect(Peer { node: Some(key), from: None }));
        assert_eq!(client.say(hello("Army1", &[])).await, expected);
    }
    assert!(chat.hub.renew_keys(|key| key).await.unwrap().is_empty(), "and nobody is cut off for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_some_accounts_can_be_changed_those_who_were_there_by_them_are_out() {
    let is_full = Arc::new(AtomicBool::new(false));
    let switch = is_full.clone();
    let chat = Chat::with(army(), |inner| Full::new(inner, switch)).await;
    let army = chat.client("Army1").await;
    let new = NodeId::from_bytes([2; 32]);
    let current = move |key| if key == node() { new } else { key };
    is_full.store(true, Ordering::SeqCst);
    let refused = chat.hub.renew_keys(current).await;
    assert!(matches!(refused, Err(AccountError::Store(StoreError::Full { .. }))), "{refused:?}");
    army.until(|f| matches!(f, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(chat.hub.renew_keys(current).await.unwrap().len(), 5, "the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_disabled_while_its_key_is_renewed_stays_disabled() {
    let chat = Chat::new().await;
    let user: UserName = "NavyMarshal".parse().unwrap();
    for round in 0..100 {
        let keys = [node(), NodeId::from_bytes([2; 32])];
        let (old, new) = (keys[round % 2], keys[(round + 1) % 2]);
        let enabled = AccountRequest { node: Some(old), ..AccountRequest::default() };
        chat.hub.put_account(&user, enabled).await.unwrap();
        let disabled = AccountRequest { node: Some(old), disabled: true, ..AccountRequest::default() };
        let renewal = chat.hub.renew_keys(move |key| if key == old { new } else { key });
        let (renewed, put) = tokio::join!(renewal, chat.hub.put_account(&user, disabled));
        renewed.unwrap();
        put.unwrap();
        let accounts = chat.hub.accounts().await.unwrap();
        assert!(accounts.iter().any(|account| account.user == user && account.disabled), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_renamed_is_out_and_the_new_name_is_nobody_yet() {
    let chat = Chat::new().await;
    let (mut general, mut army) = (chat.client("ArmyGeneral").await, chat.client("Army1").await);
    army.sent("1", "r", "under the old name").await;
    let renamed = ARMY.replace("ArmyGeneral", "ArmyChief").replace("Army{1..50}", "Private{1..50}");
    chat.hub.reload(Policy::parse(&renamed, "army.toml").unwrap());
    for client in [&general, &army] {
        client.until(|f| matches!(f, ServerFrame::Closing { why: WhyClosing::Removed, .. })).await;
        assert_eq!(client.next().await, None);
    }
    // What is still sent on the old connections is nobody's.
    army.send("2", "r", "late").await;
    general.send("1", "r", "late").await;
    let mut nobody = Client::new(chat.connect());
    assert_eq!(nobody.say(hello("Private1", &[])).await, Flow::End, "there is no account of this name");
    chat.account("Private1").await;
    let mut private = chat.client("Private1").await;
    assert_eq!(private.history("r").await.unwrap(), ["under the old name"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused_and_too_much_of_it_ends_the_connection() {
    let chat = Chat::new().await;
    for first in [&b"\xff\xfe"[..], b"{}", b"[]", br#"{"t":"send","cid":"1","g":"h","text":"x"}"#] {
        let mut session = chat.connect();
        assert_eq!(session.take(first).await, Flow::End);
        assert!(session.next().await.is_some() && session.next().await.is_none());
    }
    let mut army = chat.client("Army1").await;
    assert_eq!(army.session.take(br#"{"t":"newer","x":1}"#).await, Flow::Go);
    assert_eq!(army.session.take(br#"{"t":"got","g":"r","seq":99999999999999999999}"#).await, Flow::Go);
    assert_eq!(army.session.take_nonsense(), Flow::Go);
    army.until(|f| matches!(f, ServerFrame::Error { code: ErrorCode::BadFrame, fatal: false, .. })).await;
    let mut flow = Flow::Go;
    for _ in 0..20 {
        flow = army.session.take(b"{").await;
    }
    assert_eq!(flow, Flow::End);
    let mut twice = chat.client("Army1").await;
    assert_eq!(twice.say(hello("Army1", &[])).await, Flow::End);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_so_many_connections_and_how_far_they_read_is_kept() {
    let chat = Chat::new().await;
    let mut army = chat.client("Army1").await;
    army.sent("1", "r", "x").await;
    army.texts("r", 1).await;
    army.say(ClientFrame::Read { g: "r".parse().unwrap(), seq: Seq::new(77).unwrap() }).await;
    chat.hub.flush_marks();
    let mut all = Vec::new();
    for _ in 1..MAX_OF_A_USER {
        all.push(chat.client("Army1").await);
    }
    let ServerFrame::Welcome { rights, .. } = all[0].next().await.unwrap() else { panic!() };
    assert_eq!(rights.groups[0].read.get(), 1, "nobody has read what there is not");
    let mut crowded = Client::new(chat.connect());
    assert_eq!(crowded.say(hello("Army1", &[])).await, Flow::End);
    drop(all.pop());
    chat.client("Army1").await;
}
