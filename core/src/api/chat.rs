//! The part of the contract about the chat's accounts. What is said in the chat goes over its WebSocket.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::secret::Secret;

/// What is to become of a user's account in the chat. Its tokens end, and who is signed in with it is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChatUserRequest {
    /// The password, of at least 8 characters; without it, and without a node, one is made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The node whose key proves the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Whether nobody may sign in with it.
    pub disabled: bool,
}

/// A user's account in the chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatUser {
    /// Whose.
    pub user: String,
    /// Whether there is a password.
    pub has_password: bool,
    /// The node whose key proves the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Whether nobody may sign in with it.
    pub disabled: bool,
    /// How many connections there are at this moment.
    pub connections: usize,
    /// The password that was made up, told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// The chat has ended in good order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChatStopped {
    /// How many connections were told to come back later.
    pub connections: usize,
}

/// The chat is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChatStarted {
    /// Whether it was not before.
    pub started: bool,
}

/// The accounts of the chat, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChatUsers {
    /// All of them.
    pub users: Vec<ChatUser>,
}
