//! The server: how fast it answers and shakes hands beside a bare hyper and rustls, what it takes to tell who may do what,
//! and what a crowd of idle connections costs it and its members.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::bench::host::Host;
use crate::bench::report::Report;
use crate::bench::sample::Sample;
use crate::build;
use crate::shell::{self, Doing, Failure, Result, say};

/// What is asked for.
const SPECS: &str = "/server_specs";
const HEALTH: &str = "/healthz";
/// Connections that are kept.
const CONNECTIONS: usize = 64;
/// Answers of one round.
const REQUESTS: usize = 20_000;
/// How often a member asks beside the crowd, a second, and for how many seconds.
const PACE: [usize; 2] = [200, 5];

/// How long to measure.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// Rounds of each way
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Handshakes with each server
    #[arg(long, default_value_t = 2_000)]
    handshakes: usize,
    /// Connections that do nothing
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
}

pub(crate) fn run(args: &ServerArgs) -> Result<()> {
    say("building with optimisation");
    build::gx(&["--release", "--package", "gx-benches"])?;
    let bench = Bench::begin()?;
    let ServerArgs { rounds, handshakes, idle } = *args;
    let line = format!("cargo xtask bench server --rounds {rounds} --handshakes {handshakes} --idle {idle}");
    let mut report = Report::new("server", line);
    bench.against_bare(args, &mut report)?;
    bench.authorisation(&mut report)?;
    bench.crowd(args.rounds.div_ceil(2), args.idle, &mut report)?;
    report.publish()
}

/// Two servers' folders, and one of a member of both.
struct Bench {
    release: PathBuf,
    folder: tempfile::TempDir,
}

