//! Sessions against a server in memory: the army's day line by line, and that nothing is lost, doubled or reordered
//! whatever happens to the connection.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Effect, Shown, Talk, Week};
use crate::chain::link;
use crate::frames::{Auth, ClientFrame, Limits, MAX_PAGE, Message, NackCode, Rights, RightsIn, ServerFrame};
use crate::id::{ChainHash, Cid, GroupId, Seq, UserName};
use crate::policy::{Policy, Verb};

const ARMY: &str = include_str!("../../../examples/chat/army.toml");
const NOW: u64 = 1_790_000_000_000;

/// A server that keeps messages in memory, and answers at once.
struct Server {
    policy: Policy,
    messages: BTreeMap<String, Vec<Message>>,
    refuse_next: Option<NackCode>,
}

impl Server {
    fn new() -> Self {
        let policy = Policy::parse(ARMY, "army.toml").unwrap();
        Self { policy, messages: BTreeMap::new(), refuse_next: None }
    }

    fn last(&self, group: &str) -> u64 {
        self.messages.get(group).and_then(|all| all.last()).map_or(0, |m| m.seq.get())
    }

    /// Stores a message unless it is there, and returns it.
    fn store(&mut self, group: &str, from: &UserName, cid: &Cid, text: &str) -> (Message, bool) {
        let all = self.messages.entry(group.to_owned()).or_default();
        if let Some(known) = all.iter().find(|m| m.cid == *cid && m.from == *from) {
            return (known.clone(), true);
        }
        let before = all.last().map_or(ChainHash::ROOT, |m| m.h);
        let (seq, ts) =
            (Seq::new(all.last().map_or(0, |m| m.seq.get()) + 1).unwrap(), NOW + all.len() as u64 * 1_000);
        let h = link(&before, &group.parse().unwrap(), (seq, ts), from, cid, text);
        let m = Message { seq, ts, from: from.clone(), cid: cid.clone(), text: text.to_owned(), h };
        all.push(m.clone());
        (m, false)
    }

    fn rights(&self, user: &UserName) -> Rights {
        let id = |group: &crate::policy::Group| group.id().parse::<GroupId>().unwrap();
        let groups = self.policy.seats(user.as_str()).into_iter().map(|seat| {
            let kept = self.messages.get(seat.group.id());
            RightsIn {
                g: id(seat.group),
                name: seat.group.name().to_owned(),
                command: seat.command.map(str::to_owned),
                r: seat.rights.read,
                w: seat.rights.write,
                first: kept.and_then(|all| all.first()).map_or(Seq::ONE, |m| m.seq),
                last: Seq::new(self.last(seat.group.id())).unwrap(),
                read: Seq::ZERO,
                reset: false,
            }
        });
        Rights {
            groups: groups.collect(),
            default: self.policy.default_of(user.as_str()).map(id),
            moves: self.policy.moves_of(user.as_str()),
            redirect: self.policy.redirect_of(user.as_str()).map(id),
        }
    }

    fn welcome(&self, user: &UserName) -> ServerFrame {
        ServerFrame::Welcome {
            user: user.clone(),
            token: Some("token".to_owned()),
            server: gx_core::NodeId::from_bytes([7; 32]),
            now: NOW,
            limits: Limits {
                text_bytes: 4_096,
                per_s: 5,
                burst: 50,
                page: MAX_PAGE,
                retention_s: 7 * 86_400,
            },
            rights: self.rights(user),
        }
    }

