//! Who has a place for a test, and who is next. Nothing here waits or asks for the time.
//!
//! A place is nobody's for longer than an honest test takes, where others want it. Members come before strangers, who
//! has no place before who has two, and who was refused before who comes later or again.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use gx_core::api::speedtest::MAX_STREAMS;
use tokio::sync::watch;

use super::{BUSY_PAUSE, Payer};

/// The longest test, with all its requests.
const LONGEST_TEST: Duration = Duration::from_secs(30);
/// After this long whoever waits gets the place: no test of ours takes longer.
const FAIR: Duration = Duration::from_secs(10);
/// How long a place is kept for who was refused and told when to come back.
const KEPT: Duration = BUSY_PAUSE.saturating_mul(2);
/// The longest line. Whoever comes to its end has no place in it.
const LINE: usize = 64;

type Key = (Payer, String);

/// The places of a host.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    tests: HashMap<Key, Test>,
    /// Who was refused, in the order they came.
    line: Vec<Waiting>,
    /// How many tests there have been.
    count: u64,
}

#[derive(Debug)]
struct Test {
    number: u64,
    began: Instant,
    streams: usize,
    taken: watch::Sender<bool>,
}

#[derive(Debug)]
struct Waiting {
    payer: Payer,
    until: Instant,
}

/// One connection's part of a place.
#[derive(Debug)]
pub(super) struct Place {
    key: Key,
    number: u64,
    taken: watch::Receiver<bool>,
}

impl Place {
    pub(super) fn payer(&self) -> Payer {
        self.key.0
    }

    /// Returns whether somebody else has it by now.
    pub(super) fn is_taken(&self) -> bool {
        *self.taken.borrow()
    }

    /// Comes when somebody else has it.
    pub(super) fn taken(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut taken = self.taken.clone();
        async move {
            if taken.wait_for(|taken| *taken).await.is_err() {
                std::future::pending().await // the test has ended by itself
            }
        }
    }
}

impl Places {
    pub(super) fn new(limit: u16) -> Self {
        Self { limit: limit.into(), tests: HashMap::new(), line: Vec::new(), count: 0 }
    }

    /// Returns how many are taken.
    pub(super) fn running(&self) -> usize {
        self.tests.len()
    }

    /// Gives one connection its part of a test's place; `None` where there is no room, and then it is in line.
    pub(super) fn take(&mut self, payer: Payer, test: &str, now: Instant) -> Option<Place> {
        let key = (payer, test.to_owned());
        if let Some(test) = self.tests.get_mut(&key) {
            if test.streams >= MAX_STREAMS || now.saturating_duration_since(test.began) > LONGEST_TEST {
                return None;
            }
            test.streams += 1;
            return Some(Place { key, number: test.number, taken: test.taken.subscribe() });
        }
        self.line.retain(|waiting| now < waiting.until);
        if !self.make_room(payer, now) {
            self.wait(payer, now);
            return None;
        }
        self.line.retain(|waiting| waiting.payer != payer);
        self.count += 1;
        let (taken, told) = watch::channel(false);
        self.tests.insert(key.clone(), Test { number: self.count, began: now, streams: 1, taken });
        Some(Place { key, number: self.count, taken: told })
    }

    /// One connection of a test has ended.
    pub(super) fn leave(&mut self, place: &Place) {
        let Some(test) = self.tests.get_mut(&place.key).filter(|test| test.number == place.number) else {
            return;
        };
        test.streams -= 1;
        if test.streams == 0 {
            self.tests.remove(&place.key);
        }
    }

    /// Returns whether there is room for one more test of a payer's, where need be in the place of another.
    fn make_room(&mut self, payer: Payer, now: Instant) -> bool {
        let free = self.limit.saturating_sub(self.tests.len());
        let ahead = self.ahead(payer);
        if free > ahead {
            return true;
        }
        // Of those that began at one moment, too, the first comes first.
        let mut others: Vec<(bool, u64, Key)> = (self.tests.iter())
            .filter(|(key, test)| self.gives_way(key.0, test, payer, now))
            .map(|(key, test)| (is_member(key.0), test.number, key.clone()))
            .collect();
        if free + others.len() <= ahead {
            return false;
        }
        others.sort_by_key(|(member, number, _)| (*member, *number));
        if let Some(test) = others.first().and_then(|(_, _, key)| self.tests.remove(key)) {
            test.taken.send_replace(true);
        }
        true
    }

    /// Whether a test is to end so that another payer's can begin.
    fn gives_way(&self, has: Payer, test: &Test, wants: Payer, now: Instant) -> bool {
        let places = |payer| self.tests.keys().filter(|key| key.0 == payer).count();
        match (is_member(has), is_member(wants)) {
            (false, true) => true,
            (true, false) => false,
            _ => {
                let is_over = now.saturating_duration_since(test.began) >= FAIR;
                has != wants && (is_over || (places(has) > 1 && places(wants) == 0))
            }
        }
    }

