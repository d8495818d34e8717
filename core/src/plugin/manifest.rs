//! The manifest of a plugin: what it is, what it speaks, what can be configured.
//!
//! It is written as `gx-plugin.toml`, embedded at compile time, and read from the file without loading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::abi::{AbiMismatch, MAGIC, common_minor};
use crate::config::PluginKind;
use crate::id::PluginName;

pub use super::schema::{ConfigKey, ValueType};

/// The longest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub name: PluginName,
    /// Its version.
    pub version: String,
    /// Which trait it implements.
    pub kind: PluginKind,
    /// The versions of the trait it speaks: `runtime/1`.
    pub api: Vec<String>,
    /// What it is for, in a line.
    #[serde(default)]
    pub description: String,
    /// Its licence, as SPDX writes it.
    #[serde(default)]
    pub license: String,
    /// Where more is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The keys of its configuration.
    #[serde(default)]
    pub config: BTreeMap<String, ConfigKey>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no manifest.
    #[error("the manifest is damaged: {0}")]
    Damaged(&'static str),
    /// It is made for another version of the boundary.
    #[error(transparent)]
    Abi(#[from] AbiMismatch),
    /// It is not what a manifest looks like.
    #[error("the manifest cannot be read: {0}")]
    Text(String),
    /// It speaks no version of the trait that is known here.
    #[error("it speaks {theirs:?}, and this gx {ours:?}")]
    Api {
        /// What the plugin speaks.
        theirs: Vec<String>,
        /// What is spoken here.
        ours: &'static [&'static str],
    },
}

impl Manifest {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`ManifestError::Text`].
    pub fn from_text(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError::Text(one_line(&error)))?;
        for (key, schema) in &manifest.config {
            schema.check(key).map_err(ManifestError::Text)?;
        }
        Ok(manifest)
    }

    /// Reads a manifest as it lies in the section [`SECTION`](super::abi::SECTION) of a file.
    ///
    /// # Errors
    /// [`ManifestError`]; `Abi` before the text is looked at.
    pub fn from_section(section: &[u8]) -> Result<Self, ManifestError> {
        Self::from_text(section_text(section)?)
    }

    /// Returns the newest version of the trait that both sides speak.
    ///
    /// # Errors
    /// [`ManifestError::Api`].
    pub fn common_api(&self) -> Result<&'static str, ManifestError> {
        let ours = known_apis(self.kind);
        let common = ours.iter().find(|api| self.api.iter().any(|theirs| theirs == *api));
        common.copied().ok_or_else(|| ManifestError::Api { theirs: self.api.clone(), ours })
    }
}

/// Returns the versions of a trait that are spoken here, the newest first.
pub const fn known_apis(kind: PluginKind) -> &'static [&'static str] {
    match kind {
        PluginKind::Runtime => &["runtime/1"],
        PluginKind::Measurement => &["measurement/1"],
    }
}

fn section_text(section: &[u8]) -> Result<&str, ManifestError> {
    const HEADER: usize = 16;
    if section.len() < HEADER {
        return Err(ManifestError::Damaged("it is too short"));
    }
    let (header, rest) = section.split_at(HEADER);
    let part = |from: usize| [header[from], header[from + 1]];
    if header[..8] != MAGIC.to_ne_bytes() {
        return Err(ManifestError::Damaged("it does not begin with GXPLUGIN"));
    }
    common_minor(u16::from_ne_bytes(part(8)), u16::from_ne_bytes(part(10)))?;
    let length = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]) as usize;
    if length > MAX_MANIFEST_BYTES {
        return Err(ManifestError::Damaged("it is longer than 256 KiB"));
    }
    let text = rest.get(..length).ok_or(ManifestError::Damaged("it ends before its length"))?;
    std::str::from_utf8(text).map_err(|_| ManifestError::Damaged("it is not UTF-8"))
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().trim_end_matches('.').replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::abi::EmbeddedManifest;
    use proptest::prelude::*;

    const TEXT: &str = "name = \"x\"\nversion = \"1.0.0\"\nkind = \"runtime\"\napi = [\"runtime/1\"]\n";

    fn section() -> Vec<u8> {
        EmbeddedManifest::<{ TEXT.len() }>::new(TEXT).to_bytes()
    }

    #[test]
    fn what_is_embedded_is_read_back() {
        let manifest = Manifest::from_section(&section()).unwrap();
        assert_eq!(manifest.name.as_str(), "x");
        assert_eq!(manifest.common_api(), Ok("runtime/1"));
    }

    #[test]
    fn another_abi_is_told_before_the_text_is_read() {
        let mut bytes = section();
        bytes[8] = 7;
        bytes.truncate(20);
        assert_eq!(
            Manifest::from_section(&bytes),
            Err(ManifestError::Abi(AbiMismatch { major: 7, minor: 0 }))
        );
    }

    #[test]
    fn a_version_that_is_not_known_is_refused() {
        let manifest = Manifest::from_text(&TEXT.replace("runtime/1", "runtime/9")).unwrap();
        let error = manifest.common_api().unwrap_err();
        assert_eq!(error.to_string(), r#"it speaks ["runtime/9"], and this gx ["runtime/1"]"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_manifest_or_an_error(bytes: Vec<u8>, cut in 0..100_usize) {
            let _ = Manifest::from_section(&bytes);
            let whole = section();
            let _ = Manifest::from_section(&whole[..cut.min(whole.len())]);
        }
    }
}
