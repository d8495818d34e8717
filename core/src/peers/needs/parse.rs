//! Reading needs; errors show the place and what was probably meant.

use std::fmt;

use super::{Clause, Equal, Needs, Op, Pattern, Property, Quantity, Test};
use crate::config::closest;
use crate::units::{Size, Span};

const MAX_BYTES: usize = 4_096;
const KEYS: [&str; 12] = [
    "gpu",
    "gpu.memory",
    "gpu.model",
    "cpus",
    "memory",
    "runtime",
    "platform",
    "version",
    "label.NAME",
    "latency",
    "download",
    "upload",
];

/// Why a text says nothing of what is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsError {
    /// The text.
    pub text: String,
    /// Where it is wrong, in characters from 0.
    pub column: usize,
    /// How many characters are wrong, at least 1.
    pub width: usize,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for NeedsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {} of the needs", self.message, self.column + 1)
    }
}

impl std::error::Error for NeedsError {}

impl NeedsError {
    fn at(text: &str, start: usize, end: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let column = text[..start].chars().count();
        let width = text[start..end].chars().count().max(1);
        Self { text: text.to_owned(), column, width, message: message.into(), hint: hint.into() }
    }

    /// Returns the text with carets below what is wrong, as two lines.
    pub fn snippet(&self) -> String {
        let plain: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{plain}\n{}{}", " ".repeat(self.column), "^".repeat(self.width))
    }
}

pub(super) fn parse(text: &str) -> Result<Needs, NeedsError> {
    if text.len() > MAX_BYTES {
        return Err(NeedsError::at("", 0, 0, "too long a text", "say it in 4096 bytes"));
    }
    let mut reader = Reader { text, at: 0 };
    let mut clauses = Vec::new();
    loop {
        reader.skip(|c| c.is_whitespace() || c == ',');
        if reader.at == text.len() {
            return Ok(Needs { clauses });
        }
        clauses.push(reader.clause()?);
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, unwanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        let rest = &self.text[start..];
        self.at += rest.find(|c| !unwanted(c)).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    fn error(&self, start: usize, message: impl Into<String>, hint: impl Into<String>) -> NeedsError {
        NeedsError::at(self.text, start, self.at, message, hint)
    }

    fn clause(&mut self) -> Result<Clause, NeedsError> {
        let start = self.at;
        let key = self.skip(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'));
        if key.is_empty() {
            self.at += self.text[start..].chars().next().map_or(0, char::len_utf8);
            return Err(self.error(start, "no name of anything", format!("known: {}", KEYS.join(", "))));
        }
        let subject =
            subject(key).map_err(|hint| self.error(start, format!("unknown need `{key}`"), hint))?;
        self.skip(char::is_whitespace);
        let op_start = self.at;
        let op = self.skip(|c| matches!(c, '<' | '>' | '=' | '!'));
        let op_end = self.at;
        let Some(op) = operator(op) else {
            self.at = op_end.max((op_start + 1).min(self.text.len()));
            while !self.text.is_char_boundary(self.at) {
                self.at += 1;
            }
            let message = format!("no comparison after `{key}`");
            return Err(self.error(op_start, message, format!("as in {}", example(&subject))));
        };
        self.skip(char::is_whitespace);
        let value_start = self.at;
        let value = self.value()?;
        let wrong = |hint: String| {
            let told = if value.is_empty() {
                "nothing to compare with".to_owned()
            } else {
                format!("`{value}` does not go with `{key}`")
            };
            self.error(value_start, told, hint)
        };
        let test = test(subject, op, value).map_err(wrong)?;
        Ok(Clause { text: self.text[start..self.at].split_whitespace().collect::<Vec<_>>().join(" "), test })
    }

    fn value(&mut self) -> Result<&'a str, NeedsError> {
        let start = self.at;
        if !self.text[start..].starts_with('"') {
            return Ok(self.skip(|c| !c.is_whitespace() && c != ',' && c != '"'));
        }
        self.at += 1;
        let value = self.skip(|c| c != '"');
        if self.at == self.text.len() {
            return Err(self.error(start, "a quote that does not end", "put another \" after the text"));
        }
        self.at += 1;
        Ok(value)
    }
}

/// What a condition is about.
#[derive(Clone)]
enum Subject {
    Number(Quantity),
    Text(Property),
}

/// Returns what a key names, or the hint.
fn subject(key: &str) -> Result<Subject, String> {
    let lower = key.to_ascii_lowercase();
    if let Some(label) = lower.strip_prefix("label.").filter(|label| !label.is_empty()) {
        return Ok(Subject::Text(Property::Label(label.to_owned())));
    }
    Ok(match lower.as_str() {
        "gpu" | "gpus" => Subject::Number(Quantity::Gpu),
        "gpu.memory" => Subject::Number(Quantity::GpuMemory),
        "cpu" | "cpus" => Subject::Number(Quantity::Cpus),
        "memory" => Subject::Number(Quantity::Memory),
        "latency" => Subject::Number(Quantity::Latency),
        "download" => Subject::Number(Quantity::Download),
        "upload" => Subject::Number(Quantity::Upload),
        "gpu.model" => Subject::Text(Property::GpuModel),
        "runtime" => Subject::Text(Property::Runtime),
        "platform" => Subject::Text(Property::Platform),
        "version" => Subject::Text(Property::Version),
        _ => {
            return Err(match closest(&lower, KEYS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", KEYS.join(", ")),
            });
        }
    })
}

fn operator(text: &str) -> Option<Op> {
    Some(match text {
        "=" | "==" => Op::Equal,
        "!=" => Op::Unequal,
        "<" => Op::Below,
        "<=" => Op::AtMost,
        ">" => Op::Above,
        ">=" => Op::AtLeast,
        _ => return None,
    })
}

fn example(subject: &Subject) -> &'static str {
    match subject {
        Subject::Number(Quantity::Gpu) => "gpu>=1",
        Subject::Number(Quantity::GpuMemory) => "gpu.memory>=24G",
        Subject::Number(Quantity::Cpus) => "cpus>=8",
        Subject::Number(Quantity::Memory) => "memory>=8G",
        Subject::Number(Quantity::Latency) => "latency<20ms",
        Subject::Number(Quantity::Download) => "download>=100M",
        Subject::Number(Quantity::Upload) => "upload>=100M",
        Subject::Text(Property::GpuModel) => "gpu.model=*4090*",
        Subject::Text(Property::Runtime) => "runtime=podman",
        Subject::Text(Property::Platform) => "platform=linux/*",
        Subject::Text(Property::Version) => "version!=0.1.0",
        Subject::Text(Property::Label(_)) => "label.region=eu-*",
    }
}

