//! A plugin's own table, `[plugins.NAME.config]`: checked against the manifest here, then by the plugin. What either
//! objects to becomes an error with its place in the file.

use gx_core::PluginName;
use gx_core::config::ConfigError;
use gx_core::plugin::{ConfigIssue, Manifest};

use crate::error::HostError;

/// The file a plugin's table stands in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The file's name.
    pub(crate) origin: &'a str,
    /// Its text; empty when there is none.
    pub(crate) text: &'a str,
    /// The plugin.
    pub(crate) name: &'a PluginName,
}

/// Returns a plugin's table as JSON, with the defaults filled in.
pub(crate) fn check(
    manifest: &Manifest,
    table: &toml::Table,
    place: Place<'_>,
) -> Result<serde_json::Value, HostError> {
    manifest.check_config(table).map_err(|issues| refused(&issues, place))
}

/// Makes an error of what a check or the plugin itself objects to; there is at least one issue.
pub(crate) fn refused(issues: &[ConfigIssue], place: Place<'_>) -> HostError {
    let errors = issues.iter().map(|issue| located(issue, place)).collect();
    HostError::Config { name: place.name.clone(), errors }
}

fn located(issue: &ConfigIssue, place: Place<'_>) -> ConfigError {
    let name = place.name.as_str();
    let mut path = vec!["plugins", name, "config"];
    path.extend(issue.path.split('.').filter(|part| !part.is_empty()));
    let (said, hint) = split_hint(&issue.message);
    let message = match (issue.path.as_str(), said) {
        ("", said) => format!("[plugins.{name}.config]: {said}"),
        (key, "unknown key") => format!("unknown key `{key}` in [plugins.{name}.config]"),
        (key, said) => format!("{key} in [plugins.{name}.config]: {said}"),
    };
    let error = ConfigError::at_key(place.origin, place.text, &path, message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

// The schema's check says what to do after a semicolon: `unknown key; did you mean `socket`?`
fn split_hint(message: &str) -> (&str, Option<&str>) {
    match message.split_once("; ") {
        Some((said, hint)) => (said, Some(hint)),
        None => (message, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[plugins.runc]\nkind = \"runtime\"\n\n[plugins.runc.config]\nsockt = \"/x\"\nretries = \"3\"\n";

    fn manifest() -> Manifest {
        Manifest::from_text(
            "name='runc'\nversion='1'\nkind='runtime'\napi=['runtime/1']\n\
             [config.socket]\ntype='string'\n[config.retries]\ntype='integer'\ndefault=3\n\
             [config.token]\ntype='string'\nrequired=true\n",
        )
        .unwrap()
    }

    fn errors(text: &str) -> Vec<ConfigError> {
        let name = "runc".parse().unwrap();
        let config = gx_core::config::Config::from_text("gx.toml", text).unwrap();
        let table = config.plugins.get(&name).map(|plugin| plugin.config.clone()).unwrap_or_default();
        let error = check(&manifest(), &table, Place { origin: "gx.toml", text, name: &name }).unwrap_err();
        error.config_errors().to_vec()
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_place_and_a_suggestion() {
        let error = &errors(TEXT)[0];
        assert_eq!(error.to_string(), "gx.toml:5:1: unknown key `sockt` in [plugins.runc.config]");
        assert_eq!(error.hint.as_deref(), Some("did you mean `socket`?"));
        assert!(error.snippet().contains("5 | sockt = \"/x\"\n  | ^^^^^"), "{}", error.snippet());
    }

    #[test]
    fn a_wrong_type_and_a_missing_key_are_told_with_it() {
        let all: Vec<String> = errors(TEXT).iter().map(ToString::to_string).collect();
        assert_eq!(
            all[1],
            "gx.toml:6:1: retries in [plugins.runc.config]: must be an integer, not of type string"
        );
        assert_eq!(all[2], "gx.toml:4:15: token in [plugins.runc.config]: missing");
    }

    #[test]
    fn without_a_table_the_nearest_one_is_shown_or_none() {
        let told = |text| errors(text)[0].to_string();
        assert_eq!(told("[plugins.runc]\n"), "gx.toml:1:10: token in [plugins.runc.config]: missing");
        assert_eq!(told(""), "gx.toml: token in [plugins.runc.config]: missing");
    }

    #[test]
    fn what_the_plugin_itself_objects_to_has_its_place_too() {
        let name = "runc".parse().unwrap();
        let issue = ConfigIssue::new("retries", "must be odd");
        let error = refused(&[issue], Place { origin: "gx.toml", text: TEXT, name: &name });
        assert_eq!(error.to_string(), "gx.toml:6:1: retries in [plugins.runc.config]: must be odd");
        let error =
            refused(&[ConfigIssue::new("", "no")], Place { origin: "gx.toml", text: TEXT, name: &name });
        assert_eq!(error.to_string(), "gx.toml:4:15: [plugins.runc.config]: no");
    }
}
