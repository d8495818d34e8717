//! Many servers that exchange their tables, round by round, with the code the real ones use.
//!
//! In a round every server takes its turn, in a random order, as clocks that know nothing of one another have it. It asks
//! up to three of those it knows; what it asks and what they answer is decided by `gx_core::peers::exchange`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use gx_core::peers::exchange::{Answer, Ask, Book, Chance, Pace, Round, Sent, TableBook, answer, choose};
use gx_core::peers::{Entry, Network, PeerTable, Source, TableLimits, VerifiedRecord};
use gx_core::{NodeId, Timestamp};

use crate::world::{Cost, START};

/// What a server's table is in a simulation.
pub(crate) trait Table {
    /// What is exchanged.
    type Record: Clone;
    /// One end of an exchange.
    type Book<'a>: Book<Record = Self::Record>
    where
        Self: 'a;
    /// Opens it.
    fn book(&mut self) -> Self::Book<'_>;
    /// Takes in what came from an address.
    fn merge(&mut self, records: Vec<Self::Record>, from: IpAddr);
    /// Tries whether some of those it knows are there, as a server does between two rounds.
    fn probe(&mut self, _chance: &mut Chance, _alive: &[bool]) {}
    /// Notes whether a server answered.
    fn note(&mut self, _peer: usize, _answered: bool) {}
    /// Returns the numbers of the servers to ask, in different networks while that goes.
    fn choose(&self, chance: &mut Chance, count: usize) -> Vec<usize>;
}

/// Who is who: servers by number.
#[derive(Default)]
pub(crate) struct Directory {
    ids: Vec<NodeId>,
    numbers: HashMap<NodeId, usize>,
}

impl Directory {
    /// Lists servers 0, 1, 2 and so on.
    pub(crate) fn new(records: &[VerifiedRecord]) -> Rc<Self> {
        let ids: Vec<NodeId> = records.iter().map(VerifiedRecord::node_id).collect();
        let numbers = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        Rc::new(Self { ids, numbers })
    }

    /// Returns a server's number; `None` for one that nobody made.
    pub(crate) fn number(&self, node: NodeId) -> Option<usize> {
        self.numbers.get(&node).copied()
    }
}

/// A real table, and who is who.
#[derive(Clone)]
pub(crate) struct Real {
    /// The table.
    pub(crate) table: PeerTable,
    directory: Rc<Directory>,
    /// The simulation's clock.
    pub(crate) now: Timestamp,
    /// How many that nobody has reached it tries between two rounds; with any, it asks those that answered first.
    pub(crate) probes: usize,
}

impl Real {
    /// Makes a server's table, with its own record.
    pub(crate) fn new(own: &VerifiedRecord, limits: TableLimits, directory: &Rc<Directory>) -> Self {
        let now = Timestamp::from_unix(START);
        let mut table = PeerTable::new(limits, Some(own.node_id()));
        table.insert(own.clone(), Source::Own, now).expect("one's own record is always taken");
        Self { table, directory: Rc::clone(directory), now, probes: 0 }
    }
}

fn is_proven(entry: &Entry) -> bool {
    entry.observed().is_some_and(|seen| seen.failures == 0 && seen.last_seen.is_some())
}

impl Real {
    /// Returns up to so many that can be asked, at random, in different networks while that goes.
    fn some(&self, chance: &mut Chance, count: usize, fits: impl Fn(&Entry) -> bool) -> Vec<NodeId> {
        let askable = self.table.askable(self.now).filter(|(_, entry)| fits(entry));
        let all: Vec<NodeId> = askable.map(|(node, _)| node).collect();
        let network = |index: usize| {
            let entry = self.table.get(all[index]).expect("it was listed");
            Network::of(entry.addresses().next().expect("it can be asked").ip())
        };
        choose(chance, all.len(), count, network).into_iter().map(|index| all[index]).collect()
    }
}

impl Table for Real {
    type Record = VerifiedRecord;
    type Book<'a> = TableBook<'a>;

    fn book(&mut self) -> TableBook<'_> {
        self.table.book(Source::Own, self.now)
    }

    fn merge(&mut self, records: Vec<VerifiedRecord>, from: IpAddr) {
        self.table.merge(records, Source::Peer(from), self.now);
    }

    fn probe(&mut self, chance: &mut Chance, alive: &[bool]) {
        for node in self.some(chance, self.probes, |entry| !is_proven(entry)) {
            let there = self.directory.number(node).is_some_and(|number| alive[number]);
            let now = self.now;
            self.table.observe(node, |seen| if there { seen.answered(None, now) } else { seen.failed(now) });
        }
    }

    fn choose(&self, chance: &mut Chance, count: usize) -> Vec<usize> {
        let chosen = if self.probes == 0 {
            self.some(chance, count, |_| true)
        } else {
            let mut proven = self.some(chance, count, is_proven);
            proven.extend(self.some(chance, count - proven.len(), |entry| !is_proven(entry)));
            proven
        };
        // Whoever nobody made is a number that never answers.
        chosen.into_iter().map(|node| self.directory.number(node).unwrap_or(usize::MAX)).collect()
    }

    fn note(&mut self, peer: usize, answered: bool) {
        let Some(node) = self.directory.ids.get(peer) else { return };
        let now = self.now;
        self.table.observe(*node, |seen| if answered { seen.answered(None, now) } else { seen.failed(now) });
    }
}

/// What a round came to, over all servers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Requests so far, a server.
    pub(crate) requests: f64,
    /// The most requests of one server.
    pub(crate) most_requests: usize,
    /// Bytes of bodies so far, a server, as the one that asks.
    pub(crate) bytes: f64,
}

