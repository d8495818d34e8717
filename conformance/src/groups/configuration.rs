//! The plugin's own configuration; the caller, who has the loader, lends it to the suite.

use std::sync::Arc;

use async_trait::async_trait;
use gx_core::plugin::manifest::{ConfigKey, ValueType};
use gx_core::plugin::{ConfigIssue, Manifest};
use gx_core::runtime::Runtime;
use serde_json::{Map, Value, json};

use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, soon};

/// Loads the plugin that is tested once more, with another configuration.
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// Returns its manifest.
    fn manifest(&self) -> &Manifest;

    /// Returns the configuration the tested one was given.
    fn config(&self) -> Map<String, Value>;

    /// Loads it with this configuration, checked as for anybody.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    async fn load(&self, config: Map<String, Value>) -> Result<Arc<dyn Runtime>, Vec<ConfigIssue>>;
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "configuration/manifest",
        "every key has a type and a description, and its default fits",
        [],
        manifest
    ),
    case!("configuration/again", "it can be loaded a second time, beside the first", [], again),
    case!("configuration/unknown key", "an unknown key is refused by name", [], unknown),
    case!("configuration/type", "a value of another type is refused by its key", [], types),
    case!("configuration/range", "a value out of its range is refused by its key", [], ranges),
    case!("configuration/missing", "a required key that is missing is refused by name", [], missing),
];

fn loader(t: &Trial) -> Verdict<Arc<dyn Loader>> {
    t.options.hooks.loader.clone().ok_or_else(|| Failure::skip("the caller lends no loader"))
}

async fn manifest(t: Arc<Trial>) -> Verdict {
    let loader = loader(&t)?;
    for (name, key) in &loader.manifest().config {
        check!(!key.doc.trim().is_empty(), "{name} has no doc");
        let Some(default) = &key.default else { continue };
        let table = toml_table(&loader.config(), name, default)?;
        let issues = loader.manifest().check_config(&table).err().unwrap_or_default();
        let own: Vec<_> =
            issues.iter().filter(|issue| concerns(issue, name)).map(ToString::to_string).collect();
        check!(own.is_empty(), "the default of {name} does not fit: {}", own.join("; "));
    }
    Ok(())
}

fn toml_table(
    config: &Map<String, Value>,
    name: &str,
    default: &impl serde::Serialize,
) -> Verdict<toml::Table> {
    let broken =
        |error: &dyn std::fmt::Display| Failure::new(format!("{name} cannot be written as TOML: {error}"));
    let mut config = config.clone();
    config.insert(name.to_owned(), serde_json::to_value(default).map_err(|error| broken(&error))?);
    toml::Table::try_from(config).map_err(|error| broken(&error))
}

async fn again(t: Arc<Trial>) -> Verdict {
    let loader = loader(&t)?;
    let second = soon("load", SOON, loader.load(loader.config())).await?;
    let second = second.map_err(|issues| Failure::new(format!("it is refused: {}", told(&issues))))?;
    second.capabilities().await.of("capabilities of the second")?;
    second.shutdown().await.of("shutdown of the second")?;
    t.runtime.capabilities().await.of("capabilities of the first").map(drop)
}

async fn unknown(t: Arc<Trial>) -> Verdict {
    refused_at(&t, "gx-conformance-no-such-key", json!(1)).await
}

async fn types(t: Arc<Trial>) -> Verdict {
    let keys = loader(&t)?.manifest().config.clone();
    for (name, key) in keys {
        let wrong = if key.value_type == ValueType::String { json!(1) } else { json!("no") };
        refused_at(&t, &name, wrong).await?;
    }
    Ok(())
}

async fn ranges(t: Arc<Trial>) -> Verdict {
    let keys = loader(&t)?.manifest().config.clone();
    let mut tried = 0;
    for (name, key) in keys {
        for wrong in out_of_range(&key) {
            refused_at(&t, &name, wrong).await?;
            tried += 1;
        }
    }
    if tried == 0 { Err(Failure::skip("no key has a range or choices")) } else { Ok(()) }
}

fn out_of_range(key: &ConfigKey) -> Vec<Value> {
    if !key.choices.is_empty() {
        return match key.value_type {
            ValueType::String => vec![json!("gx-conformance-no-such-choice")],
            ValueType::Integer | ValueType::Number => vec![json!(-987_654_321)],
            ValueType::Boolean | ValueType::Array | ValueType::Table => Vec::new(),
        };
    }
    let ends = [key.min.map(|min| min - 1.0), key.max.map(|max| max + 1.0)].into_iter().flatten();
    match key.value_type {
        ValueType::Integer => ends.map(|end| json!(end as i64)).collect(),
        ValueType::Number => ends.map(|end| json!(end)).collect(),
        ValueType::String => {
            ends.filter(|end| (0.0..1e5).contains(end)).map(|end| json!("x".repeat(end as usize))).collect()
        }
        ValueType::Boolean | ValueType::Array | ValueType::Table => Vec::new(),
    }
}

async fn missing(t: Arc<Trial>) -> Verdict {
    let loader = loader(&t)?;
    let required: Vec<_> = loader.manifest().config.iter().filter(|(_, key)| key.required).collect();
    if required.is_empty() {
        return Err(Failure::skip("no key is required"));
    }
    for (name, _) in required {
        let mut config = loader.config();
        config.remove(name);
        expect_refusal(&*loader, config, name, "nothing").await?;
    }
    Ok(())
}

async fn refused_at(t: &Trial, name: &str, value: Value) -> Verdict {
    let loader = loader(t)?;
    let mut config = loader.config();
    let shown = value.to_string();
    config.insert(name.to_owned(), value);
    expect_refusal(&*loader, config, name, &shown).await
}

async fn expect_refusal(loader: &dyn Loader, config: Map<String, Value>, name: &str, value: &str) -> Verdict {
    match soon("load", SOON, loader.load(config)).await? {
        Ok(_) => Err(Failure::new(format!("it takes {value} for {name}"))),
        Err(issues) => {
            check!(
                issues.iter().any(|issue| concerns(issue, name)),
                "no issue names {name}: {}",
                told(&issues)
            );
            Ok(())
        }
    }
}

fn concerns(issue: &ConfigIssue, name: &str) -> bool {
    let rest = issue.path.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) || issue.message.contains(name)
}

fn told(issues: &[ConfigIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
