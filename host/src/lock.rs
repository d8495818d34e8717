//! The list of installed plugins, `plugins.lock`: its text and what it means. Reading and writing the file is
//! [`store`](crate::store)'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use gx_core::PluginName;
use gx_core::config::{ConfigError, PluginKind};
use gx_core::id::{ParseIdError, Timestamp};
use serde::{Deserialize, Serialize};

/// The version of the format this program reads and writes.
const FORMAT: u32 = 1;
const HEADING: &str =
    "# Written by gx. Change it with `gx plugin install|upgrade|rollback|remove|enable|disable`.\n";

/// The installed plugins, and those that are switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    /// Plugins that are not to be used, wherever they come from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) disabled: BTreeSet<PluginName>,
    /// The installed ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) plugins: BTreeMap<PluginName, Locked>,
}

/// One installed plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locked {
    /// What it is.
    pub(crate) kind: PluginKind,
    /// The build that is used.
    pub(crate) current: Build,
    /// What was there before, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier: Vec<Build>,
}

/// One file of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    /// The version its manifest names.
    pub(crate) version: FileVersion,
    /// The SHA-256 of its content.
    pub(crate) sha256: Sha256Hex,
    /// When it was installed.
    pub(crate) installed_at: Timestamp,
    /// Where it came from.
    pub(crate) source: String,
}

impl Build {
    /// Returns the name of the file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}.so", self.version.0, self.sha256.0)
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: FORMAT, disabled: BTreeSet::new(), plugins: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock file. `origin` is the file's name, for errors.
    pub(crate) fn from_text(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |error: toml::de::Error| {
            let message = error.message().trim_end_matches('.').replace('\n', ", ");
            ConfigError::at(origin, text, error.span().unwrap_or(0..0), message)
        };
        // The version is looked at before anything else, so that a later format is told apart from damage.
        let Version { version } = toml::from_str(text).map_err(wrong)?;
        if version != FORMAT {
            let message = format!("its format is {version}, this gx reads {FORMAT}");
            return Err(ConfigError::at_key(origin, text, &["version"], message)
                .hint("use the gx that wrote it, or a newer one"));
        }
        toml::from_str(text).map_err(wrong)
    }

    /// Writes it as text.
    pub(crate) fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("a lock file is made of strings and tables");
        format!("{HEADING}{body}")
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A version as a part of a file name: 1 to 64 characters of `[A-Za-z0-9.+-]`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct FileVersion(String);

/// A SHA-256: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Sha256Hex(String);

macro_rules! checked_text {
    ($name:ident, $noun:literal, $rule:literal, $check:expr) => {
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ParseIdError { noun: $noun, value: text.chars().take(80).collect(), rule: $rule })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

checked_text!(
    FileVersion,
    "plugin version",
    "it has 1 to 64 letters, digits, '.', '+' or '-', and begins with a letter or digit",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

checked_text!(Sha256Hex, "SHA-256", "it has 64 lower-case hexadecimal digits", |text| {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(version: &str, digit: &str) -> Build {
        Build {
            version: version.parse().unwrap(),
            sha256: digit.repeat(64).parse().unwrap(),
            installed_at: Timestamp::from_unix(1_700_000_000),
            source: "/home/ada/libx.so".into(),
        }
    }

    fn example() -> Lock {
        let runc = Locked {
            kind: PluginKind::Runtime,
            current: build("0.2.0", "b"),
            earlier: vec![build("0.1.0", "a")],
        };
        Lock {
            disabled: ["docker".parse().unwrap()].into(),
            plugins: [("runc".parse().unwrap(), runc)].into(),
            ..Lock::default()
        }
    }

    fn wrong(text: &str) -> ConfigError {
        Lock::from_text("plugins.lock", text).unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = example().to_text();
        assert_eq!(Lock::from_text("plugins.lock", &text).unwrap(), example());
        assert!(text.starts_with("# Written by gx."), "{text}");
        assert_eq!(Lock::from_text("", &Lock::default().to_text()).unwrap(), Lock::default());
    }

    #[test]
    fn damage_is_told_with_its_place() {
        assert_eq!(
            wrong("version = 1\nplugns = 3\n").to_string(),
            "plugins.lock:2:1: unknown field `plugns`, expected one of `version`, `disabled`, `plugins`"
        );
        assert!(wrong("version = 1\n[plugins").to_string().starts_with("plugins.lock:2:"));
        assert_eq!(wrong("").to_string(), "plugins.lock:1:1: missing field `version`");
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let error = wrong("version = 2\nnew = true\n");
        assert_eq!(error.to_string(), "plugins.lock:1:1: its format is 2, this gx reads 1");
        assert_eq!(error.hint.as_deref(), Some("use the gx that wrote it, or a newer one"));
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for bad in ["../../etc/x", "1/2", "", ".", "..", "1\0", &"1".repeat(65)] {
            assert!(bad.parse::<FileVersion>().is_err(), "{bad:?}");
        }
        let text = example().to_text().replace("0.2.0", "../0.2.0");
        assert!(wrong(&text).to_string().contains("is not a plugin version"));
        let text = example().to_text().replace(&"b".repeat(64), "../b");
        assert!(wrong(&text).to_string().contains("is not a SHA-256"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Lock::from_text("plugins.lock", &text);
        }

        #[test]
        fn damaged_text_is_read_or_refused(at: prop::sample::Index, with in "\\PC{0,6}", cut in 0_usize..8) {
            let text = example().to_text();
            let at = at.index(text.len());
            let after = text.get(at + cut..).unwrap_or("");
            let damaged = format!("{}{with}{after}", &text[..at]);
            if let Ok(lock) = Lock::from_text("plugins.lock", &damaged) {
                prop_assert_eq!(Lock::from_text("", &lock.to_text()).unwrap(), lock);
            }
        }
    }
}