    /// Answers a frame; what it stores for others comes back beside.
    fn answer(
        &mut self,
        user: &UserName,
        frame: &ClientFrame,
    ) -> (Vec<ServerFrame>, Option<(GroupId, Message)>) {
        match frame {
            ClientFrame::Hello(_) => (vec![self.welcome(user)], None),
            ClientFrame::Send { cid, g, text } => {
                if let Some(code) = self.refuse_next.take() {
                    let (cid, msg) = (cid.clone(), "no".to_owned());
                    return (vec![ServerFrame::Nack { cid, code, retry_ms: None, msg }], None);
                }
                assert!(self.policy.allows(user.as_str(), Verb::Send, g), "{user} must not even try {g}");
                let (m, dup) = self.store(g, user, &cid.parse().unwrap(), text);
                let ack =
                    ServerFrame::Ack { cid: m.cid.clone(), g: g.parse().unwrap(), seq: m.seq, ts: m.ts, dup };
                (vec![ack], (!dup).then(|| (g.parse().unwrap(), m)))
            }
            ClientFrame::Hist { id, g, after, limit, .. } => {
                assert!(self.policy.allows(user.as_str(), Verb::History, g.as_str()), "{user} {g}");
                let after = after.unwrap();
                let all = self.messages.get(g.as_str()).cloned().unwrap_or_default();
                let newer: Vec<Message> = all.into_iter().filter(|m| m.seq > after).collect();
                let more = newer.len() > *limit as usize;
                let m: Vec<Message> = newer.into_iter().take(*limit as usize).collect();
                let expired = m.first().map_or(0, |m| m.seq.get() - after.get() - 1);
                (vec![ServerFrame::Page { id: *id, g: g.clone(), m, more, expired }], None)
            }
            _ => (Vec::new(), None),
        }
    }
}

/// Somebody at a terminal.
struct Person {
    talk: Talk,
    screen: Vec<String>,
    saved: Vec<(String, String)>,
    connected: bool,
    _folder: tempfile::TempDir,
}

impl Person {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let week = Week::open(&folder.path().join("week.db")).unwrap();
        let talk = Talk::new(week, name.parse().unwrap(), &format!("run{name}"), None);
        Self { talk, screen: Vec::new(), saved: Vec::new(), connected: false, _folder: folder }
    }

    /// Comes back as a new program with the same file.
    fn restart(&mut self, run: &str) {
        let week = Week::open(self.talk.week().path()).unwrap();
        self.talk = Talk::new(week, self.talk.me().clone(), run, None);
        self.connected = false;
    }

    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.screen)
    }

    fn do_all(&mut self, effects: Vec<Effect>) -> Vec<ClientFrame> {
        let mut frames = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(frame) => frames.push(frame),
                Effect::Show(Shown::Message(text)) => self.screen.push(text),
                Effect::Show(Shown::Notice(text)) => self.screen.push(format!("* {text}")),
                Effect::Show(Shown::Wrong(text)) => self.screen.push(format!("! {text}")),
                Effect::Save { file, text } => self.saved.push((file, text)),
                Effect::Offer(text) => self.screen.push(format!("(Up: {text})")),
                Effect::Leave => self.screen.push("(left)".to_owned()),
                Effect::ComeBack(_) | Effect::Refused { .. } => panic!("{effect:?}"),
            }
        }
        frames
    }
}

/// A server and people, between whom frames go at once.
struct Army {
    server: Server,
    people: Vec<Person>,
}

impl Army {
    fn new(names: &[&str]) -> Self {
        Self { server: Server::new(), people: names.iter().map(|name| Person::new(name)).collect() }
    }

    fn connect(&mut self, who: usize) {
        self.people[who].connected = true;
        let hello = self.people[who].talk.hello(Auth::Key {}).unwrap();
        self.send(who, vec![hello]);
    }

    fn cut(&mut self, who: usize) {
        let person = &mut self.people[who];
        person.connected = false;
        let effects = person.talk.closed().unwrap();
        person.do_all(effects);
    }

    fn types(&mut self, who: usize, line: &str) {
        let effects = self.people[who].talk.line(line, NOW).unwrap();
        let frames = self.people[who].do_all(effects);
        self.send(who, frames);
    }

    fn send(&mut self, who: usize, frames: Vec<ClientFrame>) {
        for frame in frames {
            if !self.people[who].connected {
                continue;
            }
            let user = self.people[who].talk.me().clone();
            let (answers, stored) = self.server.answer(&user, &frame);
            for answer in answers {
                self.deliver(who, answer);
            }
            if let Some((group, message)) = stored {
                for reader in 0..self.people.len() {
                    let name = self.people[reader].talk.me().clone();
                    if self.server.policy.allows(name.as_str(), Verb::Live, group.as_str()) {
                        self.deliver(
                            reader,
                            ServerFrame::Msgs { g: group.clone(), m: vec![message.clone()] },
                        );
                    }
                }
            }
        }
    }

