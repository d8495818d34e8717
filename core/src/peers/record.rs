//! What a server says of itself, signed with its key; nobody else can say it.
//!
//! The text that was signed travels as it is. So no form of it is canonical, and fields this version does not know are
//! kept and passed on. There is one way to a [`VerifiedRecord`]: [`SignedRecord::verify`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PluginName, Timestamp};
use crate::peers::address;

mod signed;

pub use signed::{Signature, SignedRecord, VerifiedRecord, Verify};

/// What is signed begins with this, so that no other signature passes for a record's.
const PURPOSE: &[u8] = b"gx peer record 1\n";
/// How much that is: what is signed is so much longer than a record's text.
pub const RECORD_PURPOSE_BYTES: usize = PURPOSE.len();
/// A record and its signature are at most 1 KiB.
const MAX_TEXT_BYTES: usize = 1_024 - 64;
/// The label by which a server says that it serves a chat.
pub const CHAT_LABEL: &str = "chat";
const MAX_ADDRESSES: usize = 8;
const MAX_GPUS: usize = 16;
const MAX_RUNTIMES: usize = 16;
const MAX_LABELS: usize = 16;
const MAX_WORD: usize = 32;
const MAX_LABEL: usize = 63;
const MAX_MODEL: usize = 64;
/// JSON's numbers are exact up to here (RFC 8259, section 6).
const MAX_NUMBER: u64 = 1 << 53;

/// What a server says of itself.
///
/// A record is a lease: it ends unless its owner signs a newer one in time, and at once by one that says
/// [`gone`](PeerRecord::gone).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRecord {
    /// Who says it.
    pub node_id: NodeId,
    /// Grows with each record of this server; milliseconds since the epoch do, even after its state was lost.
    pub seq: u64,
    /// When it was signed; whole seconds.
    pub issued_at: Timestamp,
    /// When it ends; whole seconds.
    pub expires_at: Timestamp,
    /// Where it listens, the best first; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// It is shutting down: forget it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// The version of its program; at most 32 characters, as [`platform`](PeerRecord::platform).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `linux/amd64`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Threads the kernel schedules on.
    #[serde(default)]
    pub cpus: u32,
    /// Main memory, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// GPUs; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// Names of healthy runtimes; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<PluginName>,
    /// The owner's own words; at most 16, keys of `[a-z0-9_.-]` and values up to 63 bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A GPU of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// Its model; at most 64 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Its memory, in bytes; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is larger than a record may be.
    #[error("the record has {bytes} bytes, {MAX_TEXT_BYTES} are allowed")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// It is no record.
    #[error("the record is damaged: {because}")]
    Damaged {
        /// What the parser says.
        because: String,
    },
    /// A field is not as it has to be.
    #[error("{field} of the record {rule}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
    /// Its time is over.
    #[error("the record of {node} ended {at}")]
    Expired {
        /// Whose it is.
        node: NodeId,
        /// When it ended.
        at: Timestamp,
    },
    /// It was signed by a clock that is far ahead.
    #[error("the record of {node} is from the future: {at}")]
    Future {
        /// Whose it is.
        node: NodeId,
        /// When it says it was signed.
        at: Timestamp,
    },
    /// Whoever it names has not signed it.
    #[error("the record is not signed by {node}")]
    Forged {
        /// Whom it names.
        node: NodeId,
    },
}

impl PeerRecord {
    /// The longest a record may last.
    pub const MAX_LEASE: Duration = Duration::from_secs(7 * 86_400);
    /// How long a record lasts by default: three of [`REFRESH`](PeerRecord::REFRESH), so that three may be missed.
    pub const LEASE: Duration = Duration::from_secs(24 * 3_600);
    /// How often a server signs a new record: at 10,000 servers each table then takes in 62 B/s of them.
    pub const REFRESH: Duration = Duration::from_secs(8 * 3_600);

