//! How fast bytes go one way: several connections, one clock, one count. Rates of connections are never added.
//!
//! This file runs a test; one connection's part is in [`crate::stream`], when it ends and what it comes to in
//! [`crate::estimate`], what the peer says of an upload in [`crate::receipt`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use gx_core::measurement::{
    BitsPerSecond, Budget, Confidence, Doubt, Millis, Sample, Stop, Target, Throughput,
};
use gx_core::plugin::Result;
use gx_core::stream::Output;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::estimate::{Path, READINGS, Reading, Rule, confidence, second_half, windows};
use crate::fault::Fault;
use crate::http::{About, Connection};
use crate::latency::{Probes, ping};
use crate::meter::Meter;
use crate::payload::nonce;
use crate::receipt::Arrival;
use crate::stream::{self, Ended, Test};
use crate::tcp::{Counters, Diagnostics};

/// A peer that moves nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// How long what is on its way may take to arrive, when an upload is over.
const DRAIN: Duration = Duration::from_secs(4);
/// How many round trips tell how long a window is.
const PINGS: usize = 3;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

/// What a test is about.
pub(crate) struct Plan {
    pub(crate) direction: Direction,
    pub(crate) target: Target,
    pub(crate) budget: Budget,
    pub(crate) streams: u16,
    pub(crate) patience: Duration,
}

/// Measures how fast bytes go one way, writing readings as they come.
///
/// # Errors
/// What keeps a test from beginning, or ends it before there is anything to tell.
pub(crate) async fn measure(plan: Plan, out: &Output) -> Result<Throughput> {
    let mut running = Running::begin(plan).await?;
    let (stop, fault) = running.watch(out).await;
    Ok(running.end(stop, fault).await?)
}

/// A test under way. Dropping it ends everything.
struct Running {
    plan: Plan,
    rule: Rule,
    meter: Arc<Meter>,
    connections: Vec<About>,
    diagnostics: Option<Diagnostics>,
    probes: Probes,
    /// One a step of the rule.
    readings: Vec<Reading>,
    stop: watch::Sender<bool>,
    streams: JoinSet<Ended>,
    /// Connections that are done already.
    ended: Vec<Ended>,
    _probing: JoinSet<()>,
}

impl Running {
    async fn begin(plan: Plan) -> std::result::Result<Self, Fault> {
        let open = || Connection::open(&plan.target, plan.patience);
        let (mut probe, connections) =
            tokio::try_join!(open(), try_join_all((0..plan.streams).map(|_| open())))?;
        let mut rtt = plan.patience;
        for _ in 0..PINGS {
            rtt = rtt.min(ping(&mut probe, plan.patience).await?);
        }
        let rule = Rule::new(&plan.budget, rtt);
        let (stop, stopped) = watch::channel(false);
        let meter = Meter::begin(plan.budget.bytes);
        let about = connections.iter().map(|connection| connection.about.clone()).collect();
        let id: Arc<str> = nonce().into();
        let mut streams = JoinSet::new();
        for connection in connections {
            let (target, patience) = (plan.target.clone(), plan.patience);
            let test =
                Test { id: id.clone(), target, patience, meter: meter.clone(), stopped: stopped.clone() };
            match plan.direction {
                Direction::Down => streams.spawn(stream::receive(test, connection)),
                Direction::Up => streams.spawn(stream::send(test, connection)),
            };
        }
        let probes = Probes::default();
        let mut probing = JoinSet::new();
        probing.spawn(probes.clone().run(probe));
        Ok(Self {
            rule,
            meter,
            connections: about,
            diagnostics: Diagnostics::open(),
            probes,
            readings: vec![Reading { at: Duration::ZERO, bytes: 0 }],
            stop,
            streams,
            ended: Vec::new(),
            _probing: probing,
            plan,
        })
    }

