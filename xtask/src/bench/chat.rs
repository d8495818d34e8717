//! The chat: how fast it passes messages on beside nats-server and ngircd, which keep none; what keeping them costs; what an
//! idle connection takes; and how fast it takes, finds and hands out what is kept.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::bench::host::Host;
use crate::bench::report::{Report, results};
use crate::bench::sample::Sample;
use crate::shell::{self, Doing, Failure, Result, find, root, say};
use crate::{build, setup};

/// The crowd that all three servers have.
const CROWD: usize = 1_000;
/// How often a message is sent where deliveries are timed, a second, and for how many seconds.
const PACE: [usize; 2] = [20, 3];
/// Those who wait for each answer, and for how many seconds they send.
const SENDERS: [&str; 2] = ["64", "1.5"];

/// How long to measure.
#[derive(Args)]
pub(crate) struct ChatArgs {
    /// Rounds of each way
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages to 1,000 readers in a round
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
    /// Readers of the large crowd
    #[arg(long, default_value_t = 5_000)]
    readers: usize,
    /// Messages that are kept where pages, searches and exports are timed
    #[arg(long, default_value_t = 200_000)]
    rows: usize,
}

pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    setup::install_missing(&[setup::CHAT])?;
    say("building with optimisation");
    build::gx(&["--release", "--package", "gx-benches"])?;
    let bench = Bench::begin()?;
    let ChatArgs { rounds, messages, readers, rows } = *args;
    let line = format!(
        "cargo xtask bench chat --rounds {rounds} --messages {messages} --readers {readers} --rows {rows}"
    );
    let mut report = Report::new("chat", line);
    bench.compared(&mut report)?;
    bench.against_others(args, &mut report)?;
    bench.price_of_the_store(args, &mut report)?;
    bench.idle(args, &mut report)?;
    bench.ingest(args, &mut report)?;
    bench.kept(args, &mut report)?;
    report.publish()
}

/// How long the disk takes to sync: what storing together is worth hangs on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    AsItIs,
    /// So many milliseconds more, as disks take that write what they are told to.
    Slower(u32),
}

impl Disk {
    fn name(self) -> String {
        match self {
            Self::AsItIs => "this disk".to_owned(),
            Self::Slower(ms) => format!("a disk that takes {ms} ms more to sync"),
        }
    }

    /// Returns the command that runs this one on such a disk.
    fn under(self, command: &Command) -> Command {
        // The tracer is a process of its own (-D), and sees nothing but these calls.
        const TRACE: &[&str] =
            &["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"];
        let mut other = match self {
            Self::AsItIs => Command::new(command.get_program()),
            Self::Slower(ms) => {
                let mut strace = program("strace");
                strace.args(TRACE).arg(format!("inject=fsync,fdatasync:delay_exit={}", ms * 1_000));
                strace.arg(command.get_program());
                strace
            }
        };
        other.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        other
    }
}

/// A folder on the disk, with the servers' data.
struct Bench {
    release: PathBuf,
    folder: tempfile::TempDir,
}

impl Bench {
    fn begin() -> Result<Self> {
        // Beside the builds: what is in /tmp may be in memory only, where nothing is synced.
        let folder = tempfile::Builder::new()
            .prefix("chat-")
            .tempdir_in(results()?)
            .doing("a folder for the bench")?;
        let policy = root().join("benches/chat/policy.toml");
        let config = format!(
            "[chat]\npolicy = {policy:?}\n[plugins.docker]\nenabled = false\n[plugins.podman]\nenabled = false\n"
        );
        std::fs::write(folder.path().join("gx.toml"), &config).doing("gx.toml")?;
        std::fs::write(folder.path().join("plain.toml"), format!("[server]\nplain = true\n{config}"))
            .doing("plain.toml")?;
        Ok(Self { release: shell::target().join("release"), folder })
    }

    fn compared(&self, report: &mut Report) -> Result<()> {
        let nats = shell::read(program("nats-server").arg("--version"))?;
        let ngircd = shell::read(program("ngircd").arg("--version"))?;
        let ngircd =
            ngircd.lines().next().unwrap_or_default().split('-').next().unwrap_or_default().to_owned();
        report.note("compared with", format!("{nats}; {ngircd}"));
        Ok(())
    }

