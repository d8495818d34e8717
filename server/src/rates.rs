//! How many requests of whom are answered, in bounded memory. Pure: the time is an argument.
//!
//! Each caller has a bucket of tokens, as in the generic cell rate algorithm (ITU-T I.371, annex A): what is kept of one
//! is just when it will be full again. A full bucket is as good as none, so those are dropped when there are too many;
//! when none can be, whoever is new shares one with all others that are.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gx_core::NodeId;
use gx_core::config::RateConfig;

use crate::node::Caller;

/// Buckets of each kind of caller: some hundreds of kilobytes.
const CAPACITY: usize = 4_096;
/// Pings of one address, or one network of IPv6, a second in the long run, and at once. A speed test asks every 10 ms for a
/// tenth of a second, and behind one address there may be many people.
const PINGS: (NonZeroU32, NonZeroU32) = (NonZeroU32::new(200).unwrap(), NonZeroU32::new(1_000).unwrap());
/// How often full buckets are looked for at most: a look goes through all of them.
const SWEEP: Duration = Duration::from_millis(100);

/// So many at once, and one more each interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.get(), burst: burst.get() }
    }
}

/// A bucket of tokens: when it is full again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket(Instant);

impl Bucket {
    /// Makes a full one.
    pub(crate) fn full(now: Instant) -> Self {
        Self(now)
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long it is until there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.reserve(rate, Duration::ZERO, now).map(drop)
    }

    /// Takes the next token, and returns how long it is until it is there.
    ///
    /// # Errors
    /// That, when it is longer than `patience`; nothing is taken then.
    pub(crate) fn reserve(
        &mut self,
        rate: Rate,
        patience: Duration,
        now: Instant,
    ) -> Result<Duration, Duration> {
        let missing = self.0.saturating_duration_since(now);
        let wait = missing.saturating_sub(rate.interval * (rate.burst - 1));
        if wait > patience {
            return Err(wait);
        }
        self.0 = now + missing + rate.interval;
        Ok(wait)
    }

    /// Gives a token back.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        self.0 = self.0.checked_sub(rate.interval).unwrap_or(self.0);
    }

    fn is_full(&self, now: Instant) -> bool {
        self.0 <= now
    }
}

/// A bucket for each of many callers.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    rate: Rate,
    capacity: usize,
    buckets: HashMap<K, Bucket>,
    /// For those who have none of their own.
    shared: Bucket,
    swept: Instant,
}

impl<K: Hash + Eq> Limiter<K> {
    pub(crate) fn new(rate: Rate, capacity: usize, now: Instant) -> Self {
        Self { rate, capacity, buckets: HashMap::new(), shared: Bucket::full(now), swept: now }
    }

    fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.reserve(key, Duration::ZERO, now).map(drop)
    }

    /// Takes the next token of this caller, and returns how long it is until it is there.
    ///
    /// # Errors
    /// As [`Bucket::reserve`].
    pub(crate) fn reserve(&mut self, key: K, patience: Duration, now: Instant) -> Result<Duration, Duration> {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return bucket.reserve(self.rate, patience, now);
        }
        if self.buckets.len() >= self.capacity && now.saturating_duration_since(self.swept) >= SWEEP {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            self.swept = now;
        }
        if self.buckets.len() >= self.capacity {
            return self.shared.reserve(self.rate, patience, now);
        }
        self.buckets.entry(key).or_insert(Bucket::full(now)).reserve(self.rate, patience, now)
    }

    /// Gives a caller back a token that they have reserved and will not use.
    pub(crate) fn give_back(&mut self, key: &K) {
        self.buckets.get_mut(key).unwrap_or(&mut self.shared).give_back(self.rate);
    }
}

/// Where strangers come from: an address, or a network of 64 bits of IPv6, as one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(Option<IpAddr>);

impl Network {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        }))
    }
}

/// The rates of all callers.
#[derive(Debug)]
pub(crate) struct Rates {
    members: Mutex<Limiter<NodeId>>,
    strangers: Mutex<Limiter<Network>>,
    pings: Mutex<Limiter<Network>>,
}

impl Rates {
    pub(crate) fn new(config: &RateConfig, now: Instant) -> Self {
        let members = Rate::new(config.member_per_second, config.member_burst);
        let strangers = Rate::new(config.stranger_per_second, config.stranger_burst);
        Self {
            members: Mutex::new(Limiter::new(members, CAPACITY, now)),
            strangers: Mutex::new(Limiter::new(strangers, CAPACITY, now)),
            pings: Mutex::new(Limiter::new(Rate::new(PINGS.0, PINGS.1), CAPACITY, now)),
        }
    }

    /// Counts a request. Strangers count by where they come from, whatever keys they show: keys cost nothing.
    ///
    /// # Errors
    /// How long the caller has to wait.
    pub(crate) fn take(&self, caller: &Caller, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        match caller {
            Caller::Host => Ok(()),
            Caller::Member(member) => {
                self.members.lock().unwrap_or_else(PoisonError::into_inner).take(member.id, now)
            }
            Caller::Stranger(_) => {
                self.strangers.lock().unwrap_or_else(PoisonError::into_inner).take(Network::of(from), now)
            }
        }
    }

    /// Counts a ping of a speed test: those cost little, come close together, and are in no other count.
    ///
    /// # Errors
    /// As [`Rates::take`].
    pub(crate) fn take_ping(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Duration> {
        match caller {
            Caller::Host => Ok(()),
            Caller::Member(_) | Caller::Stranger(_) => {
                self.pings.lock().unwrap_or_else(PoisonError::into_inner).take(Network::of(from), now)
            }
        }
    }
}

#[cfg(test)]
mod tests;
