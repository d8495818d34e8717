//! A server that runs while something is measured. One of ours says in a line of JSON where it listens.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::engines::ended_within;
use crate::shell::{self, Doing, Failure, Result};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);
/// How long a server may take to end.
const STOP: Duration = Duration::from_secs(30);

/// A server of its own, until this is dropped.
pub(crate) struct Host {
    process: Child,
    /// Where it listens.
    pub(crate) address: String,
    pub(crate) node_id: String,
}

impl Host {
    /// Starts a server, as `gx serve --json` is one, with its log in this file.
    ///
    /// # Errors
    /// [`Failure::Because`] where it does not start or does not say where it listens.
    pub(crate) fn start(serve: &mut Command, log: &std::path::Path) -> Result<Self> {
        let name = shell::line(serve);
        let file = std::fs::File::create(log).doing(log.display())?;
        // In a group of its own, so that Ctrl-C ends the bench before it.
        serve.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).process_group(0);
        let mut process = serve.spawn().doing(&name)?;
        let mut line = String::new();
        let stdout = process.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).doing(&name)?;
        let mut host = Self { process, address: String::new(), node_id: String::new() };
        if line.is_empty() {
            return Err(Failure::Because(format!("`{name}` does not start; see {}", log.display())));
        }
        let told: Value = serde_json::from_str(&line).doing(&name)?;
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        (host.address, host.node_id) = (text("listening"), text("node_id"));
        Ok(host)
    }

    /// Starts a server that says nothing of itself, with its log in this file, and waits until it takes connections at this
    /// address.
    ///
    /// # Errors
    /// [`Failure::Because`] where it does not start or listens nowhere.
    pub(crate) fn start_at(serve: &mut Command, address: SocketAddr, log: &std::path::Path) -> Result<Self> {
        let name = shell::line(serve);
        let file = std::fs::File::create(log).doing(log.display())?;
        let copy = file.try_clone().doing(log.display())?;
        serve.stdin(Stdio::null()).stdout(copy).stderr(file).process_group(0);
        let process = serve.spawn().doing(&name)?;
        let mut host = Self { process, address: address.to_string(), node_id: String::new() };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let is_over = host.process.try_wait().doing(&name)?.is_some();
            if is_over || began.elapsed() > START {
                return Err(Failure::Because(format!("`{name}` does not start; see {}", log.display())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(host)
    }

    /// Returns the number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the memory it has of its own, in bytes (proc_pid_status(5)).
    ///
    /// # Errors
    /// [`Failure::Because`] where the kernel does not say.
    pub(crate) fn memory(&self) -> Result<f64> {
        let file = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(&file).doing(&file)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().doing(&file)?;
        Ok(kib * 1024.0)
    }

    /// Returns the CPU time it has taken, user's and system's, in milliseconds: fields 14 and 15 of proc_pid_stat(5).
    ///
    /// # Errors
    /// [`Failure::Because`] where the kernel does not say.
    pub(crate) fn cpu_ms(&self) -> Result<f64> {
        super::sample::cpu_ms(&format!("/proc/{}/stat", self.process.id()), 11)
    }

    /// Waits until it has fewer files open than this.
    ///
    /// # Errors
    /// [`Failure::Because`] where it has not within half a minute.
    pub(crate) fn wait_for_files_below(&self, count: usize) -> Result<()> {
        let folder = format!("/proc/{}/fd", self.process.id());
        let began = Instant::now();
        while std::fs::read_dir(&folder).doing(&folder)?.count() >= count {
            if began.elapsed() > STOP {
                return Err(Failure::Because(
                    "the host does not close connections that were left".to_owned(),
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        if !ended_within(&mut self.process, STOP) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
