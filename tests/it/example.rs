//! `examples/config.toml` names every key there is, and each with its default.

use std::collections::BTreeSet;

use gx_core::config::{Config, PluginConfig};
use gx_core::plugin::Manifest;

use crate::support::root;

const ORIGIN: &str = "examples/config.toml";

fn text() -> String {
    std::fs::read_to_string(root().join(ORIGIN)).expect(ORIGIN)
}

/// The example with the keys that have no default, too.
fn with_every_key() -> String {
    let text = text();
    text.lines().map(|line| key(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Returns the key that a line like `#key = value` holds back; prose has a space behind its `#`.
fn key(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn it_says_what_holds_without_it() {
    let mut config = Config::from_text(ORIGIN, &text()).expect("the example is a configuration");
    for (name, plugin) in std::mem::take(&mut config.plugins) {
        assert_eq!(PluginConfig { config: toml::Table::new(), ..plugin }, PluginConfig::default(), "{name}");
    }
    let selected = config.client.runtime.take(); // what the example is there to show
    assert_eq!(selected, Some("podman".parse().expect("a plugin's name")));
    assert_eq!(config, Config::default());
}

#[test]
fn it_has_every_key_of_the_configuration() {
    let text = with_every_key();
    Config::from_text(ORIGIN, &text).expect("the example is a configuration with every key, too");
    let table: toml::Table = text.parse().expect("the example is TOML");
    let schema = schemars::schema_for!(Config);
    let schema = serde_json::to_value(schema).expect("a schema is JSON");
    let definitions = &schema["$defs"];
    for (place, definition) in [
        ("client", "ClientConfig"),
        ("server", "ServerConfig"),
        ("server.limits", "LimitConfig"),
        ("server.policy", "PolicyConfig"),
        ("plugins.docker", "PluginConfig"),
    ] {
        let known = &definitions[definition]["properties"];
        let known: BTreeSet<&str> =
            known.as_object().expect("a table has keys").keys().map(String::as_str).collect();
        let part = place.split('.').fold(&table, |table, key| table[key].as_table().expect(place));
        let written: BTreeSet<&str> = part.keys().map(String::as_str).collect();
        assert_eq!(written, known, "[{place}]");
    }
}

#[test]
fn it_has_every_key_of_the_bundled_plugins() {
    let table: toml::Table = with_every_key().parse().expect("the example is TOML");
    let plain: toml::Table = text().parse().expect("the example is TOML");
    for name in ["docker", "podman"] {
        let file = root().join("plugins").join(name).join("gx-plugin.toml");
        let text = std::fs::read_to_string(&file).expect("a plugin has a manifest");
        let manifest = Manifest::from_text(&text).expect("the manifest is one");
        let known: BTreeSet<&str> = manifest.config.keys().map(String::as_str).collect();
        let written = table["plugins"][name]["config"].as_table().expect("a table");
        assert_eq!(written.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "{name}");
        for (key, setting) in &manifest.config {
            let shown = plain["plugins"][name]["config"].get(key).cloned();
            assert_eq!(shown, setting.default, "the default of {name}'s {key}");
        }
    }
}
