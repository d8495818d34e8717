//! What the server says, and what becomes of it: rights, messages in their order, answers to what was sent.

use super::told::{not_sent, notice, said, wrong};
use super::{AGAIN_MS, Done, Effect, Shown, Talk};
use crate::client::room::Room;
use crate::frames::{ClientFrame, MAX_PAGE, Message, NackCode, Rights};
use crate::id::{Cid, GroupId, Seq};

impl Talk {
    /// Takes in what the user may do, from now on.
    pub(super) fn allowed(&mut self, rights: Rights) -> Done {
        let mut effects = Vec::new();
        self.week.set_rights(&rights)?;
        let before = std::mem::replace(&mut self.rights, rights);
        let mut old = std::mem::take(&mut self.rooms);
        for group in &before.groups {
            if !self.rights.groups.iter().any(|now| now.g == group.g) {
                effects.push(notice(format!("{} is not yours any more", group.name)));
            }
        }
        for rights in self.rights.groups.clone() {
            let known = before.groups.iter().any(|was| was.g == rights.g);
            if !known && !before.groups.is_empty() {
                effects.push(notice(format!("{} is yours from now on", rights.name)));
            }
            if rights.reset {
                self.week.forget(&rights.g)?;
                old.remove(&rights.g);
                effects.push(wrong(format!(
                    "the server has lost messages of {}: what was here is gone",
                    rights.name
                )));
            }
            self.week.mark_read(&rights.g, rights.read)?;
            let place = self.week.place(&rights.g)?;
            let (asked, is_shown) =
                old.get(&rights.g).map_or((None, false), |room| (room.asked, room.is_shown));
            let group = rights.g.clone();
            let (got, hash, last) = (place.got, place.hash, rights.last);
            // The server knows what `hello` and its own answer say.
            let told = (got, rights.read);
            let room = Room { rights, got, hash, last, asked, is_shown, told };
            self.rooms.insert(group.clone(), room);
            effects.extend(self.past(&group)?);
            effects.extend(self.catch_up(&group));
        }
        // What is not theirs any more is not kept: nothing of it is left to read.
        for group in self.week.groups()? {
            if !self.rooms.get(&group).is_some_and(|room| room.rights.r) {
                self.week.forget(&group)?;
            }
        }
        if !self.current.as_ref().is_some_and(|group| self.rooms.contains_key(group)) {
            self.current = None;
            let wanted = self.wanted.take().filter(|group| self.rooms.contains_key(group));
            let first = || self.rights.groups.first().map(|group| group.g.clone());
            match wanted.or_else(|| self.rights.default.clone()).or_else(first) {
                Some(group) => effects.extend(self.choose(group)?),
                None => effects.push(wrong("the server gives you no group".to_owned())),
            }
        }
        effects.extend(self.show_if_due(!self.online)?);
        Ok(effects)
    }