    /// Messages as fast as every reader has every one, through each server in turn.
    fn against_others(&self, args: &ChatArgs, report: &mut Report) -> Result<()> {
        let (gx, nats, irc) = (self.serve("gx", "plain.toml")?, self.nats()?, self.ngircd()?);
        self.accounts(&gx, args.readers.max(CROWD))?;
        say(format_args!("{} rounds of {} messages to {CROWD} readers", args.rounds, args.messages));
        let found =
            self.burst(args, CROWD, args.messages, &[("gx", &gx), ("nats", &nats), ("irc", &irc)], report)?;
        for (which, name, goal) in [(1, "nats-server", 0.9), (2, "ngircd", 1.0)] {
            let ratio = found.ratio_of_speeds(which);
            report.verdict(
                format!("deliveries to {CROWD} readers at least {goal} × those of {name}"),
                format!("{ratio:.2} × ({:.0}/s and {:.0}/s)", found.speed(0), found.speed(which)),
                ratio >= goal,
            );
        }
        for (which, name, goal) in [(1, "nats-server", 0.55), (2, "ngircd", 0.7)] {
            let ratio = found.cpu_us(0) / found.cpu_us(which);
            report.verdict(
                format!("the server's CPU time of a delivery at most {goal} × that of {name}"),
                format!("{ratio:.2} × ({:.2} µs and {:.2} µs)", found.cpu_us(0), found.cpu_us(which)),
                ratio <= goal,
            );
        }
        drop(irc);

        let readers = args.readers;
        let messages = (args.messages * CROWD / readers.max(1)).max(1);
        say(format_args!("{} rounds of {messages} messages to {readers} readers", args.rounds));
        let found = self.burst(args, readers, messages, &[("gx", &gx), ("nats", &nats)], report)?;
        let ratio = found.ratio_of_speeds(1);
        report.verdict(
            format!("deliveries to {readers} readers at least 2 × those of nats-server"),
            format!("{ratio:.2} × ({:.0}/s and {:.0}/s)", found.speed(0), found.speed(1)),
            ratio >= 2.0,
        );
        Ok(())
    }

