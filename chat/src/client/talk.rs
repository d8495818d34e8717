//! A session of the chat, as a state that is told what happens and says what to do: it sends what is due, asks for what is
//! missing, shows everything once and in order, and keeps what was typed until the server has stored it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::export::text_line;
use super::line::{Typed, help, typed};
use super::room::Room;
use super::week::{MANY, Retention, Waiting, Week, WeekError};
use super::{clock, shown};
use crate::frames::{Auth, ClientFrame, Hello, Hit, Limits, Message, Rights, ServerFrame, VERSION};
use crate::id::{Cid, DeviceId, GroupId, Seq, UserName};

mod incoming;
mod told;

use told::{closing, error, lines, members, not_sent, notice, said, table, wrong};

/// How many lines of before are shown in a group.
const BACKGROUND: u64 = 30;
/// What a file of `:d` goes back, in milliseconds: 7 × 24 h.
const WEEK_MS: u64 = 7 * 86_400_000;
/// How often a sign of life is asked for, in milliseconds.
const PING_MS: u64 = 20_000;
/// How long to wait where the server does not say, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Found messages that are listed.
const HITS: u32 = 20;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this.
    Send(ClientFrame),
    /// Show this.
    Show(Shown),
    /// Have this text ready, to be typed on.
    Offer(String),
    /// Write a file of this name, which must not be there yet.
    Save {
        /// Its name.
        file: String,
        /// What is in it.
        text: String,
    },
    /// End the session, once nothing waits to be sent.
    Leave,
    /// The server ends the connection: come back after so long.
    ComeBack(Duration),
    /// The server does not let this user in.
    Refused {
        /// What it says.
        why: String,
        /// Whether another password could help.
        by_password: bool,
    },
}

/// How often what is too old is deleted, in milliseconds.
const EXPIRE_MS: u64 = 60 * 60 * 1_000;

/// A line to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Somebody's message, harmless for a terminal.
    Message(String),
    /// What the client says.
    Notice(String),
    /// What is wrong.
    Wrong(String),
}

/// A session.
#[derive(Debug)]
pub struct Talk {
    week: Week,
    me: UserName,
    rights: Rights,
    limits: Option<Limits>,
    rooms: BTreeMap<GroupId, Room>,
    current: Option<GroupId>,
    wanted: Option<GroupId>,
    online: bool,
    /// What the server has told of time.
    retention: Option<Retention>,
    /// When it was last looked what is too old, by our clock in milliseconds.
    expired: u64,
    questions: u64,
    /// What the messages of this run are called, and how many there were.
    cids: (String, u64),
    /// One line a group is on its way: the next one goes when it is stored, so that their order stays.
    sent: BTreeMap<GroupId, Cid>,
    /// Until when a group is left alone.
    hold: BTreeMap<GroupId, u64>,
    /// Groups of which it was told that the server cannot store a line now.
    stuck: BTreeSet<GroupId>,
    pinged: u64,
}

type Done = Result<Vec<Effect>, WeekError>;

/// Returns the first frame of a connection: who it is, and what is here already.
///
/// # Errors
/// [`WeekError`].
pub fn hello(week: &Week, user: &UserName, run: &str, auth: Auth) -> Result<ClientFrame, WeekError> {
    let fresh: DeviceId = format!("d-{run}").parse().expect("letters and digits are a device's id");
    let (mut resume, mut chain) = (BTreeMap::new(), BTreeMap::new());
    for group in week.groups()? {
        let place = week.place(&group)?;
        if place.got > Seq::ZERO {
            if let Some(hash) = place.hash {
                chain.insert(group.clone(), hash);
            }
            resume.insert(group, place.got);
        }
    }
    let (user, device) = (user.clone(), week.device(&fresh)?);
    Ok(ClientFrame::Hello(Hello { v: VERSION, user, auth, device, resume, chain }))
}

impl Talk {
    /// Begins a session. `run` is a text that no other run has, up to 40 letters and digits; the messages are named by it.
    pub fn new(week: Week, me: UserName, run: &str, group: Option<GroupId>) -> Self {
        Self {
            week,
            me,
            rights: Rights::default(),
            limits: None,
            rooms: BTreeMap::new(),
            current: None,
            wanted: group,
            online: false,
            retention: None,
            expired: 0,
            questions: 0,
            cids: (run.to_owned(), 0),
            sent: BTreeMap::new(),
            hold: BTreeMap::new(),
            stuck: BTreeSet::new(),
            pinged: 0,
        }
    }

