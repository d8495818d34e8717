//! The laws and limits of a table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use gx_core::measurement::Millis;
use gx_core::peers::exchange::{Pace, Round, answer};
use gx_core::peers::{
    Fingerprint, Inserted, Network, PeerRecord, PeerTable, Refused, Source, TableLimits, VerifiedRecord,
};
use gx_core::{NodeId, Timestamp};
use proptest::prelude::*;

use crate::world::{START, node_id, population, verified};
use gx_core::peers::exchange::Chance;

fn now() -> Timestamp {
    Timestamp::from_unix(START)
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix(START + seconds)
}

fn from(last: u8) -> Source {
    Source::Peer(Ipv4Addr::new(198, 51, last, 1).into())
}

fn limits(capacity: usize) -> TableLimits {
    TableLimits { capacity, ..TableLimits::default() }
}

fn table(capacity: usize) -> PeerTable {
    PeerTable::new(limits(capacity), None)
}

/// A node's record with this seq; `text` tells texts of one seq apart.
fn of(node: u8, seq: u64, text: u8) -> VerifiedRecord {
    verified(&plain(node, seq, text))
}

fn plain(node: u8, seq: u64, text: u8) -> PeerRecord {
    let mut record = PeerRecord::new(NodeId::from_bytes([node; 32]), seq, now(), PeerRecord::LEASE);
    record.addresses = vec![SocketAddr::from(([203, 0, 113, node], 7_467))];
    record.cpus = text.into();
    record
}

/// Five nodes with three seqs of three texts each, some of them farewells.
static RECORDS: LazyLock<Vec<VerifiedRecord>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for node in 1..=5 {
        for seq in 1..=3 {
            for text in 0..3 {
                let mut record = plain(node, seq, text);
                record.gone = (node + text).is_multiple_of(4);
                all.push(verified(&record));
            }
        }
    }
    all
});

/// All that a table says of nodes.
fn contents(table: &PeerTable) -> BTreeMap<NodeId, (Fingerprint, Option<Fingerprint>, Vec<SocketAddr>)> {
    let said = |entry: &gx_core::peers::Entry| {
        let rival = entry.rival().map(VerifiedRecord::fingerprint);
        (entry.record().fingerprint(), rival, entry.addresses().collect())
    };
    table.iter().map(|(node, entry)| (node, said(entry))).collect()
}

fn filled(records: &[usize]) -> PeerTable {
    let mut table = table(10_000);
    table.merge(records.iter().map(|at| RECORDS[*at].clone()), from(1), now());
    table
}

fn some_records() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..45_usize, 0..40)
}

/// Has `a` ask `b` as a client asks a server.
fn update(a: &mut PeerTable, b: &mut PeerTable, pace: &mut Pace) {
    let mut round = Round::begin(pace, 1, 17);
    loop {
        let asks = round.asks(&mut a.book(Source::Own, now()), pace);
        if asks.is_empty() {
            break;
        }
        for sent in asks {
            b.merge(sent.push, from(2), now());
            let reply = answer(&mut b.book(Source::Own, now()), &sent.ask);
            a.merge(reply.records.clone(), from(3), now());
            round.heard(sent.peer, &sent.ask, &reply);
        }
    }
    pace.ended(&round, a.len());
}