/// Returns the condition, or the hint.
fn test(subject: Subject, op: Op, value: &str) -> Result<Test, String> {
    let hint = format!("as in {}", example(&subject));
    match subject {
        Subject::Number(quantity) => match number(quantity, value) {
            Some(number) => Ok(Test::Number(quantity, op, number)),
            None => Err(hint),
        },
        Subject::Text(property) => {
            let equal = match op {
                Op::Equal => Equal::Yes,
                Op::Unequal => Equal::No,
                Op::Below | Op::AtMost | Op::Above | Op::AtLeast => {
                    return Err(format!("a text is compared with = or !=, {hint}"));
                }
            };
            if value.is_empty() { Err(hint) } else { Ok(Test::Text(property, equal, Pattern::new(value))) }
        }
    }
}

fn number(quantity: Quantity, value: &str) -> Option<f64> {
    match quantity {
        Quantity::Gpu | Quantity::Cpus => value.parse::<u32>().ok().map(f64::from),
        Quantity::GpuMemory | Quantity::Memory => value.parse::<Size>().ok().map(|size| size.0 as f64),
        Quantity::Latency => value.parse::<Span>().ok().map(|span| span.0.as_secs_f64() * 1e3),
        Quantity::Download | Quantity::Upload => rate(value),
    }
}

/// Reads a rate in bit/s: `100M`, `2.5Gbit`, `64kbit/s`; powers of 1000, as links have them.
fn rate(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let plain = ["bit/s", "bps", "bit"].iter().find_map(|unit| lower.strip_suffix(unit)).unwrap_or(&lower);
    let factor = match plain.chars().last()? {
        'k' => 1e3,
        'm' => 1e6,
        'g' => 1e9,
        _ => 1.0,
    };
    let digits = if factor > 1.0 { &plain[..plain.len() - 1] } else { plain };
    let decimal = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = digits.parse().ok().filter(|_| decimal)?;
    Some(number * factor).filter(|bps| bps.is_finite())
}
