//! Saying what a table has without sending it: fingerprints, short ids, buckets of node ids and a digest over them.

use std::cmp::Ordering;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::NodeId;

/// The bytes of one bucket in a digest. 48 bits of SHA-256: nobody finds another set of records of this hash, as each
/// attempt costs a signature, and a digest is 2,048 characters.
const HASH_BYTES: usize = 6;

/// What tells a record's text from all others: the first 16 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Returns the fingerprint of a text.
    pub fn of(text: &str) -> Self {
        Self(first(Sha256::digest(text.as_bytes()).as_slice()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The six bytes a record is known by in an exchange: the first of its node id, then five of its fingerprint. Two
/// records of one id are met once in 2^40 within a bucket; one of them is then missed until it is signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(pub [u8; 6]);

impl ShortId {
    /// Returns the short id of a node's record.
    pub fn of(node: NodeId, fingerprint: Fingerprint) -> Self {
        let [a, b, c, d, e, ..] = fingerprint.0;
        Self([node.as_bytes()[0], a, b, c, d, e])
    }

    /// Returns the bucket it is in.
    pub fn bucket(self) -> u8 {
        self.0[0]
    }
}

/// Short ids in ascending order, none twice. JSON: all their bytes in one text of base64 without padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShortIds(Vec<ShortId>);

impl ShortIds {
    /// Returns them as a slice, in order.
    pub fn as_slice(&self) -> &[ShortId] {
        &self.0
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether it is there, in O(log n).
    pub fn contains(&self, id: ShortId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Returns those that are not in `other`, in O(n + m).
    pub fn without(&self, other: &Self) -> Self {
        let mut others = other.0.iter().peekable();
        let missing = self.0.iter().filter(|id| {
            while others.next_if(|other| other < id).is_some() {}
            others.peek() != Some(id)
        });
        Self(missing.copied().collect())
    }

    /// Returns those that are here or in `other`, in O(n + m).
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (mut a, mut b) = (&self.0[..], &other.0[..]);
        let mut all = Vec::with_capacity(a.len() + b.len());
        while let ([x, after_x @ ..], [y, after_y @ ..]) = (a, b) {
            all.push(*x.min(y));
            (a, b) = match x.cmp(y) {
                Ordering::Less => (after_x, b),
                Ordering::Greater => (a, after_y),
                Ordering::Equal => (after_x, after_y),
            };
        }
        all.extend_from_slice(a);
        all.extend_from_slice(b);
        Self(all)
    }

    /// Returns those of one bucket.
    pub fn in_bucket(&self, bucket: u8) -> &[ShortId] {
        let start = self.0.partition_point(|id| id.bucket() < bucket);
        let end = self.0.partition_point(|id| id.bucket() <= bucket);
        &self.0[start..end]
    }

    /// Takes out the first so many that come at or after a bucket, and round again from the beginning.
    pub fn take_from(&mut self, bucket: u8, count: usize) -> Self {
        let start = self.0.partition_point(|id| id.bucket() < bucket);
        let end = self.0.len().min(start.saturating_add(count));
        let again = start.min(count - (end - start));
        let mut taken: Vec<ShortId> = self.0.drain(start..end).collect();
        taken.splice(..0, self.0.drain(..again));
        Self(taken)
    }

    /// Takes out those in some buckets.
    pub fn take_within(&mut self, buckets: &Buckets) -> Self {
        let (taken, kept) = self.0.iter().partition(|id| buckets.contains(id.bucket()));
        self.0 = kept;
        Self(taken)
    }

    /// Returns what goes over the wire for so many.
    pub fn text_bytes(&self) -> usize {
        self.0.len() * 8
    }
}

impl FromIterator<ShortId> for ShortIds {
    fn from_iter<I: IntoIterator<Item = ShortId>>(ids: I) -> Self {
        let mut ids: Vec<ShortId> = ids.into_iter().collect();
        // They mostly come in order, thousands at a time.
        if !ids.is_sorted_by(|a, b| a < b) {
            ids.sort_unstable();
            ids.dedup();
        }
        Self(ids)
    }
}

/// Which of the 256 buckets. A node's bucket is the first byte of its id. JSON: 64 hexadecimal digits, bucket 0 the
/// highest bit of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets([u8; 32]);

impl Buckets {
    /// All of them.
    pub const ALL: Self = Self([0xff; 32]);
    /// None of them.
    pub const NONE: Self = Self([0; 32]);

    /// Returns whether a bucket is among them.
    pub fn contains(&self, bucket: u8) -> bool {
        self.0[usize::from(bucket / 8)] & (0x80 >> (bucket % 8)) != 0
    }

    /// Adds a bucket.
    pub fn insert(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 8)] |= 0x80 >> (bucket % 8);
    }

    /// Returns those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = *self;
        both.0.iter_mut().zip(other.0).for_each(|(byte, other)| *byte &= other);
        both
    }

    /// Returns all that are in, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        let these = *self;
        (0..=u8::MAX).filter(move |bucket| these.contains(*bucket))
    }

    /// Returns how many are in.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Returns whether none is in.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

/// A hash for each of the 256 buckets: six bytes of the SHA-256 of all fingerprints in it, in ascending order and without
/// anything between them; zeros for an empty one. JSON: base64, 2,048 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest(Box<[[u8; HASH_BYTES]; 256]>);

impl Digest {
    /// Makes a digest of each bucket's hash.
    pub fn new(hash: impl FnMut(u8) -> [u8; HASH_BYTES]) -> Self {
        let mut hash = hash;
        let mut all = Box::new([[0; HASH_BYTES]; 256]);
        for (bucket, place) in (0..=u8::MAX).zip(all.iter_mut()) {
            *place = hash(bucket);
        }
        Self(all)
    }

    /// Returns the hash of a bucket with these fingerprints, in any order.
    pub fn of_bucket(fingerprints: &mut [Fingerprint]) -> [u8; HASH_BYTES] {
        if fingerprints.is_empty() {
            return [0; HASH_BYTES];
        }
        fingerprints.sort_unstable();
        let mut hash = Sha256::new();
        fingerprints.iter().for_each(|fingerprint| hash.update(fingerprint.0));
        first(hash.finalize().as_slice())
    }

    /// Returns the buckets in which two digests differ.
    pub fn differing(&self, other: &Self) -> Buckets {
        let mut buckets = Buckets::NONE;
        let pairs = (0..=u8::MAX).zip(self.0.iter().zip(other.0.iter()));
        pairs.filter(|(_, (mine, theirs))| mine != theirs).for_each(|(bucket, _)| buckets.insert(bucket));
        buckets
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode(self.0.as_flattened()))
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().expect("a SHA-256 has 32 bytes")
}

/// Gives a type of bytes its text.
macro_rules! as_text {
    ($name:ident, $what:literal, $schema:expr, |$this:ident| $write:expr, |$text:ident| $read:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $this = self;
                serializer.serialize_str(&$write)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                let $text: &str = &text;
                let read: Option<Self> = $read;
                read.ok_or_else(|| serde::de::Error::custom(concat!("it is not ", $what)))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

as_text!(
    ShortIds,
    "a base64 text of ascending short ids, eight characters each",
    schemars::json_schema!({ "type": "string", "contentEncoding": "base64" }),
    |ids| {
        let bytes: Vec<u8> = ids.0.iter().flat_map(|id| id.0).collect();
        STANDARD_NO_PAD.encode(bytes)
    },
    |text| {
        let bytes = STANDARD_NO_PAD.decode(text).ok();
        let (ids, rest) = bytes.as_deref().map(|bytes| bytes.as_chunks::<6>()).unwrap_or((&[], &[0]));
        let ids: Vec<ShortId> = ids.iter().copied().map(ShortId).collect();
        (rest.is_empty() && ids.is_sorted_by(|a, b| a < b)).then_some(Self(ids))
    }
);

as_text!(
    Buckets,
    "a set of buckets, 64 hexadecimal digits",
    schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
    |buckets| buckets.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    |text| text.parse().ok()
);

as_text!(
    Digest,
    "a digest, 2048 characters of base64",
    schemars::json_schema!({ "type": "string", "minLength": 2048, "maxLength": 2048 }),
    |digest| STANDARD_NO_PAD.encode(digest.0.as_flattened()),
    |text| {
        let bytes = STANDARD_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 256 * HASH_BYTES);
        bytes.map(|bytes| Self::new(|bucket| first(&bytes[usize::from(bucket) * HASH_BYTES..])))
    }
);

impl std::str::FromStr for Buckets {
    type Err = crate::id::ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || crate::id::ParseIdError {
            noun: "set of buckets",
            value: text.chars().take(80).collect(),
            rule: "it has 64 hexadecimal digits",
        };
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(bad)?;
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(digits.as_chunks::<2>().0)
            .for_each(|(byte, [high, low])| *byte = high << 4 | low);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(numbers: &[u64]) -> ShortIds {
        numbers.iter().map(|n| ShortId(first(&n.to_be_bytes()[2..]))).collect()
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        for bad in ["", "AAAA", &"A".repeat(2_047), &"A".repeat(2_052), &"?".repeat(2_048)] {
            assert!(serde_json::from_value::<Digest>(serde_json::json!(bad)).is_err(), "{bad:.10}");
        }
        for bad in ["AAAAAAA", "AAAAAAABAAAAAAAA", "AAAAAAAAAAAAAAAA", "AAAAAAAAAAA", "="] {
            assert!(serde_json::from_value::<ShortIds>(serde_json::json!(bad)).is_err(), "{bad}");
        }
        for bad in ["", "ff", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Buckets>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_arc_of_short_ids_goes_round() {
        let mut all: ShortIds =
            [1, 7, 200, 250].into_iter().map(|bucket| ShortId([bucket, 0, 0, 0, 0, 9])).collect();
        let taken = all.take_from(201, 2);
        assert_eq!(taken.as_slice().iter().map(|id| id.bucket()).collect::<Vec<_>>(), [1, 250]);
        assert_eq!(all.as_slice().iter().map(|id| id.bucket()).collect::<Vec<_>>(), [7, 200]);
        assert_eq!(all.take_from(0, 9).len(), 2);
        assert!(all.is_empty() && all.take_from(3, 4).is_empty());
    }

    proptest! {
        #[test]
        fn texts_survive_a_round_trip(numbers in proptest::collection::vec(0_u64..1 << 48, 0..40), bytes: [u8; 32]) {
            let ids = ids(&numbers);
            let text = serde_json::to_string(&ids).unwrap();
            prop_assert_eq!(text.len() - 2, ids.text_bytes());
            prop_assert_eq!(serde_json::from_str::<ShortIds>(&text).unwrap(), ids);
            let buckets = Buckets(bytes);
            let text = serde_json::to_string(&buckets).unwrap();
            prop_assert_eq!(serde_json::from_str::<Buckets>(&text).unwrap(), buckets);
            prop_assert_eq!(buckets.iter().count(), buckets.len());
            let digest = Digest::new(|bucket| [bucket; HASH_BYTES]);
            let text = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        }

        #[test]
        fn a_difference_of_short_ids_is_that_of_sets(
            a in proptest::collection::vec(0_u64..60, 0..40),
            b in proptest::collection::vec(0_u64..60, 0..40),
        ) {
            let expected: Vec<u64> = a.iter().copied().filter(|n| !b.contains(n)).collect();
            prop_assert_eq!(ids(&a).without(&ids(&b)), ids(&expected));
            prop_assert_eq!(ids(&a).union(&ids(&b)), ids(&[a, b].concat()));
        }
    }
}
