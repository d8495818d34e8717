//! The best server for a need, and why it is the best.
//!
//! Servers that fit come first, then those with a key, then by latency in steps and throughput; ties go by node id.
//! Latency counts in steps because 11 ms is no better than 12 ms, and a link ten times as fast is. Only what I measured
//! counts; what a server says of itself decides whether it fits.

use std::cmp::Ordering;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::id::{NodeId, Timestamp};
use crate::peers::needs::{Miss, Needs};
use crate::peers::observation::{Freshness, Observation};
use crate::peers::record::PeerRecord;
use crate::peers::table::PeerTable;

/// Latency below each of these, in milliseconds, counts the same.
pub const LATENCY_STEPS_MS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// A server that could be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Candidate {
    /// Who it is; `None` is a row without a key.
    pub node_id: Option<NodeId>,
    /// Where to reach it, the best first.
    pub addresses: Vec<SocketAddr>,
    /// What it says of itself.
    pub record: Option<PeerRecord>,
    /// What I measured.
    pub seen: Observation,
    /// How much it is to be trusted to be there.
    pub freshness: Freshness,
}

/// A server in its place.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Ranked {
    /// The server.
    pub candidate: Candidate,
    /// Which needs it does not meet; none is a server that fits.
    pub misses: Vec<Miss>,
    /// Why it is where it is: a lower-case fragment about the first server, and for all others about what puts them after
    /// the one before.
    pub why: String,
}

impl Ranked {
    /// Returns whether the server meets all needs.
    pub fn fits(&self) -> bool {
        self.misses.is_empty()
    }
}

impl PeerTable {
    /// Returns all servers that could be chosen now: not this node, not in quarantine, not hidden for their silence.
    pub fn candidates(&self, now: Timestamp) -> Vec<Candidate> {
        let limits = self.limits();
        let freshness = |seen: &Observation| seen.freshness(limits.stale_after, limits.drop_after, now);
        let nodes = self.askable_or_pausing(now).map(|(node, entry)| Candidate {
            node_id: Some(node),
            addresses: entry.addresses().collect(),
            record: Some(entry.record().record()),
            seen: entry.observation(),
            freshness: freshness(&entry.observation()),
        });
        let rows = self.legacy().map(|(address, row)| Candidate {
            node_id: None,
            addresses: vec![address],
            record: None,
            seen: row.seen,
            freshness: freshness(&row.seen),
        });
        nodes.chain(rows).filter(|candidate| candidate.freshness < Freshness::Hidden).collect()
    }
}

/// Sorts servers, the best for these needs first.
pub fn rank(candidates: Vec<Candidate>, needs: &Needs) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = candidates
        .into_iter()
        .map(|candidate| {
            let misses = needs.misses(candidate.record.as_ref(), &candidate.seen);
            Ranked { candidate, misses, why: String::new() }
        })
        .collect();
    ranked.sort_by(|a, b| compare(a, b).0);
    for at in 0..ranked.len() {
        ranked[at].why = match at.checked_sub(1) {
            None => first_of_all(&ranked[0]),
            Some(before) => compare(&ranked[before], &ranked[at]).1,
        };
    }
    ranked
}

/// Compares two servers; the text says what decides against the second.
fn compare(a: &Ranked, b: &Ranked) -> (Ordering, String) {
    let (x, y) = (&a.candidate, &b.candidate);
    let fits = b.fits().cmp(&a.fits());
    if fits.is_ne() {
        let misses =
            b.misses.iter().map(|miss| format!("{}: {}", miss.need, miss.because)).collect::<Vec<_>>();
        return (fits, format!("does not fit: {}", misses.join("; ")));
    }
    let key = x.node_id.is_none().cmp(&y.node_id.is_none());
    if key.is_ne() {
        return (key, "has no key to know it by".to_owned());
    }
    let latency = step(x).cmp(&step(y));
    if latency.is_ne() {
        return (latency, format!("farther: {}, not {}", step_text(y), step_text(x)));
    }
    let (fast, slow) = (throughput(&x.seen), throughput(&y.seen));
    let throughput = slow.total_cmp(&fast);
    if throughput.is_ne() {
        return (throughput, format!("slower: {}, not {}", rate_text(slow), rate_text(fast)));
    }
    let id = (x.node_id, x.addresses.first()).cmp(&(y.node_id, y.addresses.first()));
    (id, "as good; the order is that of the ids".to_owned())
}

fn first_of_all(ranked: &Ranked) -> String {
    let seen = &ranked.candidate.seen;
    let place = format!("{}, {}", step_text(&ranked.candidate), rate_text(throughput(seen)));
    if ranked.fits() { format!("the nearest that fits: {place}") } else { format!("nobody fits; {place}") }
}

