//! Tests of throughput under way, and what they have moved: who may begin one, and how much is left this minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gx_core::NodeId;
use gx_core::config::MeasureConfig;

use self::places::{Place, Places};
use super::failure::Failure;
use crate::node::Caller;
use crate::rates::Network;

mod places;

/// How long a budget is for.
const MINUTE: Duration = Duration::from_secs(60);
/// When somebody who finds the host busy may try again: most tests are over by then.
const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// How many callers are kept account of. More in one minute are nobody's honest tests.
const MAX_PAYERS: usize = 4_096;

/// Whose budget a test is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Host,
    Member(NodeId),
    /// By where they come from, as keys cost nothing.
    Stranger(Network),
}

impl Payer {
    /// Returns who pays for what a caller does.
    pub(super) fn of(caller: &Caller, from: Option<IpAddr>) -> Self {
        match caller {
            Caller::Host => Self::Host,
            Caller::Member(member) => Self::Member(member.id),
            Caller::Stranger(_) => Self::Stranger(Network::of(from)),
        }
    }
}

/// The tests of a host.
#[derive(Debug)]
pub(super) struct Bulk {
    config: MeasureConfig,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    places: Places,
    /// When the minute began that `spent` is about.
    minute: Instant,
    spent: HashMap<Payer, u64>,
    by_strangers: u64,
}

impl Bulk {
    pub(super) fn new(config: MeasureConfig, now: Instant) -> Arc<Self> {
        let places = Places::new(config.tests);
        let books = Books { places, minute: now, spent: HashMap::new(), by_strangers: 0 };
        Arc::new(Self { config, books: Mutex::new(books) })
    }

    /// Returns how many tests run at a time.
    pub(super) fn tests(&self) -> u16 {
        self.config.tests
    }

    /// Returns how many tests are under way.
    pub(super) fn running(&self) -> usize {
        self.books().places.running()
    }

    /// Begins one connection's part of a test.
    ///
    /// # Errors
    /// [`Failure::TooManyTests`], [`Failure::MeasuredOut`].
    pub(super) fn begin(self: &Arc<Self>, payer: Payer, test: &str, now: Instant) -> Result<Part, Failure> {
        let mut books = self.books();
        books.left(&self.config, payer, now)?;
        let place = books.places.take(payer, test, now).ok_or_else(|| self.busy())?;
        Ok(Part { bulk: self.clone(), place })
    }

    fn busy(&self) -> Failure {
        Failure::TooManyTests { limit: self.config.tests, retry_after: BUSY_PAUSE }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Returns how much a payer may move until the minute ends.
    fn left(&mut self, config: &MeasureConfig, payer: Payer, now: Instant) -> Result<u64, Failure> {
        if now.saturating_duration_since(self.minute) >= MINUTE {
            (self.minute, self.by_strangers) = (now, 0);
            self.spent.clear();
        }
        let known = self.spent.len() < MAX_PAYERS || self.spent.contains_key(&payer);
        let spent = self.spent.get(&payer).copied().unwrap_or_default();
        let left = match payer {
            Payer::Host => u64::MAX,
            _ if !known => 0,
            Payer::Member(_) => config.member.0.saturating_sub(spent),
            Payer::Stranger(_) => {
                let together = config.strangers.0.saturating_sub(self.by_strangers);
                config.stranger.0.saturating_sub(spent).min(together)
            }
        };
        let retry_after = MINUTE.saturating_sub(now.saturating_duration_since(self.minute));
        if left == 0 { Err(Failure::MeasuredOut { retry_after }) } else { Ok(left) }
    }

    fn spend(&mut self, payer: Payer, bytes: u64) {
        match payer {
            Payer::Host => return,
            Payer::Member(_) => {}
            Payer::Stranger(_) => self.by_strangers = self.by_strangers.saturating_add(bytes),
        }
        let spent = self.spent.entry(payer).or_default();
        *spent = spent.saturating_add(bytes);
    }
}

/// One connection's part of a test; dropping it is its end.
#[derive(Debug)]
pub(super) struct Part {
    bulk: Arc<Bulk>,
    place: Place,
}

impl Part {
    /// Charges what is moved next.
    ///
    /// # Errors
    /// [`Failure::MeasuredOut`] when nothing was left before, [`Failure::TooManyTests`] when somebody else has the place.
    pub(super) fn spend(&self, bytes: u64, now: Instant) -> Result<(), Failure> {
        if self.place.is_taken() {
            return Err(self.bulk.busy());
        }
        let payer = self.place.payer();
        if payer == Payer::Host {
            return Ok(());
        }
        let mut books = self.bulk.books();
        books.left(&self.bulk.config, payer, now)?;
        books.spend(payer, bytes);
        Ok(())
    }

