//! The hosts that were joined, in `DATA/hosts.json`: what they are called, which node each is, where it was, and under
//! which id it knows this one. `--on` takes their names.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gx_core::{Endpoint, NodeId, PeerName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};
use crate::identity::replace;

/// The format this program reads and writes.
const FORMAT: u32 = 1;
/// Addresses of one host that are kept, where it moves.
const MAX_ADDRESSES: usize = 8;

/// A host that was joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// What it is called here.
    pub(crate) name: PeerName,
    /// Who it is.
    pub(crate) node: NodeId,
    /// Where it was, the best first.
    pub(crate) addresses: Vec<Endpoint>,
    /// Since when.
    pub(crate) since: Timestamp,
    /// The id under which it knows this node.
    pub(crate) knows: NodeId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    format: u32,
    hosts: Vec<Host>,
}

/// The hosts that were joined, by a node with this data folder.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    file: PathBuf,
}

impl Hosts {
    pub(crate) fn of(data: &Path) -> Self {
        Self { file: data.join("hosts.json") }
    }

    /// Returns all of them, in the order in which they were joined.
    pub(crate) fn all(&self) -> Result<Vec<Host>> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("read", &error)),
        };
        let damaged = |fault: String| {
            CliError::failed(format!("{} is damaged: {fault}", self.file.display()))
                .hint("move it away, and join the hosts again: the same tickets do, as long as they are members' own")
        };
        let book: Book = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match book.format {
            FORMAT => Ok(book.hosts),
            other => Err(damaged(format!("its format is {other}, and this gx reads {FORMAT}"))),
        }
    }

    /// Returns the host with this name or id.
    pub(crate) fn find(&self, reference: &str) -> Result<Option<Host>> {
        let fits = |host: &Host| host.name.as_str() == reference || host.node.to_string() == reference;
        Ok(self.all()?.into_iter().find(fits))
    }

    /// Notes a host, in the place of what was known of the same node, under a name no other has, and returns it.
    pub(crate) fn put(&self, host: Host) -> Result<Host> {
        self.change(|hosts| {
            let at = hosts.iter().position(|there| there.node == host.node);
            let others: Vec<String> = hosts
                .iter()
                .filter(|there| there.node != host.node)
                .map(|there| there.name.to_string())
                .collect();
            let host = Host { name: free(&host.name, &others), ..host };
            match at {
                Some(at) => hosts[at] = host.clone(),
                None => hosts.push(host.clone()),
            }
            host
        })
    }

    /// Notes that a host knows this node under another id.
    pub(crate) fn knows(&self, node: NodeId, id: NodeId) -> Result {
        self.change(|hosts| {
            hosts.iter_mut().filter(|host| host.node == node).for_each(|host| host.knows = id)
        })
    }

    /// Puts a host's new key in the place of its old one. That both are the same node must be proved.
    pub(crate) fn rename(&self, old: NodeId, new: NodeId) -> Result {
        self.change(|hosts| hosts.iter_mut().filter(|host| host.node == old).for_each(|host| host.node = new))
    }

    /// Puts where a host has proved to be now before where it was.
    pub(crate) fn moved(&self, node: NodeId, to: &Endpoint) -> Result {
        self.change(|hosts| {
            for host in hosts.iter_mut().filter(|host| host.node == node) {
                host.addresses.retain(|address| address != to);
                host.addresses.insert(0, to.clone());
                host.addresses.truncate(MAX_ADDRESSES);
            }
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Host>) -> T) -> Result<T> {
        let lock = self.file.with_extension("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock: File = opened.map_err(|error| self.failed("lock", &error))?;
        lock.lock().map_err(|error| self.failed("lock", &error))?;
        let mut hosts = self.all()?;
        let before = hosts.clone();
        let value = change(&mut hosts);
        if hosts != before {
            let book = Book { format: FORMAT, hosts };
            let text = serde_json::to_string_pretty(&book).expect("our own types always become JSON");
            replace(&self.file, &format!("{text}\n"))?;
        }
        Ok(value)
    }

    fn failed(&self, what: &str, error: &io::Error) -> CliError {
        CliError::io(format!("cannot {what} {}", self.file.display()), error)
    }
}

/// Returns the name, or the name with the first number that no other host has.
fn free(name: &PeerName, others: &[String]) -> PeerName {
    let numbered = (2_u32..).map(|number| {
        let end = format!("-{number}");
        let kept = name.as_str().len().min(40 - end.len());
        format!("{}{end}", &name.as_str()[..kept])
    });
    let all = std::iter::once(name.to_string()).chain(numbered);
    let free = all.into_iter().find(|name| !others.contains(name) && name != "local" && name != "best");
    free.and_then(|name| name.parse().ok()).expect("a name with a number behind it is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, number: u8) -> Host {
        Host {
            name: name.parse().unwrap(),
            node: NodeId::from_bytes([number; 32]),
            addresses: vec!["box".parse().unwrap()],
            since: Timestamp::from_unix(1_800_000_000),
            knows: NodeId::from_bytes([9; 32]),
        }
    }

    #[test]
    fn hosts_are_found_by_their_names_and_ids() {
        let data = tempfile::tempdir().unwrap();
        let hosts = Hosts::of(data.path());
        assert_eq!(hosts.find("lab").unwrap(), None);
        assert_eq!(hosts.put(host("lab", 1)).unwrap().name.as_str(), "lab");
        assert_eq!(hosts.put(host("lab", 2)).unwrap().name.as_str(), "lab-2");
        assert_eq!(hosts.put(host("local", 3)).unwrap().name.as_str(), "local-2", "that is this machine");
        assert_eq!(hosts.put(host("lab", 1)).unwrap().name.as_str(), "lab", "joined again");
        assert_eq!(hosts.all().unwrap().len(), 3);
        hosts.rename(NodeId::from_bytes([2; 32]), NodeId::from_bytes([4; 32])).unwrap();
        hosts.knows(NodeId::from_bytes([4; 32]), NodeId::from_bytes([8; 32])).unwrap();
        let found = hosts.find("lab-2").unwrap().unwrap();
        assert_eq!((found.node, found.knows), (NodeId::from_bytes([4; 32]), NodeId::from_bytes([8; 32])));
        assert_eq!(hosts.find(&found.node.to_string()).unwrap(), Some(found));
    }

    #[test]
    fn a_damaged_file_is_told_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let hosts = Hosts::of(data.path());
        for text in ["{", "{\"format\":2,\"hosts\":[]}"] {
            fs::write(data.path().join("hosts.json"), text).unwrap();
            assert!(hosts.put(host("lab", 1)).unwrap_err().message.contains("is damaged"));
            assert_eq!(fs::read_to_string(data.path().join("hosts.json")).unwrap(), text);
        }
    }
}
