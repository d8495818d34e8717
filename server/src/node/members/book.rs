//! What a host has written down about whom it lends to: members, invitations, changes of key. Pure; `now` is an argument.
//!
//! Members and invitations are in one book, so that an invitation is used and its holder a member in the same moment.

use std::collections::BTreeSet;
use std::time::Duration;

use gx_core::api::{AllowRequest, Fate, InviteInfo, InviteRequest, Origin};
use gx_core::member::Member;
use gx_core::{InviteId, NodeId, PeerName, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::error::{Result, TrustError};

/// The format this program reads and writes.
pub(super) const FORMAT: u32 = 1;
/// The most members.
pub(super) const MEMBERS_MAX: usize = 10_000;
/// The most invitations that are good at a time.
pub(super) const INVITES_MAX: usize = 1_000;
/// How many may join with all invitations together.
const USES_MAX: usize = 10_000;
/// The most changes of key that are remembered.
const ROTATIONS_MAX: usize = 10_000;

/// The book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    pub(super) format: u32,
    #[serde(default)]
    pub(super) members: Vec<Entry>,
    #[serde(default)]
    pub(super) invites: Vec<Invite>,
    /// Changes of key, the oldest first.
    #[serde(default)]
    pub(super) rotated: Vec<Rotated>,
    /// Who was removed and has containers that are to be stopped or removed still.
    #[serde(default)]
    pub(super) leaving: Vec<Leaving>,
    /// Who was a member by the configuration when a server last read it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) configured: BTreeSet<NodeId>,
}

impl Default for Book {
    fn default() -> Self {
        let (members, invites, rotated, leaving, configured) = Default::default();
        Self { format: FORMAT, members, invites, rotated, leaving, configured }
    }
}

/// A member, and the ticket by which it became one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) member: Member,
    /// Kept so that a join may be repeated for as long as the member is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<Shown>,
}

/// A ticket that somebody has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    pub(super) invite: InviteId,
    pub(super) digest: Digest,
}

/// An invitation. Of its secret there is a digest only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invite {
    pub(super) info: InviteInfo,
    pub(super) digest: Digest,
    /// Who has joined with it, removed since or not.
    #[serde(default)]
    pub(super) joined: Vec<NodeId>,
}

/// A change of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotated {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

/// Somebody who was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaving {
    pub(super) id: NodeId,
    pub(super) fate: Fate,
}

/// How a join came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// The node is a member now, by this invitation or under this key.
    New,
    /// It was one already.
    Again,
}

impl Book {
    /// Notes an invitation.
    ///
    /// # Errors
    /// [`TrustError::Full`].
    pub(super) fn invite(
        &mut self,
        id: InviteId,
        digest: Digest,
        request: &InviteRequest,
        now: Timestamp,
    ) -> Result<InviteInfo> {
        if self.invites.len() >= INVITES_MAX {
            return Err(TrustError::Full { noun: "invitations", limit: INVITES_MAX }.into());
        }
        let uses: usize = self.invites.iter().map(|invite| invite.info.uses as usize).sum();
        if uses + request.uses as usize > USES_MAX {
            return Err(TrustError::Full { noun: "places in invitations", limit: USES_MAX }.into());
        }
        let info = InviteInfo {
            id,
            name: request.name.clone(),
            since: now,
            until: after(now, request.expires_s),
            uses: request.uses,
            used: 0,
            for_s: request.for_s,
            allowance: request.allowance,
        };
        self.invites.push(Invite { info: info.clone(), digest, joined: Vec::new() });
        Ok(info)
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`TrustError::NoInvite`].
    pub(super) fn revoke(&mut self, id: &str) -> Result<InviteInfo> {
        let at = self.invites.iter().position(|invite| invite.info.id.as_str() == id);
        let at = at.ok_or_else(|| TrustError::NoInvite { reference: id.chars().take(80).collect() })?;
        Ok(self.invites.remove(at).info)
    }

