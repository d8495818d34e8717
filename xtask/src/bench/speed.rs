//! The speed test against iperf3, in turn within one run: on loopback with one connection, and on links of a known rate in
//! network namespaces of the bench's own.

mod links;

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use crate::bench::report::{heading, publish};
use crate::bench::sample::Sample;
use crate::shell::{self, Doing, Failure, Result, say};
use crate::{build, setup};
use links::{Link, Place};

/// How long to measure.
#[derive(Args)]
pub(crate) struct SpeedArgs {
    /// Pairs of each kind
    #[arg(long, default_value_t = 5)]
    pairs: usize,
}

/// Both ways, with what iperf3 calls them.
const WAYS: [(&str, &[&str]); 2] = [("download", &["--reverse"]), ("upload", &[])];
/// The port of iperf3, where the bench has a namespace to itself, and on loopback.
const PORT: &str = "5209";

pub(crate) fn run(args: &SpeedArgs) -> Result<()> {
    setup::install_missing(&[setup::SPEED])?;
    say("building with optimisation");
    build::gx(&["--release"])?;
    let bench = Bench {
        gx: shell::target().join("release/gx"),
        folder: tempfile::Builder::new().prefix("gx-bench-").tempdir().doing("a folder for the bench")?,
        pairs: args.pairs,
    };
    std::fs::write(bench.folder.path().join("gx.toml"), CONFIG).doing("gx.toml")?;
    let mut section = heading(&format!("cargo xtask bench speed --pairs {}", args.pairs))?;
    section.push_str(
        "| | way | iperf3 Mbit/s | gx Mbit/s | gx : iperf3 | goal | |\n|---|---|--:|--:|--:|---|---|\n",
    );
    bench.loopback(&mut section)?;
    let mut times = String::from("\n| link | what | found | goal | |\n|---|---|--:|---|---|\n");
    match links::may_be_made() {
        Ok(()) => {
            for link in links::ALL {
                bench.link(link, &mut section, &mut times)?;
            }
        }
        Err(why) => {
            say(format_args!("no links are measured: {why}"));
            let _ = writeln!(times, "| – | no links were measured: {why} | – | – | – |");
        }
    }
    publish("speed", &(section + &times))
}

/// The budgets of strangers are not what is measured.
const CONFIG: &str =
    "[server.measure]\nstranger = \"100 TiB\"\nstrangers = \"100 TiB\"\nmember = \"100 TiB\"\n";

struct Bench {
    gx: PathBuf,
    folder: tempfile::TempDir,
    pairs: usize,
}

