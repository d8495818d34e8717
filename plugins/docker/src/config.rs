//! The plugin's own table of the configuration, and what is wrong with one.

use std::path::PathBuf;
use std::time::Duration;

use gx_core::plugin::ConfigIssue;
use gx_core::units::{Size, Span};
use serde::Deserialize;

/// The table `[plugins.docker.config]`; `gx-plugin.toml` documents every key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the engine listens; `None` is the usual socket.
    pub host: Option<String>,
    /// How long a connection to the engine may take.
    pub connect_timeout: Span,
    /// How long the engine may take to answer a call that does not stream.
    pub request_timeout: Span,
    /// What keeps the output of containers.
    pub log_driver: String,
    /// How much output of one container is kept; zero keeps all.
    pub log_max_size: Size,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            connect_timeout: Span(Duration::from_secs(5)),
            request_timeout: Span(Duration::from_secs(120)),
            log_driver: "json-file".to_owned(),
            log_max_size: Size(512 << 20),
        }
    }
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The first of these sockets that is there.
    Unix(Vec<PathBuf>),
    /// A host and port.
    Tcp(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(paths) => {
                let there = paths.iter().find(|path| path.exists()).or(paths.first());
                write!(f, "unix://{}", there.map(|path| path.display().to_string()).unwrap_or_default())
            }
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// The drivers whose output the engine can read back.
const LOG_DRIVERS: [&str; 3] = ["json-file", "local", "journald"];

impl Config {
    /// Returns where the engine listens.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        let Some(host) = &self.host else {
            let uid = rustix::process::geteuid().as_raw();
            let rootless = PathBuf::from(format!("/run/user/{uid}/docker.sock"));
            return Ok(Endpoint::Unix(vec![PathBuf::from("/var/run/docker.sock"), rootless]));
        };
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Endpoint::Unix(vec![PathBuf::from(path)])),
            Some(("tcp" | "http", address)) if is_address(address) => Ok(Endpoint::Tcp(address.to_owned())),
            _ => Err(format!("`{host}` is neither unix:///PATH nor tcp://HOST:PORT")),
        }
    }

    /// Returns what is wrong, each with its key.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if let Err(message) = self.endpoint() {
            issues.push(ConfigIssue::new("host", message));
        }
        if !LOG_DRIVERS.contains(&self.log_driver.as_str()) {
            let known = LOG_DRIVERS.join(", ");
            let message = format!("`{}` is not one of {known}", self.log_driver);
            issues.push(ConfigIssue::new("log_driver", message));
        }
        for (key, span) in
            [("connect_timeout", self.connect_timeout), ("request_timeout", self.request_timeout)]
        {
            if span.0.is_zero() {
                issues.push(ConfigIssue::new(key, "it must be longer than 0s"));
            }
        }
        if (1..1 << 20).contains(&self.log_max_size.0) {
            issues.push(ConfigIssue::new("log_max_size", "it must be 0 or at least 1 MiB"));
        }
        issues
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '?', '#', '@']) && port.parse::<u16>().is_ok_and(|p| p != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_socket_or_an_address() {
        let endpoint = |host: &str| Config { host: Some(host.to_owned()), ..Config::default() }.endpoint();
        assert_eq!(endpoint("unix:///a/b.sock"), Ok(Endpoint::Unix(vec!["/a/b.sock".into()])));
        assert_eq!(endpoint("tcp://[::1]:2375"), Ok(Endpoint::Tcp("[::1]:2375".to_owned())));
        for bad in ["", "/a", "unix://a", "tcp://", "tcp://x", "tcp://x:0", "https://x:1", "tcp://a/b:1"] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_issue_names_its_key() {
        let config = Config {
            host: Some("ftp://x".to_owned()),
            connect_timeout: Span(Duration::ZERO),
            log_driver: "syslog".to_owned(),
            log_max_size: Size(1),
            ..Config::default()
        };
        let keys: Vec<_> = config.issues().into_iter().map(|issue| issue.path).collect();
        assert_eq!(keys, ["host", "log_driver", "connect_timeout", "log_max_size"]);
        assert_eq!(Config::default().issues(), []);
    }
}
