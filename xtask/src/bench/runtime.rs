//! Containers: gx against the engines' client crates and their own programs, in turn within one run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::bench::host::Host;
use crate::bench::report::Report;
use crate::bench::sample::{Sample, cpu_time, time, time_together};
use crate::build;
use crate::engines::Engines;
use crate::setup;
use crate::shell::{self, Doing, Failure, Result, say};

pub(crate) const RUNTIMES: [&str; 2] = ["docker", "podman"];
/// How many are made at a time in the parallel rounds.
const TOGETHER: usize = 10;

/// How long to measure.
#[derive(Args)]
pub(crate) struct RuntimeArgs {
    /// Rounds of create and remove for each way
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Containers in the long list
    #[arg(long, default_value_t = 500)]
    many: usize,
}

pub(crate) fn run(args: &RuntimeArgs) -> Result<()> {
    setup::install_missing(&[setup::ENGINES])?;
    say("building with optimisation");
    build::gx(&["--release", "--package", "gx-benches"])?;
    let engines = Engines::start()?;
    let bench = Bench::begin(&engines)?;
    let line = format!("cargo xtask bench runtime --rounds {} --many {}", args.rounds, args.many);
    let mut report = Report::new("runtime", line);
    for runtime in RUNTIMES {
        bench.one_by_one(runtime, args.rounds, &mut report)?;
        bench.together(runtime, args.rounds.div_ceil(4), &mut report)?;
        bench.added_by_the_host(runtime, args.rounds, &mut report)?;
        bench.long_list(runtime, args.many, &mut report)?;
    }
    bench.start_up(&mut report)?;
    drop(bench);
    report.publish()
}

/// A host that runs, with data of its own.
struct Bench<'e> {
    engines: &'e Engines,
    release: PathBuf,
    host: Host, // ended before its folder goes
    folder: tempfile::TempDir,
}

impl<'e> Bench<'e> {
    fn begin(engines: &'e Engines) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("gx-bench-").tempdir().doing("a folder for the bench")?;
        std::fs::write(folder.path().join("gx.toml"), "").doing("gx.toml")?;
        let release = shell::target().join("release");
        let mut serve = gx(engines, &release, &folder);
        serve.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
        let host = Host::start(&mut serve, &folder.path().join("serve.log"))?;
        Ok(Self { engines, release, host, folder })
    }

    /// Create and remove, one container at a time, each way in turn.
    fn one_by_one(&self, runtime: &str, rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: {rounds} rounds of create and remove"));
        let ways = Way::ALL.map(|way| (way, self.pair(way, runtime)));
        let mut samples = Way::ALL.map(|_| Sample::default());
        for round in 0..=rounds {
            for turn in 0..ways.len() {
                // Each way has each place in the order equally often.
                let which = (round + turn) % ways.len();
                let (create, remove) = &ways[which].1;
                let took = time(&mut create(0))? + time(&mut remove(0))?;
                // The first round warms the caches.
                if round > 0 {
                    samples[which].push(took);
                }
            }
        }
        let medians: Vec<f64> = Way::ALL
            .iter()
            .zip(samples)
            .map(|(way, sample)| report.row(format!("{runtime}: {} create + rm", way.name()), sample))
            .collect();
        let [direct, local, host, own] = medians[..] else { unreachable!("one median for each way") };
        for (name, gx) in [("gx", local), ("gx --on a host", host)] {
            report.verdict(
                format!("{runtime}: {name} at most 1.05 × the client crate"),
                format!("{:.3} ×", gx / direct),
                gx <= 1.05 * direct,
            );
            report.verdict(
                format!("{runtime}: {name} faster than `{runtime} run -d` + `rm -f`"),
                format!("{:.3} ×", gx / own),
                gx < own,
            );
        }
        Ok(())
    }

