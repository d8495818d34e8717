//! A host of gx and one of iperf3 side by side, and what each measures of the same link.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::links::{FAR, Place};
use crate::shell::{self, Doing, Failure, Result};

/// The port of iperf3: the bench has a namespace to itself, or loopback.
const PORT: &str = "5209";
/// The budgets of strangers are not what is measured.
const CONFIG: &str =
    "[server.measure]\nstranger = \"100 TiB\"\nstrangers = \"100 TiB\"\nmember = \"100 TiB\"\ntests = 8\n";

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Down, Self::Up];

    /// Returns what gx calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Down => "download",
            Self::Up => "upload",
        }
    }

    fn iperf3(self) -> &'static [&'static str] {
        match self {
            Self::Down => &["--reverse"],
            Self::Up => &[],
        }
    }
}

/// The program, and where its hosts and clients keep what is theirs.
pub(crate) struct Gx {
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// A host of gx and one of iperf3, ended when dropped.
pub(crate) struct Hosts {
    children: Vec<Child>,
    pub(crate) target: Value,
    address: String,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Gx {
    pub(crate) fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("gx-bench-").tempdir().doing("a folder for the bench")?;
        std::fs::write(folder.path().join("gx.toml"), CONFIG).doing("gx.toml")?;
        Ok(Self { program: shell::target().join("release/gx"), folder })
    }

    /// Starts hosts at an address: gx with these flags and the name `who` for its folder, and iperf3.
    pub(crate) fn hosts(&self, place: &Place, address: &str, who: &str, flags: &[&str]) -> Result<Hosts> {
        let (gx, target) = self.serve(place, address, who, flags)?;
        let iperf3 = place
            .command("iperf3".as_ref())
            .args(["--server", "--bind", address, "--port", PORT])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing("iperf3 --server")?;
        Ok(Hosts { children: vec![gx, iperf3], target, address: address.to_owned() })
    }

    /// Starts a host of gx alone.
    pub(crate) fn host(&self, place: &Place, address: &str, who: &str) -> Result<Hosts> {
        let (gx, target) = self.serve(place, address, who, &[])?;
        Ok(Hosts { children: vec![gx], target, address: address.to_owned() })
    }

    fn serve(&self, place: &Place, address: &str, who: &str, flags: &[&str]) -> Result<(Child, Value)> {
        let mut serve = self.command(place, who);
        serve.args(["--json", "serve", "--listen", &format!("{address}:0")]).args(flags);
        let mut gx = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().doing("gx serve")?;
        let mut line = String::new();
        BufReader::new(gx.stdout.take().ok_or_else(|| because("no output"))?)
            .read_line(&mut line)
            .doing("gx serve")?;
        let said: Value = serde_json::from_str(&line).doing(format_args!("gx serve: {line}"))?;
        let plain = flags.contains(&"--plain");
        Ok((gx, json!({ "address": said["listening"], "node_id": said["node_id"], "plain": plain })))
    }

    fn command(&self, place: &Place, who: &str) -> Command {
        let mut gx = place.command(&self.program);
        gx.env("GX_CONFIG", self.folder.path().join("gx.toml"));
        gx.env("GX_DATA_DIR", self.folder.path().join(who)).env("NO_COLOR", "1").stdin(Stdio::null());
        gx
    }

    /// Measures a direction with gx, and returns what the plugin answers.
    pub(crate) fn measure(&self, place: &Place, way: Way, hosts: &Hosts, budget: &Value) -> Result<Value> {
        self.ask(place, way.name(), &json!({ "target": hosts.target, "budget": budget }))
    }

    /// Measures the idle latency with gx, and returns the median in milliseconds.
    pub(crate) fn latency(&self, place: &Place, hosts: &Hosts) -> Result<f64> {
        Ok(number(&self.ask(place, "latency", &json!({ "target": hosts.target }))?, "median_ms"))
    }

    fn ask(&self, place: &Place, method: &str, body: &Value) -> Result<Value> {
        let mut gx = self.command(place, "client");
        let text = shell::read(gx.args(["--json", "plugin", "run", "speedtest", method, &body.to_string()]))?;
        let last = text.lines().last().ok_or_else(|| because("gx says nothing"))?;
        serde_json::from_str(last).doing(format_args!("gx: {last}"))
    }
}

/// Measures with iperf3, and returns Mbit/s as the receiver has them.
pub(crate) fn iperf3(place: &Place, hosts: &Hosts, way: Way, streams: usize, seconds: usize) -> Result<f64> {
    // It takes one client at a time, and may still be ending the last one, or not be there yet: some of that is told with
    // an exit code, and some in the place of the figures.
    let mut tries = 0;
    loop {
        let mut iperf3 = place.command(Path::new("iperf3"));
        iperf3.args(["--client", &hosts.address, "--port", PORT, "--json", "--omit", "1"]);
        iperf3.args(["--parallel", &streams.to_string(), "--time", &seconds.to_string()]).args(way.iperf3());
        let told = shell::read(&mut iperf3).and_then(|text| rate(&text));
        match told {
            Err(Failure::Because(_)) if tries < 20 => tries += 1,
            told => return told,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the rate that iperf3 tells of the receiver, in Mbit/s.
fn rate(text: &str) -> Result<f64> {
    let told: Value = serde_json::from_str(text).doing("iperf3")?;
    let rate = told["end"]["sum_received"]["bits_per_second"].as_f64();
    let why = told["error"].as_str().unwrap_or("iperf3 tells no rate");
    rate.map(|rate| rate / 1e6).ok_or_else(|| because(why))
}

/// Returns ping's mean round trip, in milliseconds.
pub(crate) fn ping(place: &Place) -> Result<f64> {
    let mut ping = place.command(Path::new("ping"));
    let text = shell::read(ping.args(["-q", "-c", "20", "-i", "0.05", FAR]))?;
    let times = text.rsplit_once("= ").and_then(|(_, times)| times.split('/').nth(1)?.parse().ok());
    times.ok_or_else(|| because("ping tells no time"))
}

pub(crate) fn mbit(told: &Value) -> f64 {
    number(told, "goodput_bps") / 1e6
}

pub(crate) fn number(told: &Value, key: &str) -> f64 {
    told[key].as_f64().unwrap_or(f64::NAN)
}

pub(crate) fn because(text: &str) -> Failure {
    Failure::Because(text.to_owned())
}
