//! Servers that come, go, vanish and sign new records while tables are exchanged.

use gx_core::Timestamp;
use gx_core::peers::exchange::Chance;
use gx_core::peers::{PeerRecord, Source, TableLimits, VerifiedRecord};

use crate::network::{Directory, Real, Simulation};
use crate::world::{START, address, population, record, verified};

const COUNT: usize = 120;

/// Servers 0 to 99 are there from the beginning, the others join later.
fn world() -> (Vec<VerifiedRecord>, Simulation<Real>) {
    let records = population(COUNT, 11);
    let directory = Directory::new(&records);
    let mut servers: Vec<Real> =
        records[..100].iter().map(|own| Real::new(own, TableLimits::default(), &directory)).collect();
    let now = Timestamp::from_unix(START);
    crate::spread::seeds(100, 11, |server, other| {
        let _ = servers[server].table.insert(records[other].clone(), Source::Own, now);
    });
    let mut simulation = Simulation::new(servers, (0..100).map(address).collect(), 11);
    (0..5).for_each(|_| simulation.round());
    for (number, own) in records.iter().enumerate().skip(100) {
        let mut server = Real::new(own, TableLimits::default(), &directory);
        let _ = server.table.insert(records[number - 60].clone(), Source::Own, now);
        simulation.join(server, address(number));
        simulation.alive[number] = false;
    }
    (records, simulation)
}

fn pass(simulation: &mut Simulation<Real>, seconds: i64) {
    for server in &mut simulation.servers {
        server.now = Timestamp::from_unix(server.now.unix() + seconds);
    }
}

/// Has a server say something new of itself.
fn say(simulation: &mut Simulation<Real>, number: usize, what: &PeerRecord) {
    let server = &mut simulation.servers[number];
    server.table.insert(verified(what), Source::Own, server.now).expect("one's own word is taken");
}

/// Returns the part of `these` servers that those alive may use, on average.
fn usable(simulation: &mut Simulation<Real>, records: &[VerifiedRecord], these: &[usize]) -> f64 {
    let alive: Vec<usize> = (0..COUNT).filter(|number| simulation.alive[*number]).collect();
    let part = |server: &mut Real| {
        let used = these.iter().filter(|number| {
            let entry = server.table.get(records[**number].node_id());
            entry.is_some_and(|entry| entry.is_usable(server.now))
        });
        used.count() as f64 / these.len() as f64
    };
    simulation.known(&alive, part).0
}

#[test]
fn tables_follow_who_comes_and_goes() {
    let (records, mut simulation) = world();
    let mut chance = Chance::new(12);
    pass(&mut simulation, 60);
    let now = simulation.servers[0].now;
    // 0 to 9 vanish, 10 to 19 take leave in good order, 20 to 29 sign anew, 100 to 119 join.
    for (number, own) in records.iter().enumerate().take(20).skip(10) {
        let last = own.record().farewell(now);
        say(&mut simulation, number, &last);
    }
    simulation.renew();
    simulation.round();
    (0..20).for_each(|number| simulation.alive[number] = false);
    (100..COUNT).for_each(|number| simulation.alive[number] = true);
    for (number, own) in records.iter().enumerate().take(30).skip(20) {
        let anew = record(&mut chance, own.node_id(), address(number), now);
        say(&mut simulation, number, &anew);
    }
    for _ in 0..5 {
        pass(&mut simulation, 30);
        simulation.round();
    }
    let here: Vec<usize> = (20..COUNT).collect();
    assert!(usable(&mut simulation, &records, &here) >= 0.99, "those that are there are known");
    let leave: Vec<usize> = (10..20).collect();
    assert!(usable(&mut simulation, &records, &leave) <= 0.01, "a farewell is heard everywhere");
    let mut fresh = 0;
    for server in &simulation.servers[20..] {
        let renewed = (20..30).filter(|n| {
            server.table.get(records[*n].node_id()).is_some_and(|e| e.record().seq() > records[*n].seq())
        });
        fresh += renewed.count();
    }
    assert!(fresh >= 990, "a new record is heard everywhere: {fresh} of 1000");
    // A day later all that are there have signed anew, and those that vanished are forgotten without anybody's word.
    for hours in 1..=3 {
        pass(&mut simulation, PeerRecord::REFRESH.as_secs() as i64 + 60 * hours);
        let now = simulation.servers[20].now;
        for (number, own) in records.iter().enumerate().skip(20) {
            let anew = record(&mut chance, own.node_id(), address(number), now);
            say(&mut simulation, number, &anew);
        }
        simulation.renew();
        (0..5).for_each(|_| simulation.round());
    }
    assert!(usable(&mut simulation, &records, &here) >= 0.99);
    let gone: Vec<usize> = (0..20).collect();
    assert_eq!(usable(&mut simulation, &records, &gone), 0.0);
    for server in &mut simulation.servers[20..] {
        server.table.expire(server.now);
        assert!(server.table.len() <= 100, "nothing of them is left: {}", server.table.len());
    }
}
