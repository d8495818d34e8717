//! Records on their way: signed by their owner, and verified by whoever gets them.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PeerRecord, RecordError, check_size, clean_text, message};
use crate::id::{NodeId, Timestamp};
use crate::peers::digest::{Fingerprint, ShortId};

/// How far another clock may be ahead of mine.
const CLOCKS_APART_S: i64 = 600;

/// Tells whether a node has signed a message; `gx_identity::verify` is one.
pub type Verify<'a> = &'a dyn Fn(NodeId, &[u8], &[u8; 64]) -> bool;

/// A record as it travels. Nothing in it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedRecord {
    /// The text that was signed: a [`PeerRecord`] as JSON.
    pub record: String,
    /// The signature (RFC 8032) of `gx peer record 1\n` and the text, in base64 without padding.
    pub signature: Signature,
}

/// A signature. JSON: base64 (RFC 4648, section 4) without padding, 86 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl JsonSchema for Signature {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Signature".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 86, "maxLength": 86 })
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a signature has 86 characters of base64"))
    }
}

/// A record that its owner has signed and whose every field is as it has to be. Copies share the text.
#[derive(Clone)]
pub struct VerifiedRecord(Arc<Held>);

struct Held {
    node_id: NodeId,
    seq: u64,
    expires_at: i64,
    gone: bool,
    fingerprint: Fingerprint,
    signature: Signature,
    addresses: Box<[SocketAddr]>,
    text: Box<str>,
}

impl SignedRecord {
    /// Checks everything, the signature last, as it costs most.
    ///
    /// # Errors
    /// Each variant of [`RecordError`].
    pub fn verify(&self, verify: Verify<'_>, now: Timestamp) -> Result<VerifiedRecord, RecordError> {
        check_size(&self.record)?;
        let record: PeerRecord = serde_json::from_str(&self.record).map_err(|error| read_error(&error))?;
        record.check()?;
        let node = record.node_id;
        if record.expires_at <= now {
            return Err(RecordError::Expired { node, at: record.expires_at });
        }
        if record.issued_at.unix() > now.unix().saturating_add(CLOCKS_APART_S) {
            return Err(RecordError::Future { node, at: record.issued_at });
        }
        if !verify(node, &message(&self.record), &self.signature.0) {
            return Err(RecordError::Forged { node });
        }
        Ok(VerifiedRecord(Arc::new(Held {
            node_id: node,
            seq: record.seq,
            expires_at: record.expires_at.unix(),
            gone: record.gone,
            fingerprint: Fingerprint::of(&self.record),
            signature: self.signature,
            addresses: record.addresses.into_boxed_slice(),
            text: self.record.as_str().into(),
        })))
    }
}

fn read_error(error: &serde_json::Error) -> RecordError {
    RecordError::Damaged { because: clean_text(&error.to_string(), 160) }
}

impl VerifiedRecord {
    /// Returns whose it is.
    pub fn node_id(&self) -> NodeId {
        self.0.node_id
    }

    /// Returns its number among the records of its owner.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// Returns when it ends.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_unix(self.0.expires_at)
    }

    /// Returns whether its owner takes leave with it.
    pub fn is_gone(&self) -> bool {
        self.0.gone
    }

    /// Returns where its owner says it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// Returns what tells its text from all others.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Returns the few bytes it is known by in an exchange.
    pub fn short_id(&self) -> ShortId {
        ShortId::of(self.0.node_id, self.0.fingerprint)
    }

    /// Returns the text that was signed.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Reads all of it.
    pub fn record(&self) -> PeerRecord {
        serde_json::from_str(&self.0.text).expect("it was read when it was verified")
    }

    /// Returns it as it travels.
    pub fn signed(&self) -> SignedRecord {
        SignedRecord { record: self.0.text.as_ref().to_owned(), signature: self.0.signature }
    }

    /// Returns the bytes of memory that it takes, and that all its copies share.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Held>() + 16 + self.0.text.len() + size_of_val(&*self.0.addresses)
    }

    /// Returns what it takes as JSON: its text with each quote escaped, its signature, and what is around them.
    pub fn wire_bytes(&self) -> usize {
        self.text().len() + self.text().bytes().filter(|b| matches!(b, b'"' | b'\\')).count() + 118
    }

    /// Returns an order of records that is the same everywhere.
    pub(in crate::peers) fn order(&self) -> (Fingerprint, Signature) {
        (self.0.fingerprint, self.0.signature)
    }
}

impl PartialEq for VerifiedRecord {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.order() == other.order() && self.text() == other.text())
    }
}

impl Eq for VerifiedRecord {}

impl std::fmt::Debug for VerifiedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedRecord({})", self.text())
    }
}

impl Serialize for VerifiedRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.signed().serialize(serializer)
    }
}
