//! What client and server say to each other: one JSON object a frame, `t` says which. Fields and frames that are not known
//! are ignored, so that each side may be newer than the other.
//!
//! Client: `hello`, then anything else. Server: `welcome` or a fatal `error`, then anything else.

use std::collections::{BTreeMap, BTreeSet};

use gx_core::NodeId;
use serde::{Deserialize, Serialize};

use crate::id::{ChainHash, DeviceId, GroupId, Seq, UserName};

mod server;
pub use server::{
    ErrorCode, Hit, Limits, Member, Message, Moves, NackCode, Rights, RightsIn, ServerFrame, WhyClosing,
};

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// The longest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Messages in a page, at most.
pub const MAX_PAGE: u32 = 200;
/// Groups that a frame may name, at most.
pub const MAX_GROUPS: usize = 1_024;
/// The longest words to search for, in bytes.
pub const MAX_QUERY_BYTES: usize = 512;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Who it is, and what it has; the first frame.
    Hello(Hello),
    /// A message. The names are checked when it is dealt with, so that a wrong one can be refused by its `cid`.
    Send {
        /// What the client calls it.
        cid: String,
        /// The group's id.
        g: String,
        /// What is said.
        text: String,
    },
    /// This device has all messages of the group up to this one.
    Got {
        /// The group.
        g: GroupId,
        /// The last message it has.
        seq: Seq,
    },
    /// The user has seen the group up to this message.
    Read {
        /// The group.
        g: GroupId,
        /// The last message seen.
        seq: Seq,
    },
    /// Asks for what was said: the messages after one, before one, or since a time; without any, the last ones.
    Hist {
        /// What the answer is called.
        id: u64,
        /// The group.
        g: GroupId,
        /// Those after this one, the oldest first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Seq>,
        /// The last ones before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Seq>,
        /// Those since this time, in milliseconds since 1970 by the server's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
        /// How many at most; more than [`MAX_PAGE`] are not given.
        #[serde(default = "full_page")]
        limit: u32,
    },
    /// Searches what was said.
    Find {
        /// What the answer is called.
        id: u64,
        /// Words that must all be there.
        q: String,
        /// In which groups; in all that may be searched when empty.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        g: BTreeSet<GroupId>,
        /// How many at most; more than [`MAX_PAGE`] are not given.
        #[serde(default = "full_page")]
        limit: u32,
    },
    /// The user is typing.
    Typing {
        /// Where.
        g: GroupId,
    },
    /// Asks who may be in a group, and who is there.
    Who {
        /// What the answer is called.
        id: u64,
        /// The group.
        g: GroupId,
    },
    /// Asks for a sign of life.
    Ping {},
    /// The client goes.
    Bye {},
    /// What a newer client says.
    #[serde(other)]
    Unknown,
}

fn full_page() -> u32 {
    MAX_PAGE
}

/// The first frame of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the protocol it speaks.
    pub v: u32,
    /// Who is to be signed in.
    pub user: UserName,
    /// How that is proved.
    pub auth: Auth,
    /// The device, by the client's own choice.
    pub device: DeviceId,
    /// The last message it has, by group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resume: BTreeMap<GroupId, Seq>,
    /// The hash of that message: when the server's is another, the server was restored from a backup.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chain: BTreeMap<GroupId, ChainHash>,
}

/// How a user is proved to be who they are.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Auth {
    /// By a password.
    Password {
        /// The password.
        password: String,
    },
    /// By what an earlier `welcome` has given.
    Token {
        /// The token.
        token: String,
    },
    /// By the key of the node, which the connection has proved (TLS).
    Key {},
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Token { .. } => "Token",
            Self::Key {} => "Key",
        })
    }
}

/// Says why something is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is too long.
    #[error("a frame of {bytes} bytes is longer than {MAX_FRAME_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is not JSON, or not of this shape.
    #[error("not a frame: {why}")]
    Malformed {
        /// What is wrong, and where.
        why: String,
    },
}

impl FrameError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::TooLong { .. } => "send less at a time".to_owned(),
            Self::Malformed { .. } => {
                "a frame is one JSON object, as docs/chat/protocol.md has them".to_owned()
            }
        }
    }
}