impl Bench {
    fn begin() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("gx-bench-").tempdir().doing("a folder for the bench")?;
        let bench = Self { release: shell::target().join("release"), folder };
        let member = shell::read(bench.asker().arg("id").arg(bench.member()))?;
        // Nobody is told to ask less often: a rate is what is measured.
        let config = format!(
            "[server]\nallow = [\"{member}\"]\n\
             [server.rates]\nmember_per_second = 1000000\nmember_burst = 1000000\n"
        );
        std::fs::write(bench.folder.path().join("gx.toml"), config).doing("gx.toml")?;
        Ok(bench)
    }

    /// Answers and handshakes, of gx and of the bare server in turn.
    fn against_bare(&self, args: &ServerArgs, report: &mut Report) -> Result<()> {
        let gx = self.serve("gx")?;
        let [bare, health] = [SPECS, HEALTH].map(|path| self.bare(&gx, path));
        let (bare, health) = (bare?, health?);
        self.answers([&gx, &bare], args.rounds, report)?;
        self.handshakes([&gx, &health], args.handshakes, report)
    }

    fn answers(&self, servers: [&Host; 2], rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{rounds} rounds of {REQUESTS} answers each"));
        let (mut times, mut cpu) = ([Sample::default(), Sample::default()], [0.0, 0.0]);
        for round in 0..=rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let before = servers[which].cpu_ms()?;
                let mut load = self.ask("load", servers[which]);
                load.args([SPECS, &CONNECTIONS.to_string(), &REQUESTS.to_string()]);
                let took = json(&shell::read(&mut load)?)?["ms"].as_f64().unwrap_or(f64::NAN);
                // The first round warms the caches.
                if round > 0 {
                    times[which].push(took);
                    cpu[which] += servers[which].cpu_ms()? - before;
                }
            }
        }
        let [gx, bare] = times;
        let what = |who| format!("{who}: {REQUESTS} × `{SPECS}` over {CONNECTIONS} connections");
        let (gx, bare) = (report.row(what("gx serve"), gx), report.row(what("bare"), bare));
        let each_second = |ms: f64| REQUESTS as f64 / ms * 1e3;
        report.verdict(
            format!("`{SPECS}` at least 0.8 × as often as the bare server answers"),
            format!("{:.2} × ({:.0}/s and {:.0}/s)", bare / gx, each_second(gx), each_second(bare)),
            bare / gx >= 0.8,
        );
        let [gx, bare] = cpu.map(|ms| ms / (rounds * REQUESTS) as f64 * 1e3);
        report.note("CPU time of an answer, gx and bare", format!("{gx:.1} µs and {bare:.1} µs"));
        Ok(())
    }

    fn handshakes(&self, servers: [&Host; 2], rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{rounds} handshakes with each"));
        let mut ask = self.asker();
        ask.arg("handshakes").arg(self.member()).arg(rounds.to_string());
        for server in servers {
            ask.args([&server.address, &server.node_id, HEALTH]);
        }
        let told = json(&shell::read(&mut ask)?)?;
        let ends = [
            ("shaken_ms", "the client has shaken hands"),
            ("answered_ms", "the first answer, for which the client's key is checked"),
        ];
        for (key, until) in ends {
            let row = |at: usize, who| report_row(&told[at][key], format!("{who}: connected until {until}"));
            let [gx, bare] =
                [row(0, "gx serve"), row(1, "bare")].map(|(what, times)| report.row(what, times));
            report.verdict(
                format!("a handshake at most 1.2 × the bare one, until {until}"),
                format!("{:.3} ×", gx / bare),
                gx <= 1.2 * bare,
            );
        }
        Ok(())
    }

    fn authorisation(&self, report: &mut Report) -> Result<()> {
        say("who asks, and whether they may");
        let told = json(&shell::read(self.asker().arg("authorise"))?)?;
        for (key, who) in [("member_us", "a member"), ("stranger_us", "a stranger")] {
            let us = sample(&told[key]).median();
            let goal = format!("to tell that it is {who} and whether they may: at most 5 µs a request");
            report.verdict(goal, format!("{us:.3} µs"), us <= 5.0);
        }
        Ok(())
    }

    /// A member asks at a steady rate, alone and beside a crowd that does nothing, in turn.
    fn crowd(&self, rounds: usize, idle: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{rounds} rounds without and with {idle} idle connections"));
        let host = self.serve("crowd")?;
        let mut alone = [Sample::default(), Sample::default()];
        let mut beside = alone.clone();
        let (mut memory, mut kept) = (f64::NAN, idle);
        self.paced(&host)?; // warms the caches
        let files = 200;
        for round in 0..rounds {
            host.wait_for_files_below(files)?;
            add(&mut alone, &self.paced(&host)?);
            let before = host.memory()?;
            let crowd = Crowd::gather(self.ask("idle", &host).arg(idle.to_string()))?;
            if round == 0 {
                memory = (host.memory()? - before) / idle as f64;
            }
            add(&mut beside, &self.paced(&host)?);
            kept = kept.min(crowd.leave()?);
        }
        let [each_second, seconds] = PACE;
        report.verdict(format!("{idle} idle connections are kept"), kept.to_string(), kept == idle);
        report.verdict(
            "an idle connection takes at most 40 KB of the host's memory",
            format!("{:.1} KB", memory / 1e3),
            memory <= 40e3,
        );
        let what = format!("of `{HEALTH}` for a member, {each_second} a second for {seconds} s");
        let [half, most] = alone;
        report.row(format!("the median {what}"), half);
        let alone = report.row(format!("the p99 {what}"), most);
        let [half, most] = beside;
        report.row(format!("the median {what}, beside {idle} idle connections"), half);
        let beside = report.row(format!("the p99 {what}, beside {idle} idle connections"), most);
        report.verdict(
            format!("a member's p99 beside {idle} idle connections at most 2 × without"),
            format!("{:.2} × ({beside:.2} ms and {alone:.2} ms)", beside / alone),
            beside <= 2.0 * alone,
        );
        Ok(())
    }

    fn paced(&self, host: &Host) -> Result<Sample> {
        let [each_second, seconds] = PACE.map(|number| number.to_string());
        let told = shell::read(self.ask("pace", host).args([HEALTH, &each_second, &seconds]))?;
        Ok(sample(&json(&told)?["ms"]))
    }

    /// Starts `gx serve` with data of its own.
    fn serve(&self, name: &str) -> Result<Host> {
        let mut serve = Command::new(self.release.join("gx"));
        ["GX_ON", "GX_RUNTIME"].into_iter().for_each(|name| _ = serve.env_remove(name));
        serve.env("GX_CONFIG", self.folder.path().join("gx.toml"));
        serve.env("GX_DATA_DIR", self.folder.path().join(name));
        serve.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
        Host::start(&mut serve, &self.folder.path().join(format!("{name}.log")))
    }

    /// Starts the bare server, which answers what gx answers to this path.
    fn bare(&self, gx: &Host, path: &str) -> Result<Host> {
        let name = format!("bare{}", path.replace('/', "-"));
        let body = self.folder.path().join(format!("{name}.body"));
        std::fs::write(&body, shell::read(self.ask("get", gx).arg(path))?).doing(body.display())?;
        let mut bare = self.asker();
        bare.arg("bare").arg(self.folder.path().join(&name)).arg(&body);
        Host::start(&mut bare, &self.folder.path().join(format!("{name}.log")))
    }

    fn ask(&self, verb: &str, host: &Host) -> Command {
        let mut ask = self.asker();
        ask.args([verb, &host.address, &host.node_id]);
        if verb != "idle" {
            ask.arg(self.member()); // a crowd has keys of its own
        }
        ask
    }

    fn asker(&self) -> Command {
        Command::new(self.release.join("gx-bench-server"))
    }

    fn member(&self) -> PathBuf {
        self.folder.path().join("member")
    }
}

/// Idle connections, until they leave.
struct Crowd {
    process: Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Crowd {
    fn gather(command: &mut Command) -> Result<Self> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(shell::line(command))?;
        let told = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut crowd = Self { process, told };
        crowd.hears("connected").map(|_| crowd)
    }

    /// Returns how many the host has kept.
    fn leave(mut self) -> Result<usize> {
        drop(self.process.stdin.take());
        self.hears("kept")
    }

    fn hears(&mut self, key: &str) -> Result<usize> {
        let mut line = String::new();
        self.told.read_line(&mut line).doing("the crowd")?;
        if line.is_empty() {
            return Err(Failure::Because("the crowd cannot connect; its error is above".to_owned()));
        }
        Ok(json(&line)?[key].as_u64().unwrap_or(0) as usize)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Adds the median and the p99 of some times.
fn add(to: &mut [Sample; 2], times: &Sample) {
    to[0].push(times.median());
    to[1].push(times.percentile(99));
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).doing("gx-bench-server")
}

fn sample(times: &Value) -> Sample {
    times.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn report_row(times: &Value, what: String) -> (String, Sample) {
    (what, sample(times))
}