    /// Ten creates at a time against ten of the engine's own.
    fn together(&self, runtime: &str, rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: {rounds} rounds of {TOGETHER} at a time"));
        let ways = [Way::Local, Way::Host, Way::Own].map(|way| (way, self.pair(way, runtime)));
        let mut samples = [(); 3].map(|()| Sample::default());
        for round in 0..=rounds {
            for turn in 0..ways.len() {
                let which = (round + turn) % ways.len();
                let (create, remove) = &ways[which].1;
                let took = time_together(&mut (0..TOGETHER).map(create).collect::<Vec<_>>())?;
                time_together(&mut (0..TOGETHER).map(remove).collect::<Vec<_>>())?;
                if round > 0 {
                    samples[which].push(took);
                }
            }
        }
        let medians: Vec<f64> = ways
            .iter()
            .zip(samples)
            .map(|((way, _), sample)| {
                report.row(format!("{runtime}: {} {TOGETHER} creates at a time", way.name()), sample)
            })
            .collect();
        let [local, host, own] = medians[..] else { unreachable!("one median for each way") };
        for (name, gx) in [("gx", local), ("gx --on a host", host)] {
            report.verdict(
                format!("{runtime}: ten of {name} at a time no slower than ten `run -d`"),
                format!("{:.3} ×", gx / own),
                gx <= own,
            );
        }
        Ok(())
    }

    /// A host's create against the same calls, both over warm connections.
    fn added_by_the_host(&self, runtime: &str, rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: what the host adds to a create"));
        let mut direct = Command::new(self.release.join("gx-bench-direct"));
        direct.args(["host", runtime, &self.host.address]).arg(self.folder.path().join("data"));
        direct.arg((rounds + 1).to_string());
        let told: Value = serde_json::from_str(&shell::read(&mut direct)?).doing("gx-bench-direct")?;
        let sample = |key: &str| -> Sample {
            let times = told[key].as_array().into_iter().flatten();
            times.skip(1).filter_map(Value::as_f64).collect()
        };
        let calls =
            report.row(format!("{runtime}: create, start, inspect with the crate"), sample("direct_ms"));
        let host = report.row(format!("{runtime}: the same through a host"), sample("host_ms"));
        let added = host - calls;
        report.verdict(
            format!("{runtime}: the host adds at most 5 ms to a create"),
            format!("{added:.1} ms"),
            added <= 5.0,
        );
        Ok(())
    }

    fn long_list(&self, runtime: &str, many: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: a list of {many}"));
        let count = many.to_string();
        let direct = || Command::new(self.release.join("gx-bench-direct"));
        let listed = shell::read(direct().args(["many", runtime, &count, &self.host.node_id]))
            .and_then(|_| self.list_often(runtime, many));
        shell::read(direct().args(["few", runtime, &count]))?;
        let (listed, own) = listed?;
        let median = report.row(format!("{runtime}: gx list of {many} containers"), listed);
        report.row(format!("{runtime}: `{runtime} ps --all` of {many} containers"), own);
        report.verdict(
            format!("{runtime}: gx list of {many} in at most 100 ms"),
            format!("{median:.1} ms"),
            median <= 100.0,
        );
        Ok(())
    }

    /// Lists in turn with gx and with the engine's own program.
    fn list_often(&self, runtime: &str, many: usize) -> Result<(Sample, Sample)> {
        let list = || {
            let mut gx = gx(self.engines, &self.release, &self.folder);
            gx.args(["list", "--all"]);
            gx
        };
        let own = || {
            let mut own = if runtime == "docker" { self.engines.docker() } else { self.engines.podman() };
            own.args(["ps", "--all"]);
            own
        };
        let lines = shell::read(&mut list())?.lines().count();
        if lines <= many {
            return Err(Failure::Because(format!("gx list shows {lines} lines for {many} containers")));
        }
        let (mut ours, mut theirs) = (Sample::default(), Sample::default());
        for _ in 0..20 {
            ours.push(time(&mut list())?);
            theirs.push(time(&mut own())?);
        }
        Ok((ours, theirs))
    }

