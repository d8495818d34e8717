//! The way in: from the start of a container to the first command by SSH, against an image with a server of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::bench::report::Report;
use crate::bench::runtime::{RUNTIMES, gx};
use crate::bench::sample::{Sample, time};
use crate::engines::Engines;
use crate::shell::{self, Doing, Failure, Result, say};
use crate::{build, desktop, setup};

/// The image with OpenSSH's server.
const SSHD_IMAGE: &str = "gx-sshd";
/// How long a server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sessions at once.
const TOGETHER: usize = 100;

/// How long to measure.
#[derive(Args)]
pub(crate) struct AccessArgs {
    /// Rounds of each way
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// What is copied, in MiB
    #[arg(long, default_value_t = 1024)]
    megabytes: usize,
}

pub(crate) fn run(args: &AccessArgs) -> Result<()> {
    setup::install_missing(&[setup::ENGINES, setup::SSH, setup::DESKTOP])?;
    say("building with optimisation");
    build::gx(&["--release"])?;
    let engines = Engines::start()?;
    desktop::build_sshd(&engines, SSHD_IMAGE)?;
    let folder = tempfile::Builder::new().prefix("gx-bench-").tempdir().doing("a folder for the bench")?;
    std::fs::write(folder.path().join("gx.toml"), "").doing("gx.toml")?;
    let bench = Bench { engines: &engines, release: shell::target().join("release"), folder };
    let line = format!("cargo xtask bench access --rounds {} --megabytes {}", args.rounds, args.megabytes);
    let mut report = Report::new("access", line);
    for runtime in RUNTIMES {
        bench.logins(runtime, args.rounds, &mut report)?;
        bench.creates(runtime, args.rounds, &mut report)?;
        bench.inside(runtime, args.megabytes, &mut report)?;
    }
    drop(bench);
    report.publish()
}

struct Bench<'e> {
    engines: &'e Engines,
    release: PathBuf,
    folder: tempfile::TempDir,
}

/// A way in.
struct Door {
    address: String,
    port: String,
}

