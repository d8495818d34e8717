//! The configuration file, from text. Which file, and what the environment says, is the command line's business.
//!
//! An unknown key is an error that shows the place and a suggestion. A plugin's own table is kept as it stands;
//! the host checks it against the plugin's manifest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{DEFAULT_PORT, Endpoint};
use crate::id::{NodeId, PluginName};
use crate::member::Allowance;
use crate::units::{Size, Span};

mod audit;
mod chat;
mod error;
mod measure;
mod peers;
mod policy;
mod rates;
mod totals;
pub use audit::AuditConfig;
pub use chat::ChatConfig;
pub use error::{ConfigError, closest};
pub use measure::MeasureConfig;
pub use peers::{PeersConfig, Share};
pub use policy::{ImagePattern, PolicyConfig, UserNamespaces};
pub use rates::RateConfig;
pub use totals::TotalConfig;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a borrower prefers.
    pub client: ClientConfig,
    /// What a host lends and how.
    pub server: ServerConfig,
    /// The table of servers, and with whom it is exchanged.
    pub peers: PeersConfig,
    /// The chat that this host serves, and the one that this user talks in.
    pub chat: ChatConfig,
    /// The plugins, by name. The bundled ones are there without being named.
    pub plugins: BTreeMap<PluginName, PluginConfig>,
}

/// What a borrower prefers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// The runtime, where the command line names none; without it the first healthy one of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PluginName>,
    /// Where commands act: `local`, or a host's address.
    pub on: String,
    /// A file with public keys, as in `authorized_keys`, that may log in to every container made; beside gx's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<PathBuf>,
    /// The plugin that measures hosts; without it the bundled `speedtest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurement: Option<PluginName>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { runtime: None, on: "local".to_owned(), ssh_key: None, measurement: None }
    }
}

/// What a host lends and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on; `0.0.0.0:7467` is every address of this machine.
    pub listen: SocketAddr,
    /// The addresses, as HOST or HOST:PORT, by which others reach this host; tickets carry them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<Endpoint>,
    /// Listens without TLS, on loopback only: every user of this machine then is the host's owner.
    pub plain: bool,
    /// Lets `plain` listen beyond loopback: everybody is a stranger then, and anybody on the way can read along.
    pub insecure: bool,
    /// Nodes that the host lends to within its own limits, by their ids; tickets let in others (`gx invite`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<NodeId>,
    /// The folder for the node's key and state; without it the user's data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// What is lent at most.
    pub limits: LimitConfig,
    /// What all containers together may have.
    pub totals: TotalConfig,
    /// What a member may have where nothing else is said of it.
    pub member: Allowance,
    /// How many requests are answered.
    pub rates: RateConfig,
    /// The log of who did what.
    pub audit: AuditConfig,
    /// What members may do with the engines and the network.
    pub policy: PolicyConfig,
    /// How much of the host's bandwidth others may use to measure it.
    pub measure: MeasureConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            advertise: Vec::new(),
            plain: false,
            insecure: false,
            allow: Vec::new(),
            data: None,
            limits: LimitConfig::default(),
            totals: TotalConfig::default(),
            member: Allowance::default(),
            rates: RateConfig::default(),
            audit: AuditConfig::default(),
            policy: PolicyConfig::default(),
            measure: MeasureConfig::default(),
        }
    }
}

/// What is lent at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// Containers on this host at a time.
    pub containers: u32,
    /// CPUs of one container, in thousandths; without it all of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Memory of one container; without it what the machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processes and threads of one container.
    pub pids: u32,
    /// GPUs of one container, 0 for none; without it all of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// What one container may write; without it as much as there is room for. It holds in runtimes that can bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Published ports of one container, without those of gx itself; without it any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_ports: Option<u32>,
    /// Whether several containers may have one GPU at a time.
    pub share_gpus: bool,
    /// The longest lease; without it a lease may be without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// The host's ports that containers may have; the machine's own user may name any other.
    pub ports: PortRange,
    /// The host's address that published ports listen on.
    pub publish_address: IpAddr,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            containers: 1_000,
            milli_cpus: None,
            memory: None,
            pids: 4_096,
            gpus: None,
            disk: None,
            container_ports: None,
            share_gpus: false,
            ttl: None,
            ports: PortRange { first: 20_000, last: 29_999 },
            publish_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// A range of ports, both ends included. Text: `20000-29999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl TryFrom<String> for PortRange {
    type Error = crate::id::ParseIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let port = |p: &str| p.trim().parse::<u16>().ok().filter(|&p| p != 0);
        text.split_once('-')
            .and_then(|(first, last)| Some(Self { first: port(first)?, last: port(last)? }))
            .filter(|range| range.first <= range.last)
            .ok_or(crate::id::ParseIdError {
                noun: "range of ports",
                value: text.chars().take(80).collect(),
                rule: "it is written FIRST-LAST, each from 1 to 65535",
            })
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        format!("{}-{}", range.first, range.last)
    }
}

