//! Errors of the configuration: where, what, and what was probably meant.

use std::fmt;

/// Something in a configuration file is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub origin: String,
    /// The line, from 1; 0 when the place is not known.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are wrong, at least 1.
    pub width: usize,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The text of the line.
    pub source_line: String,
}

/// What stands in a file of TOML, for those who have one that is none.
const SYNTAX: &str = "a line is `[table]`, `key = value` or `# comment`; text stands in \"quotes\"";

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.origin, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.origin, self.column, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Makes an error about the bytes `span` of `text`.
    pub fn at(origin: &str, text: &str, span: std::ops::Range<usize>, message: impl Into<String>) -> Self {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        // What is no part of the line that is shown has no place in it.
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let end = floor_boundary(text, span.end.clamp(start, line_end));
        Self {
            origin: origin.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            message: message.into(),
            hint: None,
            source_line: text[line_start..line_end].to_owned(),
        }
    }

    /// Makes an error about a key, `path` from the root: at the key if the text has it, else at its table, else
    /// without a place.
    pub fn at_key(origin: &str, text: &str, path: &[&str], message: impl Into<String>) -> Self {
        let message = message.into();
        for length in (1..=path.len()).rev() {
            if let Some(span) = key_span(text, &path[..length]) {
                return Self::at(origin, text, span, message);
            }
        }
        Self { line: 0, column: 0, ..Self::at(origin, "", 0..0, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the line with a caret below what is wrong, as several lines; empty when the place is not known.
    pub fn snippet(&self) -> String {
        if self.line == 0 {
            return String::new();
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs keep their width, so that the caret stands where it should.
        let indent: String = self
            .source_line
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.width);
        format!("{margin} |\n{number} | {}\n{margin} | {indent}{carets}", self.source_line)
    }

    /// Makes an error of what a TOML library says of `text`; of an unknown key with what was probably meant.
    pub fn from_toml(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        let Some((key, known)) = unknown_key(message) else {
            let told = Self::at(origin, text, span, message.trim_end_matches('.').replace('\n', ", "));
            let is_toml = toml::de::DeTable::parse(text).is_ok();
            return if is_toml { told } else { told.hint(SYNTAX) };
        };
        let table = table_of(text, span.start);
        let told = Self::at(origin, text, span, format!("unknown key `{key}`{table}"));
        match closest(key, known.iter().copied()) {
            Some(near) => told.hint(format!("did you mean `{near}`?")),
            None => told.hint(format!("known keys: {}", known.join(", "))),
        }
    }
}

/// Returns the candidate that was probably meant, if one is near enough.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

// serde says: unknown field `x`, expected `a` | unknown field `x`, expected `a` or `b` | …, expected one of `a`, `b`, `c`
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((key, known))
}

fn table_of(text: &str, at: usize) -> String {
    let header = text[..floor_boundary(text, at)]
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| line.starts_with('[') && line.ends_with(']'));
    header.map(|header| format!(" in {header}")).unwrap_or_default()
}

fn key_span(text: &str, path: &[&str]) -> Option<std::ops::Range<usize>> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let (last, tables) = path.split_last()?;
    let mut table = root.get_ref();
    for name in tables {
        table = table.get(*name)?.get_ref().as_table()?;
    }
    table.iter().find(|(key, _)| key.get_ref() == last).map(|(key, _)| key.span())
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