proptest! {
    #[test]
    fn merging_is_the_same_in_any_order(a in some_records(), b in some_records(), c in some_records()) {
        let joined = |parts: &[&Vec<usize>]| {
            let all: Vec<usize> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            contents(&filled(&all))
        };
        prop_assert_eq!(joined(&[&a, &b]), joined(&[&b, &a]));
        prop_assert_eq!(joined(&[&a, &b, &c]), joined(&[&c, &a, &b]));
        prop_assert_eq!(joined(&[&a, &a]), joined(&[&a]));
        // (a ∪ b) ∪ c = a ∪ (b ∪ c), where what is merged is what a table holds and not what it was told.
        let held = |records: &[usize]| {
            let table = filled(records);
            let all: Vec<VerifiedRecord> = table.iter().flat_map(|(_, entry)| {
                [Some(entry.record().clone()), entry.rival().cloned()].into_iter().flatten()
            }).collect();
            all
        };
        let (ab, bc) = ([a.clone(), b.clone()].concat(), [b.clone(), c.clone()].concat());
        let mut left = filled(&ab);
        left.merge(held(&c), from(1), now());
        let mut right = filled(&a);
        right.merge(held(&bc), from(1), now());
        prop_assert_eq!(contents(&left), contents(&right));
        prop_assert_eq!(left.digest(), right.digest());
    }

    #[test]
    fn digests_are_equal_when_tables_are(a in some_records(), b in some_records()) {
        let (mut one, mut other) = (filled(&a), filled(&b));
        prop_assert_eq!(one.digest() == other.digest(), contents(&one) == contents(&other));
        // Also after changes, when only some buckets are read again.
        one.merge(b.iter().map(|at| RECORDS[*at].clone()), from(1), now());
        other.merge(a.iter().map(|at| RECORDS[*at].clone()), from(1), now());
        prop_assert_eq!(one.digest(), other.digest());
        let node = RECORDS[0].node_id();
        let known = one.remove(node).is_some();
        prop_assert_eq!(one.digest() != other.digest(), known);
    }

    #[test]
    fn an_exchange_brings_all_there_is(a in some_records(), b in some_records()) {
        let (mut one, mut other) = (filled(&a), filled(&b));
        let expected = contents(&filled(&[a, b].concat()));
        update(&mut one, &mut other, &mut Pace::new());
        update(&mut other, &mut one, &mut Pace::new());
        prop_assert_eq!(contents(&one), expected.clone());
        prop_assert_eq!(contents(&other), expected);
    }

    #[test]
    fn limits_hold_whatever_happens(steps in proptest::collection::vec((0..6_u8, any::<u8>(), any::<u8>()), 1..400)) {
        let mut table = table(60);
        let mut pinned = BTreeSet::new();
        for (at, (kind, a, b)) in steps.into_iter().enumerate() {
            let now = later(at as i64);
            let node = NodeId::from_bytes([a; 32]);
            let good_before = good(&table);
            match kind {
                0..=2 => {
                    let _ = table.insert(of(a, 1 + u64::from(b % 3), b % 5), from(b % 16), now);
                }
                3 => {
                    table.observe(node, |seen| if b % 3 == 0 { seen.failed(now) } else { seen.answered(Some(Millis(b.into())), now) });
                }
                4 if b % 8 == 0 => {
                    if table.pin(node) { pinned.insert(node); }
                }
                4 => {
                    let address = SocketAddr::from(([203, 0, b % 4, a], 80));
                    let _ = table.insert_legacy(address, "old", from(b % 16), now);
                }
                _ => {
                    table.reached(node, SocketAddr::from(([198, 51, b % 16, 9], 1)));
                    table.expire(now);
                }
            }
            check_limits(&table)?;
            for node in &pinned {
                prop_assert!(table.get(*node).is_some(), "a pinned one went");
            }
            if kind != 3 && good_before.len() <= 32 {
                for node in &good_before {
                    // Good ones that sign two texts of one seq, or take leave, end themselves.
                    prop_assert!(table.get(*node).is_some(), "one of the last 32 good ones went");
                }
            }
        }
    }

    #[test]
    fn pages_cover_what_stays_once(
        first in proptest::collection::btree_set(1..=255_u8, 0..80),
        steps in proptest::collection::vec((any::<bool>(), 1..=255_u8), 0..40),
        limit in 1..20_usize,
    ) {
        let mut table = table(10_000);
        table.merge(first.iter().map(|node| of(*node, 1, 0)), from(1), now());
        let mut stays: BTreeSet<NodeId> = table.iter().map(|(node, _)| node).collect();
        let mut steps = steps.into_iter();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = table.page(after, limit, Source::Own, now());
            prop_assert!(page.records.len() <= limit);
            seen.extend(page.records.iter().map(VerifiedRecord::node_id));
            after = page.next;
            if after.is_none() {
                break;
            }
            for (adds, node) in steps.by_ref().take(2) {
                let id = NodeId::from_bytes([node; 32]);
                if adds {
                    let _ = table.insert(of(node, 1, 0), from(1), now());
                } else {
                    table.remove(id);
                    stays.remove(&id);
                }
            }
        }
        prop_assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
        prop_assert!(stays.iter().all(|node| seen.contains(node)));
    }
}

fn good(table: &PeerTable) -> BTreeSet<NodeId> {
    let good = |entry: &gx_core::peers::Entry| {
        let seen = entry.observation();
        seen.failures == 0 && seen.last_seen.is_some() && !entry.is_quarantined() && !entry.record().is_gone()
    };
    table.iter().filter(|(_, entry)| good(entry)).map(|(node, _)| node).collect()
}

