//! From three known servers each to the whole network: rounds, requests and bytes.
//!
//! This crate is built with optimisation for ten thousand servers, which take minutes without.

use gx_core::Timestamp;
use gx_core::peers::exchange::{Ask, Chance};
use gx_core::peers::file::{Row, Upload};
use gx_core::peers::{ShortIds, Source, TableLimits, VerifiedRecord};

use crate::network::{Directory, Figures, Real, Simulation, Table};
use crate::sketch::{Catalogue, Sketch};
use crate::world::{Cost, START, address, gzip, population};

/// Every server knows itself and three others.
pub(crate) fn seeds(count: usize, seed: u64, mut learn: impl FnMut(usize, usize)) {
    let mut chance = Chance::new(seed);
    for number in 0..count {
        (0..3).for_each(|_| learn(number, chance.below(count)));
    }
}

pub(crate) fn sketches(count: usize, seed: u64) -> Simulation<Sketch> {
    let catalogue = Catalogue::new(&population(count, seed));
    let mut servers: Vec<Sketch> = (0..count).map(|number| Sketch::new(&catalogue, number)).collect();
    seeds(count, seed, |server, other| servers[server].learn(other));
    Simulation::new(servers, (0..count).map(address).collect(), seed)
}

fn reals(records: &[VerifiedRecord], seed: u64) -> Simulation<Real> {
    let limits = TableLimits { capacity: TableLimits::MAX_CAPACITY, ..TableLimits::default() };
    let directory = Directory::new(records);
    let mut servers: Vec<Real> = records.iter().map(|own| Real::new(own, limits, &directory)).collect();
    let now = Timestamp::from_unix(START);
    seeds(records.len(), seed, |server, other| {
        let _ = servers[server].table.insert(records[other].clone(), Source::Own, now);
    });
    Simulation::new(servers, (0..records.len()).map(address).collect(), seed)
}

/// Goes on until 99 % are known on average; returns after how many rounds, and at what cost.
pub(crate) fn until_known<T: Table>(
    simulation: &mut Simulation<T>,
    part: impl Fn(&mut T) -> f64,
    round: impl Fn(&mut Simulation<T>),
) -> (usize, Figures) {
    let all: Vec<usize> = (0..simulation.servers.len()).collect();
    for rounds in 1..=20 {
        round(simulation);
        if simulation.known(&all, &part).0 >= 0.99 {
            return (rounds, simulation.figures());
        }
    }
    panic!("twenty rounds are not enough");
}

/// What is to hold for so many servers: rounds, requests of each on average, kilobytes of each on average.
fn check(count: usize, (rounds, figures): (usize, Figures), goal: (usize, f64, f64)) {
    let (most_rounds, most_requests, most_kb) = goal;
    println!("{count} servers: {rounds} rounds, {figures:?}");
    assert!(rounds <= most_rounds, "{rounds} rounds");
    assert!(figures.requests <= most_requests && figures.most_requests <= 32, "{figures:?}");
    assert!(figures.bytes <= most_kb * 1e3, "{figures:?}");
}

#[test]
fn a_hundred_servers_know_one_another_in_five_rounds() {
    for seed in 1..=5 {
        let mut simulation = sketches(100, seed);
        check(100, until_known(&mut simulation, |t| t.part(), Simulation::round), (5, 16.0, 35.0));
        let mut simulation = sketches(100, seed);
        check(100, until_known(&mut simulation, |t| t.part(), Simulation::round_together), (5, 16.0, 45.0));
    }
}

#[test]
fn a_thousand_servers_know_one_another_in_six_rounds() {
    let mut simulation = sketches(1_000, 1);
    check(1_000, until_known(&mut simulation, |t| t.part(), Simulation::round), (6, 19.0, 265.0));
}

#[test]
fn ten_thousand_servers_know_one_another_in_eight_rounds() {
    let mut simulation = sketches(10_000, 1);
    check(10_000, until_known(&mut simulation, |t| t.part(), Simulation::round), (8, 30.0, 3_000.0));
}

#[test]
fn the_same_seed_is_the_same_network() {
    let told = || {
        let mut simulation = sketches(300, 7);
        let found = until_known(&mut simulation, |t| t.part(), Simulation::round);
        format!("{found:?}")
    };
    assert_eq!(told(), told());
}

/// The worst case: nobody learns of what others learn in the same round, so that much is sent to one twice.
#[test]
fn a_thousand_servers_that_ask_at_once_need_six_rounds_too() {
    let mut simulation = sketches(1_000, 2);
    check(1_000, until_known(&mut simulation, |t| t.part(), Simulation::round_together), (6, 22.0, 600.0));
}

#[test]
fn a_table_of_bits_does_as_a_real_one_does() {
    let records = population(100, 6);
    let (mut real, mut sketch) = (reals(&records, 6), sketches(100, 6));
    let all: Vec<usize> = (0..100).collect();
    for _ in 0..5 {
        real.round();
        sketch.round();
        let known = real.known(&all, |server| server.table.len() as f64 / 100.0);
        assert_eq!(known, sketch.known(&all, |server| server.part()));
        assert_eq!(format!("{:?}", real.figures()), format!("{:?}", sketch.figures()));
    }
}

#[test]
fn the_bytes_that_are_counted_are_those_of_bodies() {
    let records = population(100, 8);
    let mut simulation = reals(&records, 8);
    let cost = Cost::measure();
    let (mut counted, mut real) = (0.0, 0.0);
    for _ in 0..4 {
        simulation.round_with(|_, peer, reply| {
            if peer % 4 == 0 {
                counted += cost.answer(reply.rest.len() + reply.lack.len(), reply.records.len());
                real += gzip(&serde_json::to_vec(&reply).expect("an answer is JSON")) as f64;
            }
            Some(reply)
        });
    }
    assert!((counted / real - 1.0).abs() < 0.05, "answers: {counted} counted, {real} real");
    // A request as a client writes it: the form's frame is what browsers send, 170 bytes with the JSON around lists.
    let have: ShortIds = records.iter().map(VerifiedRecord::short_id).collect();
    let rows = records[..20].iter().map(|record| {
        let signed = record.signed();
        Row { record: Some(signed.record), signature: Some(signed.signature), ..Row::default() }
    });
    let ask = Ask { have: Some(have), start: 85, parts: 3, ..Ask::default() };
    let upload = Upload { ip_address: rows.collect(), ask: Some(ask) };
    let frame = "--0123456789abcdef\r\nContent-Disposition: form-data; name=\"json\"; filename=\"ip_table.json\"\r\n\r\n\r\n--0123456789abcdef--\r\n";
    let real = serde_json::to_vec(&upload).expect("an upload is JSON").len() + frame.len();
    let counted = cost.request(100, 20);
    assert!((counted / real as f64 - 1.0).abs() < 0.05, "requests: {counted} counted, {real} real");
}

#[test]
fn once_all_is_known_an_exchange_is_a_digest() {
    let mut simulation = sketches(400, 4);
    until_known(&mut simulation, |t| t.part(), Simulation::round);
    (0..4).for_each(|_| simulation.round());
    simulation.renew();
    simulation.round();
    let figures = simulation.figures();
    assert!(figures.requests <= 3.0, "{figures:?}");
    // Every 30 s: below 250 B/s.
    assert!(figures.bytes / 30.0 <= 250.0, "{figures:?}");
}