    fn deliver(&mut self, who: usize, frame: ServerFrame) {
        if !self.people[who].connected {
            return;
        }
        let frame = ServerFrame::parse(frame.to_text().as_bytes()).unwrap();
        let effects = self.people[who].talk.frame(frame, NOW).unwrap();
        let frames = self.people[who].do_all(effects);
        self.send(who, frames);
    }
}

#[test]
fn a_day_of_the_army_line_by_line() {
    let mut army = Army::new(&["ChiefCommander", "NavyMarshal", "Navy7", "Army3"]);
    let [chief, marshal, navy7, army3] = [0, 1, 2, 3];
    for who in [chief, marshal, navy7, army3] {
        army.connect(who);
    }
    assert_eq!(army.people[chief].lines(), ["* -- heads --"]);
    assert_eq!(army.people[army3].lines(), ["* -- army --"]);
    army.people[marshal].lines();
    army.people[navy7].lines();

    // One's own line has (me), others see the name; a troop knows nothing of another.
    army.types(army3, "text");
    army.types(navy7, "ahoy");
    assert_eq!(army.people[army3].lines(), ["Army3 (me): text"]);
    assert_eq!(army.people[navy7].lines(), ["Navy7 (me): ahoy"]);
    // A leader sees one group, and hears of the other.
    assert_eq!(army.people[marshal].lines(), [""; 0]);
    assert_eq!(army.people[marshal].talk.prompt().unwrap(), "heads (navy 1)> ");
    assert_eq!(army.people[chief].talk.prompt().unwrap(), "heads (navy 1, army 1)> ");
    army.types(marshal, ":t");
    assert_eq!(army.people[marshal].lines(), ["* -- navy --", "Navy7: ahoy"]);
    army.types(marshal, "all well?");
    assert_eq!(army.people[marshal].lines(), ["NavyMarshal (me): all well?"]);
    assert_eq!(army.people[navy7].lines(), ["NavyMarshal: all well?"]);
    assert_eq!(army.people[army3].lines(), [""; 0]);

    // The chief reads along, and his line goes to the heads.
    army.types(chief, ":N");
    assert_eq!(army.people[chief].lines(), ["* -- navy --", "Navy7: ahoy", "NavyMarshal: all well?"]);
    army.types(chief, "report");
    assert_eq!(army.people[chief].lines(), ["* navy is only read: the line goes to heads"]);
    assert_eq!(army.people[chief].talk.prompt().unwrap(), "navy (army 1)> ");
    army.types(marshal, ":T");
    assert_eq!(army.people[marshal].lines(), ["* -- heads --", "ChiefCommander: report"]);
    army.types(chief, ":h");
    assert_eq!(army.people[chief].lines(), ["* -- heads --", "ChiefCommander (me): report"]);

    // What is not for somebody is no command, and is not sent.
    for line in [":h", ":t", ":n", ":x", ":)"] {
        army.types(navy7, line);
        let told = format!("! `{line}` is no command here; :help lists what there is, :: sends a colon");
        assert_eq!(army.people[navy7].lines(), [told]);
    }
    army.types(navy7, "::)");
    assert_eq!(army.people[navy7].lines(), ["Navy7 (me): :)"]);
    assert_eq!(army.server.last("n"), 3);

    // The week, as text.
    army.types(army3, ":d");
    assert_eq!(
        army.people[army3].saved,
        [("r-20260921-141320.txt".to_owned(), "[2026-09-21 14:13:20]Army3:text\n".to_owned())]
    );
    army.types(army3, "logmeout");
    assert_eq!(army.people[army3].lines(), ["(left)"]);
}

#[test]
fn who_was_away_gets_what_they_missed_in_order() {
    let mut army = Army::new(&["Navy1", "Navy2"]);
    army.connect(0);
    army.connect(1);
    army.types(0, "before");
    army.cut(1);
    for number in 0..450 {
        army.types(0, &format!("missed {number}"));
    }
    army.people[1].lines();
    army.connect(1);
    let expected: Vec<String> = (0..450).map(|number| format!("Navy1: missed {number}")).collect();
    assert_eq!(army.people[1].lines(), expected);
    // A new program shows the last thirty, as nothing is unread.
    army.people[1].restart("again");
    army.connect(1);
    let lines = army.people[1].lines();
    assert_eq!(
        (lines.len(), lines[0].as_str(), lines[30].as_str()),
        (31, "* -- navy --", "Navy1: missed 449")
    );
    // And after a longer while all that is unread.
    army.cut(1);
    for number in 0..40 {
        army.types(0, &format!("unread {number}"));
    }
    army.people[1].restart("oncemore");
    army.connect(1);
    assert_eq!(army.people[1].lines().len(), 41);
}

