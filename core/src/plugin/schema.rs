//! The schema of a plugin's configuration, and the check of a table against it.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::Value;

use super::ConfigIssue;
use super::manifest::Manifest;
use crate::config::closest;

/// One key of a plugin's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigKey {
    /// The type of its value.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// What holds where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    #[serde(default)]
    pub doc: String,
    /// Whether it must be given.
    #[serde(default)]
    pub required: bool,
    /// Whether its value is never shown.
    #[serde(default)]
    pub secret: bool,
    /// The smallest number, or the shortest length of a text or list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest number, or the longest length of a text or list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The only values it may have; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Value>,
}

/// The type of a value in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// A table.
    Table,
}

impl ValueType {
    const fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Array => "an array",
            Self::Table => "a table",
        }
    }

    fn fits(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::String, Value::String(_))
                | (Self::Integer | Self::Number, Value::Integer(_))
                | (Self::Number, Value::Float(_))
                | (Self::Boolean, Value::Boolean(_))
                | (Self::Array, Value::Array(_))
                | (Self::Table, Value::Table(_))
        )
    }
}

impl Manifest {
    /// Checks a plugin's table and returns it as JSON, with the defaults filled in.
    ///
    /// # Errors
    /// Everything that is wrong: unknown key, type, range, choice, missing. The value of a secret is in no message.
    pub fn check_config(&self, table: &toml::Table) -> Result<Json, Vec<ConfigIssue>> {
        let mut issues = Vec::new();
        let mut checked = serde_json::Map::new();
        for key in table.keys().filter(|key| !self.config.contains_key(*key)) {
            issues.push(ConfigIssue::new(key, self.unknown(key)));
        }
        for (key, schema) in &self.config {
            match table.get(key).or(schema.default.as_ref()) {
                Some(value) => match schema.fault(value) {
                    Some(fault) => issues.push(ConfigIssue::new(key, fault)),
                    None => drop(checked.insert(key.clone(), to_json(value))),
                },
                None if schema.required => issues.push(ConfigIssue::new(key, schema.missing())),
                None => {}
            }
        }
        if issues.is_empty() { Ok(Json::Object(checked)) } else { Err(issues) }
    }

    fn unknown(&self, key: &str) -> String {
        let known: Vec<&str> = self.config.keys().map(String::as_str).collect();
        match (closest(key, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => format!("unknown key; did you mean `{near}`?"),
            (None, []) => "unknown key; this plugin has none".to_owned(),
            (None, known) => format!("unknown key; known keys: {}", known.join(", ")),
        }
    }
}

impl ConfigKey {
    /// Checks the schema itself: the default must fit it.
    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        let fault = self.default.as_ref().and_then(|default| self.fault(default));
        fault.map_or(Ok(()), |fault| Err(format!("the default of `{key}` does not fit: {fault}")))
    }

    fn missing(&self) -> String {
        let doc = if self.doc.is_empty() { String::new() } else { format!(": {}", self.doc) };
        format!("missing; it must be {}{doc}", self.value_type.name())
    }

    fn fault(&self, value: &Value) -> Option<String> {
        if !self.value_type.fits(value) {
            let (wanted, given) = (self.value_type.name(), value.type_str());
            return Some(format!("must be {wanted}, not of type {given}"));
        }
        if !self.choices.is_empty() && !self.choices.contains(value) {
            let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
            return Some(format!("must be one of {}{}", choices.join(", "), self.shown(value)));
        }
        self.out_of_range(value)
    }

    fn out_of_range(&self, value: &Value) -> Option<String> {
        let (size, unit) = match value {
            Value::Integer(number) => (*number as f64, ""),
            Value::Float(number) => (*number, ""),
            Value::String(text) => (text.chars().count() as f64, " characters long"),
            Value::Array(items) => (items.len() as f64, " items long"),
            _ => return None,
        };
        let shown = self.shown(value);
        match (self.min, self.max) {
            (Some(min), _) if size < min || size.is_nan() => {
                Some(format!("must be at least {min}{unit}{shown}"))
            }
            (_, Some(max)) if size > max || size.is_nan() => {
                Some(format!("must be at most {max}{unit}{shown}"))
            }
            _ => None,
        }
    }

    fn shown(&self, value: &Value) -> String {
        if self.secret { String::new() } else { format!(", not {value}") }
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::String(text) => text.clone().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest::from_text(
            r#"
            name = "x"
            version = "1"
            kind = "runtime"
            api = ["runtime/1"]
            [config.socket]
            type = "string"
            [config.retries]
            type = "integer"
            default = 3
            min = 0
            max = 10
            [config.mode]
            type = "string"
            choices = ["fast", "safe"]
            [config.token]
            type = "string"
            required = true
            secret = true
            min = 8
            "#,
        )
        .unwrap()
    }

    fn issues(text: &str) -> Vec<String> {
        let issues = manifest().check_config(&toml::from_str(text).unwrap()).unwrap_err();
        issues.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_filled_in() {
        let table = toml::from_str("token = 'long enough'").unwrap();
        let json = manifest().check_config(&table).unwrap();
        assert_eq!(json, serde_json::json!({"retries": 3, "token": "long enough"}));
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_a_secret_is_not_shown() {
        let said = issues("sockt = 'a'\nretries = 11\nmode = 'slow'\ntoken = 'hidden'");
        assert_eq!(
            said,
            [
                "sockt: unknown key; did you mean `socket`?",
                "mode: must be one of \"fast\", \"safe\", not \"slow\"",
                "retries: must be at most 10, not 11",
                "token: must be at least 8 characters long",
            ]
        );
        assert_eq!(issues("retries = '3'")[0], "retries: must be an integer, not of type string");
        assert_eq!(issues("")[0], "token: missing; it must be a string");
    }

    #[test]
    fn a_default_that_does_not_fit_is_found_when_the_manifest_is_read() {
        let text = "name='x'\nversion='1'\nkind='runtime'\napi=[]\n[config.a]\ntype='integer'\ndefault='b'";
        let error = Manifest::from_text(text).unwrap_err().to_string();
        assert!(error.contains("the default of `a` does not fit"), "{error}");
    }
}
