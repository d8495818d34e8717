//! `[chat]`: the chat that this host serves, and the one that this user talks in.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The chat that this host serves, and the one that this user talks in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// The file with units, groups and roles; with one, `gx serve` serves the chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// The host whose chat `gx chat` joins: a joined host's name, or an address; without it, the one that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The user as whom `gx chat` talks; without it the system's user, where the chat knows one of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}