/// A host of gx and one of iperf3, ended when dropped.
struct Hosts {
    gx: Child,
    iperf3: Child,
    target: Value,
    address: String,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in [&mut self.gx, &mut self.iperf3] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Bench {
    /// One connection, as fast as this machine can.
    fn loopback(&self, section: &mut String) -> Result<()> {
        let here = Place::Here;
        // Steady from the beginning, and as long as iperf3 takes.
        let budget = json!({ "bytes": u64::MAX / 2, "time_ms": 2_500, "least_ms": 2_000, "window_ms": 250, "streams": 1 });
        for (what, flags, goal) in [
            ("loopback, plain, 1 connection", &["--plain"][..], 0.90),
            ("loopback, TLS, 1 connection", &[], 0.30),
        ] {
            let hosts = self.hosts(&here, "127.0.0.1", flags)?;
            for way in WAYS {
                say(format_args!("{what}: {}", way.0));
                let (mut ours, mut theirs) = (Sample::default(), Sample::default());
                for _ in 0..self.pairs {
                    theirs.push(self.iperf3(&here, &hosts, way.1, 1, 2)?);
                    ours.push(mbit(&self.measure(&here, way.0, &hosts.target, &budget)?));
                }
                let (ours, theirs) = (ours.median(), theirs.median());
                let holds = verdict(ours >= goal * theirs);
                let _ = writeln!(
                    section,
                    "| {what} | {} | {theirs:.0} | {ours:.0} | {:.3} | ≥ {goal:.2} | {holds} |",
                    way.0,
                    ours / theirs
                );
            }
        }
        Ok(())
    }

    /// Four connections on a link of a known rate.
    fn link(&self, link: &Link, section: &mut String, times: &mut String) -> Result<()> {
        let made = link.make()?;
        let (near, far) = (made.near(), made.far());
        let hosts = self.hosts(&far, links::FAR, &[])?;
        let quick = json!({ "bytes": 100_000_000, "time_ms": 5_000, "least_ms": 500, "window_ms": 100 });
        let full = json!({ "bytes": 250_000_000, "time_ms": 8_000, "least_ms": 1_000, "window_ms": 250 });
        for way in WAYS {
            say(format_args!("{}: {}", link.name, way.0));
            let mut theirs = Sample::default();
            let mut found = [Vec::new(), Vec::new()];
            for _ in 0..self.pairs {
                theirs.push(self.iperf3(&near, &hosts, way.1, 4, 3)?);
                for (told, budget) in found.iter_mut().zip([&full, &quick]) {
                    told.push(self.measure(&near, way.0, &hosts.target, budget)?);
                }
            }
            let theirs = theirs.median();
            for ((told, name, within), most_s) in found
                .iter()
                .zip(["full", "quick"])
                .zip([0.05, 0.10])
                .map(|((a, b), c)| (a, b, c))
                .zip([3.0, 1.7])
            {
                let ours = told.iter().map(mbit).collect::<Sample>().median();
                let (ratio, holds) = (ours / theirs, verdict((ours / theirs - 1.0).abs() <= within));
                let _ = writeln!(
                    section,
                    "| {}, {name} | {} | {theirs:.1} | {ours:.1} | {ratio:.3} | ± {within:.2} | {holds} |",
                    link.name, way.0
                );
                let took =
                    told.iter().map(|told| number(told, "duration_ms") / 1e3).collect::<Sample>().median();
                let sure =
                    told.iter().map(|told| told["confidence"].as_str().unwrap_or("?")).collect::<Vec<_>>();
                let _ = writeln!(
                    times,
                    "| {} | {name} {}, seconds; confidence {} | {took:.2} | ≤ {most_s} | {} |",
                    link.name,
                    way.0,
                    sure.join(", "),
                    verdict(took <= most_s)
                );
            }
            if link.queue_ms >= 300 {
                let loaded = found[0]
                    .iter()
                    .map(|told| number(&told["loaded"], "p50_ms"))
                    .collect::<Sample>()
                    .median();
                let idle = number(&self.latency(&near, &hosts)?, "median_ms");
                let _ = writeln!(
                    times,
                    "| {} | latency under load, {}: {loaded:.1} ms against {idle:.2} ms idle | {:.0} × | ≥ 5 × | {} |",
                    link.name,
                    way.0,
                    loaded / idle,
                    verdict(loaded >= 5.0 * idle)
                );
            }
        }
        let ours = (0..self.pairs).map(|_| Ok(number(&self.latency(&near, &hosts)?, "median_ms")));
        let ours = ours.collect::<Result<Sample>>()?.median();
        let theirs = (0..self.pairs).map(|_| ping(&near)).collect::<Result<Sample>>()?.median();
        let _ = writeln!(
            times,
            "| {} | idle latency, ms; ping has {theirs:.3} | {ours:.3} | ≤ ping + 0.5 | {} |",
            link.name,
            verdict(ours <= theirs + 0.5)
        );
        Ok(())
    }

    fn hosts(&self, place: &Place, address: &str, flags: &[&str]) -> Result<Hosts> {
        let mut serve = self.command(place, "host");
        serve.args(["--json", "serve", "--listen", &format!("{address}:0")]).args(flags);
        let mut gx = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().doing("gx serve")?;
        let mut line = String::new();
        BufReader::new(gx.stdout.take().ok_or_else(|| because("no output"))?)
            .read_line(&mut line)
            .doing("gx serve")?;
        let said: Value = serde_json::from_str(&line).doing(format_args!("gx serve: {line}"))?;
        let iperf3 = place
            .command("iperf3".as_ref())
            .args(["--server", "--bind", address, "--port", PORT])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing("iperf3 --server")?;
        let target =
            json!({ "address": said["listening"], "node_id": said["node_id"], "plain": !flags.is_empty() });
        Ok(Hosts { gx, iperf3, target, address: address.to_owned() })
    }

    fn command(&self, place: &Place, who: &str) -> Command {
        let mut gx = place.command(&self.gx);
        gx.env("GX_CONFIG", self.folder.path().join("gx.toml"));
        gx.env("GX_DATA_DIR", self.folder.path().join(who)).env("NO_COLOR", "1").stdin(Stdio::null());
        gx
    }

    /// Measures with gx, and returns what the plugin answers.
    fn measure(&self, place: &Place, method: &str, target: &Value, budget: &Value) -> Result<Value> {
        let body = json!({ "target": target, "budget": budget }).to_string();
        self.ask(place, method, &body)
    }

    fn latency(&self, place: &Place, hosts: &Hosts) -> Result<Value> {
        self.ask(place, "latency", &json!({ "target": hosts.target }).to_string())
    }

    fn ask(&self, place: &Place, method: &str, body: &str) -> Result<Value> {
        let mut gx = self.command(place, "client");
        let text = shell::read(gx.args(["--json", "plugin", "run", "speedtest", method, body]))?;
        let last = text.lines().last().ok_or_else(|| because("gx says nothing"))?;
        serde_json::from_str(last).doing(format_args!("gx: {last}"))
    }

    /// Measures with iperf3, and returns Mbit/s as the receiver has them.
    fn iperf3(
        &self,
        place: &Place,
        hosts: &Hosts,
        way: &[&str],
        streams: usize,
        seconds: usize,
    ) -> Result<f64> {
        let mut iperf3 = place.command(Path::new("iperf3"));
        iperf3.args(["--client", &hosts.address, "--port", PORT, "--json", "--omit", "1"]);
        iperf3.args(["--parallel", &streams.to_string(), "--time", &seconds.to_string()]).args(way);
        // It takes one client at a time, and may still be ending the last one.
        let mut text = shell::read(&mut iperf3);
        for _ in 0..20 {
            if text.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            text = shell::read(&mut iperf3);
        }
        let told: Value = serde_json::from_str(&text?).doing("iperf3")?;
        told["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .map(|rate| rate / 1e6)
            .ok_or_else(|| because("iperf3 tells no rate"))
    }
}

fn ping(place: &Place) -> Result<f64> {
    let text =
        shell::read(place.command(Path::new("ping")).args(["-q", "-c", "20", "-i", "0.05", links::FAR]))?;
    let times = text.rsplit_once("= ").and_then(|(_, times)| times.split('/').nth(1)?.parse().ok());
    times.ok_or_else(|| because("ping tells no time"))
}

fn mbit(told: &Value) -> f64 {
    number(told, "goodput_bps") / 1e6
}

fn number(told: &Value, key: &str) -> f64 {
    told[key].as_f64().unwrap_or(f64::NAN)
}

fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

fn because(text: &str) -> Failure {
    Failure::Because(text.to_owned())
}
