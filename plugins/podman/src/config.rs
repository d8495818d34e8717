//! `[plugins.podman.config]`; the keys are described in `gx-plugin.toml`, which the host checks them against.

use std::path::{Path, PathBuf};

use gx_core::plugin::ConfigIssue;
use serde::Deserialize;

/// The longest path of a Unix socket, in bytes, its closing zero left out (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The plugin's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The socket of Podman's service, a path or `unix://PATH`; `None` looks in the usual places.
    pub socket: Option<String>,
    /// Whether the plugin starts a service itself.
    pub service: ServiceMode,
    /// After how long without a request a service of the plugin's own ends.
    pub service_idle_s: u32,
    /// The podman program.
    pub program: PathBuf,
    /// How long a container's log may grow, in MB (10^6 bytes).
    pub log_max_mb: u32,
    /// Where an image without a registry is pulled from when Podman does not know; empty for nowhere.
    pub default_registry: String,
    /// Registries that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
}

/// Whether the plugin starts `podman system service` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMode {
    /// When no socket answers and none is named.
    Auto,
    /// Always; sockets of others are not looked at.
    Always,
    /// Never.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: None,
            service: ServiceMode::Auto,
            service_idle_s: 10,
            program: PathBuf::from("podman"),
            log_max_mb: 256,
            default_registry: "docker.io".to_owned(),
            insecure_registries: Vec::new(),
        }
    }
}

impl Config {
    /// Returns the named socket's path.
    pub(crate) fn socket_path(&self) -> Option<PathBuf> {
        let text = self.socket.as_deref()?;
        Some(PathBuf::from(text.strip_prefix("unix://").unwrap_or(text)))
    }

    /// Returns what cannot be used, `own_socket` being the one of a service of the plugin's own.
    pub(crate) fn issues(&self, own_socket: &Path) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if let Some(path) = self.socket_path() {
            issues.extend(socket_issue(&path));
            if self.service == ServiceMode::Always {
                issues.push(ConfigIssue::new(
                    "socket",
                    "a named socket is of no use with service = \"always\"",
                ));
            }
        }
        if self.service == ServiceMode::Always && too_long(own_socket) {
            issues.push(ConfigIssue::new("service", too_long_message(own_socket)));
        }
        issues
    }
}

fn socket_issue(path: &Path) -> Option<ConfigIssue> {
    if !path.is_absolute() {
        return Some(ConfigIssue::new("socket", "a socket is an absolute path or unix:// and one"));
    }
    too_long(path).then(|| ConfigIssue::new("socket", too_long_message(path)))
}

/// Returns whether a socket cannot have this path.
pub(crate) fn too_long(path: &Path) -> bool {
    path.as_os_str().len() > MAX_SOCKET_PATH
}

fn too_long_message(path: &Path) -> String {
    format!("{} is longer than the {MAX_SOCKET_PATH} bytes a socket's path may have", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::plugin::Manifest;

    const OWN: &str = "/data/podman.sock";

    fn config(toml: &str) -> Config {
        serde_json::from_value(serde_json::from_str(toml).unwrap()).unwrap()
    }

    #[test]
    fn a_socket_is_a_path_or_a_url() {
        let named = config(r#"{"socket": "unix:///run/p.sock"}"#);
        assert_eq!(named.socket_path(), Some(PathBuf::from("/run/p.sock")));
        assert!(named.issues(Path::new(OWN)).is_empty());
        let relative = config(r#"{"socket": "p.sock"}"#);
        assert_eq!(relative.issues(Path::new(OWN))[0].path, "socket");
        let long = config(&format!(r#"{{"socket": "/{}"}}"#, "x".repeat(120)));
        assert!(long.issues(Path::new(OWN))[0].message.contains("107 bytes"));
        let both = config(r#"{"socket": "/p.sock", "service": "always"}"#);
        assert_eq!(both.issues(Path::new(OWN)).len(), 1);
    }

    #[test]
    fn the_manifest_has_the_same_keys_and_defaults() {
        let manifest = Manifest::from_text(include_str!("../gx-plugin.toml")).unwrap();
        let defaults: serde_json::Map<String, serde_json::Value> = manifest
            .config
            .iter()
            .filter_map(|(key, schema)| {
                Some((key.clone(), serde_json::to_value(schema.default.clone()?).unwrap()))
            })
            .collect();
        let read: Config = serde_json::from_value(defaults.into()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", Config::default()));
    }
}