fn check_limits(table: &PeerTable) -> Result<(), TestCaseError> {
    let limits = table.limits();
    prop_assert!(table.len() + table.legacy().count() <= limits.capacity);
    let mut brought: BTreeMap<Network, usize> = BTreeMap::new();
    for (_, entry) in table.iter() {
        entry.source().into_iter().for_each(|network| *brought.entry(network).or_default() += 1);
    }
    for (network, count) in &brought {
        prop_assert!(*count <= limits.per_source(), "{} brought {}", network, count);
        prop_assert_eq!(table.brought_by(*network), *count);
    }
    let dialled: BTreeSet<SocketAddr> = table.iter().flat_map(|(_, entry)| entry.addresses()).collect();
    for node in 0..=255 {
        let address = SocketAddr::from(([203, 0, 113, node], 7_467));
        prop_assert_eq!(table.is_some_nodes(address), dialled.contains(&address));
    }
    let mut keyless: BTreeMap<Network, usize> = BTreeMap::new();
    table.legacy().for_each(|(at, _)| *keyless.entry(Network::of(at.ip())).or_default() += 1);
    prop_assert!(keyless.values().all(|count| *count <= 8));
    Ok(())
}

#[test]
fn the_highest_seq_holds_and_two_texts_of_it_quarantine() {
    let mut table = table(100);
    let node = NodeId::from_bytes([9; 32]);
    let mut insert = |seq, text| table.insert(of(9, seq, text), from(1), now()).unwrap();
    assert_eq!(insert(5, 0), Inserted::New);
    assert_eq!(insert(4, 0), Inserted::Older);
    assert_eq!(insert(5, 0), Inserted::Known);
    assert_eq!(insert(5, 1), Inserted::Rival);
    assert_eq!(insert(5, 1), Inserted::Known);
    assert_eq!(table.askable(now()).count(), 0, "neither text is used");
    assert_eq!(table.page(None, 512, Source::Own, now()).records.len(), 2, "both are evidence");
    assert_eq!(table.insert(of(9, 6, 1), from(1), now()), Ok(Inserted::Newer));
    assert!(!table.get(node).unwrap().is_quarantined());
    assert_eq!(table.askable(now()).count(), 1);
}

#[test]
fn a_quarantine_ends_with_one_of_its_texts_and_makes_no_address_credible() {
    let mut table = table(100);
    let mut short = plain(9, 5, 0);
    short.expires_at = later(100);
    let mut long = plain(9, 5, 1);
    long.addresses.push("127.0.0.1:1".parse().unwrap());
    table.merge([verified(&short), verified(&long)], from(1), now());
    assert_eq!(table.askable(later(1)).count(), 0);
    table.expire(later(100));
    let (_, entry) = table.askable(later(100)).next().expect("one text is left");
    assert_eq!(entry.addresses().collect::<Vec<_>>(), ["203.0.113.9:7467".parse().unwrap()]);
}

#[test]
fn a_lease_ends_and_a_farewell_is_at_once() {
    let mut table = table(100);
    table.insert(of(1, 1, 0), from(1), now()).unwrap();
    table.insert(of(2, 1, 0), from(1), now()).unwrap();
    table.insert(of(3, 1, 0), from(1), now()).unwrap();
    table.pin(NodeId::from_bytes([3; 32]));
    table.insert(verified(&plain(1, 1, 0).farewell(later(60))), from(2), later(60)).unwrap();
    assert_eq!(table.askable(later(61)).count(), 2);
    assert_eq!(
        table.insert(of(1, 1, 0), from(1), later(62)),
        Ok(Inserted::Older),
        "no old record brings it back"
    );
    let lease = PeerRecord::LEASE.as_secs() as i64;
    let digest = table.digest();
    assert_eq!(table.expire(later(lease)), 3);
    let rows: Vec<_> = table.legacy().map(|(address, row)| (address, row.pinned)).collect();
    assert_eq!(rows, [(SocketAddr::from(([203, 0, 113, 3], 7_467)), true)], "the pinned one's address stays");
    assert_eq!(table.page(None, 512, Source::Own, later(lease)).records.len(), 0, "but is not passed on");
    assert!(table.digest() != digest && table.digest() == self::table(1).digest());
    assert_eq!(table.insert(of(1, 1, 0), from(1), later(lease)), Err(Refused::Expired));
}