    /// Goes on after messages that are too old to be had.
    pub(super) fn past(&mut self, group: &GroupId) -> Done {
        let Some(room) = self.rooms.get_mut(group) else { return Ok(Vec::new()) };
        let before = Seq::new(room.rights.first.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
        if !room.rights.r || room.got >= before {
            return Ok(Vec::new());
        }
        let (gone, name) = (before.get() - room.got.get(), room.rights.name.clone());
        // Who has never been here has missed nothing.
        let told = (room.got > Seq::ZERO).then(|| notice(format!("{name}: {gone} messages expired")));
        (room.got, room.hash) = (before, None);
        self.week.skip(group, before)?;
        Ok(told.into_iter().collect())
    }

    /// Asks for what is missing of a group, unless that was asked for.
    pub(super) fn catch_up(&mut self, group: &GroupId) -> Option<Effect> {
        if !self.online {
            return None;
        }
        let room = self.rooms.get_mut(group).filter(|room| room.asked.is_none() && !room.is_whole())?;
        self.questions += 1;
        room.asked = Some(self.questions);
        let (id, g, after) = (self.questions, group.clone(), Some(room.got));
        Some(Effect::Send(ClientFrame::Hist { id, g, after, before: None, since: None, limit: MAX_PAGE }))
    }

    pub(super) fn live(&mut self, group: &GroupId, messages: &[Message]) -> Done {
        let Some(room) = self.rooms.get_mut(group) else { return Ok(Vec::new()) };
        if let Some(last) = messages.last() {
            room.last = room.last.max(last.seq);
        }
        let mut effects = self.append(group, messages)?;
        // With a gap in between, what came is asked for in its order.
        effects.extend(self.catch_up(group));
        Ok(effects)
    }

    pub(super) fn lags(&mut self, group: &GroupId, from: Seq) -> Done {
        if let Some(room) = self.rooms.get_mut(group) {
            room.last = room.last.max(from);
        }
        Ok(self.catch_up(group).into_iter().collect())
    }

    pub(super) fn page(
        &mut self,
        id: u64,
        group: &GroupId,
        messages: &[Message],
        more: bool,
        expired: u64,
    ) -> Done {
        let Some(room) = self.rooms.get_mut(group).filter(|room| room.asked == Some(id)) else {
            return Ok(Vec::new());
        };
        room.asked = None;
        let before = room.got;
        let first = match messages.first() {
            Some(message) => message.seq.get(),
            None => room.got.get().saturating_add(expired).saturating_add(1),
        };
        room.rights.first = room.rights.first.max(Seq::new(first).unwrap_or(Seq::MAX));
        let mut effects = self.past(group)?;
        effects.extend(self.append(group, messages)?);
        if let Some(room) = self.rooms.get_mut(group)
            && !more
            && (messages.is_empty() || room.got == before)
        {
            // The server has no more of it: what it said before is not so any more.
            room.last = room.last.min(room.got);
        }
        effects.extend(self.catch_up(group));
        effects.extend(self.show_if_due(false)?);
        Ok(effects)
    }

    /// Stores what follows without a gap, and shows it where its group is shown.
    pub(super) fn append(&mut self, group: &GroupId, messages: &[Message]) -> Done {
        let Some(room) = self.rooms.get_mut(group) else { return Ok(Vec::new()) };
        let new = room.next(messages);
        let Some(last) = new.last() else { return Ok(Vec::new()) };
        let mut effects = Vec::new();
        if !room.is_continued_by(new) {
            let told = format!(
                "the messages of {} do not follow from what was here: it was changed",
                room.rights.name
            );
            effects.push(wrong(told));
        }
        self.week.store(group, new)?;
        (room.got, room.hash) = (last.seq, Some(last.h));
        room.last = room.last.max(last.seq);
        if room.is_shown && self.current.as_ref() == Some(group) {
            self.week.mark_read(group, last.seq)?;
            effects.extend(new.iter().map(|message| self.message(message)));
        }
        Ok(effects)
    }

    pub(super) fn acked(&mut self, cid: &Cid, group: &GroupId, seq: Seq, ts: u64, now: u64) -> Done {
        let line = self.week.acked(cid, group, seq, ts, self.me.as_str())?;
        if self.sent.get(group) == Some(cid) {
            self.sent.remove(group);
        }
        self.stuck.remove(group);
        if let Some(room) = self.rooms.get_mut(group) {
            room.last = room.last.max(seq);
        }
        let mut effects = Vec::new();
        // What is only written does not come back as a message.
        if let (Some(line), Some(room)) = (line, self.rooms.get(group))
            && !room.rights.r
        {
            effects.push(Effect::Show(Shown::Message(said(&self.me, &line.text, true))));
        }
        effects.extend(self.pump(now)?);
        Ok(effects)
    }

    pub(super) fn refused(
        &mut self,
        cid: &str,
        code: NackCode,
        retry_ms: Option<u64>,
        msg: &str,
        now: u64,
    ) -> Done {
        let group = self.sent.iter().find(|(_, sent)| sent.as_str() == cid).map(|(group, _)| group.clone());
        let again =
            matches!(code, NackCode::Rate | NackCode::Closed | NackCode::Unavailable) || retry_ms.is_some();
        if let Some(group) = &group {
            self.sent.remove(group);
            if again {
                self.hold.insert(group.clone(), now.saturating_add(retry_ms.unwrap_or(AGAIN_MS)));
            }
        }
        if again {
            let stuck =
                group.filter(|group| code == NackCode::Unavailable && self.stuck.insert(group.clone()));
            let told =
                stuck.map(|group| format!("not yet sent to {}: {msg}; the line waits", self.name(&group)));
            return Ok(told.into_iter().map(wrong).collect());
        }
        let mut effects = Vec::new();
        if let Some(line) = self.week.refused(cid)? {
            effects.push(not_sent(self.name(&line.group), msg, &line.text));
        }
        effects.extend(self.pump(now)?);
        Ok(effects)
    }
}