/// Tells what is heard of an answer: who asks, who answers, and what honestly.
pub(crate) trait Twist<R>: FnMut(usize, usize, Answer<R>) -> Option<Answer<R>> {}

impl<R, F: FnMut(usize, usize, Answer<R>) -> Option<Answer<R>>> Twist<R> for F {}

/// Servers that exchange tables.
pub(crate) struct Simulation<T> {
    /// The servers.
    pub(crate) servers: Vec<T>,
    /// Their addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether each is there.
    pub(crate) alive: Vec<bool>,
    paces: Vec<Pace>,
    requests: Vec<usize>,
    bytes: f64,
    cost: Cost,
    chance: Chance,
}

impl<T: Table> Simulation<T> {
    /// Makes a network.
    pub(crate) fn new(servers: Vec<T>, addresses: Vec<IpAddr>, seed: u64) -> Self {
        let count = servers.len();
        Self {
            servers,
            addresses,
            alive: vec![true; count],
            paces: vec![Pace::new(); count],
            requests: vec![0; count],
            bytes: 0.0,
            cost: Cost::measure(),
            chance: Chance::new(seed),
        }
    }

    /// Adds a server.
    pub(crate) fn join(&mut self, server: T, address: IpAddr) {
        self.servers.push(server);
        self.addresses.push(address);
        self.alive.push(true);
        self.paces.push(Pace::new());
        self.requests.push(0);
    }

    /// Lets every server take its turn.
    pub(crate) fn round(&mut self) {
        self.round_with(|_, _, reply| Some(reply));
    }

    /// Lets every server take its turn; `twist` is told who asks, who answers and the honest answer, and says what is
    /// heard: `None` is silence.
    pub(crate) fn round_with(&mut self, mut twist: impl Twist<T::Record>) {
        for server in self.order() {
            self.turn(server, &mut None, &mut twist);
        }
    }

    /// Lets all servers ask at once: each is answered from what the other had when the round began.
    pub(crate) fn round_together(&mut self)
    where
        T: Clone,
    {
        let mut before = Some(self.servers.clone());
        for server in self.order() {
            self.turn(server, &mut before, &mut |_, _, reply| Some(reply));
        }
    }

    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        for left in (1..order.len()).rev() {
            order.swap(left, self.chance.below(left + 1));
        }
        order.retain(|server| self.alive[*server]);
        order
    }

    fn turn(&mut self, server: usize, before: &mut Option<Vec<T>>, twist: &mut impl Twist<T::Record>) {
        let mut pace = self.paces[server].clone();
        self.servers[server].probe(&mut self.chance, &self.alive);
        let peers = self.servers[server].choose(&mut self.chance, pace.fanout());
        let mut round = Round::begin(&pace, peers.len(), self.chance.draw() as u8);
        loop {
            let asks = round.asks(&mut self.servers[server].book(), &mut pace);
            if asks.is_empty() {
                break;
            }
            for sent in asks {
                let peer = peers[sent.peer];
                match self.request(server, peer, &sent, before).and_then(|reply| twist(server, peer, reply)) {
                    None => {
                        self.servers[server].note(peer, false);
                        round.lost(sent.peer);
                    }
                    Some(reply) => {
                        self.servers[server].note(peer, true);
                        self.servers[server].merge(reply.records.clone(), self.addresses[peer]);
                        round.heard(sent.peer, &sent.ask, &reply);
                    }
                }
            }
        }
        pace.ended(&round, self.servers[server].book().known());
        self.paces[server] = pace;
    }

    fn request(
        &mut self,
        server: usize,
        peer: usize,
        sent: &Sent<T::Record>,
        before: &mut Option<Vec<T>>,
    ) -> Option<Answer<T::Record>> {
        self.requests[server] += 1;
        self.bytes += self.cost.request(named(&sent.ask), sent.push.len());
        if !self.alive.get(peer).is_some_and(|alive| *alive) {
            return None;
        }
        self.servers[peer].merge(sent.push.clone(), self.addresses[server]);
        let answering = before.as_mut().unwrap_or(&mut self.servers);
        let reply = answer(&mut answering[peer].book(), &sent.ask);
        self.bytes += self.cost.answer(reply.rest.len() + reply.lack.len(), reply.records.len());
        Some(reply)
    }

    /// Returns what it has come to so far.
    pub(crate) fn figures(&self) -> Figures {
        let count = self.requests.len() as f64;
        Figures {
            requests: self.requests.iter().sum::<usize>() as f64 / count,
            most_requests: self.requests.iter().copied().max().unwrap_or_default(),
            bytes: self.bytes / count,
        }
    }

    /// Begins a new update for everybody.
    pub(crate) fn renew(&mut self) {
        self.paces.iter_mut().for_each(Pace::renew);
        self.requests.iter_mut().for_each(|count| *count = 0);
        self.bytes = 0.0;
    }

    /// Returns the part of `wanted` servers that each of `these` knows: on average, and by the one that knows least.
    pub(crate) fn known(&mut self, these: &[usize], knows: impl Fn(&mut T) -> f64) -> (f64, f64) {
        let parts: Vec<f64> = these.iter().map(|server| knows(&mut self.servers[*server])).collect();
        let least = parts.iter().copied().fold(1.0, f64::min);
        (parts.iter().sum::<f64>() / parts.len().max(1) as f64, least)
    }
}

/// Returns how many short ids an ask names; a digest is as long as 256 of them.
fn named(ask: &Ask) -> usize {
    let have = ask.have.as_ref().map_or(0, |ids| ids.len());
    have + ask.want.len() + ask.digest.as_ref().map_or(0, |_| 256) + ask.within.map_or(0, |_| 9)
}