#[test]
fn what_is_typed_without_a_connection_is_sent_once_and_in_order() {
    let mut army = Army::new(&["Navy1", "Navy2"]);
    army.connect(0);
    army.connect(1);
    army.cut(0);
    army.people[0].lines();
    army.types(0, "one");
    army.types(0, "two");
    assert_eq!(
        army.people[0].lines(),
        ["* not connected: 1 line waits to be sent", "* not connected: 2 lines wait to be sent"]
    );
    army.people[0].restart("later");
    army.connect(0);
    assert_eq!(army.people[0].lines(), ["* -- navy --", "Navy1 (me): one", "Navy1 (me): two"]);
    army.people[1].lines();
    army.connect(1);
    assert_eq!(army.server.last("n"), 2);
}

#[test]
fn messages_that_expired_are_counted() {
    let mut army = Army::new(&["Navy1", "Navy2"]);
    army.connect(0);
    army.connect(1);
    army.types(0, "first");
    army.cut(1);
    for _ in 0..5 {
        army.types(0, "gone");
    }
    army.types(0, "kept");
    army.server.messages.get_mut("n").unwrap().drain(..6);
    army.people[1].lines();
    army.connect(1);
    assert_eq!(army.people[1].lines(), ["* navy: 5 messages expired", "Navy1: kept"]);
    // Who is new has missed nothing.
    let mut newcomer = Person::new("Navy3");
    std::mem::swap(&mut army.people[1], &mut newcomer);
    army.connect(1);
    assert_eq!(army.people[1].lines(), ["* -- navy --", "Navy1: kept"]);
}

#[test]
fn a_draft_waits_in_its_group_until_it_is_said() {
    let mut army = Army::new(&["ChiefCommander"]);
    army.connect(0);
    army.types(0, ":draft all troops will");
    army.people[0].lines();
    army.types(0, ":n");
    assert_eq!(army.people[0].lines(), ["* -- navy --"]);
    army.types(0, ":h");
    let back = ["* -- heads --", "* draft, by the key Up: all troops will", "(Up: all troops will)"];
    assert_eq!(army.people[0].lines(), back);
    army.cut(0);
    army.people[0].restart("later");
    army.connect(0);
    assert_eq!(army.people[0].lines(), back);
    army.types(0, "all troops will");
    assert_eq!(army.people[0].lines(), ["ChiefCommander (me): all troops will"]);
    army.types(0, ":draft another");
    army.types(0, ":draft");
    assert_eq!(army.people[0].lines(), ["* kept as the draft for heads", "* no draft is kept for heads"]);
    army.types(0, ":h");
    assert_eq!(army.people[0].lines(), ["* -- heads --", "ChiefCommander (me): all troops will"]);
}

#[test]
fn a_refused_line_is_told_and_a_delayed_one_goes_later() {
    let mut army = Army::new(&["Navy1"]);
    army.connect(0);
    army.people[0].lines();
    army.server.refuse_next = Some(NackCode::Conflict);
    army.types(0, "never");
    assert_eq!(army.people[0].lines(), ["! not sent to navy: no; it was: never"]);
    army.server.refuse_next = Some(NackCode::Rate);
    army.types(0, "later");
    army.types(0, "after it");
    assert_eq!(army.people[0].lines(), [""; 0]);
    let effects = army.people[0].talk.tick(NOW + 1_001).unwrap();
    let frames = army.people[0].do_all(effects);
    army.send(0, frames);
    assert_eq!(army.people[0].lines(), ["Navy1 (me): later", "Navy1 (me): after it"]);
    // What the server cannot do now is said once, and not again for each try.
    army.server.refuse_next = Some(NackCode::Unavailable);
    army.types(0, "kept");
    assert_eq!(army.people[0].lines(), ["! not yet sent to navy: no; the line waits"]);
    for (tick, told) in [(3_000, vec![]), (6_000, vec!["Navy1 (me): kept"])] {
        army.server.refuse_next = told.is_empty().then_some(NackCode::Unavailable);
        let effects = army.people[0].talk.tick(NOW + tick).unwrap();
        let frames = army.people[0].do_all(effects);
        army.send(0, frames);
        assert_eq!(army.people[0].lines(), told);
    }
    army.types(0, &"x".repeat(4_097));
    assert_eq!(army.people[0].lines(), ["! not sent: it has 4097 bytes, and 4096 are the most"]);
}

