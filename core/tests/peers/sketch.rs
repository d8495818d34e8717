//! A table as a bit for each server of the world, so that ten thousand tables of ten thousand servers fit into memory.
//!
//! It answers as a [`PeerTable`](gx_core::peers::PeerTable) without limits does; a test holds the two against each other.

use std::net::IpAddr;
use std::rc::Rc;

use gx_core::peers::exchange::{Book, Chance, choose};
use gx_core::peers::{Buckets, Digest, Fingerprint, Network, ShortId, ShortIds, VerifiedRecord};

use crate::network::Table;

/// All records there are, in the order of their short ids.
pub(crate) struct Catalogue {
    ids: Vec<ShortId>,
    fingerprints: Vec<Fingerprint>,
    networks: Vec<Network>,
    bytes: Vec<usize>,
    /// Where each bucket begins.
    starts: Vec<usize>,
    /// The number of each server, and the place of each number.
    numbers: Vec<usize>,
    places: Vec<usize>,
    /// Places in the order of node ids, as a real table lists servers, and where in it each place is.
    listed: Vec<usize>,
    ranks: Vec<usize>,
}

impl Catalogue {
    /// Lists the records of servers 0, 1, 2 and so on.
    pub(crate) fn new(records: &[VerifiedRecord]) -> Rc<Self> {
        let mut numbers: Vec<usize> = (0..records.len()).collect();
        numbers.sort_unstable_by_key(|number| records[*number].short_id());
        let mut places = vec![0; records.len()];
        numbers.iter().enumerate().for_each(|(place, number)| places[*number] = place);
        let sorted: Vec<&VerifiedRecord> = numbers.iter().map(|number| &records[*number]).collect();
        let ids: Vec<ShortId> = sorted.iter().map(|record| record.short_id()).collect();
        let mut listed: Vec<usize> = (0..records.len()).collect();
        listed.sort_unstable_by_key(|place| sorted[*place].node_id());
        let mut ranks = vec![0; listed.len()];
        listed.iter().enumerate().for_each(|(rank, place)| ranks[*place] = rank);
        let starts =
            (0..=256).map(|bucket| ids.partition_point(|id| usize::from(id.bucket()) < bucket)).collect();
        Rc::new(Self {
            fingerprints: sorted.iter().map(|record| record.fingerprint()).collect(),
            networks: sorted.iter().map(|record| Network::of(record.addresses()[0].ip())).collect(),
            bytes: sorted.iter().map(|record| record.wire_bytes()).collect(),
            ids,
            starts,
            numbers,
            places,
            listed,
            ranks,
        })
    }
}

/// A record, by its place in the catalogue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    place: u32,
    id: ShortId,
    bytes: u32,
}

/// A table of bits.
#[derive(Clone)]
pub(crate) struct Sketch {
    all: Rc<Catalogue>,
    /// By place.
    bits: Vec<u64>,
    /// Those that can be asked, in the order of node ids.
    askable: Vec<u64>,
    known: usize,
    own: usize,
}

impl Sketch {
    /// Makes the table of the server with this number.
    pub(crate) fn new(all: &Rc<Catalogue>, number: usize) -> Self {
        let own = all.places[number];
        let bits = vec![0; all.ids.len().div_ceil(64)];
        let mut table = Self { all: Rc::clone(all), askable: bits.clone(), bits, known: 0, own };
        table.set(own);
        table
    }

    /// Makes the server with this number known.
    pub(crate) fn learn(&mut self, number: usize) {
        self.set(self.all.places[number]);
    }

    /// Returns the part of all servers that it knows.
    pub(crate) fn part(&self) -> f64 {
        self.known as f64 / self.all.ids.len() as f64
    }

    fn has(&self, place: usize) -> bool {
        self.bits[place / 64] & (1 << (place % 64)) != 0
    }

    fn set(&mut self, place: usize) {
        self.known += usize::from(!self.has(place));
        self.bits[place / 64] |= 1 << (place % 64);
        if place != self.own {
            let rank = self.all.ranks[place];
            self.askable[rank / 64] |= 1 << (rank % 64);
        }
    }

    /// Returns the place of the one of those that can be asked that has so many before it.
    fn askable(&self, index: usize) -> usize {
        let mut before = index;
        for (at, word) in self.askable.iter().enumerate() {
            let here = word.count_ones() as usize;
            if before < here {
                let left = (0..before).fold(*word, |left, _| left & (left - 1));
                return self.all.listed[at * 64 + left.trailing_zeros() as usize];
            }
            before -= here;
        }
        panic!("{index} is not among those that can be asked")
    }

    /// Returns the places of all that it knows, in order.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                (left != 0).then(|| {
                    left &= left - 1;
                    at * 64 + bit
                })
            })
        })
    }

    fn item(&self, place: usize) -> Item {
        Item { place: place as u32, id: self.all.ids[place], bytes: self.all.bytes[place] as u32 }
    }
}

impl Table for Sketch {
    type Record = Item;
    type Book<'a> = &'a mut Self;

    fn book(&mut self) -> &mut Self {
        self
    }

    fn merge(&mut self, records: Vec<Item>, _: IpAddr) {
        records.into_iter().for_each(|item| self.set(item.place as usize));
    }

    fn choose(&self, chance: &mut Chance, count: usize) -> Vec<usize> {
        let chosen = choose(chance, self.known - 1, count, |index| self.all.networks[self.askable(index)]);
        chosen.into_iter().map(|index| self.all.numbers[self.askable(index)]).collect()
    }
}

impl Book for &mut Sketch {
    type Record = Item;

    fn known(&self) -> usize {
        self.known
    }

    fn digest(&mut self) -> Digest {
        Digest::new(|bucket| {
            let range = self.all.starts[usize::from(bucket)]..self.all.starts[usize::from(bucket) + 1];
            let mut prints: Vec<Fingerprint> =
                range.filter(|place| self.has(*place)).map(|place| self.all.fingerprints[place]).collect();
            Digest::of_bucket(&mut prints)
        })
    }

    fn short_ids(&self, buckets: &Buckets) -> ShortIds {
        let ids = self.places().map(|place| self.all.ids[place]);
        if *buckets == Buckets::ALL {
            ids.collect()
        } else {
            ids.filter(|id| buckets.contains(id.bucket())).collect()
        }
    }

    fn lookup(&self, ids: &ShortIds) -> Vec<Item> {
        let places = ids.as_slice().iter().filter_map(|id| {
            let bucket = usize::from(id.bucket());
            let (from, to) = (self.all.starts[bucket], self.all.starts[bucket + 1]);
            self.all.ids[from..to].binary_search(id).ok().map(|place| from + place)
        });
        let mut found: Vec<usize> = places.filter(|place| self.has(*place)).collect();
        found.sort_unstable();
        found.into_iter().map(|place| self.item(place)).collect()
    }

    fn own(&self) -> Option<ShortId> {
        Some(self.all.ids[self.own])
    }

    fn measure(item: &Item) -> (ShortId, usize) {
        (item.id, item.bytes as usize)
    }
}
