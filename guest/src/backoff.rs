//! Wrong passwords make the next answer later: for the connection and for its address.
//!
//! Every attempt takes its turn in the line of its address before it is looked at, so that many connections at once
//! are no faster than one. Keys are not slowed: they cannot be guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many attempts are answered at once.
const FREE: u32 = 3;
/// The longest pause between two attempts of one address.
const LONGEST: Duration = Duration::from_secs(8);
/// Whoever would have to wait longer for his turn is refused at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// An address without attempts for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// So many addresses are remembered; beyond, the one that was quiet longest is forgotten.
const ADDRESSES: usize = 1024;

/// The attempts of all addresses.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    wrong: u64,
    addresses: HashMap<IpAddr, Attempts>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    wrong: u32,
    next: Instant,
}

impl Backoff {
    /// Takes a turn: returns how long to wait before the attempt is looked at, `None` when that would be too long. The
    /// attempt counts as wrong until [`right`](Self::right) is called.
    pub(crate) fn attempt(&mut self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.forget(now);
        let attempts = self.addresses.entry(address).or_insert(Attempts { wrong: 0, next: now });
        let turn = attempts.next.max(now);
        let wait = turn - now;
        if wait > PATIENCE {
            return None;
        }
        attempts.wrong = attempts.wrong.saturating_add(1);
        attempts.next = turn + pause(attempts.wrong);
        Some(wait)
    }

    /// The password of this address was right: it starts anew.
    pub(crate) fn right(&mut self, address: IpAddr) {
        self.addresses.remove(&address);
    }

    /// Counts a wrong password; returns how many there were when it is time to say so: at 10, 100, 1000 and so on.
    pub(crate) fn wrong(&mut self) -> Option<u64> {
        self.wrong += 1;
        let power = 10u64.checked_pow(self.wrong.ilog10());
        Some(self.wrong).filter(|wrong| *wrong >= 10 && power == Some(*wrong))
    }

    fn forget(&mut self, now: Instant) {
        if self.addresses.len() < ADDRESSES {
            return;
        }
        self.addresses.retain(|_, attempts| now.saturating_duration_since(attempts.next) < FORGOTTEN);
        let oldest =
            self.addresses.iter().min_by_key(|(_, attempts)| attempts.next).map(|(address, _)| *address);
        if let Some(oldest) = oldest.filter(|_| self.addresses.len() >= ADDRESSES) {
            self.addresses.remove(&oldest);
        }
    }
}

/// Returns the pause after so many wrong attempts: none for the first few, then 1 s, doubled each time.
fn pause(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(1 << more.min(8)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_first_attempts_are_free_and_then_it_grows() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let waits: Vec<_> =
            (0..6).map(|_| backoff.attempt(ADDRESS, now).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(0), Some(0), Some(0), Some(1), Some(3), Some(7)]);
    }

    #[test]
    fn many_at_once_stand_in_line_and_the_rest_are_refused() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let admitted = (0..1000).filter(|_| backoff.attempt(ADDRESS, now).is_some()).count();
        assert!(admitted < 12, "{admitted}");
        let later = now + Duration::from_secs(60);
        assert_eq!(backoff.attempt(ADDRESS, later), Some(Duration::ZERO));
    }

    #[test]
    fn a_right_password_starts_anew() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.attempt(ADDRESS, now);
        }
        backoff.right(ADDRESS);
        assert_eq!(backoff.attempt(ADDRESS, now), Some(Duration::ZERO));
    }

    #[test]
    fn wrong_ones_are_told_ever_more_seldom() {
        let mut backoff = Backoff::default();
        let told: Vec<u64> = (0..2000).filter_map(|_| backoff.wrong()).collect();
        assert_eq!(told, [10, 100, 1000]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for number in 0..5000u32 {
            backoff.attempt(IpAddr::V4(number.into()), now);
        }
        assert!(backoff.addresses.len() <= ADDRESSES);
    }
}