impl ClientFrame {
    /// Reads a frame of a client.
    ///
    /// # Errors
    /// [`FrameError`] for what is too long, no JSON, or of a wrong shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let frame: Self = parse(bytes)?;
        match &frame {
            Self::Hello(hello) if hello.resume.len().max(hello.chain.len()) > MAX_GROUPS => {
                too_many("resume")
            }
            Self::Find { g, .. } if g.len() > MAX_GROUPS => too_many("g"),
            Self::Find { q, .. } if q.len() > MAX_QUERY_BYTES => {
                Err(FrameError::Malformed { why: format!("`q` is longer than {MAX_QUERY_BYTES} bytes") })
            }
            _ => Ok(frame),
        }
    }

    /// Returns the frame as text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("our own types always become JSON")
    }
}

impl ServerFrame {
    /// Reads a frame of a server.
    ///
    /// # Errors
    /// As [`ClientFrame::parse`]; a page of long messages may be longer than a client's frame.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(bytes).map_err(malformed)
    }

    /// Returns the frame as text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("our own types always become JSON")
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match bytes.len() {
        bytes if bytes > MAX_FRAME_BYTES => Err(FrameError::TooLong { bytes }),
        _ => serde_json::from_slice(bytes).map_err(malformed),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn malformed(error: serde_json::Error) -> FrameError {
    FrameError::Malformed { why: error.to_string().chars().take(200).collect() }
}

fn too_many<T>(field: &str) -> Result<T, FrameError> {
    Err(FrameError::Malformed { why: format!("`{field}` names more than {MAX_GROUPS} groups") })
}

/// The name by which a server of the chat is known.
pub type ServerId = NodeId;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<ClientFrame, FrameError> {
        ClientFrame::parse(text.as_bytes())
    }

    #[test]
    fn unknown_fields_and_frames_are_ignored() {
        let frame = parsed(r#"{"t":"typing","g":"h","newer":[1,{"a":2}]}"#);
        assert_eq!(frame, Ok(ClientFrame::Typing { g: "h".parse().unwrap() }));
        assert_eq!(parsed(r#"{"t":"dance","how":"well"}"#), Ok(ClientFrame::Unknown));
        assert_eq!(parsed(r#"{"t":"ping"}"#), Ok(ClientFrame::Ping {}));
    }

    #[test]
    fn what_is_no_frame_says_why() {
        for bad in ["", "[]", "{}", "7", "{\"t\":3}", "{\"t\":\"got\",\"g\":\"h\",\"seq\":1e99}", "\u{0}"] {
            assert!(matches!(parsed(bad), Err(FrameError::Malformed { .. })), "{bad}");
        }
        assert!(ClientFrame::parse(b"{\"t\":\"send\",\"cid\":\"1\",\"g\":\"h\",\"text\":\"\xff\"}").is_err());
        let long = format!(r#"{{"t":"ping","x":"{}"}}"#, "a".repeat(MAX_FRAME_BYTES));
        assert_eq!(parsed(&long), Err(FrameError::TooLong { bytes: long.len() }));
        let deep = format!(r#"{{"t":"ping","x":{}}}"#, "[".repeat(60_000));
        assert!(parsed(&deep).is_err(), "and no overflow of the stack");
    }

    #[test]
    fn secrets_are_not_in_the_log() {
        let auth = Auth::Password { password: "secret".to_owned() };
        assert!(!format!("{auth:?}").contains("secret"));
    }

    #[test]
    fn the_codes_of_a_newer_server_are_taken() {
        let frame = r#"{"t":"nack","cid":"1","code":"too_loud","msg":"x"}"#;
        let Ok(ServerFrame::Nack { code, .. }) = ServerFrame::parse(frame.as_bytes()) else { panic!() };
        assert_eq!(code, NackCode::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ClientFrame::parse(&bytes);
        }

        #[test]
        fn a_message_is_text_and_back(cid in "[a-z0-9]{1,8}", text in "\\PC{0,40}|[\\x00-\\x1f\u{202e}]{0,5}") {
            let frame = ClientFrame::Send { cid, g: "h".to_owned(), text };
            prop_assert_eq!(parsed(&frame.to_text()), Ok(frame));
        }
    }
}
