//! Who is there: changes are gathered and told once a second, to each only of those groups where they may see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::{Conn, Hub, Room};
use crate::frames::ServerFrame;
use crate::id::{GroupId, UserName};
use crate::policy::{Policy, Verb};

/// Who is there, and what was told of it.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// How many connections a user has.
    here: BTreeMap<UserName, usize>,
    /// Whose presence may have changed since it was told last, and what was told.
    told: BTreeMap<UserName, bool>,
    /// Connections that are to be told everything.
    stale: BTreeSet<u64>,
    is_all_stale: bool,
}

/// Who, by group.
type Groups = BTreeMap<GroupId, BTreeSet<UserName>>;

impl Presence {
    pub(super) fn users(&self) -> usize {
        self.here.len()
    }

    pub(super) fn is_here(&self, user: &str) -> bool {
        self.here.contains_key(user)
    }

    /// Returns how many connections a user has.
    pub(super) fn of(&self, user: &UserName) -> usize {
        self.here.get(user).copied().unwrap_or(0)
    }

    pub(super) fn came(&mut self, conn: &Conn) {
        let user = conn.user();
        self.told.entry(user.clone()).or_insert_with(|| self.here.contains_key(user));
        *self.here.entry(user.clone()).or_default() += 1;
        self.stale.insert(conn.id);
    }

    pub(super) fn went(&mut self, conn: &Conn) {
        let user = conn.user();
        self.stale.remove(&conn.id);
        if let Some(number) = self.here.get_mut(user) {
            *number -= 1;
            if *number == 0 {
                self.here.remove(user);
                self.told.entry(user.clone()).or_insert(true);
            }
        }
    }

    /// Has everybody told everything: rights have changed.
    pub(super) fn all_is_stale(&mut self) {
        self.is_all_stale = true;
    }
}

impl Hub {
    /// Tells everybody who has come and gone since the last time.
    pub(super) fn tell_presence(&self) {
        let policy = self.gate();
        let mut room = self.room();
        let changes = std::mem::take(&mut room.presence.told);
        let stale = std::mem::take(&mut room.presence.stale);
        let is_all_stale = std::mem::take(&mut room.presence.is_all_stale);
        let (mut on, mut off) = (Groups::new(), Groups::new());
        for (user, was) in changes {
            match (was, room.presence.is_here(user.as_str())) {
                (false, true) => add(&policy, &user, &mut on),
                (true, false) => add(&policy, &user, &mut off),
                _ => {}
            }
        }
        if on.is_empty() && off.is_empty() && stale.is_empty() && !is_all_stale {
            return;
        }
        let mut digests = Digests { policy: &policy, on, off, all: None, by_groups: HashMap::new() };
        let mut missed = Vec::new();
        for conn in room.conns.values() {
            let all = is_all_stale || stale.contains(&conn.id);
            let is_told = digests.of(&room, conn, all).is_none_or(|text| conn.mention(&text));
            if !is_told {
                missed.push(conn.id);
            }
        }
        room.presence.stale.extend(missed);
    }
}

/// What is told, put into words once for all who may see the same.
struct Digests<'a> {
    policy: &'a Policy,
    on: Groups,
    off: Groups,
    /// Everybody who is there.
    all: Option<Groups>,
    by_groups: HashMap<(Vec<String>, bool), Option<Bytes>>,
}

impl Digests<'_> {
    fn of(&mut self, room: &Room, conn: &Arc<Conn>, all: bool) -> Option<Bytes> {
        let policy = self.policy;
        let user = conn.user().as_str();
        let seen = policy.groups_of(user).into_iter().map(|group| group.id());
        let seen: Vec<String> =
            seen.filter(|group| policy.allows(user, Verb::Presence, group)).map(str::to_owned).collect();
        if let Some(known) = self.by_groups.get(&(seen.clone(), all)) {
            return known.clone();
        }
        let of = |groups: &Groups| -> Groups {
            let is_seen = |group: &GroupId| seen.iter().any(|seen| seen == group.as_str());
            groups
                .iter()
                .filter(|(group, _)| is_seen(group))
                .map(|(g, users)| (g.clone(), users.clone()))
                .collect()
        };
        let (on, off) = match all {
            true => (of(self.all.get_or_insert_with(|| everybody(policy, room))), Groups::new()),
            false => (of(&self.on), of(&self.off)),
        };
        let is_news = all || !on.is_empty() || !off.is_empty();
        let text = is_news.then(|| Bytes::from(ServerFrame::Presence { all, on, off }.to_text()));
        self.by_groups.insert((seen, all), text.clone());
        text
    }
}

fn everybody(policy: &Policy, room: &Room) -> Groups {
    let mut groups = Groups::new();
    room.presence.here.keys().for_each(|user| add(policy, user, &mut groups));
    groups
}

/// Adds a user to the groups they belong to.
fn add(policy: &Policy, user: &UserName, groups: &mut Groups) {
    for group in policy.groups_of(user.as_str()) {
        if let Ok(group) = group.id().parse::<GroupId>() {
            groups.entry(group).or_default().insert(user.clone());
        }
    }
}