    /// Takes readings until the test is over; returns why it is, and what went wrong on the way.
    async fn watch(&mut self, out: &Output) -> (Stop, Option<Fault>) {
        let mut fault = None;
        let mut moved = (Instant::now(), 0);
        let mut next = self.meter.began() + self.rule.step();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => next = Instant::now().max(next) + self.rule.step(),
                () = self.meter.full() => {
                    self.read();
                    return (Stop::Bytes, fault);
                }
                Some(ended) = self.streams.join_next() => {
                    let mut ended = ended.unwrap_or_default();
                    fault = ended.fault.take().or(fault);
                    self.ended.push(ended);
                    if self.streams.is_empty() {
                        self.read();
                        let busy = matches!(fault, Some(Fault::Busy { .. }));
                        return (if busy { Stop::Busy } else { Stop::Error }, fault);
                    }
                    continue;
                }
            }
            let reading = self.read();
            // A reader that is behind misses a reading; the test does not wait for it.
            if self.readings.len() % READINGS == 1 {
                let _ = out.event(&Sample::from(reading)).now_or_never();
            }
            if let Some(stop) = self.rule.stop(&self.readings) {
                return (stop, fault);
            }
            if reading.bytes > moved.1 {
                moved = (Instant::now(), reading.bytes);
            } else if moved.0.elapsed() > SILENCE {
                return (Stop::Error, fault.or(Some(Fault::Slow { what: "move a byte" })));
            }
        }
    }

    /// Takes a reading: of what came, or of what the peer's kernel has.
    fn read(&mut self) -> Reading {
        let moved = self.meter.reading();
        let acked = match self.plan.direction {
            Direction::Down => None,
            Direction::Up => self.counters().map(|counters| counters.bytes_arrived),
        };
        let before = self.readings.last().map_or(0, |last| last.bytes);
        let reading = Reading { bytes: acked.unwrap_or(moved.bytes).max(before), ..moved };
        self.readings.push(reading);
        reading
    }

    fn counters(&self) -> Option<Counters> {
        self.diagnostics.as_ref()?.of(&self.connections)
    }

    async fn end(mut self, stop: Stop, mut fault: Option<Fault>) -> std::result::Result<Throughput, Fault> {
        let short = self.readings.last().is_none_or(|last| last.at < self.rule.least);
        if short && matches!(stop, Stop::Busy | Stop::Error) {
            return Err(fault.unwrap_or(Fault::Slow { what: "move a byte" }));
        }
        let counters = self.counters();
        let mut doubts = self.meter.doubts();
        let moved = match self.plan.direction {
            Direction::Down => self.came(),
            Direction::Up => self.arrived(&mut doubts, &mut fault).await,
        };
        let Some((bytes, span, rate)) = moved.filter(|(bytes, ..)| *bytes > 0) else {
            return Err(fault.unwrap_or(Fault::Slow { what: "move a byte" }));
        };
        let path = self.path(counters);
        let confidence = match &fault {
            None => confidence(stop, &self.readings, &doubts, path),
            Some(_) => Confidence::Low,
        };
        let samples = windows(&self.readings).into_iter().map(Sample::from).collect();
        let about = &self.connections[0];
        Ok(Throughput {
            bytes,
            duration_ms: Millis(span.as_secs_f64() * 1e3),
            goodput_bps: BitsPerSecond(rate),
            samples,
            streams: self.plan.streams,
            stop,
            confidence,
            doubts,
            fault: fault.map(|fault| fault.to_string()),
            loaded: self.probes.summary(),
            retransmit_pct: path.sent_again.map(|part| part * 100.0),
            congestion_control: about.congestion_control.clone(),
            tls: about.tls,
            measured_at: Some(SystemTime::now().into()),
        })
    }

    /// Returns the bytes that came, in which time and how fast.
    fn came(&self) -> Option<(u64, Duration, f64)> {
        let readings = self.meter.readings();
        let last = *readings.last()?;
        Some((last.bytes, last.at, second_half(&readings)?))
    }

    /// Ends an upload, and returns the bytes that arrived, in which time and how fast: as the peer tells, where it does.
    async fn arrived(
        &mut self,
        doubts: &mut BTreeSet<Doubt>,
        fault: &mut Option<Fault>,
    ) -> Option<(u64, Duration, f64)> {
        self.stop.send_replace(true);
        let began = self.meter.began();
        let drained = timeout(DRAIN, async {
            while let Some(ended) = self.streams.join_next().await {
                self.ended.push(ended.unwrap_or_default());
            }
        });
        let all_there = drained.await.is_ok();
        let all = all_there && self.ended.iter().all(|ended| !ended.receipts.is_empty());
        let (mut receipts, mut sent) = (Vec::new(), 0);
        for ended in &mut self.ended {
            sent += ended.receipted;
            receipts.append(&mut ended.receipts);
            *fault = ended.fault.take().or(fault.take());
        }
        let own = second_half(&self.readings)?;
        let last = *self.readings.last()?;
        let Some(arrival) = Arrival::of(&receipts).filter(|_| all) else {
            doubts.insert(Doubt::Unconfirmed);
            return Some((last.bytes, last.at, own));
        };
        if !arrival.agrees(sent, began.elapsed(), &self.readings) {
            doubts.insert(Doubt::Disagreement);
        }
        Some((arrival.bytes, arrival.span, arrival.rate()?))
    }

    fn path(&self, counters: Option<Counters>) -> Path {
        let part = |some: u64, of: u64| (of > 0).then(|| some as f64 / of as f64);
        match (self.plan.direction, counters) {
            (_, None) => Path::default(),
            (Direction::Up, Some(counters)) => {
                let sent_again = part(counters.segments_again, counters.segments_sent);
                Path { sent_again, out_of_order: None }
            }
            (Direction::Down, Some(counters)) => {
                let out_of_order = part(counters.segments_out_of_order, counters.segments_received);
                Path { sent_again: None, out_of_order }
            }
        }
    }
}