    fn burst(
        &self,
        args: &ChatArgs,
        readers: usize,
        messages: usize,
        servers: &[(&'static str, &Host)],
        report: &mut Report,
    ) -> Result<Bursts> {
        let mut burst = self.asker();
        burst.arg("burst").args([readers, messages, args.rounds].map(|number| number.to_string()));
        for (kind, host) in servers {
            burst.arg(format!("{kind}={}={}", host.address, host.pid()));
        }
        let told = json(&shell::read(&mut burst)?)?;
        let mut found =
            Bursts { deliveries: (readers * messages) as f64, times: Vec::new(), cpu: Vec::new() };
        for (kind, _) in servers {
            let times = sample(&told[kind]["ms"]);
            let name = name_of(kind);
            report
                .row(format!("{name}: {messages} messages until {readers} readers have all"), times.clone());
            found.times.push(times);
            found.cpu.push(sample(&told[kind]["cpu_ms"]));
        }
        Ok(found)
    }

    /// How late messages are at a steady rate, beside the same chat with its messages in memory.
    fn price_of_the_store(&self, args: &ChatArgs, report: &mut Report) -> Result<()> {
        let [each_second, seconds] = PACE;
        say(format_args!(
            "{} rounds of {each_second} messages a second, with the store and without",
            args.rounds
        ));
        let gx = self.serve("gx", "plain.toml")?;
        let memory = self.memory()?;
        let mut pace = self.asker();
        pace.arg("pace").args([CROWD, each_second, seconds, args.rounds].map(|number| number.to_string()));
        pace.arg(format!("gx={}", gx.address)).arg(format!("memory={}", memory.address));
        let told = json(&shell::read(&mut pace)?)?;
        for (key, which) in [("p50_ms", "the median"), ("p99_ms", "the p99")] {
            let [with, without] = ["gx", "memory"].map(|kind| sample(&told[kind][key]));
            let ratio = ratio(&with, &without);
            let what = format!("of a delivery to {CROWD} readers, {each_second} messages a second");
            let with = report.row(format!("gx serve: {which} {what}"), with);
            let without = report.row(format!("without the store: {which} {what}"), without);
            report.verdict(
                format!("{which} {what} at most 1.5 × that without the store"),
                format!("{ratio:.2} × ({with:.2} ms and {without:.2} ms)"),
                ratio <= 1.5,
            );
        }
        Ok(())
    }

    /// What a connection takes that is signed in and silent.
    fn idle(&self, args: &ChatArgs, report: &mut Report) -> Result<()> {
        // A node has 1,024 places; without TLS everybody is this machine's own user, who has all.
        for (name, config, most, count) in
            [("plain", "plain.toml", 16e3, args.readers), ("TLS", "gx.toml", 40e3, args.readers.min(CROWD))]
        {
            say(format_args!("{count} idle connections, {name}"));
            let folder = format!("idle-{name}");
            let host = self.serve(&folder, "plain.toml")?;
            self.accounts(&host, count)?;
            drop(host);
            let host = self.serve(&folder, config)?;
            let before = host.memory()?;
            let data = self.folder.path().join(&folder).display().to_string();
            let key = if config == "plain.toml" { "-" } else { &data };
            let crowd = Idle::gather(self.asker().args([
                "idle",
                &host.address,
                &host.node_id,
                key,
                &count.to_string(),
            ]))?;
            let each = (host.memory()? - before) / count as f64;
            drop(crowd);
            report.verdict(
                format!(
                    "an idle connection ({name}) takes at most {:.0} KB of the host's memory",
                    most / 1e3
                ),
                format!("{:.1} KB ({count} connections)", each / 1e3),
                each <= most,
            );
        }
        Ok(())
    }

    /// How much is stored and acknowledged, beside rows that are committed one by one.
    fn ingest(&self, args: &ChatArgs, report: &mut Report) -> Result<()> {
        let memory = self.memory()?;
        for disk in [Disk::AsItIs, Disk::Slower(1), Disk::Slower(4)] {
            let [senders, seconds] = SENDERS;
            let what = format!("{senders} waiting senders, {}", disk.name());
            say(format_args!("{} rounds of {what}", args.rounds));
            let gx = self.serve_on(disk, "gx", "plain.toml")?;
            let mut ingest = self.asker();
            ingest.args(["ingest", &gx.address, &memory.address, senders, seconds, &args.rounds.to_string()]);
            ingest.arg(self.folder.path().join(format!("rows {}.db", disk.name())));
            let told = json(&shell::read(&mut disk.under(&ingest))?)?;
            let chat = sample(&told["gx_per_s"]);
            let [memory, same, plain] =
                ["memory_per_s", "same_per_s", "plain_per_s"].map(|key| sample(&told[key]));
            let against = ratio(&chat, &same);
            report.verdict(
                format!("{what}: at least 12 × the messages that are stored in the same tables one by one"),
                format!("{against:.1} × ({:.0}/s and {:.0}/s)", chat.median(), same.median()),
                against >= 12.0,
            );
            report.note(
                format!("{what}: against rows of a table without other keys, one by one"),
                format!("{:.1} × ({:.0}/s)", ratio(&chat, &plain), plain.median()),
            );
            report.note(
                format!("{what}: what their way to a chat that stores nothing gives, against the same tables one by one"),
                format!("{:.1} × ({:.0}/s)", ratio(&memory, &same), memory.median()),
            );
        }
        Ok(())
    }

    /// Pages, searches and exports of a store that is full.
    fn kept(&self, args: &ChatArgs, report: &mut Report) -> Result<()> {
        let rows = args.rows;
        say(format_args!("pages, searches and exports of {rows} messages"));
        let folder = self.folder.path().join("kept");
        let told = json(&shell::read(self.asker().arg("store").arg(folder).arg(rows.to_string()))?)?;
        let page = report.row("a page of 200 messages", sample(&told["page_ms"]));
        report.verdict("a page of 200 takes at most 0.2 ms", format!("{page:.3} ms"), page <= 0.2);
        for (key, words) in [("rare_ms", "a word that few have"), ("common_ms", "two words that all have")] {
            let search = report.row(format!("a search of {rows} messages for {words}"), sample(&told[key]));
            report.verdict(
                format!("a search for {words} takes at most 5 ms"),
                format!("{search:.2} ms"),
                search <= 5.0,
            );
        }
        let text = sample(&told["text_per_s"]).median();
        report.verdict(
            "an export as text is of at least 400,000 messages a second",
            format!("{text:.0}/s"),
            text >= 400e3,
        );
        report.note("an export as JSON lines", format!("{:.0}/s", sample(&told["json_per_s"]).median()));
        Ok(())
    }

    /// Starts `gx serve` on a data folder.
    fn serve(&self, name: &str, config: &str) -> Result<Host> {
        self.serve_on(Disk::AsItIs, name, config)
    }

    fn serve_on(&self, disk: Disk, name: &str, config: &str) -> Result<Host> {
        let mut serve = Command::new(self.release.join("gx"));
        ["GX_ON", "GX_RUNTIME"].into_iter().for_each(|name| _ = serve.env_remove(name));
        serve.env("GX_CONFIG", self.folder.path().join(config));
        serve.env("GX_DATA_DIR", self.folder.path().join(name));
        serve.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
        Host::start(&mut disk.under(&serve), &self.folder.path().join(format!("{name}.log")))
    }

    /// Starts the same chat with its messages in memory.
    fn memory(&self) -> Result<Host> {
        Host::start(self.asker().arg("memory"), &self.folder.path().join("memory.log"))
    }

    fn nats(&self) -> Result<Host> {
        let address = free()?;
        let file = self.folder.path().join("nats.conf");
        let config = format!("listen: \"{address}\"\nping_interval: \"1h\"\n");
        std::fs::write(&file, config).doing("nats.conf")?;
        Host::start_at(
            program("nats-server").arg("-c").arg(file),
            address,
            &self.folder.path().join("nats.log"),
        )
    }

    /// Starts ngircd without what it does against floods: these readers and writers are one.
    fn ngircd(&self) -> Result<Host> {
        let address = free()?;
        let file = self.folder.path().join("ngircd.conf");
        let config = format!(
            "[Global]\nName = bench.example.net\nInfo = bench\nListen = {}\nPorts = {}\nMotdPhrase = bench\n\
             [Limits]\nMaxConnections = 0\nMaxConnectionsIP = 0\nMaxJoins = 0\nMaxPenaltyTime = 0\nPingTimeout = 3600\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\n",
            address.ip(),
            address.port()
        );
        std::fs::write(&file, config).doing("ngircd.conf")?;
        let mut ngircd = program("ngircd");
        ngircd.arg("--nodaemon").arg("--config").arg(file);
        Host::start_at(&mut ngircd, address, &self.folder.path().join("ngircd.log"))
    }

    fn accounts(&self, host: &Host, readers: usize) -> Result<()> {
        let readers = readers.to_string();
        shell::read(self.asker().args(["accounts", &host.address, &host.node_id, &readers])).map(drop)
    }

    fn asker(&self) -> Command {
        Command::new(self.release.join("gx-bench-chat"))
    }
}

/// What was found of some servers, in the order in which they were named; ours is the first.
struct Bursts {
    deliveries: f64,
    times: Vec<Sample>,
    cpu: Vec<Sample>,
}

impl Bursts {
    /// Returns deliveries a second.
    fn speed(&self, which: usize) -> f64 {
        self.deliveries / self.times[which].median() * 1e3
    }

    /// Returns how many times as fast ours is: the median over the rounds.
    fn ratio_of_speeds(&self, which: usize) -> f64 {
        ratio(&self.times[which], &self.times[0])
    }

    /// Returns the server's CPU time of a delivery; of all rounds, as the kernel counts in ticks.
    fn cpu_us(&self, which: usize) -> f64 {
        let cpu = self.cpu[which].values();
        cpu.iter().sum::<f64>() / (cpu.len() as f64 * self.deliveries) * 1e3
    }
}

/// Returns the median of the ratios of each round.
fn ratio(of: &Sample, to: &Sample) -> f64 {
    let ratios: Sample = of.values().iter().zip(to.values()).map(|(of, to)| of / to).collect();
    ratios.median()
}

/// Idle connections, until they leave.
struct Idle {
    process: Child,
}

impl Idle {
    fn gather(command: &mut Command) -> Result<Self> {
        use std::io::BufRead as _;
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(shell::line(command))?;
        let stdout = process.stdout.take().expect("stdout is piped");
        let idle = Self { process };
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line).doing("the idle connections")?;
        match line.is_empty() {
            true => Err(Failure::Because("idle connections cannot be made; the error is above".to_owned())),
            false => Ok(idle),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn name_of(kind: &str) -> &str {
    match kind {
        "gx" => "gx serve",
        "nats" => "nats-server",
        "irc" => "ngircd",
        other => other,
    }
}

fn program(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| name.into()))
}

/// Returns an address on which nobody listens.
fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").doing("a free port")?;
    listener.local_addr().doing("a free port")
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).doing("gx-bench-chat")
}

fn sample(numbers: &Value) -> Sample {
    numbers.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_over_rounds_and_not_that_of_medians() {
        let [of, to] =
            [[1.0, 20.0, 3.0], [1.0, 10.0, 6.0]].map(|times| times.into_iter().collect::<Sample>());
        assert!((ratio(&of, &to) - 1.0).abs() < 1e-9);
    }
}
