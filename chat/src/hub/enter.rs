//! How a session begins: what the client has is compared with what there is, and the connection gets its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::rate::Bucket;
use super::{Hub, MAX_OF_A_USER};
use crate::frames::{Limits, MAX_PAGE, ServerFrame, WhyClosing};
use crate::id::{ChainHash, GroupId, Seq, UserName};
use crate::policy::{Policy, Verb};
use crate::store::{Head, Range, StoreError};

/// What somebody comes in with.
pub(super) struct Entry {
    pub(super) token: Option<String>,
    pub(super) read: BTreeMap<GroupId, Seq>,
    pub(super) reset: BTreeSet<GroupId>,
    pub(super) resume: BTreeMap<GroupId, Seq>,
    /// How often accounts had been changed when the proof was looked at.
    pub(super) changes: u64,
}

impl Hub {
    /// Counts a message of a user, on whichever connection.
    pub(super) fn take_turn(&self, user: &UserName, policy: &Policy) -> Result<(), Duration> {
        let (rate, now) = (policy.limits().rate, Instant::now());
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.entry(user.clone()).or_insert(Bucket::full(now)).take(rate.count, rate.per, now)
    }

    /// Returns the groups of which a client has messages that are not ours: beyond the last one, or with another hash.
    pub(super) fn resets(
        &self,
        user: &UserName,
        resume: &BTreeMap<GroupId, Seq>,
        chain: &BTreeMap<GroupId, ChainHash>,
    ) -> Result<BTreeSet<GroupId>, StoreError> {
        let (heads, policy) = (self.store.heads(), self.policy());
        let mut reset = BTreeSet::new();
        for (group, seq) in resume {
            if !policy.allows(user.as_str(), Verb::History, group.as_str()) {
                continue;
            }
            let head = heads.get(group).copied().unwrap_or(Head::EMPTY);
            let is_beyond = *seq > head.last;
            let known = chain.get(group).filter(|_| !is_beyond && *seq >= head.first);
            let is_other = match known {
                Some(known) => {
                    let before = Seq::new(seq.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
                    let page = self.store.read(group, Range::After(before), 1, 0)?;
                    page.messages.first().is_some_and(|m| m.seq == *seq && m.h != *known)
                }
                None => false,
            };
            if is_beyond || is_other {
                reset.insert(group.clone());
            }
        }
        Ok(reset)
    }

    /// Lets somebody in who has proved who they are.
    pub(super) fn enter(&self, conn: &Arc<Conn>, entry: Entry) -> Result<(), WhyClosing> {
        let Entry { token, read, reset, resume, changes } = entry;
        let policy = self.gate();
        let mut room = self.room();
        let user = conn.user();
        if policy.user_name(user.as_str()).is_none() {
            return Err(WhyClosing::Removed);
        }
        if self.account_changes.load(Ordering::SeqCst) != changes {
            return Err(WhyClosing::Crowded); // to come back with what is true now
        }
        if room.presence.of(user) >= MAX_OF_A_USER {
            return Err(WhyClosing::Crowded);
        }
        let rights = self.rights(&policy, &room, user, &read, &reset);
        conn.tell(&ServerFrame::Welcome {
            user: user.clone(),
            token,
            server: self.server,
            now: self.now(),
            limits: limits(&policy),
            rights,
        });
        for (group, seq) in &resume {
            let last = room.sent.get(group).copied().unwrap_or(Seq::ZERO);
            let from = if reset.contains(group) { Seq::ONE } else { seq.next() };
            if from <= last && policy.allows(user.as_str(), Verb::Live, group.as_str()) {
                conn.lag(group, from);
            }
        }
        room.join(&policy, conn);
        Ok(())
    }
}

fn limits(policy: &Policy) -> Limits {
    let limits = policy.limits();
    Limits {
        text_bytes: limits.max_text as u64,
        per_s: limits.rate.per_s(),
        burst: limits.rate.count,
        page: MAX_PAGE,
        retention_s: limits.retention.as_secs(),
    }
}
