//! Tests of the rates: nobody gets more than they may, nobody less, and no number of addresses takes more memory.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
}

#[test]
fn a_burst_is_let_through_and_then_one_for_each_interval() {
    let (rate, now) = (rate(10, 3), Instant::now());
    let mut bucket = Bucket::full(now);
    let taken: Vec<bool> = (0..5).map(|_| bucket.take(rate, now).is_ok()).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    assert_eq!(bucket.take(rate, now), Err(Duration::from_millis(100)), "and is told when to come again");
    bucket.take(rate, now + Duration::from_millis(100)).unwrap();
    assert!(bucket.take(rate, now + Duration::from_millis(199)).is_err());
    let later = now + Duration::from_secs(3_600);
    assert_eq!(
        (0..5).filter(|_| bucket.take(rate, later).is_ok()).count(),
        3,
        "no more than a burst is saved up"
    );
}

#[test]
fn strangers_of_one_network_share_and_members_do_not() {
    let now = Instant::now();
    let one = NonZeroU32::MIN;
    let config = RateConfig {
        member_per_second: one,
        member_burst: one,
        stranger_per_second: one,
        stranger_burst: one,
    };
    let rates = Rates::new(&config, now);
    let stranger = |key: u8, from: &str| {
        let caller = Caller::Stranger(Some(NodeId::from_bytes([key; 32])));
        rates.take(&caller, Some(from.parse().unwrap()), now).is_ok()
    };
    assert!(stranger(1, "192.0.2.1") && stranger(1, "192.0.2.2"));
    assert!(!stranger(2, "192.0.2.1"), "another key is no other stranger");
    assert!(!stranger(1, "::ffff:192.0.2.1"), "the same address, as IPv6 writes it");
    assert!(stranger(1, "2001:db8::1") && !stranger(1, "2001:db8::2"));
    assert!(stranger(1, "2001:db8:0:1::1"));
    let member = |number| rates.take(&crate::tests::member(number), None, now).is_ok();
    assert!(member(1) && member(2) && !member(1));
    assert!((0..9).all(|_| rates.take(&Caller::Host, None, now).is_ok()));
    assert!(rates.take(&Caller::Stranger(None), None, now).is_ok());
    assert!(rates.take(&Caller::Stranger(None), None, now).is_err(), "nobody from nowhere is one stranger");
}

#[test]
fn a_flood_of_addresses_leaves_those_alone_who_were_there() {
    let now = Instant::now();
    let mut limiter = Limiter::new(rate(10, 10), 100, now);
    limiter.take(0, now).unwrap();
    let let_in = (1..100_000_u32).filter(|&address| limiter.take(address, now).is_ok()).count();
    assert_eq!((limiter.buckets.len(), let_in), (100, 99 + 10), "the rest share one bucket");
    assert!((0..9).all(|_| limiter.take(0, now).is_ok()));
}

proptest! {
    #[test]
    fn memory_is_bounded_and_nobody_gets_more_or_less_than_they_may(
        requests in prop::collection::vec((0_u8..40, 0_u64..30), 1..400),
        per_second in 1_u32..200,
        burst in 1_u32..20,
        capacity in 1_usize..50,
    ) {
        let (begin, rate) = (Instant::now(), rate(per_second, burst));
        let mut limiter = Limiter::new(rate, capacity, begin);
        let mut now = begin;
        let mut let_in: HashMap<u8, u32> = HashMap::new();
        for (who, pause_ms) in requests {
            now += Duration::from_millis(pause_ms);
            let before = let_in.get(&who).copied().unwrap_or_default();
            match limiter.take(who, now) {
                Ok(()) => _ = let_in.insert(who, before + 1),
                Err(wait) => {
                    // Who has had no more than the long run gives is refused only for the sake of the crowd.
                    prop_assert!(before >= burst || capacity < 40, "{who} after {before}");
                    prop_assert!(wait > Duration::ZERO && wait <= rate.interval * burst);
                }
            }
            prop_assert!(limiter.buckets.len() <= capacity);
        }
        let most = f64::from(burst) + (now - begin).as_secs_f64() * f64::from(per_second) + 1.0;
        for count in let_in.values() {
            // Once from the shared bucket, and once from one of its own.
            let allowed = if capacity < 40 { 2.0 * most } else { most };
            prop_assert!(f64::from(*count) <= allowed, "{count} of {allowed}");
        }
    }
}
