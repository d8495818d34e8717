//! Servers that never were: records like real ones, and signatures that only the simulation takes for such.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gx_core::peers::exchange::Chance;
use gx_core::peers::{Fingerprint, Gpu, PeerRecord, SignedRecord, VerifiedRecord};
use gx_core::{NodeId, Timestamp};

/// When simulations begin.
pub(crate) const START: i64 = 1_800_000_000;

/// Signs with something anybody could, which is enough where nobody tries: ed25519 costs a millisecond without
/// optimisation, and a simulation signs a hundred thousand times.
pub(crate) fn sign(node: NodeId, message: &[u8]) -> [u8; 64] {
    let text: String = node.to_string() + &String::from_utf8_lossy(message);
    let halves = [Fingerprint::of(&text).0, Fingerprint::of(&(text.clone() + "2")).0];
    let more = [Fingerprint::of(&(text.clone() + "3")).0, Fingerprint::of(&(text + "4")).0];
    let bytes: Vec<u8> = halves.into_iter().chain(more).flatten().collect();
    bytes.try_into().expect("four times sixteen")
}

/// Tells whether [`sign`] made it.
pub(crate) fn verify(node: NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    sign(node, message) == *signature
}

/// Returns an id that looks like a key.
pub(crate) fn node_id(chance: &mut Chance) -> NodeId {
    let words: Vec<u8> = (0..4).flat_map(|_| chance.draw().to_be_bytes()).collect();
    NodeId::from_bytes(words.try_into().expect("32 bytes"))
}

/// Returns the address of the server with this number: four of them to a network.
pub(crate) fn address(number: usize) -> IpAddr {
    let network = number / 4;
    let [_, _, high, low] = u32::try_from(network).expect("few").to_be_bytes();
    Ipv4Addr::new(81 + (network >> 16) as u8, high, low, 10 + (number % 4) as u8).into()
}

/// Returns what a server of the usual kind says of itself.
pub(crate) fn record(chance: &mut Chance, node: NodeId, at: IpAddr, now: Timestamp) -> PeerRecord {
    let mut record =
        PeerRecord::new(node, now.unix() as u64 * 1_000 + chance.below(1_000) as u64, now, PeerRecord::LEASE);
    record.addresses = vec![SocketAddr::new(at, 7_467)];
    record.version = "0.1.0".to_owned();
    record.platform = ["linux/amd64", "linux/amd64", "linux/arm64"][chance.below(3)].to_owned();
    record.cpus = [4, 8, 16, 32, 64][chance.below(5)];
    record.memory_bytes = u64::from(record.cpus) * (4 << 30) - chance.below(1 << 28) as u64;
    let runtimes: &[&str] = [&["docker"][..], &["podman"], &["docker", "podman"]][chance.below(3)];
    record.runtimes = runtimes.iter().map(|name| name.parse().expect("a name")).collect();
    if chance.below(4) == 0 {
        let model = ["NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB"][chance.below(2)];
        record.gpus = vec![Gpu { model: model.to_owned(), memory_bytes: 24 << 30 }; 1 + chance.below(2)];
    }
    if chance.below(2) == 0 {
        let region = ["eu-north", "eu-west", "us-east"][chance.below(3)];
        record.labels = BTreeMap::from([("region".to_owned(), region.to_owned())]);
    }
    record
}

/// Returns a record signed by whom it names.
pub(crate) fn signed(record: &PeerRecord) -> SignedRecord {
    record.sign(|message| sign(record.node_id, message)).expect("a record as it has to be")
}

/// Returns a record signed and verified.
pub(crate) fn verified(record: &PeerRecord) -> VerifiedRecord {
    signed(record).verify(&verify, record.issued_at).expect("it was just signed")
}

/// Returns the records of so many usual servers.
pub(crate) fn population(count: usize, seed: u64) -> Vec<VerifiedRecord> {
    let mut chance = Chance::new(seed);
    let now = Timestamp::from_unix(START);
    (0..count)
        .map(|number| {
            let node = node_id(&mut chance);
            let age = Duration::from_secs(chance.below(8 * 3_600) as u64);
            let issued = Timestamp::from_unix(now.unix() - age.as_secs() as i64);
            verified(&record(&mut chance, node, address(number), issued))
        })
        .collect()
}

/// What bodies take on the wire: requests as they are, answers with gzip.
pub(crate) struct Cost {
    /// For 2^i records in one answer: their bytes with gzip.
    gzip: Vec<f64>,
    /// The bytes of one record as it is.
    plain: f64,
}

/// The bytes of a request's multipart frame, of JSON around lists, and of an answer's own.
pub(crate) const REQUEST_FRAME: f64 = 170.0;
const ANSWER_FRAME: f64 = 60.0;
/// A short id is eight characters, of which gzip makes 6.1 bytes.
const SHORT_ID: f64 = 8.0;
const SHORT_ID_GZIP: f64 = 6.1;

impl Cost {
    /// Measures records like those of a population.
    pub(crate) fn measure() -> Self {
        let records = population(512, 4_711);
        let text = |count: usize| serde_json::to_string(&records[..count]).expect("records are JSON");
        let gzip = (0..10).map(|power| gzip(text(1 << power).as_bytes()) as f64).collect();
        Self { gzip, plain: text(512).len() as f64 / 512.0 }
    }

    /// Returns the bytes of a request that names so many short ids and carries so many records.
    pub(crate) fn request(&self, ids: usize, records: usize) -> f64 {
        REQUEST_FRAME + ids as f64 * SHORT_ID + records as f64 * self.plain
    }

    /// Returns the bytes of an answer that names so many short ids and carries so many records.
    pub(crate) fn answer(&self, ids: usize, records: usize) -> f64 {
        ANSWER_FRAME + ids as f64 * SHORT_ID_GZIP + self.records(records)
    }

    fn records(&self, count: usize) -> f64 {
        if count == 0 {
            return 0.0;
        }
        let power = count.ilog2() as usize;
        let (low, high) =
            (self.gzip[power], self.gzip.get(power + 1).copied().unwrap_or(self.gzip[power] * 2.0));
        low + (high - low) * (count as f64 / f64::from(1_u32 << power) - 1.0)
    }
}

/// Returns how many bytes gzip makes of a text.
pub(crate) fn gzip(text: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("memory takes it");
    encoder.finish().expect("memory takes it").len()
}
