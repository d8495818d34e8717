//! The plugin's own table of the configuration, and what is wrong with one.

use std::time::Duration;

use gx_core::api::speedtest::MAX_STREAMS;
use gx_core::plugin::ConfigIssue;
use gx_core::units::Span;
use serde::Deserialize;

/// The table `[plugins.speedtest.config]`; `gx-plugin.toml` documents every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a connection to a peer may take.
    pub connect_timeout: Span,
    /// How many connections carry one test of throughput.
    pub streams: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { connect_timeout: Span(Duration::from_secs(3)), streams: 4 }
    }
}

impl Config {
    /// Returns what is wrong, each with its key.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if self.connect_timeout.0.is_zero() {
            issues.push(ConfigIssue::new("connect_timeout", "it must be longer than 0s"));
        }
        if !(1..=MAX_STREAMS).contains(&usize::from(self.streams)) {
            issues.push(ConfigIssue::new("streams", format!("it must be from 1 to {MAX_STREAMS}")));
        }
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_issue_names_its_key() {
        let config = Config { connect_timeout: Span(Duration::ZERO), streams: 9 };
        let keys: Vec<_> = config.issues().into_iter().map(|issue| issue.path).collect();
        assert_eq!(keys, ["connect_timeout", "streams"]);
        assert_eq!(Config::default().issues(), []);
    }
}
