//! A measurement as people read it.

use gx_core::measurement::{
    BitsPerSecond, Confidence, Doubt, LoadedRoundTrips, PeerReport, RoundTrips, Stop,
};

use super::Measurement;
use crate::output::{Pairs, Show, View, human};

impl Show for Measurement {
    fn text(&self, view: &View) -> String {
        let Self { address, node_id, report, .. } = self;
        let who = node_id.map_or("without TLS".to_owned(), |node| format!("node {}", node.short()));
        let [down, up] = ways(report);
        let pairs = Pairs::new()
            .pair("peer", if self.peer == *address { who.clone() } else { format!("{address}, {who}") })
            .pair("latency", latency(report.latency_ms, report))
            .some("download", down.figure())
            .some("", down.load())
            .some("upload", up.figure())
            .some("", up.load());
        [&down, &up]
            .into_iter()
            .flat_map(Way::notes)
            .fold(pairs, |pairs, note| pairs.pair("note", note))
            .text(view)
    }
}

fn latency(times: RoundTrips, report: &PeerReport) -> String {
    let loss = match report.loss {
        loss if loss > 0.0 => format!(", {:.0}% lost", loss * 100.0),
        _ => String::new(),
    };
    let ms = |time: gx_core::measurement::Millis| figure(time.0);
    format!(
        "{} ms (shortest {}, 95% within {}, jitter {}{loss}), connected in {} ms",
        ms(times.median),
        ms(times.min),
        ms(times.p95),
        ms(report.jitter_ms),
        ms(report.connect_ms)
    )
}

/// One direction of a report.
struct Way<'a> {
    name: &'static str,
    rate: Option<BitsPerSecond>,
    bytes: Option<u64>,
    secs: Option<f64>,
    stop: Option<Stop>,
    confidence: Option<Confidence>,
    doubts: &'a std::collections::BTreeSet<Doubt>,
    loaded: Option<LoadedRoundTrips>,
    rpm: Option<f64>,
    error: Option<&'a str>,
}

fn ways(report: &PeerReport) -> [Way<'_>; 2] {
    [
        Way {
            name: "download",
            rate: report.download_bps,
            bytes: report.bytes_down,
            secs: report.secs_down,
            stop: report.stop_down,
            confidence: report.confidence_down,
            doubts: &report.doubts_down,
            loaded: report.latency_down_ms,
            rpm: report.rpm_down,
            error: report.error_down.as_ref().map(|error| error.message.as_str()),
        },
        Way {
            name: "upload",
            rate: report.upload_bps,
            bytes: report.bytes_up,
            secs: report.secs_up,
            stop: report.stop_up,
            confidence: report.confidence_up,
            doubts: &report.doubts_up,
            loaded: report.latency_up_ms,
            rpm: report.rpm_up,
            error: report.error_up.as_ref().map(|error| error.message.as_str()),
        },
    ]
}

impl Way<'_> {
    fn figure(&self) -> Option<String> {
        let rate = human::rate(self.rate?);
        let least = if self.stop == Some(Stop::Bytes) { "at least " } else { "" };
        let sure = match self.confidence? {
            Confidence::High => "high",
            Confidence::Medium => "medium",
            Confidence::Low => "low",
        };
        let moved = format!("{} in {:.1} s", human::bytes(self.bytes?), self.secs?);
        Some(format!("{least}{rate}, {sure} confidence ({moved})"))
    }

    fn load(&self) -> Option<String> {
        let (loaded, rpm) = (self.loaded?, self.rpm?);
        let (p50, p95) = (figure(loaded.p50.0), figure(loaded.p95.0));
        Some(format!("{p50} ms meanwhile (95% within {p95}), {rpm:.0} round trips a minute"))
    }

    fn notes(&self) -> Vec<String> {
        let name = self.name;
        let stopped = match self.stop {
            Some(Stop::Bytes) => Some(format!("{name}: its bytes were used up, and the link may be faster")),
            Some(Stop::Time) => Some(format!("{name}: the rate had not settled when its time was over")),
            Some(Stop::Busy) => Some(format!("{name}: the host ended it, as it is measured by others")),
            Some(Stop::Stable | Stop::Error) | None => None,
        };
        let doubts = self.doubts.iter().map(|doubt| format!("{name}: {}", doubted(*doubt)));
        let error = self.error.map(|error| format!("{name}: {error}"));
        stopped.into_iter().chain(doubts).chain(error).collect()
    }
}

fn doubted(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Compressible => "what came is not random, and may have been compressed on the way",
        Doubt::Cached => "a cache has answered instead of the host",
        Doubt::Disagreement => {
            "what the host says it received is not what was sent: something holds it back, or it is wrong"
        }
        Doubt::Unconfirmed => {
            "the host has not said what it received; this is what was acknowledged on the way"
        }
        Doubt::Other => "something speaks against it that this gx does not know",
    }
}

/// Returns a figure with three digits.
fn figure(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