/// How a plugin is found and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PluginConfig {
    /// What it is; checked against its manifest.
    pub kind: PluginKind,
    /// Its file; without it a bundled or an installed plugin of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether it is used.
    pub enabled: bool,
    /// Where its code runs; without it `inline` for bundled plugins, `process` for all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The file's SHA-256, 64 hexadecimal digits; without it the one in the lock file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The plugin's own configuration.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub config: toml::Table,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            kind: PluginKind::Runtime,
            path: None,
            enabled: true,
            isolation: None,
            sha256: None,
            config: toml::Table::new(),
        }
    }
}

/// What a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginKind {
    /// A [`Runtime`](crate::Runtime).
    #[default]
    Runtime,
    /// A [`Measurement`](crate::measurement::Measurement).
    Measurement,
}

impl std::fmt::Display for PluginKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Runtime => "runtime",
            Self::Measurement => "measurement",
        })
    }
}

/// Where a plugin's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In the host's own process.
    Inline,
    /// In a child process of its own.
    Process,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Inline => "inline",
            Self::Process => "process",
        })
    }
}

impl Config {
    /// Reads a configuration. `origin` is the file's name, for errors.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column for what is not TOML, an unknown key, a wrong type or value.
    pub fn from_text(origin: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let told = ConfigError::from_toml(origin, text, &error);
            match told.hint {
                Some(_) => told,
                None => told.hint("what each key takes is told by: gx config schema"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_key_is_shown_with_its_place_and_a_suggestion() {
        let text = "[client]\nruntme = \"podman\"\n";
        let error = Config::from_text("gx.toml", text).unwrap_err();
        assert_eq!((error.line, error.column), (2, 1));
        assert_eq!(error.hint.as_deref(), Some("did you mean `runtime`?"));
        assert_eq!(error.to_string(), "gx.toml:2:1: unknown key `runtme` in [client]");
        assert!(error.snippet().contains("2 | runtme = \"podman\"\n  | ^^^^^^"), "{}", error.snippet());
    }

    #[test]
    fn a_wrong_type_is_shown_with_its_place() {
        let error = Config::from_text("gx.toml", "[server]\nlisten = 7\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 10));
        assert!(error.hint.unwrap().ends_with("gx config schema"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_what_would_be() {
        let error = Config::from_text("gx.toml", "[client\n").unwrap_err();
        assert_eq!((error.line, error.column), (1, 8));
        assert!(error.hint.unwrap().starts_with("a line is `[table]`"));
    }

    #[test]
    fn nothing_is_a_configuration_too() {
        assert_eq!(Config::from_text("", "").unwrap(), Config::default());
    }

    #[test]
    fn a_tab_and_wide_letters_keep_the_caret_in_place() {
        let error = Config::from_text("gx.toml", "[client]\n\ton = \"ä\"\n\twörld = 1\n").unwrap_err();
        assert_eq!(error.line, 3);
        let error = ConfigError::at_key("gx.toml", "[client]\n\ton = 1\n", &["client", "on"], "wrong");
        assert_eq!((error.line, error.column, error.width), (2, 2, 2));
        assert!(error.snippet().ends_with("| \t^^"), "{}", error.snippet());
    }

    #[test]
    fn a_key_that_is_not_there_is_shown_at_its_table() {
        let text = "[plugins.x.config]\na = 1\n";
        let error = ConfigError::at_key("gx.toml", text, &["plugins", "x", "config", "missing"], "missing");
        assert_eq!(error.line, 1);
        let error = ConfigError::at_key("gx.toml", "", &["plugins"], "missing");
        assert_eq!((error.line, error.snippet().as_str()), (0, ""));
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error_with_a_place(text in "(\\[[a-z.\"]{0,12}\\]|[a-z]{1,6} ?= ?[\"a-zäß0-9]{0,6}|\\PC{0,5}|\n|\t){0,12}") {
            if let Err(error) = Config::from_text("x", &text) {
                prop_assert!(error.line >= 1 && error.column >= 1 && error.width >= 1);
                prop_assert!(error.snippet().contains('^'));
            }
        }
    }
}
