//! How many handshakes of whom are begun: each costs the host about a millisecond of a CPU before it knows who is there.
//! Pure: the time is an argument.
//!
//! Addresses count each for itself. Who has proved to be somebody that the host knows gets the token back, and their
//! address keeps a measure of its own, so that no crowd of other addresses makes them wait.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::crowd::Group;
use crate::rates::{Bucket, Limiter, Rate};

/// Handshakes of one address a second, in the long run.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(32).expect("32 is not 0");
/// Handshakes of one address at once: as many as it may have connections.
const BURST: NonZeroU32 = NonZeroU32::new(256).expect("256 is not 0");
/// How many addresses are remembered, of strangers and of those who are known.
const CAPACITY: usize = 4_096;

/// Who has begun how many.
#[derive(Debug)]
pub(super) struct Handshakes(Mutex<State>);

#[derive(Debug)]
struct State {
    strangers: Limiter<Group>,
    known: HashMap<Group, Known>,
}

/// An address where somebody was whom the host knows.
#[derive(Debug)]
struct Known {
    bucket: Bucket,
    last: Instant,
}

impl Handshakes {
    pub(super) fn new(now: Instant) -> Self {
        let strangers = Limiter::new(rate(), CAPACITY, now);
        Self(Mutex::new(State { strangers, known: HashMap::new() }))
    }

    /// Returns how long a handshake from there has to wait; `None` when that is too long.
    pub(super) fn turn(&self, from: Group, patience: Duration, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = match state.known.get_mut(&from) {
            Some(known) => known.bucket.reserve(rate(), patience, now),
            None => state.strangers.reserve(from, patience, now),
        };
        wait.ok()
    }

    /// Gives back a turn that nobody has waited for.
    pub(super) fn give_back(&self, from: Group) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.known.get_mut(&from) {
            Some(known) => known.bucket.give_back(rate()),
            None => state.strangers.give_back(&from),
        }
    }

    /// Says that whoever was there is somebody the host knows.
    pub(super) fn known(&self, from: Group, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.known.contains_key(&from) && state.known.len() >= CAPACITY {
            let oldest = state.known.iter().min_by_key(|(_, known)| known.last).map(|(from, _)| *from);
            oldest.map(|oldest| state.known.remove(&oldest));
        }
        let known = state.known.entry(from).or_insert(Known { bucket: Bucket::full(now), last: now });
        known.bucket.give_back(rate());
        known.last = now;
    }
}

fn rate() -> Rate {
    Rate::new(PER_SECOND, BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32) -> Group {
        Group::strangers(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn an_address_has_its_burst_and_then_waits_its_turn() {
        let now = Instant::now();
        let handshakes = Handshakes::new(now);
        let turn = |from, now| handshakes.turn(from, Duration::from_secs(10), now);
        for _ in 0..BURST.get() {
            assert_eq!(turn(at(1), now), Some(Duration::ZERO));
        }
        let interval = Duration::from_secs(1) / PER_SECOND.get();
        assert_eq!((turn(at(1), now), turn(at(1), now)), (Some(interval), Some(interval * 2)));
        assert_eq!(turn(at(2), now), Some(Duration::ZERO), "another address does not");
        let more = (0..10_000).map_while(|_| turn(at(1), now)).count();
        assert_eq!(more, 320 - 2, "and who would wait for too long is turned away");
        assert_eq!(turn(at(1), now), None);
        handshakes.give_back(at(1));
        assert_eq!(
            turn(at(1), now),
            Some(Duration::from_secs(10)),
            "the turn of one who has left is another's"
        );
    }

    #[test]
    fn the_known_take_nothing_and_wait_for_no_crowd_of_strangers() {
        let now = Instant::now();
        let handshakes = Handshakes::new(now);
        let turn = |from| handshakes.turn(from, Duration::from_secs(10), now);
        for _ in 0..10_000 {
            assert_eq!(turn(at(1)), Some(Duration::ZERO));
            handshakes.known(at(1), now);
        }
        for number in 2..100_000 {
            turn(at(number));
        }
        assert_eq!(turn(at(100_000)), None, "a new address is one of the crowd");
        assert_eq!(turn(at(1)), Some(Duration::ZERO));
        for number in 0..2 * CAPACITY as u32 {
            handshakes.known(at(1_000_000 + number), now + Duration::from_secs(1));
        }
        let state = handshakes.0.lock().unwrap();
        assert!(state.known.len() <= CAPACITY && !state.known.contains_key(&at(1)));
    }
}
