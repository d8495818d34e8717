//! What a server says of itself: signed anew when it changes and before it ends, and taken back when it leaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gx_core::peers::{Gpu, PeerRecord, RecordError, Source, VerifiedRecord};
use gx_core::{PluginName, Timestamp};
use gx_identity::NodeKey;

use crate::{Peers, now};

/// What is true of a server now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Where it listens, the best first.
    pub addresses: Vec<SocketAddr>,
    /// The version of its program.
    pub version: String,
    /// `linux/amd64`.
    pub platform: String,
    /// Threads.
    pub cpus: u32,
    /// Main memory, in bytes.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: Vec<Gpu>,
    /// Healthy runtimes.
    pub runtimes: Vec<PluginName>,
    /// Its owner's words.
    pub labels: BTreeMap<String, String>,
}

impl Facts {
    fn record(&self, node: gx_core::NodeId, seq: u64, at: Timestamp, lease: Duration) -> PeerRecord {
        let Self { addresses, version, platform, cpus, memory_bytes, gpus, runtimes, labels } = self.clone();
        PeerRecord {
            addresses,
            version,
            platform,
            cpus,
            memory_bytes,
            gpus,
            runtimes,
            labels,
            ..PeerRecord::new(node, seq, at, lease)
        }
    }

    /// Leaves out what makes a record too large, the least important first.
    fn shorten(&mut self) -> bool {
        let more = self.addresses.len() > 1;
        self.labels.pop_last().is_some()
            || self.gpus.pop().is_some()
            || more && self.addresses.pop().is_some()
    }
}

/// Signs what is true now, if that is not what the last record says, or if a third of its time is over. Returns whether
/// there is a new record.
///
/// # Errors
/// [`RecordError`] for what no record may say.
pub fn renew(peers: &Peers, key: &NodeKey, facts: &Facts, lease: Duration) -> Result<bool, RecordError> {
    let at = now();
    let lease = lease.clamp(Duration::from_secs(3), PeerRecord::MAX_LEASE);
    let last = current(peers).map(|record| record.record());
    let above = last.as_ref().map_or(0, |last| last.seq).max(peers.seq_shown());
    let seq = above.saturating_add(1).max(u64::try_from(at.unix_ms()).unwrap_or(0));
    let mut facts = facts.clone();
    let signed = loop {
        match facts.record(key.id(), seq, at, lease).sign(|message| key.sign(message)) {
            Err(RecordError::TooLarge { .. }) if facts.shorten() => {}
            result => break result?,
        }
    };
    if last.is_some_and(|last| last.seq >= peers.seq_shown() && is_fresh(&last, &facts, at, lease)) {
        return Ok(false);
    }
    put(peers, signed.verify(&gx_identity::verify, at)?);
    Ok(true)
}

/// Returns whether a record says what is true now, and has most of its time before it.
fn is_fresh(last: &PeerRecord, facts: &Facts, at: Timestamp, lease: Duration) -> bool {
    let same = facts.record(last.node_id, last.seq, last.issued_at, lease);
    let age = at.unix() - last.issued_at.unix();
    !last.gone && last.expires_at > at && same == *last && (0..lease.as_secs() as i64 / 3).contains(&age)
}

/// Signs that the server with this key takes leave, and returns that record; nothing where the table does not say that it
/// is there. The key is this server's own, or one that it had: whoever changes its key leaves under the old one.
///
/// # Errors
/// [`RecordError`].
pub fn farewell(peers: &Peers, key: &NodeKey) -> Result<Option<VerifiedRecord>, RecordError> {
    let at = now();
    let last = peers.with(|table| table.get(key.id()).map(|entry| entry.record().clone()));
    let Some(last) = last.filter(|record| !record.is_gone() && record.expires_at() > at) else {
        return Ok(None);
    };
    let signed = last.record().farewell(at).sign(|message| key.sign(message))?;
    let record = signed.verify(&gx_identity::verify, at)?;
    put(peers, record.clone());
    Ok(Some(record))
}

fn current(peers: &Peers) -> Option<VerifiedRecord> {
    peers.with(|table| table.get(peers.own()).map(|entry| entry.record().clone()))
}

fn put(peers: &Peers, record: VerifiedRecord) {
    let result = peers.change(|table| table.insert(record, Source::Own, now()));
    if let Err(error) = result {
        tracing::warn!(%error, "this node's own record is not in its table");
    }
}
