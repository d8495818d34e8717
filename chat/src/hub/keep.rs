//! What is done from time to time: presence is told, positions are written down, what is too old is deleted.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Hub;
use crate::id::{DeviceId, GroupId, Seq, UserName};
use crate::store::{Head, Mark, Range};

/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// How often what is too old is deleted.
const EXPIRE: Duration = Duration::from_secs(60);
/// By how much the clock may run ahead of the time that has passed before it is taken to have jumped.
const JUMP: Duration = Duration::from_secs(90);
/// How long nothing is deleted after the clock has jumped: somebody may put it right.
const HOLD: Duration = Duration::from_secs(24 * 3_600);

/// Devices whose places are kept while they cannot be written down.
const MAX_MARKS: usize = 10_000;

/// How far devices are, until it is written down.
pub(super) type Marks = HashMap<(UserName, DeviceId, GroupId), (Seq, Seq)>;

/// Does it as long as there is the hub.
pub(super) async fn keep(hub: Weak<Hub>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Some(started) = hub.upgrade() else { return };
    let looking =
        tokio::task::spawn_blocking(move || JumpGuard::new(started.newest(), started.now(), Instant::now()));
    let Ok(mut guard) = looking.await else { return };
    let mut next = Instant::now();
    loop {
        ticks.tick().await;
        let Some(hub) = hub.upgrade() else { return };
        let is_due = Instant::now() >= next && guard.allows(hub.now(), Instant::now());
        let work = move || {
            hub.tell_presence();
            hub.flush_marks();
            hub.forget_rates();
            if is_due {
                hub.expire();
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
        if is_due {
            next = Instant::now() + EXPIRE;
        }
    }
}

/// Notices when the clock jumps ahead: what it then says is too old may not be.
#[derive(Debug)]
struct JumpGuard {
    clock: u64,
    at: Instant,
    until: Option<Instant>,
}

impl JumpGuard {
    /// The newest that is stored is of a time that was. Where the clock is more than the hold further on, the server was
    /// off or nobody said anything, or the clock is wrong: that cannot be told apart.
    fn new(newest: Option<u64>, clock: u64, now: Instant) -> Self {
        let hold = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
        let is_far = newest.is_some_and(|newest| clock > newest.saturating_add(hold));
        Self { clock, at: now, until: is_far.then(|| now + HOLD) }
    }

    /// Returns whether something may be deleted by what the clock says.
    fn allows(&mut self, clock: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let told = Duration::from_millis(clock.saturating_sub(self.clock));
        if told > passed + JUMP {
            tracing::warn!(
                by_s = (told - passed).as_secs(),
                "the clock has jumped: nothing is deleted for a day"
            );
            self.until = Some(now + HOLD);
        }
        (self.clock, self.at) = (clock, now);
        self.until.is_none_or(|until| now >= until)
    }
}

impl Hub {
    /// Notes how far a device is, to be written down soon.
    pub(super) fn note(&self, user: &UserName, device: &DeviceId, group: GroupId, got: Seq, read: Seq) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.entry((user.clone(), device.clone(), group)).or_default();
        *mark = (mark.0.max(got), mark.1.max(read));
    }

    pub(super) fn flush_marks(&self) {
        let noted = std::mem::take(&mut *self.marks.lock().unwrap_or_else(PoisonError::into_inner));
        let mark = |((user, device, group), (got, read))| Mark { user, device, group, got, read };
        let marks: Vec<Mark> = noted.into_iter().map(mark).collect();
        if marks.is_empty() {
            return;
        }
        match self.store.mark(&marks) {
            Ok(()) => drop(self.troubles.marking.worked(Instant::now())),
            Err(error) => {
                if self.troubles.marking.failed(&error.to_string(), Instant::now()) {
                    tracing::warn!(%error, "how far devices are cannot be written down");
                }
                // To try again; beyond the bound whoever is further on says so again.
                for Mark { user, device, group, got, read } in marks.into_iter().take(MAX_MARKS) {
                    self.note(&user, &device, group, got, read);
                }
            }
        }
    }

    /// Returns the time of the newest message; `None` where there is none, or none can be read.
    fn newest(&self) -> Option<u64> {
        let of = |(group, head): (GroupId, Head)| {
            let before = Seq::new(head.last.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
            let page = self.store.read(&group, Range::After(before), 1, 0).ok()?;
            page.messages.last().map(|message| message.ts)
        };
        self.store.heads().into_iter().filter_map(of).max()
    }

    fn forget_rates(&self) {
        let now = Instant::now();
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, bucket| !bucket.is_full(now));
        self.door.forget(now);
    }

    fn expire(self: &Arc<Self>) {
        let oldest = self.oldest(&self.policy());
        match self.store.expire(oldest) {
            Ok(deleted) => {
                self.troubles.expiring.worked(Instant::now());
                if deleted > 0 {
                    tracing::info!(deleted, "messages were too old");
                }
            }
            Err(error) => {
                if self.troubles.expiring.failed(&error.to_string(), Instant::now()) {
                    tracing::warn!(%error, "what is too old cannot be deleted");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_deleted_by_a_clock_that_has_jumped() {
        let start = Instant::now();
        let mut guard = JumpGuard::new(None, 1_000_000, start);
        let at = |s| start + Duration::from_secs(s);
        assert!(guard.allows(1_060_000, at(60)));
        assert!(guard.allows(1_000_000, at(61)), "back is no harm");
        assert!(!guard.allows(900_000_000, at(62)));
        assert!(!guard.allows(1_000_000, at(63)), "put right");
        assert!(guard.allows(1_000_000 + 86_400_000, at(63 + 86_400)));
    }

    #[test]
    fn nothing_is_deleted_for_a_day_by_a_clock_that_is_far_ahead_of_what_is_stored() {
        let start = Instant::now();
        let day = HOLD.as_millis() as u64;
        assert!(JumpGuard::new(Some(1_000_000), 1_000_000 + day, start).allows(1_000_000 + day, start));
        let mut guard = JumpGuard::new(Some(1_000_000), 1_000_000 + 365 * day, start);
        assert!(!guard.allows(1_000_000 + 365 * day, start));
        assert!(!guard.allows(1_000_000 + 366 * day - 1, start + HOLD - Duration::from_millis(1)));
        assert!(guard.allows(1_000_000 + 366 * day, start + HOLD));
    }
}
