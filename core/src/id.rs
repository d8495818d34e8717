//! Ids, names and points in time: newtypes that are checked once, at the edge, by `FromStr`.
//!
//! What a name refers to is decided elsewhere; here is only what it may look like.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base32;

/// Says why a text is not an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {noun}: {rule}")]
pub struct ParseIdError {
    /// What the text was meant to be, for example `container name`.
    pub noun: &'static str,
    /// The text, shortened to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl ParseIdError {
    /// Says that a text is not what it was meant to be, and shortens it.
    pub fn new(noun: &'static str, value: &str, rule: &'static str) -> Self {
        Self { noun, value: value.chars().take(80).collect(), rule }
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseIdError::new($noun, text, $rule))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype!(
    /// The id an engine gives to a container: 1 to 128 characters of `[A-Za-z0-9_.-]`, the first a letter or digit,
    /// so that none is a path.
    ContainerId,
    "container id",
    "it has 1 to 128 letters, digits, '_', '.' or '-', and begins with a letter or digit",
    |text| (1..=128).contains(&text.len())
        && text.bytes().all(word_byte)
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

text_newtype!(
    /// The name of a container: 1 to 63 characters of `[a-z0-9_.-]`, the first a letter or digit.
    ContainerName,
    "container name",
    "it has 1 to 63 lower-case letters, digits, '_', '.' or '-', and begins with a letter or digit",
    |text| (1..=63).contains(&text.len())
        && text.bytes().all(|b| word_byte(b) && !b.is_ascii_uppercase())
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

text_newtype!(
    /// The name of an engine's volume: 2 to 63 characters of `[A-Za-z0-9_.-]`, the first a letter or digit.
    VolumeName,
    "volume name",
    "it has 2 to 63 letters, digits, '_', '.' or '-', and begins with a letter or digit",
    |text| (2..=63).contains(&text.len())
        && text.bytes().all(word_byte)
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

text_newtype!(
    /// The name of a plugin: 1 to 32 characters of `[a-z0-9-]`, the first a letter.
    PluginName,
    "plugin name",
    "it has 1 to 32 lower-case letters, digits or '-', and begins with a letter",
    |text| (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.as_bytes()[0].is_ascii_lowercase()
);

text_newtype!(
    /// What a host calls a member, or a member a host: 1 to 40 characters of `[A-Za-z0-9_.-]`, the first a letter or
    /// digit. None is long enough to be taken for a [`NodeId`], and none looks like another in another alphabet.
    PeerName,
    "name of a member or host",
    "it has 1 to 40 letters of a to z, digits, '_', '.' or '-', and begins with a letter or digit",
    |text| (1..=40).contains(&text.len())
        && text.bytes().all(word_byte)
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

text_newtype!(
    /// The id of an invitation: 16 characters of lower-case base32, 10 random bytes.
    InviteId,
    "id of an invitation",
    "it has 16 characters of base32 (a-z, 2-7)",
    |text| text.len() == 16 && base32::decode(text).is_some()
);

impl InviteId {
    /// Returns the id made of these bytes.
    pub fn from_bytes(bytes: &[u8; 10]) -> Self {
        Self(base32::encode(bytes))
    }

    /// Returns the bytes it is made of.
    pub fn to_bytes(&self) -> [u8; 10] {
        let bytes = base32::decode(&self.0).and_then(|bytes| bytes.try_into().ok());
        bytes.expect("16 characters of base32 are ten bytes")
    }
}

text_newtype!(
    /// A key under which a request may be repeated without being done twice:
    /// 1 to 64 visible ASCII characters.
    IdempotencyKey,
    "idempotency key",
    "it has 1 to 64 visible ASCII characters",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
}

impl ContainerId {
    /// Returns the first 12 characters, as tables show them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The identity of a node: the public half of its ed25519 key (RFC 8032), 32 bytes.
///
/// Written as 52 characters of lower-case base32 without padding (RFC 4648).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Wraps the 32 bytes of a public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 10 characters, as tables show them.
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32::encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError::new("node id", text, "it has 52 characters of base32 (a-z, 2-7)");
        if text.len() != 52 {
            return Err(bad());
        }
        let bytes = base32::decode(&text.to_ascii_lowercase()).ok_or_else(bad)?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for NodeId {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.to_string()
    }
}

/// A point in time, in UTC. JSON and text: RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Timestamp(
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub OffsetDateTime,
);

impl Timestamp {
    /// Returns the point `seconds` after the Unix epoch; outside the years 0 to 9999 the epoch.
    pub fn from_unix(seconds: i64) -> Self {
        Self(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Returns the seconds since the Unix epoch.
    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Returns the milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> i64 {
        (self.0.unix_timestamp_nanos() / 1_000_000) as i64
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(at: std::time::SystemTime) -> Self {
        Self(at.into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.format(&Rfc3339).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(Self)
            .map_err(|_| ParseIdError::new("point in time", text, "it is written as in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_checked_at_the_edge() {
        assert!("web-1".parse::<ContainerName>().is_ok());
        for bad in ["", "-web", "Web", "a/b", "a b", "..\u{202e}", &"x".repeat(64)] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
        assert!("1podman".parse::<PluginName>().is_err());
        for bad in ["a/../b", "..", ".", "-rf", ""] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn node_ids_survive_a_round_trip(bytes: [u8; 32]) {
            let id = NodeId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_a_node_id_or_an_error(text in "\\PC{0,60}") {
            let _ = text.parse::<NodeId>();
        }
    }
}
