//! The host's firewall for members' containers: rules of its own in the kernel (nftables), written as a whole.
//!
//! They are written when a member's container is made or started, and when the server starts with such containers
//! there; each time it is looked whether they still stand, and while a server runs whenever the kernel tells of a
//! change. They stay when the server ends, as containers run on, and go with the last member's container.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use gx_core::NodeId;
use gx_core::config::PolicyConfig;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::error::{Result, ServerError};

mod machine;
mod ruleset;
mod tables;
mod watch;
pub(super) use machine::roads;
use ruleset::Ruleset;
pub use tables::{FirewallTable, firewall_tables};

/// How long nft may take; it takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the program is looked for: a service's search path may lack the folders of administrators.
const PROGRAMS: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];

/// The rules of one host.
#[derive(Debug, Clone)]
pub(crate) struct Firewall {
    policy: Arc<PolicyConfig>,
    table: String,
    bridges: String,
    /// The data folder, for whoever finds the rules.
    folder: Arc<Path>,
    /// What was written last.
    written: Arc<Mutex<Option<Written>>>,
}

/// Rules as they were written, and as the kernel then told them.
#[derive(Debug)]
struct Written {
    text: String,
    told: Vec<u8>,
}

impl Firewall {
    /// Returns the firewall of a host; nothing is written yet.
    pub(crate) fn new(host: NodeId, policy: Arc<PolicyConfig>, data: &Path) -> Self {
        let host = host.to_string();
        let short = &host[..4];
        let (table, bridges) = (format!("gx_{short}"), format!("gx{short}-"));
        let folder = std::path::absolute(data).unwrap_or_else(|_| data.to_owned()).into();
        Self { policy, table, bridges, folder, written: Arc::default() }
    }

    /// Returns what the names of the host's bridges begin with, in its containers' networks and its rules: 7
    /// characters. Two hosts on one machine whose ids begin alike share it, and then their rules, not their networks.
    pub(crate) fn bridges(&self) -> &str {
        &self.bridges
    }

    /// Makes sure that the rules stand, where the host wants them.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    pub(crate) async fn ensure(&self) -> Result<()> {
        if !self.policy.firewall {
            return Ok(());
        }
        let text = self.text();
        let mut written = self.written.lock().await;
        if let Some(last) = written.as_ref().filter(|last| last.text == text)
            && self.told().await.is_ok_and(|told| told == last.told)
        {
            return Ok(());
        }
        *written = None;
        nft(&["-f", "-"], &text).await?;
        let told = self.told().await?;
        tracing::info!(table = self.table, "wrote the firewall of members' containers");
        *written = Some(Written { text, told });
        Ok(())
    }

    /// Makes sure that the rules stand, where this process has written them and a network needs them.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    async fn restore(&self) -> Result<()> {
        let needed = self.written.lock().await.is_some() && self.has_bridges();
        if needed { self.ensure().await } else { Ok(()) }
    }

    /// Whether any network of the host's members is up, so that rules are needed.
    pub(crate) fn has_bridges(&self) -> bool {
        machine::interfaces().iter().any(|name| name.starts_with(&self.bridges))
    }

    /// Removes the rules where nobody has. Whoever calls this has seen to it that nobody needs them meanwhile.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    pub(crate) async fn remove(&self) -> Result<()> {
        let mut written = self.written.lock().await;
        *written = None;
        // So it is no error where there is none.
        let table = &self.table;
        nft(&["-f", "-"], &format!("table inet {table}\ndelete table inet {table}\n")).await?;
        tracing::info!(table, "removed the firewall of members' containers, as there are none");
        Ok(())
    }

    /// Whether this process has written the rules, and they are not removed since.
    pub(crate) async fn is_written(&self) -> bool {
        self.written.lock().await.is_some()
    }

    /// Whether there are rules of this host in the kernel, as a crash may have left them.
    pub(crate) async fn stands(&self) -> bool {
        self.policy.firewall && self.told().await.is_ok()
    }

    /// Makes sure that the rules could be written, and writes nothing.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    pub(crate) async fn rehearse(&self) -> Result<()> {
        nft(&["-c", "-f", "-"], &self.text()).await.map(drop)
    }

    fn text(&self) -> String {
        let (resolvers, neighbours) = (machine::resolvers(), machine::neighbours());
        let Self { policy, table, bridges, folder, .. } = self;
        let note = tables::note(folder);
        let note = note.as_deref();
        Ruleset { table, bridges, note, policy, resolvers: &resolvers, neighbours: &neighbours }.text()
    }

    /// Returns the rules as the kernel tells them.
    async fn told(&self) -> Result<Vec<u8>> {
        nft(&["list", "table", "inet", &self.table], "").await
    }

    /// Makes sure that a running container's bridge is one that the rules are about: that its engine makes networks on
    /// this machine, where the rules are.
    ///
    /// # Errors
    /// [`ServerError::NoFirewall`].
    pub(crate) fn check_bridge(&self, bridge: &str) -> Result<()> {
        if !self.policy.firewall || (bridge.starts_with(&self.bridges) && is_interface(bridge)) {
            return Ok(());
        }
        let why = "the engine does not make its networks on this machine, where the firewall is".to_owned();
        Err(ServerError::NoFirewall { why })
    }
}

/// Returns whether there is such an interface in this process's network namespace: /sys may show those of another.
fn is_interface(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, None).is_ok_and(|any| name_to_index(any, name).is_ok())
}

/// Runs nft with this input, and returns its output.
async fn nft(args: &[&str], input: &str) -> Result<Vec<u8>> {
    let failed = |why: String| ServerError::NoFirewall { why };
    let program = PROGRAMS.iter().map(PathBuf::from).find(|program| program.exists());
    let program = program.ok_or_else(|| failed("the program nft is not installed".to_owned()))?;
    let run = async {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(format!("nft cannot be run: {error}"))),
        Err(_) => return Err(failed(format!("nft did not end within {} s", PATIENCE.as_secs()))),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    Err(failed(format!("nft says: {}", line.trim().chars().take(200).collect::<String>())))
}

type Addresses = BTreeSet<IpAddr>;
