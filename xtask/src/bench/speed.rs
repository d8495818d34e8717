//! The speed test against iperf3, in turn within one run: on loopback with one connection, and on links of a known rate,
//! delay and loss in network namespaces of the bench's own.

mod findings;
mod hosts;
mod links;
mod plot;
pub(crate) mod wire;

use clap::Args;
use serde_json::{Value, json};

use crate::bench::sample::Sample;
use crate::shell::{self, Doing, Result, say};
use crate::{build, setup};
use findings::{Band, Findings, Piece};
use hosts::{Gx, Hosts, Way, because, iperf3, mbit, number, ping};
use links::{Goal, Link, Place};

/// How long to measure, and what.
#[derive(Args)]
pub(crate) struct SpeedArgs {
    /// Pairs of each kind
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only this: `loopback`, `many`, `together`, or the number of a link, 1 to 6; the rest stays as it was found before
    #[arg(long, value_name = "PIECE")]
    only: Option<String>,
}

/// One connection on loopback: steady from the beginning, and as long as iperf3 takes.
fn steady() -> Value {
    json!({ "bytes": u64::MAX / 2, "time_ms": 2_500, "least_ms": 2_000, "window_ms": 250, "streams": 1 })
}

/// What gx calls full and quick.
fn full() -> Value {
    json!({ "bytes": 250_000_000, "time_ms": 8_000, "least_ms": 1_000, "window_ms": 250 })
}

fn quick() -> Value {
    json!({ "bytes": 100_000_000, "time_ms": 5_000, "least_ms": 500, "window_ms": 100 })
}

pub(crate) fn run(args: &SpeedArgs) -> Result<()> {
    setup::install_missing(&[setup::SPEED])?;
    say("building with optimisation");
    build::gx(&["--release"])?;
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "--package",
        "gx-plugin-speedtest",
        "--example",
        "many",
    ]))?;
    let bench = Bench { gx: Gx::new()?, pairs: args.pairs };
    let links = links::may_be_made();
    let mut findings = Findings::read()?;
    for name in pieces().filter(|name| args.only.as_ref().is_none_or(|only| only == name)) {
        let piece = match (&links, name.as_str()) {
            (_, "loopback") => bench.loopback()?,
            (Err(why), _) => {
                say(format_args!("{name} is not measured: {why}"));
                let mut piece = Piece::default();
                piece.other(name.clone(), format!("not measured: {why}"), "–", false);
                piece
            }
            (Ok(()), "many") => bench.many()?,
            (Ok(()), "together") => bench.together()?,
            (Ok(()), number) => {
                let at = number.parse::<usize>().doing(number)?;
                bench.link(&links::ALL[at - 1])?
            }
        };
        let order = pieces().position(|known| known == name).unwrap_or_default();
        let command = format!("cargo xtask bench speed --pairs {} --only {name}", args.pairs);
        findings.keep(&format!("{order} {name}"), piece, &command)?;
    }
    plot::draw(&findings.ratios(), &shell::root().join("docs/plots/speed.svg"))?;
    findings.publish()
}

/// Returns the names of all pieces, in the order they are told of.
fn pieces() -> impl Iterator<Item = String> {
    let links = (1..=links::ALL.len()).map(|number| number.to_string());
    std::iter::once("loopback".to_owned()).chain(links).chain(["many", "together"].map(str::to_owned))
}

struct Bench {
    gx: Gx,
    pairs: usize,
}

impl Bench {
    /// One connection, as fast as this machine can.
    fn loopback(&self) -> Result<Piece> {
        let (here, mut piece) = (Place::Here, Piece::default());
        for (what, flags, goal) in [
            ("loopback, plain, 1 connection", &["--plain"][..], 0.90),
            ("loopback, TLS, 1 connection", &[], 0.30),
        ] {
            let hosts = self.gx.hosts(&here, "127.0.0.1", what, flags)?;
            for way in Way::BOTH {
                say(format_args!("{what}: {}", way.name()));
                let pairs = (0..self.pairs).map(|_| {
                    let theirs = iperf3(&here, &hosts, way, 1, 2)?;
                    Ok((theirs, mbit(&self.gx.measure(&here, way, &hosts, &steady())?)))
                });
                piece.ratio(what, way.name(), &pairs.collect::<Result<Vec<_>>>()?, Band::at_least(goal));
            }
        }
        Ok(piece)
    }

