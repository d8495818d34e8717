//! The policy file as it is written: tables with their places, not yet checked against one another.

use std::ops::Range;

use gx_core::config::ConfigError;
use gx_core::units::{Size, Span};
use serde::Deserialize;
use toml::Spanned;

/// The most a policy file may have, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// All of a policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    #[serde(default)]
    pub(super) chat: ChatTable,
    #[serde(default, rename = "group")]
    pub(super) groups: Vec<GroupTable>,
    #[serde(default, rename = "unit")]
    pub(super) units: Vec<UnitTable>,
    #[serde(default, rename = "role")]
    pub(super) roles: Vec<RoleTable>,
}

/// `[chat]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatTable {
    pub(super) retention: Option<Spanned<Span>>,
    pub(super) max_text: Option<Spanned<Size>>,
    pub(super) rate: Option<Spanned<String>>,
}

/// `[[group]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupTable {
    pub(super) id: Spanned<String>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) unit: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<String>>,
}

/// `[[unit]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitTable {
    pub(super) id: Spanned<String>,
    pub(super) parent: Option<Spanned<String>>,
    pub(super) leader: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) members: Vec<Spanned<String>>,
}

/// `[[role]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleTable {
    pub(super) id: Spanned<String>,
    #[serde(default)]
    pub(super) users: Vec<Spanned<String>>,
    pub(super) default: Option<Spanned<String>>,
    pub(super) switch: Option<Spanned<bool>>,
    pub(super) toggle: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) allow: Vec<AllowTable>,
    pub(super) redirect_writes_to: Option<Spanned<String>>,
}

/// One of a role's `allow`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowTable {
    pub(super) group: Spanned<String>,
    #[serde(default)]
    pub(super) read: bool,
    #[serde(default)]
    pub(super) write: bool,
}

/// The text a policy is read from: what errors point into.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn read(&self) -> Result<PolicyFile, ConfigError> {
        if self.text.len() > MAX_BYTES {
            let told = format!("the policy has {} bytes, and at most {MAX_BYTES} are read", self.text.len());
            return Err(self
                .at(0..0, told)
                .hint("a range, as in Navy{1..50}, names many users in a few letters"));
        }
        toml::from_str(self.text).map_err(|error| ConfigError::from_toml(self.file, self.text, &error))
    }

    /// Makes an error about what is at this place.
    pub(super) fn at(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.file, self.text, span, message)
    }

    /// Returns the line of a place, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.at(span.clone(), "").line
    }
}