impl Bench<'_> {
    /// The first login and one command, from when the container's start has returned.
    fn logins(&self, runtime: &str, rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: {rounds} first logins each way"));
        let (mut ours, mut theirs) = (Sample::default(), Sample::default());
        for round in 0..=rounds {
            let door = self.create(runtime, &["gx-busybox", "--", "sleep", "600"])?;
            let took = self.first_login(&door)?;
            self.remove()?;
            let other = self.first_login(&self.run_sshd(runtime)?);
            self.end_sshd(runtime)?;
            // The first round warms the caches.
            if round > 0 {
                ours.push(took);
                theirs.push(other?);
            }
        }
        let ours = report.row(format!("{runtime}: gx-guest, start to first command"), ours);
        let theirs = report.row(format!("{runtime}: an image's own sshd, start to first command"), theirs);
        let goal = format!("{runtime}: login and one command at most 150 ms after the start");
        report.verdict(goal, format!("{ours:.0} ms"), ours <= 150.0);
        let goal = format!("{runtime}: at least 5 × as fast as an image's own sshd");
        report.verdict(goal, format!("{:.1} ×", theirs / ours), theirs >= 5.0 * ours);
        Ok(())
    }

    /// Creates with and without the guest, in turn; without it also with a port published, as who wants to get into a
    /// container publishes one either way.
    fn creates(&self, runtime: &str, rounds: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: {rounds} creates with and without the guest"));
        const WAYS: [&[&str]; 3] = [&["--no-guest"], &["--no-guest", "--publish", "7468"], &[]];
        let mut samples = [Sample::default(), Sample::default(), Sample::default()];
        for round in 0..=rounds {
            for turn in 0..WAYS.len() {
                let which = (round + turn) % WAYS.len();
                let mut create = self.gx();
                create.args(["create", "--runtime", runtime, "--name", "bench-access"]);
                create.args(WAYS[which]);
                let took = time(create.args(["gx-busybox", "--", "sleep", "600"]))?;
                self.remove()?;
                if round > 0 {
                    samples[which].push(took);
                }
            }
        }
        let [bare, without, with] = samples;
        let bare = report.row(format!("{runtime}: gx create --no-guest, no port"), bare);
        let without = report.row(format!("{runtime}: gx create --no-guest --publish 7468"), without);
        let with = report.row(format!("{runtime}: gx create"), with);
        let goal =
            format!("{runtime}: create with the guest at most 1.10 × without, a port published by both");
        report.verdict(goal, format!("{:.3} ×", with / without), with <= 1.10 * without);
        report.note(
            format!("{runtime}: the same, against a create that publishes nothing"),
            format!("{:.3} ×", with / bare),
        );
        Ok(())
    }

    /// What it takes of the container, copies, and many at once; OpenSSH's server runs in the same container.
    fn inside(&self, runtime: &str, megabytes: usize, report: &mut Report) -> Result<()> {
        say(format_args!("{runtime}: copies of {megabytes} MiB, and {TOGETHER} sessions at once"));
        let key = format!("PUBLIC_KEY={}", self.public_key()?);
        let guest = self.create(runtime, &["--publish", "22", "--env", &key, SSHD_IMAGE])?;
        let sshd = self.door("22/tcp")?;
        self.first_login(&guest)?;
        self.first_login(&sshd)?;
        let read = |argv: &[&str]| shell::read(self.gx().args(["exec", "bench-access", "--"]).args(argv));
        let bytes: f64 =
            read(&["stat", "--format=%s", "/.gx/bin/guest"])?.parse().doing("the guest's size")?;
        let goal = format!("{runtime}: the guest at most 4 MB on disk");
        report.verdict(goal, format!("{:.2} MB", bytes / 1e6), bytes <= 4e6);
        let status = read(&["cat", "/proc/1/status"])?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().doing("the guest's memory")?;
        let goal = format!("{runtime}: the guest at most 6 MB of memory, idle");
        report.verdict(goal, format!("{:.2} MB", kib * 1.024e-3), kib * 1.024e-3 <= 6.0);
        self.copies(runtime, megabytes, &guest, &sshd, report)?;
        let there = self.together(&guest)?;
        let goal = format!("{runtime}: {TOGETHER} sessions at once");
        report.verdict(goal, format!("{there}"), there == TOGETHER);
        self.remove()
    }

    fn copies(
        &self,
        runtime: &str,
        megabytes: usize,
        guest: &Door,
        sshd: &Door,
        report: &mut Report,
    ) -> Result<()> {
        let file = self.folder.path().join("copied");
        let size = megabytes as u64 * 1024 * 1024;
        std::fs::File::create(&file).and_then(|file| file.set_len(size)).doing("a file to copy")?;
        let mut samples = [Sample::default(), Sample::default()];
        for round in 0..6 {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let door = [guest, sshd][which];
                let mut scp = self.client("scp", door, "-P");
                scp.arg("-q").arg(&file).arg(format!("root@{}:/dev/null", door.address));
                let took = time(&mut scp)?;
                if round > 0 {
                    samples[which].push(took);
                }
            }
        }
        let [ours, theirs] = samples;
        let ours = report.row(format!("{runtime}: scp of {megabytes} MiB to gx-guest"), ours);
        let theirs = report.row(format!("{runtime}: the same to OpenSSH's sshd"), theirs);
        let goal = format!("{runtime}: scp at least 0.8 × as fast as OpenSSH's sshd in the same container");
        report.verdict(goal, format!("{:.2} ×", theirs / ours), theirs / ours >= 0.8);
        Ok(())
    }

    /// Opens many sessions, each of which stays until all are there; returns how many came.
    fn together(&self, door: &Door) -> Result<usize> {
        let session = |_| -> Result<Child> {
            let mut ssh = self.ssh(door, "echo in; read line");
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().doing("ssh")
        };
        let mut sessions = (0..TOGETHER).map(session).collect::<Result<Vec<_>>>()?;
        let mut there = 0;
        for session in &mut sessions {
            let mut line = String::new();
            let stdout = session.stdout.as_mut().expect("stdout is piped");
            BufReader::new(stdout).read_line(&mut line).doing("ssh")?;
            there += usize::from(line == "in\n");
        }
        for mut session in sessions {
            drop(session.stdin.take());
            session.wait().doing("ssh")?;
        }
        Ok(there)
    }

    /// Tries until somebody is let in and a command has run; returns how long it took, in milliseconds.
    fn first_login(&self, door: &Door) -> Result<f64> {
        let began = Instant::now();
        loop {
            match time(&mut self.ssh(door, "true")) {
                Ok(_) => return Ok(began.elapsed().as_secs_f64() * 1e3),
                Err(failure) if began.elapsed() > PATIENCE => return Err(failure),
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(_) => {}
            }
        }
    }

    fn ssh(&self, door: &Door, command: &str) -> Command {
        let mut ssh = self.client("ssh", door, "-p");
        ssh.arg(format!("root@{}", door.address)).arg(command);
        ssh
    }

    fn client(&self, program: &str, door: &Door, port: &str) -> Command {
        let mut client = Command::new(program);
        client.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "LogLevel=ERROR",
        ]);
        client.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", port, &door.port]);
        client.arg("-i").arg(self.key());
        client
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("data/ssh/id_ed25519")
    }

    fn public_key(&self) -> Result<String> {
        shell::read(Command::new("ssh-keygen").args(["-y", "-f"]).arg(self.key()))
    }

    fn create(&self, runtime: &str, rest: &[&str]) -> Result<Door> {
        let mut create = self.gx();
        create.args(["--json", "create", "--runtime", runtime, "--name", "bench-access"]);
        let told: Value = serde_json::from_str(&shell::read(create.args(rest))?).doing("gx create --json")?;
        let address = told["ssh"]["address"].as_str().unwrap_or_default();
        door(address)
    }

    /// Returns the way to a published port of the container.
    fn door(&self, port: &str) -> Result<Door> {
        door(shell::read(self.gx().args(["port", "bench-access", port]))?.lines().next().unwrap_or_default())
    }

    fn remove(&self) -> Result<()> {
        shell::read(self.gx().args(["rm", "--force", "bench-access"])).map(drop)
    }

    fn run_sshd(&self, runtime: &str) -> Result<Door> {
        let key = format!("PUBLIC_KEY={}", self.public_key()?);
        let mut run = self.engine(runtime);
        run.args(["run", "--detach", "--name", "gx-bench-sshd", "--publish", "127.0.0.1::22", "--env", &key]);
        shell::read(run.arg(SSHD_IMAGE))?;
        let place = shell::read(self.engine(runtime).args(["port", "gx-bench-sshd", "22/tcp"]))?;
        door(place.lines().next().unwrap_or_default())
    }

    fn end_sshd(&self, runtime: &str) -> Result<()> {
        let mut end = self.engine(runtime);
        end.args(["rm", "--force"]);
        if runtime == "podman" {
            end.args(["--time", "0"]);
        }
        shell::read(end.arg("gx-bench-sshd")).map(drop)
    }

    fn engine(&self, runtime: &str) -> Command {
        if runtime == "docker" { self.engines.docker() } else { self.engines.podman() }
    }

    fn gx(&self) -> Command {
        gx(self.engines, &self.release, &self.folder)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        for runtime in RUNTIMES {
            let _ = self.end_sshd(runtime); // what an interrupted round has left
        }
        let _ = self.remove();
    }
}

fn door(place: &str) -> Result<Door> {
    match place.rsplit_once(':') {
        Some((address, port)) => Ok(Door { address: address.to_owned(), port: port.to_owned() }),
        None => Err(Failure::Because(format!("{place:?} is not an address with a port"))),
    }
}