    /// Four connections on a link of a known rate.
    fn link(&self, link: &Link) -> Result<Piece> {
        let made = link.make(0)?;
        let (near, far) = (made.near(), made.far());
        let hosts = self.gx.hosts(&far, links::FAR, "host", &[])?;
        let mut piece = Piece::default();
        let (mut pings, mut ours) = (Sample::default(), Sample::default());
        for _ in 0..self.pairs {
            pings.push(ping(&near)?);
            ours.push(self.gx.latency(&near, &hosts)?);
        }
        let (pinged, idle) = (pings.median(), ours.median());
        piece.other(
            format!("{}: idle latency", link.name),
            format!("{idle:.2} ms; ping {pinged:.2} ms"),
            "≤ ping + 0.5 ms",
            idle <= pinged + 0.5,
        );
        for way in Way::BOTH {
            say(format_args!("{}: {}", link.name, way.name()));
            self.one_way(link, way, (&near, &hosts), idle, &mut piece)?;
        }
        Ok(piece)
    }

    fn one_way(
        &self,
        link: &Link,
        way: Way,
        (near, hosts): (&Place, &Hosts),
        idle: f64,
        piece: &mut Piece,
    ) -> Result<()> {
        let (mut theirs, mut fulls, mut quicks) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.pairs {
            theirs.push(iperf3(near, hosts, way, 4, 2)?);
            fulls.push(self.gx.measure(near, way, hosts, &full())?);
            if link.goal == Goal::Close {
                quicks.push(self.gx.measure(near, way, hosts, &quick())?);
            }
        }
        let rate = match way {
            Way::Down => link.down_mbit,
            Way::Up => link.up_mbit,
        };
        for told in [(Mode::Full, &fulls[..]), (Mode::Quick, &quicks[..])] {
            if !told.1.is_empty() {
                judge(link, way, told, &theirs, rate, piece);
            }
        }
        if link.goal == Goal::Queue {
            let loaded = median(&fulls, |told| number(&told["loaded"], "p50_ms"));
            piece.other(
                format!("{}, {}: latency under load", link.name, way.name()),
                format!("{loaded:.0} ms, {:.0} × idle", loaded / idle),
                "≥ 5 × idle",
                loaded >= 5.0 * idle,
            );
        }
        Ok(())
    }