#[test]
fn what_is_too_old_is_not_shown_and_one_wrong_clock_deletes_nothing() {
    const DAY: u64 = 86_400_000;
    let mut army = Army::new(&["Navy1"]);
    army.connect(0);
    army.types(0, "one");
    let group: GroupId = "n".parse().unwrap();
    let shown = |army: &Army| army.people[0].talk.week().last(&group, 30, Seq::ZERO).unwrap().len();
    let kept = |army: &Army| {
        let week = Week::open(army.people[0].talk.week().path()).unwrap();
        week.last(&group, 30, Seq::ZERO).unwrap().len()
    };
    assert_eq!((shown(&army), kept(&army)), (1, 1));
    // The server's clock is a year ahead, and is put right.
    let welcome = |army: &Army, now: u64| {
        let ServerFrame::Welcome { user, token, server, limits, rights, .. } =
            army.server.welcome(&"Navy1".parse().unwrap())
        else {
            panic!("it is one");
        };
        ServerFrame::Welcome { user, token, server, now, limits, rights }
    };
    let wrong = welcome(&army, NOW + 365 * DAY);
    army.deliver(0, wrong);
    assert_eq!((shown(&army), kept(&army)), (0, 1));
    let right = welcome(&army, NOW);
    army.deliver(0, right);
    assert_eq!((shown(&army), kept(&army)), (1, 1));
    // Ours is a year ahead.
    let ours = welcome(&army, NOW);
    let person = &mut army.people[0];
    let effects = person.talk.frame(ours, NOW + 365 * DAY).unwrap();
    person.do_all(effects);
    assert_eq!((shown(&army), kept(&army)), (1, 1));
    let right = welcome(&army, NOW);
    army.deliver(0, right);

    // Eight days later, in a session that lasts, and in one that begins without the server.
    army.people[0].talk.tick(NOW + 6 * DAY).unwrap();
    assert_eq!((shown(&army), kept(&army)), (1, 1));
    army.people[0].talk.tick(NOW + 8 * DAY).unwrap();
    assert_eq!((shown(&army), kept(&army)), (0, 1));
    for (run, days, found) in [("again", 3, 1), ("once more", 8, 0)] {
        army.people[0].restart(run);
        army.people[0].talk.offline(NOW + days * DAY).unwrap();
        assert_eq!((shown(&army), kept(&army)), (found, 1));
    }
    // Where the server says so too, it is deleted.
    let later = welcome(&army, NOW + 8 * DAY);
    let person = &mut army.people[0];
    person.talk.frame(later, NOW + 8 * DAY).unwrap();
    assert_eq!((shown(&army), kept(&army)), (0, 0));
}

#[test]
fn a_lost_right_leaves_nothing() {
    let mut army = Army::new(&["NavyMarshal", "Navy1"]);
    army.connect(0);
    army.connect(1);
    army.types(1, "secret");
    army.types(0, ":t");
    let group: GroupId = "n".parse().unwrap();
    assert_eq!(army.people[0].talk.week().last(&group, 30, Seq::ZERO).unwrap().len(), 1);
    army.people[0].lines();
    let text = ARMY.replace("{ group = \"own\", read = true, write = true },", "");
    army.server.policy = Policy::parse(&text, "army.toml").unwrap();
    let rights = army.server.rights(&"NavyMarshal".parse().unwrap());
    army.deliver(0, ServerFrame::Policy { rights });
    assert_eq!(army.people[0].lines(), ["* navy is not yours any more", "* -- heads --"]);
    assert_eq!(army.people[0].talk.week().last(&group, 30, Seq::ZERO).unwrap().len(), 0);
    army.types(0, ":help");
    assert!(!army.people[0].lines().iter().any(|line| line.contains("navy")));
}