    /// Returns what is kept.
    pub fn week(&self) -> &Week {
        &self.week
    }

    /// Returns the user.
    pub fn me(&self) -> &UserName {
        &self.me
    }

    /// Returns what the user may do, as far as the server has said.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Returns the group that is shown.
    pub fn current(&self) -> Option<&GroupId> {
        self.current.as_ref()
    }

    /// Returns whether the server has let the user in.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Returns the first frame of a connection.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn hello(&self, auth: Auth) -> Result<ClientFrame, WeekError> {
        hello(&self.week, &self.me, &self.cids.0, auth)
    }

    /// Begins without a server, with what is known of before.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn offline(&mut self, now: u64) -> Done {
        // What was kept by an earlier gx does not say it: it is the week that a policy has where it says nothing else.
        let usual = Retention { kept_ms: WEEK_MS, ahead_ms: 0, told_ms: 0 };
        self.retention = Some(self.week.retention()?.unwrap_or(usual));
        self.age(now)?;
        let Some(rights) = self.week.rights()? else { return Ok(Vec::new()) };
        self.allowed(rights)
    }

    /// Returns whether everything that the server has is here.
    pub fn is_whole(&self) -> bool {
        self.online && self.rooms.values().all(Room::is_whole)
    }

    /// Returns whether a script may go on: its group is shown, and what it has said so far is stored, or there is no server.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn is_settled(&self) -> Result<bool, WeekError> {
        let room = self.current.as_ref().and_then(|group| self.rooms.get(group));
        let is_shown = room.is_some_and(|room| room.is_shown || !room.rights.r);
        Ok(is_shown && (!self.online || (self.is_whole() && self.week.waiting()? == 0)))
    }

    /// Returns what is said to the server at the end.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn bye(&mut self) -> Result<Vec<ClientFrame>, WeekError> {
        let frame = |effect| match effect {
            Effect::Send(frame) => Some(frame),
            _ => None,
        };
        let told = self.tell()?.into_iter().filter_map(frame);
        Ok(told.chain(self.online.then_some(ClientFrame::Bye {})).collect())
    }

    /// Returns what stands before the typed line: the group, and what is unread elsewhere.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn prompt(&self) -> Result<String, WeekError> {
        let mut others = Vec::new();
        for (name, unread) in self.unread()? {
            others.push(format!("{} {unread}", shown(&name)));
        }
        let here = self.current.as_ref().map_or("...", |group| self.name(group));
        let away = if self.online { "" } else { " (offline)" };
        let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        Ok(format!("{}{others}{away}> ", shown(here)))
    }

    /// Returns the groups with unread messages that are not shown, by name, each with how many there are.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn unread(&self) -> Result<Vec<(String, String)>, WeekError> {
        let mut unread = Vec::new();
        for group in
            self.rights.groups.iter().filter(|group| group.r && Some(&group.g) != self.current.as_ref())
        {
            match self.week.unread(&group.g, self.me.as_str())? {
                0 => {}
                MANY.. => unread.push((group.name.clone(), format!("{MANY}+"))),
                count => unread.push((group.name.clone(), count.to_string())),
            }
        }
        Ok(unread)
    }

    /// Takes in a frame of the server.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn frame(&mut self, frame: ServerFrame, now: u64) -> Done {
        self.age(now)?;
        match frame {
            ServerFrame::Welcome { user, token, now: there, limits, rights, .. } => {
                self.me = user;
                if let Some(token) = token {
                    self.week.set_token(Some(&token))?;
                }
                let retention = Retention {
                    kept_ms: limits.retention_s.saturating_mul(1_000),
                    ahead_ms: there.cast_signed().wrapping_sub(now.cast_signed()),
                    told_ms: there,
                };
                self.week.set_retention(retention)?;
                (self.retention, self.expired) = (Some(retention), 0);
                self.age(now)?;
                self.limits = Some(limits);
                self.online = true;
                self.pinged = now;
                let mut effects = self.allowed(rights)?;
                effects.extend(self.pump(now)?);
                Ok(effects)
            }
            ServerFrame::Policy { rights } => {
                let mut effects = self.allowed(rights)?;
                effects.extend(self.pump(now)?);
                Ok(effects)
            }
            ServerFrame::Msgs { g, m } => {
                self.told(m.last().map_or(0, |message| message.ts));
                self.live(&g, &m)
            }
            ServerFrame::Lag { g, from } => self.lags(&g, from),
            ServerFrame::Page { id, g, m, more, expired } => self.page(id, &g, &m, more, expired),
            ServerFrame::Ack { cid, g, seq, ts, .. } => self.acked(&cid, &g, seq, ts, now),
            ServerFrame::Nack { cid, code, retry_ms, msg } => self.refused(&cid, code, retry_ms, &msg, now),
            ServerFrame::Hits { m, more, .. } => Ok(self.hits(&m, more)),
            ServerFrame::Members { g, m, .. } => Ok(vec![notice(members(self.name(&g), &m))]),
            ServerFrame::Error { id, code, fatal, retry_ms, msg } => {
                // What was asked for is asked for again, in a while.
                for room in self.rooms.values_mut().filter(|room| room.asked.is_some() && room.asked == id) {
                    room.asked = None;
                }
                Ok(error(code, fatal, retry_ms, &msg))
            }
            ServerFrame::Closing { why, retry_ms } => Ok(closing(why, retry_ms)),
            ServerFrame::Pong { now: there } => {
                self.told(there);
                Ok(Vec::new())
            }
            ServerFrame::Presence { .. } | ServerFrame::Typing { .. } | ServerFrame::Unknown => {
                Ok(Vec::new())
            }
        }
    }

    /// Takes in a typed line.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn line(&mut self, line: &str, now: u64) -> Done {
        self.age(now)?;
        match typed(line, &self.rights, self.current.as_ref()) {
            Typed::Nothing => Ok(Vec::new()),
            Typed::Say(text) => self.say(&text, now),
            Typed::Choose(group) => self.choose(group),
            Typed::Save(file) => self.save(file, now),
            Typed::Draft(text) => self.keep_draft(&text),
            Typed::Help => Ok(table(&help(&self.rights))),
            Typed::Groups => self.list(),
            Typed::Who => Ok(self.ask(|id, g| ClientFrame::Who { id, g })),
            Typed::Search(q) => {
                Ok(self.ask(|id, g| ClientFrame::Find { id, q, g: BTreeSet::from([g]), limit: HITS }))
            }
            Typed::Leave => Ok(vec![Effect::Leave]),
            Typed::Wrong(told) => {
                Ok(vec![wrong(format!("{told}; :help lists what there is, :: sends a colon"))])
            }
        }
    }

    /// Does what is due from time to time; called about once a second.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn tick(&mut self, now: u64) -> Done {
        self.age(now)?;
        if !self.online {
            return Ok(Vec::new());
        }
        let mut effects = self.tell()?;
        if now.saturating_sub(self.pinged) >= PING_MS {
            self.pinged = now;
            effects.push(Effect::Send(ClientFrame::Ping {}));
        }
        let groups: Vec<GroupId> = self.rooms.keys().cloned().collect();
        effects.extend(groups.iter().filter_map(|group| self.catch_up(group)));
        effects.extend(self.pump(now)?);
        Ok(effects)
    }

    /// Hides what is too old by the server's clock, as far as it is known, and deletes from time to time what is by what the
    /// server has told and by our own clock: one that is wrong deletes nothing.
    fn age(&mut self, now: u64) -> Result<(), WeekError> {
        let Some(Retention { kept_ms, told_ms, .. }) = self.retention else { return Ok(()) };
        // Time is not before what the server has told, whatever our clock says.
        self.week.hide_before(self.there(now).max(told_ms).saturating_sub(kept_ms));
        if now.abs_diff(self.expired) >= EXPIRE_MS {
            self.expired = now;
            self.week.expire(told_ms.min(now).saturating_sub(kept_ms))?;
        }
        Ok(())
    }

    /// Notes a time that the server told.
    fn told(&mut self, at: u64) {
        if let Some(retention) = &mut self.retention {
            retention.told_ms = retention.told_ms.max(at);
        }
    }

    /// Returns the server's time, as far as it is known.
    fn there(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.retention.map_or(0, |retention| retention.ahead_ms))
    }

    /// Notes that the connection is gone.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn closed(&mut self) -> Done {
        self.online = false;
        self.sent.clear();
        self.hold.clear();
        for room in self.rooms.values_mut() {
            room.asked = None;
        }
        self.show_if_due(true)
    }

    /// Puts a text into the outbox of a group, and sends it when its turn comes. Returns what it is called.
    ///
    /// # Errors
    /// [`WeekError`].
    pub fn queue(&mut self, group: &GroupId, text: &str, now: u64) -> Result<(Cid, Vec<Effect>), WeekError> {
        self.cids.1 += 1;
        let cid = Cid::of(now, &format!("{}-{}", self.cids.0, self.cids.1)).expect("it is short");
        self.week.queue(&Waiting { cid: cid.clone(), group: group.clone(), text: text.to_owned() })?;
        Ok((cid, self.pump(now)?))
    }

    fn say(&mut self, text: &str, now: u64) -> Done {
        let Some(room) = self.current.as_ref().and_then(|group| self.rooms.get(group)) else {
            return Ok(vec![wrong("there is no group yet: the server has not answered".to_owned())]);
        };
        if let Some(limits) = &self.limits
            && text.len() as u64 > limits.text_bytes
        {
            let told =
                format!("not sent: it has {} bytes, and {} are the most", text.len(), limits.text_bytes);
            return Ok(vec![wrong(told)]);
        }
        let mut effects = Vec::new();
        let group = match (room.rights.w, &self.rights.redirect) {
            (true, _) => room.rights.g.clone(),
            (false, Some(to)) => {
                let told = format!("{} is only read: the line goes to {}", room.rights.name, self.name(to));
                effects.push(notice(told));
                to.clone()
            }
            (false, None) => {
                return Ok(vec![wrong(format!("not sent: you may only read {}", room.rights.name))]);
            }
        };
        if let Some(here) = self
            .current
            .as_ref()
            .filter(|here| self.week.draft(here).is_ok_and(|kept| kept.as_deref() == Some(text)))
        {
            self.week.forget_draft(here)?;
        }
        effects.extend(self.queue(&group, text, now)?.1);
        if !self.online {
            effects.push(notice(format!("not connected: {} to be sent", lines(self.week.waiting()?))));
        }
        Ok(effects)
    }

    fn choose(&mut self, group: GroupId) -> Done {
        for room in self.rooms.values_mut() {
            room.is_shown = false;
        }
        self.current = Some(group);
        self.show_if_due(!self.online)
    }

    /// Shows the current group, once everything that the server has is here; `anyway` does not wait for that.
    fn show_if_due(&mut self, anyway: bool) -> Done {
        let Some(group) = self.current.clone() else { return Ok(Vec::new()) };
        let Some(room) = self.rooms.get_mut(&group) else { return Ok(Vec::new()) };
        if room.is_shown || !(room.is_whole() || anyway) {
            return Ok(Vec::new());
        }
        room.is_shown = true;
        let (got, name) = (room.got, room.rights.name.clone());
        let mut effects = vec![notice(format!("-- {name} --"))];
        let seen = self.week.place(&group)?.read;
        let messages = self.week.last(&group, BACKGROUND, seen)?;
        effects.extend(messages.iter().map(|message| self.message(message)));
        self.week.mark_read(&group, got)?;
        if let Some(draft) = self.week.draft(&group)? {
            effects.push(notice(format!("draft, by the key Up: {draft}")));
            effects.push(Effect::Offer(draft));
        }
        Ok(effects)
    }

    /// Keeps what was begun in the group that is shown, or forgets it.
    fn keep_draft(&mut self, text: &str) -> Done {
        let Some(group) = &self.current else {
            return Ok(vec![wrong("there is no group yet: the server has not answered".to_owned())]);
        };
        if text.is_empty() {
            self.week.forget_draft(group)?;
            return Ok(vec![notice(format!("no draft is kept for {}", self.name(group)))]);
        }
        self.week.set_draft(group, text)?;
        Ok(vec![notice(format!("kept as the draft for {}", self.name(group)))])
    }

    /// Sends the first line of each group, where none is on its way.
    fn pump(&mut self, now: u64) -> Done {
        let mut effects = Vec::new();
        if !self.online {
            return Ok(effects);
        }
        self.hold.retain(|_, until| *until > now);
        loop {
            let due = self.week.due()?;
            let free = |line: &&Waiting| {
                !self.sent.contains_key(&line.group) && !self.hold.contains_key(&line.group)
            };
            let due: Vec<Waiting> = due.iter().filter(free).cloned().collect();
            if due.is_empty() {
                return Ok(effects);
            }
            for Waiting { cid, group, text } in due {
                if self.rooms.get(&group).is_some_and(|room| room.rights.w) {
                    let frame = ClientFrame::Send { cid: cid.to_string(), g: group.to_string(), text };
                    effects.push(Effect::Send(frame));
                    self.sent.insert(group, cid);
                } else {
                    self.week.refused(cid.as_str())?;
                    effects.push(not_sent(self.name(&group), "you may not write there", &text));
                }
            }
        }
    }

    /// Tells the server how far this device has the groups, and how far the user has seen them.
    fn tell(&mut self) -> Done {
        let mut effects = Vec::new();
        for (group, room) in self.rooms.iter_mut().filter(|(_, room)| room.rights.r) {
            let read = self.week.place(group)?.read;
            if room.got > room.told.0 {
                effects.push(Effect::Send(ClientFrame::Got { g: group.clone(), seq: room.got }));
            }
            if read > room.told.1 {
                effects.push(Effect::Send(ClientFrame::Read { g: group.clone(), seq: read }));
            }
            room.told = (room.got, read);
        }
        Ok(if self.online { effects } else { Vec::new() })
    }

    fn save(&mut self, file: Option<String>, now: u64) -> Done {
        let Some(group) = &self.current else {
            return Ok(vec![wrong("there is no group to save".to_owned())]);
        };
        if let Some(room) = self.rooms.get(group)
            && !room.is_whole()
            && self.online
        {
            return Ok(vec![wrong(
                "not saved: messages are still coming in; try again in a moment".to_owned(),
            )]);
        }
        let there = self.there(now);
        let messages = self.week.since(group, there.saturating_sub(WEEK_MS))?;
        let text: String = messages.iter().map(text_line).collect();
        let name = || format!("{group}-{}.txt", clock(there).replace(['-', ':'], "").replace(' ', "-"));
        Ok(vec![Effect::Save { file: file.unwrap_or_else(name), text }])
    }

    fn list(&self) -> Done {
        let mut rows = Vec::new();
        for group in &self.rights.groups {
            let rights = match (group.r, group.w) {
                (true, true) => "read and write",
                (true, false) => "read only",
                (false, _) => "write only",
            };
            let unread = match self.week.unread(&group.g, self.me.as_str())? {
                0 => String::new(),
                count => format!(", {count} unread"),
            };
            rows.push((group.name.clone(), format!("{rights}{unread}")));
        }
        Ok(table(&rows))
    }

    fn ask(&mut self, question: impl FnOnce(u64, GroupId) -> ClientFrame) -> Vec<Effect> {
        match self.current.clone().filter(|_| self.online) {
            Some(group) => {
                self.questions += 1;
                vec![Effect::Send(question(self.questions, group))]
            }
            None => vec![wrong("not connected: try again in a moment".to_owned())],
        }
    }

    fn hits(&self, hits: &[Hit], more: bool) -> Vec<Effect> {
        if hits.is_empty() {
            return vec![notice("nothing was found".to_owned())];
        }
        let line =
            |hit: &Hit| notice(format!("[{}] {}: {}", clock(hit.m.ts), hit.m.from, shown(&hit.m.text)));
        let older = more.then(|| notice("there is more, from before:".to_owned()));
        older.into_iter().chain(hits.iter().rev().map(line)).collect()
    }

    fn message(&self, message: &Message) -> Effect {
        let mine = message.from == self.me;
        Effect::Show(Shown::Message(said(&message.from, &message.text, mine)))
    }

    fn name<'a>(&'a self, group: &'a GroupId) -> &'a str {
        self.rooms.get(group).map_or(group.as_str(), |room| room.rights.name.as_str())
    }
}