#[test]
fn a_pinned_server_whose_lease_has_ended_is_asked_for_where_it_was_reached() {
    let mut table = table(100);
    let (node, reached) = (NodeId::from_bytes([3; 32]), SocketAddr::from(([198, 51, 100, 3], 7_467)));
    let mut record = plain(3, 1, 0);
    record.addresses.push(reached);
    table.insert_legacy(reached, "", Source::Own, now()).unwrap();
    table.insert(verified(&record), from(1), now()).unwrap();
    table.observe(node, |seen| seen.answered(Some(Millis(1.0)), now()));
    table.reached(node, reached);
    assert!(table.get(node).is_some_and(gx_core::peers::Entry::is_pinned), "as a seed is");
    table.observe(node, |seen| seen.failed(later(10)));
    let end = later(PeerRecord::LEASE.as_secs() as i64 + 3_600);
    table.expire(end);
    let rows: Vec<_> = table.legacy().collect();
    assert_eq!((table.len(), rows.len(), rows[0].0, rows[0].1.pinned), (0, 1, reached, true));
    assert_eq!(rows[0].1.seen.failures, 1, "its pause goes on");
    // It was installed anew meanwhile, and has another key.
    let mut anew = PeerRecord::new(NodeId::from_bytes([4; 32]), 1, end, PeerRecord::LEASE);
    anew.addresses = vec![reached];
    table.insert(verified(&anew), from(1), end).unwrap();
    table.reached(anew.node_id, reached);
    assert_eq!((table.legacy().count(), table.get(anew.node_id).unwrap().is_pinned()), (0, true));
}

#[test]
fn where_nodes_are_is_known_after_all_that_happens_to_records() {
    let mut table = table(100);
    let (at, moved) = (SocketAddr::from(([203, 0, 113, 1], 7_467)), SocketAddr::from(([203, 0, 113, 77], 1)));
    let holds = |table: &PeerTable, which: [bool; 2]| {
        assert_eq!([table.is_some_nodes(at), table.is_some_nodes(moved)], which);
    };
    table.insert(of(1, 1, 0), from(1), now()).unwrap();
    let mut shared = plain(2, 1, 0);
    shared.addresses = vec![at];
    table.insert(verified(&shared), from(1), now()).unwrap();
    holds(&table, [true, false]);
    let mut newer = plain(1, 2, 0);
    newer.addresses = vec![moved];
    table.insert(verified(&newer), from(1), now()).unwrap();
    holds(&table, [true, true]);
    let mut again = PeerTable::new(table.limits(), None);
    again.combine(table.clone(), &table.base(), now());
    holds(&again, [false, false]);
    again.combine(table.clone(), &self::table(1).base(), now());
    holds(&again, [true, true]);
    table.remove(NodeId::from_bytes([2; 32]));
    holds(&table, [false, true]);
    table.insert(of(1, 2, 1), from(1), now()).unwrap();
    holds(&table, [false, false]);
    table.expire(later(PeerRecord::LEASE.as_secs() as i64));
    assert!(table.is_empty());
    holds(&table, [false, false]);
}

#[test]
fn nobody_speaks_for_this_node() {
    let own = of(7, 5, 0);
    let mut table = PeerTable::new(limits(100), Some(own.node_id()));
    table.insert(own.clone(), Source::Own, now()).unwrap();
    assert_eq!(table.insert(own, from(1), now()), Ok(Inserted::Known));
    assert_eq!(table.insert(of(7, 4, 0), from(1), now()), Ok(Inserted::Older));
    assert_eq!(table.insert(of(7, 5, 1), from(1), now()), Err(Refused::Own { seq: 5 }));
    assert_eq!(table.insert(of(7, 6, 1), from(1), now()), Err(Refused::Own { seq: 6 }));
    assert_eq!(table.askable(now()).count(), 0, "nobody measures himself");
    assert_eq!(table.page(None, 9, from(1), now()).records.len(), 1, "others learn of it");
}