    /// Returns a record with nothing but who, from when and until when.
    pub fn new(node_id: NodeId, seq: u64, now: Timestamp, lease: Duration) -> Self {
        let ends = now.unix().saturating_add(i64::try_from(lease.as_secs()).unwrap_or(i64::MAX));
        Self {
            node_id,
            seq,
            issued_at: Timestamp::from_unix(now.unix()),
            expires_at: Timestamp::from_unix(ends),
            addresses: Vec::new(),
            gone: false,
            version: String::new(),
            platform: String::new(),
            cpus: 0,
            memory_bytes: 0,
            gpus: Vec::new(),
            runtimes: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Returns the record by which this one's owner takes leave. It lasts as long as this one, which it replaces.
    #[must_use]
    pub fn farewell(&self, now: Timestamp) -> Self {
        let issued_at =
            Timestamp::from_unix(now.unix().clamp(self.issued_at.unix(), self.expires_at.unix() - 1));
        let last =
            Self { seq: self.seq + 1, issued_at, expires_at: self.expires_at, gone: true, ..self.clone() };
        let (addresses, gpus, runtimes, labels) = Default::default();
        Self { addresses, gpus, runtimes, labels, ..last }
    }

    /// Signs it. `sign` is given what to sign and returns the signature (RFC 8032), as `NodeKey::sign` does.
    ///
    /// # Errors
    /// [`RecordError::Field`] and [`RecordError::TooLarge`], as whoever receives it would say.
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<SignedRecord, RecordError> {
        self.check()?;
        let text = serde_json::to_string(self).map_err(damaged)?;
        check_size(&text)?;
        let signature = Signature(sign(&message(&text)));
        Ok(SignedRecord { record: text, signature })
    }

    fn check(&self) -> Result<(), RecordError> {
        let rules: [(bool, &'static str, &'static str); 13] = [
            (self.seq < MAX_NUMBER, "seq", "is at most 2^53"),
            (whole(self.issued_at), "issued_at", "is in whole seconds"),
            (whole(self.expires_at), "expires_at", "is in whole seconds"),
            (self.lasts(), "expires_at", "is after issued_at, by at most seven days"),
            (self.addresses.len() <= MAX_ADDRESSES, "addresses", "has at most 8 entries"),
            (self.gone || !self.addresses.is_empty(), "addresses", "has at least one entry"),
            (
                self.addresses.iter().all(|a| address::possible(*a)),
                "addresses",
                "has one that reaches nobody",
            ),
            (word(&self.version), "version", "has at most 32 visible ASCII characters"),
            (word(&self.platform), "platform", "has at most 32 visible ASCII characters"),
            (self.memory_bytes < MAX_NUMBER, "memory_bytes", "is at most 2^53"),
            (
                self.gpus.len() <= MAX_GPUS && self.gpus.iter().all(Gpu::possible),
                "gpus",
                "has at most 16 clean entries",
            ),
            (self.runtimes.len() <= MAX_RUNTIMES, "runtimes", "has at most 16 entries"),
            (
                self.labels.len() <= MAX_LABELS && self.labels.iter().all(|(key, value)| label(key, value)),
                "labels",
                "has at most 16 entries, each with a key of [a-z0-9_.-] and a clean value of at most 63 bytes",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(RecordError::Field { field, rule }),
            None => Ok(()),
        }
    }

    fn lasts(&self) -> bool {
        let span = self.expires_at.unix().saturating_sub(self.issued_at.unix());
        span > 0 && span <= Self::MAX_LEASE.as_secs() as i64
    }
}

impl Gpu {
    fn possible(&self) -> bool {
        clean(&self.model, MAX_MODEL) && self.memory_bytes < MAX_NUMBER
    }
}

fn whole(at: Timestamp) -> bool {
    at == Timestamp::from_unix(at.unix())
}

fn word(text: &str) -> bool {
    text.len() <= MAX_WORD && text.bytes().all(|b| b.is_ascii_graphic())
}

fn label(key: &str, value: &str) -> bool {
    is_label_key(key) && clean(value, MAX_LABEL)
}

/// Returns whether a label may have this key: 1 to 63 of `[a-z0-9_.-]`.
pub fn is_label_key(key: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    (1..=MAX_LABEL).contains(&key.len()) && key.bytes().all(letter)
}

fn clean(text: &str, bytes: usize) -> bool {
    text.len() <= bytes && text.chars().all(harmless)
}

/// Returns whether a character shows as what it is: none that moves the cursor, is invisible or turns text round.
fn harmless(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !hidden && (c == ' ' || !c.is_whitespace())
}

/// Makes a text of this machine fit for a record: what is invisible goes, as does what is beyond so many bytes.
pub fn clean_text(text: &str, bytes: usize) -> String {
    let shown = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| harmless(*c));
    let mut kept = String::new();
    for c in shown {
        if kept.len() + c.len_utf8() > bytes {
            break;
        }
        kept.push(c);
    }
    kept.trim().to_owned()
}

fn check_size(text: &str) -> Result<(), RecordError> {
    if text.len() > MAX_TEXT_BYTES { Err(RecordError::TooLarge { bytes: text.len() }) } else { Ok(()) }
}

fn damaged(error: serde_json::Error) -> RecordError {
    RecordError::Damaged { because: error.to_string() }
}

fn message(text: &str) -> Vec<u8> {
    [PURPOSE, text.as_bytes()].concat()
}
