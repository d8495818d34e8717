//! Round trips: idle, and while bytes go one way. A round trip is a request on a connection that is there already; how long
//! the connection took is told apart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gx_core::api::speedtest::{PING, Pong};
use gx_core::measurement::{Latency, LoadedLatency, Millis, Target};
use tokio::time::{sleep, timeout};

use crate::fault::Fault;
use crate::http::Connection;
use crate::payload::nonce;

/// How many round trips are taken.
const PINGS: usize = 10;
/// How far apart they begin.
const PAUSE: Duration = Duration::from_millis(10);
/// When a round trip is lost.
const LOST: Duration = Duration::from_secs(1);
/// After so many losses in a row nobody is there.
const MAX_LOSSES: usize = 3;
/// How far apart probes under load are.
const PROBE_PAUSE: Duration = Duration::from_millis(75);
/// How long a probe under load may take: queues of seconds are real.
const PROBE_LOST: Duration = Duration::from_secs(5);

/// Measures the idle latency of a peer.
///
/// # Errors
/// Whatever keeps the first round trip from coming back, and an answer that is none.
pub(crate) async fn idle(target: &Target, patience: Duration) -> Result<Latency, Fault> {
    let mut connection = Connection::open(target, patience).await?;
    let connect = connection.about.took;
    ping(&mut connection, patience).await?; // the first one warms both ends, and is not counted
    let (mut times, mut lost, mut lost_in_a_row) = (Vec::new(), 0_usize, 0);
    while times.len() + lost < PINGS && lost_in_a_row < MAX_LOSSES {
        sleep(PAUSE).await;
        match ping(&mut connection, LOST).await {
            Ok(time) => {
                times.push(time);
                lost_in_a_row = 0;
            }
            Err(Fault::Slow { .. } | Fault::Broken(_)) => {
                lost += 1;
                lost_in_a_row += 1;
                // An answer that still comes would be taken for the next one's.
                connection = match Connection::open(target, LOST).await {
                    Ok(connection) => connection,
                    Err(_) => {
                        lost = PINGS - times.len();
                        break;
                    }
                };
            }
            Err(fault) => return Err(fault),
        }
    }
    if times.is_empty() {
        return Err(Fault::Slow { what: "answer" });
    }
    let latency = summary(&times);
    let loss = lost as f64 / (times.len() + lost) as f64;
    Ok(Latency { connect_ms: millis(connect), loss, ..latency })
}

/// Takes one round trip.
pub(crate) async fn ping(connection: &mut Connection, patience: Duration) -> Result<Duration, Fault> {
    let n = nonce();
    let path = format!("{PING}?n={n}");
    let began = Instant::now();
    let answer = timeout(patience, connection.get::<Pong>(&path)).await;
    let (_, pong) = answer.map_err(|_| Fault::Slow { what: "answer" })??;
    let took = began.elapsed();
    if pong.n == n { Ok(took) } else { Err(Fault::Garbage("it is the answer to another question")) }
}

/// The round trips under load so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes(Arc<Mutex<Vec<Duration>>>);

impl Probes {
    /// Takes round trips until it is dropped or the connection breaks.
    pub(crate) async fn run(self, mut connection: Connection) {
        while let Ok(time) = ping(&mut connection, PROBE_LOST).await {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(time);
            sleep(PROBE_PAUSE).await;
        }
    }

    /// Returns what they come to; `None` without any.
    pub(crate) fn summary(&self) -> Option<LoadedLatency> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sorted = sorted(&times);
        let (p50, p95) = (percentile(&sorted, 0.5)?, percentile(&sorted, 0.95)?);
        let rpm = 60.0 / p50.as_secs_f64().max(1e-6);
        Some(LoadedLatency { p50_ms: millis(p50), p95_ms: millis(p95), rpm, probes: times.len() as u32 })
    }
}

fn summary(times: &[Duration]) -> Latency {
    let sorted = sorted(times);
    let at = |part| millis(percentile(&sorted, part).unwrap_or_default());
    let steps: Vec<f64> =
        times.windows(2).map(|pair| pair[0].abs_diff(pair[1]).as_secs_f64() * 1e3).collect();
    let jitter = if steps.is_empty() { 0.0 } else { steps.iter().sum::<f64>() / steps.len() as f64 };
    Latency {
        min_ms: at(0.0),
        median_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        jitter_ms: Millis(jitter),
        ..Latency::default()
    }
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Returns the smallest time that this part of all are no longer than (nearest rank).
fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn millis(time: Duration) -> Millis {
    Millis(time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn round_trips_are_summed_up() {
        let latency = summary(&ms(&[10, 12, 11, 30, 10, 10, 10, 10, 10, 10]));
        let told = [latency.min_ms, latency.median_ms, latency.p95_ms, latency.p99_ms].map(|ms| ms.0);
        assert_eq!(told, [10.0, 10.0, 30.0, 30.0]);
        assert!(
            (latency.jitter_ms.0 - (2.0 + 1.0 + 19.0 + 20.0) / 9.0).abs() < 1e-9,
            "{}",
            latency.jitter_ms
        );
        assert_eq!(summary(&ms(&[7])).jitter_ms.0, 0.0);
    }

    #[test]
    fn probes_make_round_trips_a_minute() {
        let probes = Probes::default();
        assert_eq!(probes.summary(), None);
        *probes.0.lock().unwrap() = ms(&[100, 300, 200]);
        let told = probes.summary().unwrap();
        assert_eq!((told.p50_ms.0, told.p95_ms.0, told.rpm, told.probes), (200.0, 300.0, 300.0, 3));
    }

    proptest! {
        #[test]
        fn figures_are_in_order(times in prop::collection::vec(0_u64..100_000, 1..50)) {
            let latency = summary(&ms(&times));
            let told = [latency.min_ms, latency.median_ms, latency.p95_ms, latency.p99_ms].map(|ms| ms.0);
            prop_assert!(told.is_sorted());
            prop_assert!((told[0] - *times.iter().min().unwrap() as f64).abs() < 1e-6);
        }
    }
}