    /// Comes when somebody else has the place, with the reason.
    pub(super) fn taken(&self) -> impl Future<Output = Failure> + Send + use<> {
        let (taken, busy) = (self.place.taken(), self.bulk.busy());
        async move {
            taken.await;
            busy
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.bulk.books().places.leave(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::member;
    use gx_core::api::speedtest::MAX_STREAMS;
    use gx_core::units::Size;

    pub(super) fn stranger(address: &str) -> Payer {
        Payer::of(&Caller::Stranger(None), Some(address.parse().unwrap()))
    }

    fn bulk(change: impl FnOnce(&mut MeasureConfig)) -> (Arc<Bulk>, Instant) {
        let now = Instant::now();
        let mut config = MeasureConfig::default();
        change(&mut config);
        (Bulk::new(config, now), now)
    }

    #[test]
    fn the_connections_of_one_test_count_once_and_a_third_test_waits() {
        let (bulk, now) = bulk(|_| {});
        let begin = |payer, test| bulk.begin(payer, test, now);
        let first: Vec<_> = (0..MAX_STREAMS).map(|_| begin(stranger("10.0.0.1"), "a").unwrap()).collect();
        assert!(begin(stranger("10.0.0.1"), "a").is_err(), "one test has so many connections");
        let second = begin(stranger("10.0.0.2"), "a").unwrap();
        assert!(matches!(begin(stranger("10.0.0.3"), "a"), Err(Failure::TooManyTests { limit: 2, .. })));
        drop(second);
        assert!(begin(stranger("10.0.0.3"), "a").is_ok());
        drop(first);
        assert_eq!(bulk.running(), 0);
    }

    #[test]
    fn a_test_that_goes_on_for_ever_gives_up_its_place() {
        let (bulk, now) = bulk(|_| {});
        let part = bulk.begin(Payer::Host, "a", now).unwrap();
        assert!(bulk.begin(Payer::Host, "a", now + MINUTE).is_err());
        drop(part);
        assert!(bulk.begin(Payer::Host, "a", now + MINUTE).is_ok());
    }

    #[test]
    fn a_budget_ends_and_comes_back_with_the_next_minute() {
        let (bulk, now) = bulk(|config| config.stranger = Size(100));
        let part = bulk.begin(stranger("10.0.0.1"), "", now).unwrap();
        part.spend(60, now).unwrap();
        part.spend(60, now).unwrap(); // the last piece may go over
        let Err(Failure::MeasuredOut { retry_after }) = part.spend(1, now + MINUTE / 4) else { panic!() };
        assert_eq!(retry_after, MINUTE * 3 / 4);
        assert!(bulk.begin(stranger("10.0.0.1"), "b", now).is_err());
        assert!(bulk.begin(stranger("10.0.0.2"), "", now).is_ok(), "another has a budget of its own");
        part.spend(60, now + MINUTE).unwrap();
    }

    #[test]
    fn strangers_share_a_budget_and_members_and_the_host_do_not() {
        let (bulk, now) = bulk(|config| (config.strangers, config.member) = (Size(100), Size(500)));
        let part = bulk.begin(stranger("10.0.0.1"), "", now).unwrap();
        part.spend(100, now).unwrap();
        drop(part);
        assert!(bulk.begin(stranger("10.0.0.2"), "", now).is_err());
        let member = bulk.begin(Payer::of(&member(1), None), "", now).unwrap();
        member.spend(500, now).unwrap();
        assert!(member.spend(1, now).is_err());
        let host = bulk.begin(Payer::Host, "", now).unwrap();
        for _ in 0..10 {
            host.spend(u64::MAX, now).unwrap();
        }
    }

    #[test]
    fn a_stranger_with_many_addresses_is_one_and_the_books_stay_small() {
        assert_eq!(stranger("2001:db8::1"), stranger("2001:db8::ffff:1"));
        assert_ne!(stranger("2001:db8::1"), stranger("2001:db8:0:1::1"));
        assert_eq!(stranger("::ffff:10.0.0.1"), stranger("10.0.0.1"));
        let (bulk, now) = bulk(|_| {});
        for number in 0..10_000_u32 {
            let payer = stranger(&std::net::Ipv4Addr::from_bits(number).to_string());
            let _ = bulk.begin(payer, "", now).and_then(|part| part.spend(1, now));
        }
        assert_eq!(bulk.books().spent.len(), MAX_PAYERS);
    }
}
