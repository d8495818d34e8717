//! Names, numbers and hashes of the chat: newtypes that are checked once, at the edge.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gx_core::id::ParseIdError;
use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
                if check(text) { Ok(Self(text.to_owned())) } else { Err(ParseIdError::new($noun, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
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

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The id of a group: 1 to 32 characters of `[a-z0-9_-]`, the first a letter.
    GroupId,
    "group id",
    "it has 1 to 32 lower-case letters of a to z, digits, '_' or '-', and begins with a letter",
    |text| (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        && text.as_bytes()[0].is_ascii_lowercase()
);

name!(
    /// The name of a user: 1 to 64 bytes, letters and digits of any script, `_`, `.` and `-`, the first a letter or
    /// digit. Which names are too alike is the policy's to say.
    UserName,
    "user name",
    "it has 1 to 64 bytes of letters, digits, '_', '.' or '-', and begins with a letter or digit",
    |text| (1..=64).contains(&text.len())
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && text.chars().next().is_some_and(char::is_alphanumeric)
);

name!(
    /// What a client calls a message of its own until it has a number: 1 to 64 characters of `[A-Za-z0-9_.-]`.
    Cid,
    "message id",
    "it has 1 to 64 letters of a to z, digits, '_', '.' or '-'",
    is_word
);

name!(
    /// What a client calls the machine it runs on: 1 to 64 characters of `[A-Za-z0-9_.-]`.
    DeviceId,
    "device id",
    "it has 1 to 64 letters of a to z, digits, '_', '.' or '-'",
    is_word
);

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl Cid {
    /// Makes one of a time in milliseconds since 1970 and what no other message of that moment has. Those of one moment are
    /// beside each other in the server's index, whoever sent them.
    ///
    /// # Errors
    /// [`ParseIdError`] where `rest` has more than 52 characters, or others than a name may have.
    pub fn of(now_ms: u64, rest: &str) -> Result<Self, ParseIdError> {
        const BITS: u64 = (1 << 44) - 1; // until 2527
        format!("{:011x}-{rest}", now_ms & BITS).parse()
    }
}

/// The number of a message in its group, from 1, without gaps; 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Seq(u64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);
    /// The first message.
    pub const ONE: Self = Self(1);
    /// The largest: what every reader of JSON can hold in a number (RFC 8259, section 6).
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Returns the number, if it is one that a message can have.
    pub fn new(number: u64) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the number after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(Self::MAX.0))
    }
}

impl TryFrom<u64> for Seq {
    type Error = ParseIdError;
    fn try_from(number: u64) -> Result<Self, ParseIdError> {
        let rule = "it is at most 9007199254740991";
        Self::new(number).ok_or_else(|| ParseIdError::new("message number", &number.to_string(), rule))
    }
}

impl From<Seq> for u64 {
    fn from(seq: Seq) -> u64 {
        seq.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a message and of all before it in its group: SHA-256, as base64 for URLs without padding (RFC 4648,
/// section 5) in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// What stands before the first message of a group.
    pub const ROOT: Self = Self([0; 32]);

    /// Returns the hash with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ChainHash {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| ParseIdError::new("hash", text, "it is 43 characters of base64 for URLs"))
    }
}

impl TryFrom<String> for ChainHash {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ChainHash> for String {
    fn from(hash: ChainHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_called_after_its_time_whatever_the_clock_says() {
        let of = |ms| Cid::of(ms, &format!("{}-{}", "f".repeat(30), u64::MAX)).unwrap();
        assert!(of(1_795_366_588_902) < of(1_795_366_588_903) && of(0) < of(1));
        assert_eq!(of(u64::MAX).as_str().len(), 11 + 1 + 30 + 1 + 20);
        assert!(Cid::of(0, &"x".repeat(53)).is_err() && Cid::of(0, "a b").is_err());
    }

    #[test]
    fn names_are_checked_at_the_edge() {
        for good in ["h", "own-troop", "a1_b"] {
            assert!(good.parse::<GroupId>().is_ok(), "{good}");
        }
        for bad in ["", "H", "1a", "a b", "ä", &"a".repeat(33)] {
            assert!(bad.parse::<GroupId>().is_err(), "{bad}");
        }
        for good in ["Army3", "Zoë", "山田", "a.b-c_d"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "a b", "a\u{202e}b", "a\nb", "a:b", "e\u{301}", &"a".repeat(65)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "ü", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<Cid>().is_err() && bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_none() {
        assert!(serde_json::from_str::<Seq>("9007199254740991").is_ok());
        for bad in ["9007199254740992", "18446744073709551616", "-1", "1.5", "\"1\""] {
            assert!(serde_json::from_str::<Seq>(bad).is_err(), "{bad}");
        }
        assert_eq!(Seq::MAX.next(), Seq::MAX);
    }

    #[test]
    fn a_hash_is_text_and_back() {
        let hash = ChainHash::from_bytes([7; 32]);
        assert_eq!(hash.to_string().len(), 43);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("AA".parse::<ChainHash>().is_err());
    }
}