    /// Returns how many of those in line come before a payer.
    fn ahead(&self, payer: Payer) -> usize {
        let own = self.line.iter().position(|waiting| waiting.payer == payer).unwrap_or(self.line.len());
        let before = |(at, waiting): (usize, &Waiting)| match (is_member(waiting.payer), is_member(payer)) {
            (true, false) => true,
            (false, true) => false,
            _ => at < own,
        };
        self.line.iter().enumerate().filter(|waiting| before(*waiting)).count()
    }

    fn wait(&mut self, payer: Payer, now: Instant) {
        let until = now + KEPT;
        if let Some(waiting) = self.line.iter_mut().find(|waiting| waiting.payer == payer) {
            waiting.until = until;
        } else if self.line.len() < LINE {
            self.line.push(Waiting { payer, until });
        }
    }
}

fn is_member(payer: Payer) -> bool {
    !matches!(payer, Payer::Stranger(_))
}

#[cfg(test)]
mod tests {
    use super::super::tests::stranger;
    use super::*;
    use gx_core::NodeId;

    const SECOND: Duration = Duration::from_secs(1);

    fn member(number: u8) -> Payer {
        Payer::Member(NodeId::from_bytes([number; 32]))
    }

    fn two() -> (Places, Instant) {
        (Places::new(2), Instant::now())
    }

    #[test]
    fn two_strangers_who_hold_both_places_lose_them_to_who_waits() {
        let (mut places, now) = two();
        let [ann, bob, cyd] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(stranger);
        let held = [ann, bob].map(|payer| places.take(payer, "a", now).unwrap());
        assert!(places.take(cyd, "a", now + SECOND).is_none(), "their tests are not over");
        let later = now + FAIR;
        assert!(places.take(cyd, "a", later).is_some());
        assert_eq!(held.iter().filter(|place| place.is_taken()).count(), 1);
        assert_eq!(places.running(), 2);
        for place in &held {
            places.leave(place);
        }
        assert_eq!(places.running(), 1, "who has lost its place does not give up another's");
    }

    #[test]
    fn who_was_refused_comes_before_who_has_just_had_a_place() {
        let (mut places, now) = two();
        let [ann, bob, cyd] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(stranger);
        let place = places.take(ann, "a", now).unwrap();
        let _other = places.take(bob, "a", now).unwrap();
        assert!(places.take(cyd, "a", now).is_none());
        places.leave(&place);
        assert!(places.take(ann, "b", now + SECOND).is_none(), "the place is kept for the third");
        assert!(places.take(cyd, "b", now + BUSY_PAUSE).is_some());
        let (mut places, now) = two();
        let place = places.take(ann, "a", now).unwrap();
        let _other = places.take(bob, "a", now).unwrap();
        assert!(places.take(cyd, "a", now).is_none());
        places.leave(&place);
        assert!(places.take(ann, "b", now + KEPT).is_some(), "who does not come back is not waited for");
    }

    #[test]
    fn one_address_has_both_places_only_while_nobody_else_wants_one() {
        let (mut places, now) = two();
        let [ann, bob] = ["10.0.0.1", "10.0.0.2"].map(stranger);
        let first = places.take(ann, "a", now).unwrap();
        let second = places.take(ann, "b", now + SECOND).unwrap();
        assert!(places.take(ann, "c", now + SECOND).is_none());
        assert!(places.take(bob, "a", now + SECOND).is_some());
        assert!(first.is_taken() && !second.is_taken(), "the older one gives way");
        assert!(places.take(bob, "b", now + SECOND).is_none());
    }

    #[test]
    fn members_come_before_strangers_and_not_before_one_another() {
        let (mut places, now) = two();
        let strangers = ["10.0.0.1", "10.0.0.2"].map(|at| places.take(stranger(at), "a", now).unwrap());
        assert!(places.take(stranger("10.0.0.3"), "a", now).is_none(), "it is in line");
        let ann = places.take(member(1), "a", now).unwrap();
        let host = places.take(Payer::Host, "a", now).unwrap();
        assert!(strangers.iter().all(Place::is_taken));
        assert!(places.take(member(2), "a", now).is_none());
        places.leave(&ann);
        assert!(places.take(stranger("10.0.0.3"), "a", now).is_none(), "a member waits");
        assert!(places.take(member(2), "a", now).is_some());
        assert!(places.take(stranger("10.0.0.3"), "a", now + FAIR).is_none(), "a member's test goes on");
        assert!(places.take(member(3), "a", now + FAIR).is_some() && host.is_taken());
    }

    #[test]
    fn the_line_has_an_end() {
        let (mut places, now) = two();
        let _host = [0, 1].map(|number| places.take(Payer::Host, &number.to_string(), now).unwrap());
        for number in 0..1_000_u32 {
            assert!(
                places.take(stranger(&format!("10.0.{}.{}", number / 250, number % 250)), "", now).is_none()
            );
        }
        assert_eq!(places.line.len(), LINE);
        let mut none = Places::new(0);
        assert!(
            none.take(Payer::Host, "", now).is_none() && none.take(Payer::Host, "", now + FAIR).is_none()
        );
    }
}