    /// Says whether somebody who shows this ticket could join, without changing anything.
    ///
    /// # Errors
    /// Those of [`join`](Book::join), but for a book that is full.
    pub(super) fn check(
        &self,
        node: NodeId,
        id: &InviteId,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Joined> {
        let shown = self.entry(node, now).and_then(|entry| entry.ticket.as_ref());
        if shown.is_some_and(|shown| shown.invite == *id && shown.digest.same(digest)) {
            return Ok(Joined::Again);
        }
        let invite = self.invites.iter().find(|invite| invite.info.id == *id);
        let invite = invite.ok_or(TrustError::NoSuchInvite)?;
        if !invite.digest.same(digest) {
            return Err(TrustError::WrongSecret.into());
        }
        if invite.info.until <= now {
            return Err(TrustError::Expired { at: invite.info.until }.into());
        }
        if invite.joined.contains(&node) {
            return match self.entry(node, now) {
                Some(_) => Ok(Joined::Again), // by another ticket since, and what that said holds
                None => Err(TrustError::Removed.into()),
            };
        }
        match invite.joined.len() >= invite.info.uses as usize {
            true => Err(TrustError::UsedUp { uses: invite.info.uses }.into()),
            false => Ok(Joined::New),
        }
    }

    /// Makes a node a member by a ticket; the same ticket again changes nothing.
    ///
    /// # Errors
    /// [`TrustError::NoSuchInvite`], [`TrustError::WrongSecret`], [`TrustError::Expired`], [`TrustError::UsedUp`],
    /// [`TrustError::Removed`]; [`TrustError::Full`].
    pub(super) fn join(
        &mut self,
        node: NodeId,
        id: &InviteId,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Joined> {
        if self.check(node, id, digest, now)? == Joined::Again {
            return Ok(Joined::Again);
        }
        self.room_for(node)?;
        let invite = self.invites.iter_mut().find(|invite| invite.info.id == *id);
        let invite = invite.ok_or(TrustError::NoSuchInvite)?;
        invite.joined.push(node);
        invite.info.used += 1;
        let info = invite.info.clone();
        let name = info.name.as_ref().map(|name| self.free_name(name, node));
        let until = info.for_s.map(|seconds| after(now, seconds));
        let member = Member { id: node, name, since: now, until, allowance: info.allowance };
        self.put(Entry { member, ticket: Some(Shown { invite: id.clone(), digest: digest.clone() }) });
        Ok(Joined::New)
    }

    /// Makes a node a member by its id, or changes what a member may have.
    ///
    /// # Errors
    /// [`TrustError::NameTaken`], [`TrustError::Full`].
    pub(super) fn allow(&mut self, node: NodeId, request: &AllowRequest, now: Timestamp) -> Result<()> {
        self.room_for(node)?;
        if let Some(name) = &request.name
            && self.named(name).is_some_and(|other| other.member.id != node)
        {
            return Err(TrustError::NameTaken { name: name.to_string() }.into());
        }
        let was = self.entry(node, now).map(|entry| entry.member.clone());
        let member = Member {
            id: node,
            name: request.name.clone().or_else(|| was.as_ref().and_then(|was| was.name.clone())),
            since: was.map_or(now, |was| was.since),
            until: request.for_s.map(|seconds| after(now, seconds)),
            allowance: request.allowance,
        };
        self.put(Entry { member, ticket: None });
        Ok(())
    }

    /// Removes a member, and notes what is to become of its containers.
    pub(super) fn remove(&mut self, node: NodeId, fate: Fate) -> Result<()> {
        self.members.retain(|entry| entry.member.id != node);
        self.leave(node, fate);
        Ok(())
    }

    /// Notes that somebody's containers are stopped or removed.
    pub(super) fn has_left(&mut self, node: NodeId, fate: Fate) -> Result<()> {
        self.leaving.retain(|leaving| (leaving.id, leaving.fate) != (node, fate));
        Ok(())
    }

    /// Notes whom the configuration names; whoever it named before, `dropped` among them, and is no member any more, is
    /// leaving.
    pub(super) fn configure(&mut self, configured: BTreeSet<NodeId>, dropped: &BTreeSet<NodeId>) {
        let members: BTreeSet<NodeId> = self.members.iter().map(|entry| entry.member.id).collect();
        let before: BTreeSet<NodeId> = self.configured.union(dropped).copied().collect();
        for id in before.into_iter().filter(|id| !configured.contains(id) && !members.contains(id)) {
            self.leave(id, Fate::Stop);
        }
        self.leaving.retain(|leaving| !configured.contains(&leaving.id));
        self.configured = configured;
    }

    /// Notes what is to become of the containers of somebody who is no member.
    pub(super) fn leave(&mut self, node: NodeId, fate: Fate) {
        self.leaving.retain(|leaving| leaving.id != node);
        if fate != Fate::Keep {
            self.leaving.push(Leaving { id: node, fate });
        }
    }

    /// Makes a member's new key the one it is known by. Told again it changes nothing.
    ///
    /// # Errors
    /// [`TrustError::NoMember`] when the old key is nobody's.
    pub(super) fn rotate(&mut self, from: NodeId, to: NodeId, now: Timestamp) -> Result<()> {
        if self.check_rotation(from, to, now)? == Joined::Again {
            return Ok(());
        }
        let at = self.members.iter().position(|entry| entry.member.id == from);
        let mut entry = self.members.remove(at.expect("it was just found"));
        entry.member.id = to;
        self.put(entry);
        self.note_rotation(from, to);
        Ok(())
    }

    /// Says whether somebody who has both keys could change them, or has already.
    ///
    /// # Errors
    /// [`TrustError::NoMember`] when the old key is nobody's.
    pub(super) fn check_rotation(&self, from: NodeId, to: NodeId, now: Timestamp) -> Result<Joined> {
        if self.entry(to, now).is_some() && self.current(from) == to {
            return Ok(Joined::Again);
        }
        match self.entry(from, now) {
            Some(_) => Ok(Joined::New),
            None => Err(TrustError::NoMember { reference: from.to_string(), near: None }.into()),
        }
    }

    /// Notes that one key stands for another: containers of the one are the other's.
    pub(super) fn note_rotation(&mut self, from: NodeId, to: NodeId) {
        self.rotated.retain(|rotated| rotated.from != from && rotated.from != to); // else they could form a ring
        self.rotated.push(Rotated { from, to });
        let surplus = self.rotated.len().saturating_sub(ROTATIONS_MAX);
        self.rotated.drain(..surplus);
        for invite in self.invites.iter_mut().filter(|invite| invite.joined.contains(&from)) {
            invite.joined.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
        }
    }

    /// Returns the key that stands for this one now.
    pub(super) fn current(&self, node: NodeId) -> NodeId {
        let next = |node: NodeId| self.rotated.iter().find(|rotated| rotated.from == node).map(|r| r.to);
        let chain = std::iter::successors(Some(node), |node| next(*node));
        chain.take(self.rotated.len() + 1).last().unwrap_or(node)
    }

    /// Returns the keys that this one stands for, without itself.
    pub(super) fn formerly(&self, node: NodeId) -> Vec<NodeId> {
        let mut all = vec![node];
        let mut at = 0;
        while let Some(to) = all.get(at).copied() {
            at += 1;
            let before = self.rotated.iter().filter(|rotated| rotated.to == to).map(|rotated| rotated.from);
            let fresh: Vec<NodeId> = before.filter(|from| !all.contains(from)).collect();
            all.extend(fresh);
        }
        all.split_off(1)
    }

    /// Forgets what has come to its end, but for the members of the configuration.
    pub(super) fn sweep(&mut self, configured: &BTreeSet<NodeId>, now: Timestamp) {
        self.invites.retain(|invite| invite.info.until > now);
        let over = |entry: &Entry| entry.member.until.is_some_and(|until| until <= now);
        let gone: Vec<NodeId> =
            self.members.iter().filter(|entry| over(entry)).map(|entry| entry.member.id).collect();
        self.members.retain(|entry| !over(entry));
        for id in gone.into_iter().filter(|id| !configured.contains(id)) {
            self.leave(id, Fate::Stop);
        }
        let members: BTreeSet<NodeId> = self.members.iter().map(|entry| entry.member.id).collect();
        self.leaving.retain(|leaving| !members.contains(&leaving.id) && !configured.contains(&leaving.id));
    }

    /// Returns a member that is one still.
    pub(super) fn entry(&self, node: NodeId, now: Timestamp) -> Option<&Entry> {
        let entry = self.members.iter().find(|entry| entry.member.id == node)?;
        entry.member.until.is_none_or(|until| until > now).then_some(entry)
    }

    fn named(&self, name: &PeerName) -> Option<&Entry> {
        self.members.iter().find(|entry| entry.member.name.as_ref() == Some(name))
    }

    fn put(&mut self, entry: Entry) {
        let id = entry.member.id;
        self.leaving.retain(|leaving| leaving.id != id);
        match self.members.iter_mut().find(|there| there.member.id == id) {
            Some(there) => *there = entry,
            None => self.members.push(entry),
        }
    }

    fn room_for(&self, node: NodeId) -> Result<()> {
        let known = self.members.iter().any(|entry| entry.member.id == node);
        match known || self.members.len() < MEMBERS_MAX {
            true => Ok(()),
            false => Err(TrustError::Full { noun: "members", limit: MEMBERS_MAX }.into()),
        }
    }

    /// Returns the name, or the name with the first number that no other member has.
    fn free_name(&self, name: &PeerName, node: NodeId) -> PeerName {
        let taken: BTreeSet<&str> = (self.members.iter())
            .filter(|entry| entry.member.id != node)
            .filter_map(|entry| entry.member.name.as_ref().map(PeerName::as_str))
            .collect();
        let numbered = (2_u32..).map(|number| {
            let end = format!("-{number}");
            let kept = name.as_str().len().min(40 - end.len());
            format!("{}{end}", &name.as_str()[..kept])
        });
        let free =
            std::iter::once(name.to_string()).chain(numbered).find(|name| !taken.contains(name.as_str()));
        free.and_then(|name| name.parse().ok()).expect("a name with a number behind it is a name")
    }

    /// Returns how a member became one.
    pub(super) fn origin(&self, node: NodeId) -> Option<Origin> {
        let entry = self.members.iter().find(|entry| entry.member.id == node)?;
        Some(if entry.ticket.is_some() { Origin::Ticket } else { Origin::Allowed })
    }
}

/// Returns the time so many seconds later, or the last there is.
fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let last = Timestamp::from_unix(253_402_300_799); // 9999-12-31T23:59:59Z
    match now
        .0
        .checked_add(time::Duration::try_from(Duration::from_secs(seconds)).unwrap_or(time::Duration::MAX))
    {
        Some(then) => Timestamp(then).min(last),
        None => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn invite_id(number: u8) -> InviteId {
        InviteId::from_bytes(&[number; 10])
    }

    fn secret(number: u8) -> Digest {
        Digest::of(&[number; 32])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    fn invited(uses: u32) -> Book {
        let mut book = Book::default();
        let name = Some("lab".parse().unwrap());
        let request = InviteRequest { uses, name, expires_s: 100, ..InviteRequest::default() };
        book.invite(invite_id(1), secret(1), &request, at(1_000)).unwrap();
        book
    }

    fn join(book: &mut Book, number: u8, now: i64) -> std::result::Result<Joined, TrustError> {
        book.join(node(number), &invite_id(1), &secret(1), at(now)).map_err(|error| match error {
            ServerError::Trust(error) => error,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_ticket_is_used_as_often_as_it_says_and_by_each_node_once() {
        let mut book = invited(2);
        assert_eq!(join(&mut book, 1, 1_000), Ok(Joined::New));
        let after_one = book.clone();
        assert_eq!(join(&mut book, 1, 1_050), Ok(Joined::Again));
        assert_eq!(book, after_one, "again is no change");
        assert_eq!(join(&mut book, 2, 1_001), Ok(Joined::New));
        assert_eq!(join(&mut book, 3, 1_002), Err(TrustError::UsedUp { uses: 2 }));
        let names: Vec<_> = book.members.iter().map(|e| e.member.name.clone().unwrap().to_string()).collect();
        assert_eq!(names, ["lab", "lab-2"]);
    }

    #[test]
    fn each_refusal_is_told_apart_and_changes_nothing() {
        let book = invited(1);
        let refused = |id: &InviteId, digest: &Digest, now| {
            let mut tried = book.clone();
            let error = tried.join(node(1), id, digest, at(now)).unwrap_err();
            assert_eq!(tried, book);
            (error.code(), error.to_string())
        };
        use gx_core::ErrorCode as Code;
        assert_eq!(refused(&invite_id(2), &secret(1), 1_000).0, Code::NotFound);
        assert_eq!(refused(&invite_id(1), &secret(2), 1_000).0, Code::Unauthenticated);
        let (code, told) = refused(&invite_id(1), &secret(1), 1_100);
        assert_eq!(code, Code::FailedPrecondition);
        assert!(told.contains("1970-01-01T00:18:20Z, by the clock of the host"), "{told}");
    }

    #[test]
    fn a_join_may_be_repeated_for_as_long_as_the_member_is_one() {
        let mut book = invited(1);
        join(&mut book, 1, 1_000).unwrap();
        book.sweep(&BTreeSet::new(), at(5_000));
        assert!(book.invites.is_empty());
        assert_eq!(join(&mut book, 1, 5_000), Ok(Joined::Again), "the answer was lost for an hour");
        assert_eq!(
            book.join(node(1), &invite_id(1), &secret(2), at(5_000)).unwrap_err().code(),
            gx_core::ErrorCode::NotFound
        );
        book.remove(node(1), Fate::Stop).unwrap();
        assert_eq!(join(&mut book, 1, 5_000), Err(TrustError::NoSuchInvite));
    }

    #[test]
    fn who_was_removed_does_not_come_back_by_the_same_ticket() {
        let mut book = invited(5);
        join(&mut book, 1, 1_000).unwrap();
        book.remove(node(1), Fate::Stop).unwrap();
        assert_eq!(book.leaving, [Leaving { id: node(1), fate: Fate::Stop }]);
        assert_eq!(join(&mut book, 1, 1_010), Err(TrustError::Removed));
        book.allow(node(1), &AllowRequest::default(), at(1_020)).unwrap();
        assert!(book.leaving.is_empty(), "what is a member again keeps what it has");
        assert_eq!(join(&mut book, 1, 1_030), Ok(Joined::Again));
    }

    #[test]
    fn members_end_by_the_clock_and_leave() {
        let mut book = Book::default();
        let request = AllowRequest { for_s: Some(60), ..AllowRequest::default() };
        book.allow(node(1), &request, at(1_000)).unwrap();
        book.allow(node(2), &request, at(1_000)).unwrap();
        assert!(book.entry(node(1), at(1_059)).is_some());
        assert!(book.entry(node(1), at(1_060)).is_none());
        book.sweep(&[node(2)].into(), at(1_060));
        assert!(book.members.is_empty());
        assert_eq!(book.leaving, [Leaving { id: node(1), fate: Fate::Stop }], "the other is configured");
        book.allow(node(1), &AllowRequest { for_s: Some(u64::MAX), ..AllowRequest::default() }, at(0))
            .unwrap();
        assert_eq!(book.members[0].member.until.unwrap().to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_book_has_an_end() {
        let mut book = invited(1);
        let most = InviteRequest { uses: 10_000, ..InviteRequest::default() };
        let error = book.invite(invite_id(2), secret(2), &most, at(0)).unwrap_err();
        assert_eq!(error.to_string(), "there are 10000 places in invitations already, and no more");
        let entry = |number: u32| {
            let mut bytes = [9; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let (id, allowance) = (NodeId::from_bytes(bytes), Default::default());
            Entry { member: Member { id, name: None, since: at(0), until: None, allowance }, ticket: None }
        };
        book.members = (0..10_000).map(entry).collect();
        assert_eq!(join(&mut book, 1, 1_000), Err(TrustError::Full { noun: "members", limit: 10_000 }));
        let known = book.members[7].member.id;
        book.allow(known, &AllowRequest::default(), at(0)).unwrap();
        book.invites = vec![book.invites[0].clone(); INVITES_MAX];
        assert!(book.invite(invite_id(2), secret(2), &InviteRequest::default(), at(0)).is_err());
    }

    #[test]
    fn a_new_key_stands_for_the_old_ones() {
        let mut book = invited(1);
        join(&mut book, 1, 1_000).unwrap();
        book.rotate(node(1), node(2), at(1_001)).unwrap();
        let once = book.clone();
        book.rotate(node(1), node(2), at(1_002)).unwrap();
        assert_eq!(book, once, "told again it changes nothing");
        book.rotate(node(2), node(3), at(1_003)).unwrap();
        assert_eq!((book.current(node(1)), book.current(node(9))), (node(3), node(9)));
        assert_eq!(book.formerly(node(3)), [node(2), node(1)]);
        assert!(book.entry(node(1), at(1_004)).is_none() && book.entry(node(3), at(1_004)).is_some());
        assert_eq!(join(&mut book, 3, 1_004), Ok(Joined::Again), "its ticket is its own under each key");
        assert!(book.rotate(node(1), node(4), at(1_005)).is_err(), "an old key says nothing any more");
        book.rotate(node(3), node(1), at(1_006)).unwrap();
        assert_eq!((book.current(node(2)), book.current(node(1))), (node(1), node(1)), "back to the first");
    }

    #[test]
    fn names_are_one_members_own() {
        let mut book = Book::default();
        let named =
            |name: &str| AllowRequest { name: Some(name.parse().unwrap()), ..AllowRequest::default() };
        book.allow(node(1), &named("ann"), at(0)).unwrap();
        assert!(book.allow(node(2), &named("ann"), at(0)).is_err());
        book.allow(node(1), &AllowRequest::default(), at(5)).unwrap();
        assert_eq!(book.members[0].member.name.as_ref().unwrap().as_str(), "ann");
        assert_eq!(book.members[0].member.since, at(0));
        let long: PeerName = "x".repeat(40).parse().unwrap();
        book.members[0].member.name = Some(long.clone());
        assert_eq!(book.free_name(&long, node(2)).as_str(), format!("{}-2", "x".repeat(38)));
    }
}