    /// A hundred peers at once: ten hosts with ten addresses each, at the end of one link. A host answers one address so
    /// often and no more, so one could not stand for all.
    fn many(&self) -> Result<Piece> {
        const PEERS: usize = 100;
        const HOSTS: usize = 10;
        let link = &links::ALL[0];
        let made = link.make(0)?;
        made.many_addresses()?;
        let (near, far) = (made.near(), made.far());
        let hosts = (0..HOSTS).map(|number| self.gx.host(&far, "0.0.0.0", &format!("host-{number}")));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let pinged = (0..self.pairs).map(|_| ping(&near)).collect::<Result<Sample>>()?.median();
        let targets = (0..PEERS).map(|number| {
            let target = &hosts[number % hosts.len()].target;
            let port =
                target["address"].as_str().and_then(|address| address.rsplit_once(':')).map(|both| both.1);
            let address = format!("198.18.8.{}:{}", number + 1, port.unwrap_or("0"));
            json!({ "address": address, "node_id": target["node_id"] }).to_string()
        });
        let targets: Vec<String> = targets.collect();
        say(format_args!("{PEERS} peers at once"));
        let (mut seconds, mut errors) = (Sample::default(), Sample::default());
        for _ in 0..self.pairs {
            let program = shell::target().join("release/examples/many");
            let text = shell::read(near.command(&program).args(&targets))?;
            let told: Value = serde_json::from_str(&text).doing(format_args!("many: {text}"))?;
            let found: Vec<f64> =
                told["median_ms"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            if found.len() != PEERS {
                return Err(because(&format!("{} of {PEERS} peers were measured: {text}", found.len())));
            }
            seconds.push(number(&told, "seconds"));
            errors.push(found.iter().map(|ms| (ms - pinged).abs()).collect::<Sample>().percentile(95));
        }
        let (seconds, error) = (seconds.median(), errors.median());
        let mut piece = Piece::default();
        let what = |what: &str| format!("{PEERS} peers at once, 20 ms away: {what}");
        piece.other(what("latency of all"), format!("{seconds:.2} s"), "≤ 2 s", seconds <= 2.0);
        piece.other(what("error, 95 % of them"), format!("{error:.2} ms"), "≤ 2 ms", error <= 2.0);
        Ok(piece)
    }

    /// Two peers on links of their own: what measuring both at once does to one.
    fn together(&self) -> Result<Piece> {
        let links = [links::ALL[0].make(0)?, links::ALL[0].make(1)?];
        let hosts = links
            .iter()
            .enumerate()
            .map(|(number, made)| self.gx.host(&made.far(), links::FAR, &format!("host-{number}")));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let measure = |number: usize, way| {
            Ok::<_, shell::Failure>(mbit(&self.gx.measure(
                &links[number].near(),
                way,
                &hosts[number],
                &full(),
            )?))
        };
        let mut piece = Piece::default();
        for way in Way::BOTH {
            say(format_args!("two peers at once: {}", way.name()));
            let (mut alone, mut both) = (Sample::default(), Sample::default());
            for _ in 0..self.pairs {
                alone.push(measure(0, way)?);
                let (first, second) = std::thread::scope(|scope| {
                    let other = scope.spawn(|| measure(1, way));
                    (measure(0, way), other.join())
                });
                second.map_err(|_| because("a thread has panicked"))??;
                both.push(first?);
            }
            let change = both.median() / alone.median() - 1.0;
            piece.other(
                format!("a peer's {} while another is measured, 100 Mbit/s each", way.name()),
                format!("{:.1} Mbit/s; alone {:.1}; {:+.1} %", both.median(), alone.median(), change * 100.0),
                "± 5 %",
                change.abs() <= 0.05,
            );
        }
        Ok(piece)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Full,
    Quick,
}

fn median(told: &[Value], of: impl Fn(&Value) -> f64) -> f64 {
    told.iter().map(of).collect::<Sample>().median()
}

/// Notes what a way of measuring has found of a link, against its goals.
fn judge(
    link: &Link,
    way: Way,
    (mode, told): (Mode, &[Value]),
    theirs: &[f64],
    rate: f64,
    piece: &mut Piece,
) {
    let name = if mode == Mode::Full { "full" } else { "quick" };
    let what = format!("{}, {name}", link.name);
    let pairs: Vec<(f64, f64)> = theirs.iter().copied().zip(told.iter().map(mbit)).collect();
    let (band, most_s) = match (link.goal, mode) {
        (Goal::Close, Mode::Full) => (Band::within(0.05), 3.0),
        (Goal::Close, Mode::Quick) => (Band::within(0.10), 1.7),
        (Goal::Far, _) => (Band::at_least(0.85), 4.0),
        (Goal::Lossy, _) => (Band::within(0.30), 8.0),
        // Behind a full queue what waits for a lost packet comes all at once, so any second of it is an accident.
        (Goal::Queue, _) => (Band::within(0.15), 8.0),
    };
    piece.ratio(&what, way.name(), &pairs, band);
    let took = median(told, |told| number(told, "duration_ms") / 1e3);
    let bytes = median(told, |told| number(told, "bytes"));
    let most_bytes = match (link.goal, mode) {
        (Goal::Close, Mode::Full) => 3.0 * rate * 1e6 / 8.0,
        (_, Mode::Quick) => 100e6 * 1.02,
        _ => 250e6 * 1.02,
    };
    let sure: Vec<&str> = told.iter().map(|told| told["confidence"].as_str().unwrap_or("?")).collect();
    piece.other(
        format!("{what}, {}: time and bytes", way.name()),
        format!("{took:.2} s, {:.1} MB", bytes / 1e6),
        &format!("≤ {most_s} s, ≤ {:.0} MB", most_bytes / 1e6),
        took <= most_s && bytes <= most_bytes,
    );
    if link.goal == Goal::Lossy {
        let never = !sure.contains(&"high");
        piece.other(format!("{what}, {}: confidence", way.name()), sure.join(", "), "never high", never);
    }
}
