//! Attackers among the servers: what they bring, and what they do not get.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gx_core::peers::exchange::{Answer, Chance};
use gx_core::peers::{Network, RecordError, ShortId, SignedRecord, Source, TableLimits, VerifiedRecord};
use gx_core::{NodeId, Timestamp};

use crate::network::{Directory, Real, Simulation};
use crate::world::{START, address, node_id, population, record, signed, verified, verify};

/// Servers 0 to 79 are honest, 80 to 99 attack: five networks of four.
const HONEST: usize = 80;
const ALL: usize = 100;
/// Each network of a table of 1,000 may bring a hundred.
const CAPACITY: usize = 1_000;

struct Attack {
    sybils: Vec<VerifiedRecord>,
    honest: Vec<VerifiedRecord>,
    chance: Chance,
    forged: usize,
}

impl Attack {
    fn new(honest: &[VerifiedRecord]) -> Self {
        let mut chance = Chance::new(99);
        let now = Timestamp::from_unix(START);
        let sybils = (0..200)
            .map(|number| {
                let node = node_id(&mut chance);
                verified(&record(&mut chance, node, address(40_000 + number), now))
            })
            .collect();
        Self { sybils, honest: honest.to_vec(), chance, forged: 0 }
    }

    /// Answers with made-up servers, forged and changed records, and ids that nobody has.
    fn answer(&mut self, mut honest: Answer<VerifiedRecord>) -> Option<Answer<VerifiedRecord>> {
        let kind = self.chance.below(4);
        if kind == 0 {
            return None;
        }
        honest.records.extend(self.sybils.iter().cloned());
        let forged: Vec<SignedRecord> = self.forgeries();
        for record in forged {
            match record.verify(&verify, Timestamp::from_unix(START)) {
                Err(RecordError::Forged { .. }) => self.forged += 1,
                other => panic!("a forged record was taken: {other:?}"),
            }
        }
        let mut made_up = || ShortId(self.chance.draw().to_be_bytes()[..6].try_into().expect("six bytes"));
        honest.rest = (0..600).map(|_| made_up()).collect();
        honest.lack = (0..600).map(|_| made_up()).collect();
        Some(honest)
    }

    /// Other people's records, with their addresses led to the attacker, and with a higher seq.
    fn forgeries(&mut self) -> Vec<SignedRecord> {
        let victim = &self.honest[self.chance.below(self.honest.len())];
        let mut theirs = victim.record();
        theirs.seq += 1;
        theirs.addresses = vec!["203.0.113.66:1".parse().expect("an address")];
        let text = serde_json::to_string(&theirs).expect("a record is JSON");
        let mine = signed(&self.sybils[0].record());
        vec![
            SignedRecord { record: text.clone(), signature: victim.signed().signature },
            SignedRecord { record: text, signature: mine.signature },
        ]
    }
}

fn network(number: usize) -> Network {
    Network::of(address(number))
}

fn world(records: &[VerifiedRecord]) -> Simulation<Real> {
    let directory = Directory::new(records);
    let limits = TableLimits { capacity: CAPACITY, ..TableLimits::default() };
    let mut servers: Vec<Real> = records.iter().map(|own| Real::new(own, limits, &directory)).collect();
    crate::spread::seeds(ALL, 21, |server, other| {
        let _ =
            servers[server].table.insert(records[other].clone(), Source::Own, Timestamp::from_unix(START));
    });
    Simulation::new(servers, (0..ALL).map(address).collect(), 21)
}

#[test]
fn a_fifth_that_attacks_forges_nothing_and_slows_the_others_down() {
    // Of those who try nobody before they ask: on average, and the one that was led to attackers from the start.
    attacked(0, (0.9, 0.1));
}

#[test]
fn who_tries_servers_before_asking_them_is_not_led_astray() {
    // As a server does between two rounds, and as a client does, who tries all.
    attacked(5, (0.99, 0.9));
    attacked(1_000, (0.99, 0.9));
}

fn attacked(probes: usize, goal: (f64, f64)) {
    let records = population(ALL, 21);
    let mut simulation = world(&records);
    simulation.servers.iter_mut().for_each(|server| server.probes = probes);
    let mut attack = Attack::new(&records[..HONEST]);
    let honest: Vec<usize> = (0..HONEST).collect();
    let sybils: BTreeSet<NodeId> = attack.sybils.iter().map(VerifiedRecord::node_id).collect();
    let real: BTreeSet<NodeId> = records.iter().map(VerifiedRecord::node_id).collect();
    for _ in 0..7 {
        simulation
            .round_with(|_, peer, reply| if peer < HONEST { Some(reply) } else { attack.answer(reply) });
        for number in &honest {
            let table = &simulation.servers[*number].table;
            let networks = (0..ALL).map(network).collect::<BTreeSet<_>>();
            for from in networks {
                assert!(table.brought_by(from) <= CAPACITY / 10, "{from} brought {}", table.brought_by(from));
            }
            assert!(table.len() <= CAPACITY);
            // Whatever is held was signed by whom it names: nobody but the simulation's servers and the made-up ones is there.
            assert!(table.iter().all(|(node, _)| real.contains(&node) || sybils.contains(&node)));
        }
    }
    assert!(attack.forged > 100, "the attack took place: {}", attack.forged);
    let known = simulation.known(&honest, |server| {
        let these = records[..HONEST].iter().filter(|record| server.table.get(record.node_id()).is_some());
        these.count() as f64 / HONEST as f64
    });
    println!("{probes} probes a round: {known:?} of the honest are known");
    assert!(known.0 >= goal.0 && known.1 >= goal.1, "{known:?}");
    assert!(simulation.figures().most_requests <= 32);
}

#[test]
fn one_attacker_fills_a_tenth_of_a_table_and_no_good_server_goes() {
    let records = population(ALL, 22);
    let now = Timestamp::from_unix(START);
    let directory = Directory::new(&records);
    let limits = TableLimits { capacity: 200, ..TableLimits::default() };
    let mut server = Real::new(&records[0], limits, &directory);
    for (number, known) in records.iter().enumerate().take(60).skip(1) {
        server.table.insert(known.clone(), Source::Peer(address(number)), now).expect("there is room");
        server.table.observe(known.node_id(), |seen| seen.answered(None, now));
    }
    let attack = Attack::new(&records[..HONEST]);
    let from = |number: usize| -> IpAddr { address(90_000 + number) };
    server.table.merge(attack.sybils.iter().cloned(), Source::Peer(from(0)), now);
    assert_eq!(server.table.brought_by(Network::of(from(0))), 20);
    // With a hundred networks of his own the attacker fills what nobody has tested, and nothing else.
    for number in 0..100 {
        server.table.merge(attack.sybils.iter().cloned(), Source::Peer(from(4 * number)), now);
    }
    assert_eq!(server.table.len(), 200);
    assert!(records[..60].iter().all(|record| server.table.get(record.node_id()).is_some()));
    // His servers do not answer, and make room for those that come now.
    let mine: Vec<NodeId> = attack.sybils.iter().map(VerifiedRecord::node_id).collect();
    for node in &mine {
        server.table.observe(*node, |seen| seen.failed(now));
    }
    for (number, newcomer) in records.iter().enumerate().skip(60) {
        server
            .table
            .insert(newcomer.clone(), Source::Peer(address(number)), now)
            .expect("a failing one goes");
    }
    assert!(records.iter().all(|record| server.table.get(record.node_id()).is_some()));
}