/// Returns the step of a server's latency: past all steps when it was not measured, and beyond when it failed last.
fn step(candidate: &Candidate) -> usize {
    let steps = LATENCY_STEPS_MS.len();
    if candidate.freshness > Freshness::Untested {
        return steps + 2;
    }
    let below = |ms: f64| LATENCY_STEPS_MS.iter().position(|end| ms < *end).unwrap_or(steps);
    candidate.seen.latency_ms.map_or(steps + 1, |ms| below(ms.0))
}

fn step_text(candidate: &Candidate) -> String {
    match (step(candidate), candidate.seen.latency_ms) {
        (step, _) if step == LATENCY_STEPS_MS.len() + 2 => "it did not answer when last tried".to_owned(),
        (_, None) => "its latency is not known".to_owned(),
        (step, Some(ms)) => match LATENCY_STEPS_MS.get(step) {
            Some(end) => format!("{ms} (below {end} ms)"),
            None => format!("{ms}"),
        },
    }
}

/// Returns the slower direction, as a job has both; 0 when none was measured.
fn throughput(seen: &Observation) -> f64 {
    let known = seen.download_bps.into_iter().chain(seen.upload_bps).map(|bps| bps.0);
    known.reduce(f64::min).unwrap_or(0.0)
}

fn rate_text(bps: f64) -> String {
    if bps > 0.0 {
        crate::measurement::BitsPerSecond(bps).to_string()
    } else {
        "its throughput is not known".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{BitsPerSecond, Millis};

    fn server(id: u8, ms: Option<f64>, mbit: f64) -> Candidate {
        let node = NodeId::from_bytes([id; 32]);
        let seen = Observation {
            latency_ms: ms.map(Millis),
            download_bps: Some(BitsPerSecond(mbit * 1e6)),
            last_seen: Some(Timestamp::from_unix(1)),
            ..Observation::default()
        };
        let mut record = PeerRecord::new(node, 1, Timestamp::from_unix(1), PeerRecord::LEASE);
        record.memory_bytes = u64::from(id) << 30;
        Candidate {
            node_id: Some(node),
            addresses: vec![SocketAddr::from(([203, 0, 113, id], 1))],
            record: Some(record),
            seen,
            freshness: Freshness::Live,
        }
    }

    fn order(servers: Vec<Candidate>, needs: &str) -> Vec<(u8, String)> {
        let ranked = rank(servers, &needs.parse().unwrap());
        let id = |ranked: &Ranked| ranked.candidate.addresses[0].ip();
        ranked
            .iter()
            .map(|r| match id(r) {
                std::net::IpAddr::V4(v4) => (v4.octets()[3], r.why.clone()),
                std::net::IpAddr::V6(_) => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn fits_then_latency_then_throughput_then_id() {
        let mut keyless = server(99, Some(0.1), 10_000.0);
        (keyless.node_id, keyless.record) = (None, None);
        let mut failing = server(20, Some(0.2), 10_000.0);
        failing.freshness = Freshness::Stale;
        let servers = vec![
            keyless,
            server(1, Some(0.1), 10_000.0),
            server(16, Some(11.0), 100.0),
            failing,
            server(15, Some(19.0), 100.0),
            server(14, Some(12.0), 100.0),
            server(13, Some(15.0), 900.0),
            server(12, Some(7.0), 1.0),
            server(17, None, 0.0),
        ];
        let told = order(servers, "memory>=8G");
        let ids: Vec<u8> = told.iter().map(|(id, _)| *id).collect();
        // Of those that do not fit, the one with a key is first.
        assert_eq!(ids, [12, 13, 14, 15, 16, 17, 20, 1, 99], "{told:#?}");
    }

    #[test]
    fn a_stranger_without_a_key_is_never_above_one_with_a_key() {
        let mut keyless = server(1, Some(0.1), 10_000.0);
        (keyless.node_id, keyless.record) = (None, None);
        let told = order(vec![keyless, server(2, Some(900.0), 0.1)], "");
        assert_eq!(told[0].0, 2);
        assert_eq!(told[1].1, "has no key to know it by");
    }

    #[test]
    fn each_place_is_explained() {
        let servers = vec![
            server(9, Some(3.0), 940.0),
            server(8, Some(30.0), 940.0),
            server(7, Some(30.0), 90.0),
            server(10, Some(30.0), 90.0),
            server(3, Some(0.5), 900.0),
        ];
        let told: Vec<String> = order(servers, "memory>=4G").into_iter().map(|(_, why)| why).collect();
        assert_eq!(
            told,
            [
                "the nearest that fits: 3.0 ms (below 5 ms), 940.0 Mbit/s",
                "farther: 30.0 ms (below 50 ms), not 3.0 ms (below 5 ms)",
                "slower: 90.0 Mbit/s, not 940.0 Mbit/s",
                "as good; the order is that of the ids",
                "does not fit: memory>=4G: it has 3 GiB",
            ]
        );
        let nobody = order(vec![server(1, None, 0.0)], "memory>=4G");
        assert!(nobody[0].1.starts_with("nobody fits; its latency is not known"), "{nobody:?}");
    }
}