    /// CPU time of the program itself.
    fn start_up(&self, report: &mut Report) -> Result<()> {
        say("CPU time of the program");
        for arguments in [&["--help"], &["list"]] {
            let run = || {
                let mut gx = gx(self.engines, &self.release, &self.folder);
                gx.args(arguments);
                gx
            };
            let sample: Sample = (0..5).map(|_| cpu_time(20, run)).collect::<Result<_>>()?;
            let name = format!("gx {}", arguments.join(" "));
            let median = report.row(format!("CPU time of `{name}`, no containers"), sample);
            report.verdict(
                format!("`{name}` takes at most 30 ms of CPU"),
                format!("{median:.1} ms"),
                median <= 30.0,
            );
        }
        Ok(())
    }

    /// Returns how a container is made and removed this way.
    fn pair<'b>(&'b self, way: Way, runtime: &'b str) -> (MakeCommand<'b>, MakeCommand<'b>) {
        let name = move |n: usize| format!("bench-{}-{n}", way.short());
        match way {
            Way::Direct => {
                let run = move |verb: &'static str, n| {
                    let mut direct = Command::new(self.release.join("gx-bench-direct"));
                    direct.args([verb, runtime, &format!("gx-{}", name(n))]);
                    direct
                };
                (Box::new(move |n| run("create", n)), Box::new(move |n| run("rm", n)))
            }
            Way::Local | Way::Host => {
                let start = move || {
                    let mut gx = gx(self.engines, &self.release, &self.folder);
                    if matches!(way, Way::Host) {
                        gx.args(["--on", &self.host.address]);
                    }
                    gx
                };
                let create = move |n| {
                    let mut gx = start();
                    // What the guest takes is measured apart, by `bench access`.
                    gx.args(["create", "--no-guest", "--runtime", runtime, "--name", &name(n)]);
                    gx.args(["gx-busybox", "--"]);
                    gx.args(["sleep", "600"]);
                    gx
                };
                let remove = move |n| {
                    let mut gx = start();
                    gx.args(["rm", "--force", &name(n)]);
                    gx
                };
                (Box::new(create), Box::new(remove))
            }
            Way::Own => {
                let engine = move || match runtime {
                    "docker" => self.engines.docker(),
                    _ => self.engines.podman(),
                };
                let create = move |n| {
                    let mut own = engine();
                    own.args(["run", "--detach", "--name", &format!("gx-{}", name(n)), "gx-busybox"]);
                    own.args(["sleep", "600"]);
                    own
                };
                let remove = move |n| {
                    let mut own = engine();
                    own.args(["rm", "--force"]);
                    if runtime == "podman" {
                        own.args(["--time", "0"]);
                    }
                    own.arg(format!("gx-{}", name(n)));
                    own
                };
                (Box::new(create), Box::new(remove))
            }
        }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        for runtime in RUNTIMES {
            for way in Way::ALL {
                // What an interrupted round has left: the names are the bench's own.
                let names = (0..TOGETHER).map(|n| format!("gx-bench-{}-{n}", way.short()));
                let mut engine =
                    if runtime == "docker" { self.engines.docker() } else { self.engines.podman() };
                engine.args(["rm", "--force"]).args(names);
                let _ = engine.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
    }
}

type MakeCommand<'b> = Box<dyn Fn(usize) -> Command + 'b>;

/// A way to make a container.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    Local,
    Host,
    Own,
}

impl Way {
    const ALL: [Self; 4] = [Self::Direct, Self::Local, Self::Host, Self::Own];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "client crate",
            Self::Local => "gx",
            Self::Host => "gx --on a host",
            Self::Own => "the engine's own program",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Local => "local",
            Self::Host => "host",
            Self::Own => "own",
        }
    }
}

/// gx with a configuration and data of the bench's own.
pub(crate) fn gx(engines: &Engines, release: &std::path::Path, folder: &tempfile::TempDir) -> Command {
    let mut gx = Command::new(release.join("gx"));
    for name in ["GX_ON", "GX_RUNTIME"] {
        gx.env_remove(name);
    }
    gx.env("GX_CONFIG", folder.path().join("gx.toml")).env("GX_DATA_DIR", folder.path().join("data"));
    engines.apply(&mut gx);
    gx
}