#[test]
fn what_others_write_steers_nothing() {
    let mut army = Army::new(&["Navy1", "Navy2"]);
    army.connect(0);
    army.connect(1);
    army.people[1].lines();
    army.types(0, "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}abc\u{9b}1m");
    assert_eq!(army.people[1].lines(), ["Navy1: ]0;owned[2J⟨U+202E⟩abc1m"]);
}

#[test]
fn a_history_that_was_changed_is_told() {
    let mut army = Army::new(&["Navy1", "Navy2"]);
    army.connect(0);
    army.connect(1);
    army.types(0, "as it was");
    army.people[1].lines();
    let forged = Message { seq: Seq::new(2).unwrap(), ..army.server.messages["n"][0].clone() };
    army.deliver(1, ServerFrame::Msgs { g: "n".parse().unwrap(), m: vec![forged] });
    assert_eq!(
        army.people[1].lines()[0],
        "! the messages of navy do not follow from what was here: it was changed"
    );
}

/// What happens in a random day.
#[derive(Debug, Clone)]
enum Happens {
    Types(usize),
    Cut(usize),
    Connect(usize),
    Restart(usize),
    /// A frame is lost on the way to somebody, and the connection with it.
    Lose(usize),
    /// Somebody is told what they have already.
    Repeat(usize),
    Tick(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    let who = || 0_usize..3;
    prop_oneof![
        6 => who().prop_map(Happens::Types),
        1 => who().prop_map(Happens::Cut),
        2 => who().prop_map(Happens::Connect),
        1 => who().prop_map(Happens::Restart),
        1 => who().prop_map(Happens::Lose),
        1 => who().prop_map(Happens::Repeat),
        1 => who().prop_map(Happens::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(day in proptest::collection::vec(happens(), 1..60)) {
        let mut army = Army::new(&["Navy1", "Navy2", "Navy3"]);
        let mut typed: Vec<Vec<String>> = vec![Vec::new(); 3];
        let connect = |army: &mut Army, who: usize| {
            if army.people[who].connected {
                army.cut(who);
            }
            army.connect(who);
        };
        for who in 0..3 {
            connect(&mut army, who);
        }
        for (number, event) in day.into_iter().enumerate() {
            match event {
                Happens::Types(who) => {
                    // Without a group there is nowhere to write: a new program first connects.
                    if army.people[who].talk.current().is_some() {
                        let text = format!("{who}-{number}");
                        typed[who].push(text.clone());
                        army.types(who, &text);
                    }
                }
                Happens::Cut(who) => army.cut(who),
                Happens::Connect(who) => connect(&mut army, who),
                Happens::Restart(who) => army.people[who].restart(&format!("r{number}")),
                Happens::Lose(who) => {
                    // The line is stored, its ack is not heard.
                    if army.people[who].talk.current().is_some() && army.people[who].connected {
                        let text = format!("{who}-{number}");
                        typed[who].push(text.clone());
                        let effects = army.people[who].talk.line(&text, NOW).unwrap();
                        let user = army.people[who].talk.me().clone();
                        for frame in army.people[who].do_all(effects) {
                            army.server.answer(&user, &frame);
                        }
                        army.cut(who);
                    }
                }
                Happens::Repeat(who) => {
                    let m = army.server.messages.get("n").cloned().unwrap_or_default();
                    army.deliver(who, ServerFrame::Msgs { g: "n".parse().unwrap(), m });
                }
                Happens::Tick(who) => {
                    let effects = army.people[who].talk.tick(NOW + 60_000).unwrap();
                    let frames = army.people[who].do_all(effects);
                    army.send(who, frames);
                }
            }
        }
        for who in 0..3 {
            connect(&mut army, who);
        }
        for who in 0..3 {
            connect(&mut army, who);
        }
        let stored = army.server.messages.get("n").cloned().unwrap_or_default();
        for (who, typed) in typed.iter().enumerate() {
            let of: Vec<&String> = stored.iter().filter(|m| m.from == *army.people[who].talk.me()).map(|m| &m.text).collect();
            prop_assert_eq!(of, typed.iter().collect::<Vec<_>>(), "what {} typed", who);
            let kept = army.people[who].talk.week().last(&"n".parse().unwrap(), 10_000, Seq::ZERO).unwrap();
            prop_assert_eq!(&kept, &stored, "what {} has", who);
            prop_assert_eq!(army.people[who].talk.week().waiting().unwrap(), 0);
        }
    }
}