#[test]
fn addresses_in_my_network_are_for_those_who_are_in_it() {
    let mut record = plain(1, 1, 0);
    record.addresses = vec!["192.168.1.5:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
    let record = verified(&record);
    let peer = |text: &str| Source::Peer(text.parse::<IpAddr>().unwrap());
    let mut table = table(100);
    assert_eq!(table.insert(record.clone(), from(1), now()), Err(Refused::NoAddress));
    assert_eq!(table.insert(record.clone(), peer("192.168.2.9"), now()), Err(Refused::NoAddress));
    assert_eq!(table.insert(record.clone(), peer("192.168.1.9"), now()), Ok(Inserted::New));
    let dialled = |table: &PeerTable| table.askable(now()).next().unwrap().1.addresses().count();
    assert_eq!(dialled(&table), 1, "not this machine's loopback");
    assert_eq!(table.insert(record, peer("127.0.0.1"), now()), Ok(Inserted::Known));
    assert_eq!(dialled(&table), 2);
    assert_eq!(table.page(None, 9, from(1), now()).records.len(), 0, "strangers do not see it");
    assert_eq!(table.page(None, 9, peer("192.168.1.77"), now()).records.len(), 1);
    assert_eq!(answer(&mut table.book(from(1), now()), &have_nothing()).records.len(), 0);
    assert_eq!(answer(&mut table.book(peer("::1"), now()), &have_nothing()).records.len(), 1);
}

fn have_nothing() -> gx_core::peers::exchange::Ask {
    gx_core::peers::exchange::Ask { have: Some([].into_iter().collect()), ..Default::default() }
}

#[test]
fn one_network_brings_a_tenth_and_no_more() {
    let mut table = table(1_000);
    let records = population(400, 3);
    let merged = table.merge(records.iter().cloned(), from(1), now());
    assert_eq!((merged.new, merged.refused), (100, 300));
    // Whoever was reached is on the account of his own network.
    let nodes: Vec<NodeId> = table.iter().map(|(node, _)| node).collect();
    for node in nodes {
        let at = table.get(node).unwrap().addresses().next().unwrap();
        table.reached(node, at);
    }
    assert_eq!(table.merge(records, from(1), now()).new, 100);
}

#[test]
fn silence_is_counted_and_ends_in_oblivion() {
    let mut table = table(100);
    table.insert(of(1, 1, 0), from(1), now()).unwrap();
    let node = NodeId::from_bytes([1; 32]);
    table.observe(node, |seen| seen.failed(now()));
    assert_eq!(table.askable(later(10)).count(), 0, "it is left alone for a while");
    assert_eq!(table.askable(later(30)).count(), 1);
    let limits = TableLimits { drop_after: std::time::Duration::from_secs(60), ..limits(100) };
    let mut impatient = PeerTable::new(limits, None);
    impatient.insert(of(1, 1, 0), from(1), now()).unwrap();
    impatient.observe(node, |seen| seen.failed(now()));
    assert_eq!((impatient.expire(later(59)), impatient.expire(later(60))), (0, 1));
}

#[test]
fn a_full_table_keeps_what_is_worth_more() {
    let mut table = table(50);
    for node in 1..=50 {
        table.insert(of(node, 1, 0), from(node % 20), now()).unwrap();
    }
    let id = |node: u8| NodeId::from_bytes([node; 32]);
    for node in 1..=40 {
        table.observe(id(node), |seen| seen.answered(Some(Millis(f64::from(node))), now()));
    }
    table.observe(id(50), |seen| seen.failed(now()));
    table.pin(id(49));
    // A newcomer is untested: it takes the place of the failing one, and then only of untested ones worth less.
    for node in 100..=250 {
        let _ = table.insert(of(node, 1, 0), from(30 + node % 100), now());
    }
    assert!(table.get(id(50)).is_none() && table.get(id(49)).is_some());
    assert!((1..=40).all(|node| table.get(id(node)).is_some()), "all that answered are there");
    assert_eq!(table.len(), 50);
    // The user's own word is always taken: the untested go, then the far, never the last 32.
    for node in 150..=200 {
        let _ = table.insert(of(node, 9, 0), Source::Own, now());
        table.pin(id(node));
    }
    assert_eq!(table.len(), 50);
    assert!((1..=32).all(|node| table.get(id(node)).is_some()));
}

#[test]
fn quarantined_by_random_order_is_quarantined_everywhere() {
    let mut chance = Chance::new(5);
    let node = node_id(&mut chance);
    let texts: Vec<VerifiedRecord> = (0..6)
        .map(|text| {
            let mut record = plain(1, 7, text);
            record.node_id = node;
            verified(&record)
        })
        .collect();
    let mut seen = BTreeSet::new();
    for turn in 0..6 {
        let mut order = texts.clone();
        order.rotate_left(turn);
        let mut table = table(100);
        table.merge(order, from(1), now());
        let entry = table.get(node).unwrap();
        seen.insert((entry.record().fingerprint(), entry.rival().map(VerifiedRecord::fingerprint)));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}
