//! Messages as a file: text as the original wrote it, Markdown, or JSON that keeps everything exactly.

use std::fmt::Write as _;
use std::str::FromStr;

use gx_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use super::shown;
use crate::frames::Message;
use crate::id::GroupId;

/// What a file of messages looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `[YYYY-MM-DD HH:MM:SS]user:text`, one message a line.
    #[default]
    Text,
    /// A heading for each day, and a list.
    Markdown,
    /// One [`Exported`] a line, exactly as it is stored, with the chain of hashes.
    JsonLines,
}

impl Format {
    /// Returns the ending of a file's name.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Markdown => "md",
            Self::JsonLines => "jsonl",
        }
    }
}

impl FromStr for Format {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let all = [Self::Text, Self::Markdown, Self::JsonLines];
        let format = all.into_iter().find(|format| format.ending() == text);
        format.ok_or_else(|| ParseIdError::new("format", text, "it is txt, md or jsonl"))
    }
}

/// A message in a file of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// The group.
    pub g: GroupId,
    /// The message.
    #[serde(flatten)]
    pub m: Message,
}

/// Writes messages, one after the other, in the order in which they come.
#[derive(Debug)]
pub struct Exporter {
    format: Format,
    group: GroupId,
    day: Option<time::Date>,
    count: u64,
}

impl Exporter {
    /// Begins a file about a group.
    pub fn new(format: Format, group: GroupId) -> Self {
        Self { format, group, day: None, count: 0 }
    }

    /// Returns what comes before the first message.
    pub fn head(&self, name: &str) -> String {
        match self.format {
            Format::Text | Format::JsonLines => String::new(),
            Format::Markdown => format!("# {}\n", markdown(name)),
        }
    }

    /// Returns how many messages there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a message to a text.
    pub fn add(&mut self, message: &Message, to: &mut String) {
        self.count += 1;
        let at = moment(message.ts);
        match self.format {
            Format::Text => to.push_str(&text_line(message)),
            Format::Markdown => {
                if self.day.replace(at.date()) != Some(at.date()) {
                    let _ = write!(to, "\n## {}\n\n", at.date());
                }
                let clock =
                    at.time().format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default();
                let _ = writeln!(
                    to,
                    "- {clock} **{}**: {}",
                    markdown(message.from.as_str()),
                    markdown(&message.text)
                );
            }
            Format::JsonLines => {
                let exported = Exported { g: self.group.clone(), m: message.clone() };
                to.push_str(&serde_json::to_string(&exported).expect("our own types always become JSON"));
                to.push('\n');
            }
        }
    }
}

/// Returns a message as a line of text: `[YYYY-MM-DD HH:MM:SS]user:text`, in UTC.
pub fn text_line(message: &Message) -> String {
    format!("[{}]{}:{}\n", clock(message.ts), shown(message.from.as_str()), shown(&message.text))
}

/// Returns a time as `YYYY-MM-DD HH:MM:SS`, in UTC.
pub fn clock(ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    moment(ms).format(format).unwrap_or_default()
}

fn moment(ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Escapes what Markdown would take for its own (CommonMark 0.31, §2.4), and what HTML would.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in shown(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '!') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChainHash, Seq};

    fn message(seq: u64, ts: u64, text: &str) -> Message {
        Message {
            seq: Seq::new(seq).unwrap(),
            ts,
            from: "Army3".parse().unwrap(),
            cid: "c1".parse().unwrap(),
            text: text.to_owned(),
            h: ChainHash::ROOT,
        }
    }

    fn exported(format: Format) -> String {
        let mut exporter = Exporter::new(format, "r".parse().unwrap());
        let mut text = exporter.head("army");
        for m in
            [message(1, 1_790_000_000_999, "a *b* \u{202e}\u{1b}[2Jc\nd"), message(2, 1_790_086_400_000, "e")]
        {
            exporter.add(&m, &mut text);
        }
        text
    }

    #[test]
    fn text_is_as_the_original_wrote_it() {
        assert_eq!(
            exported(Format::Text),
            "[2026-09-21 14:13:20]Army3:a *b* ⟨U+202E⟩[2Jc ⏎ d\n[2026-09-22 14:13:20]Army3:e\n"
        );
    }

    #[test]
    fn markdown_has_days_and_no_markup_of_others() {
        assert_eq!(
            exported(Format::Markdown),
            "# army\n\n## 2026-09-21\n\n- 14:13:20 **Army3**: a \\*b\\* ⟨U+202E⟩\\[2Jc ⏎ d\n\n## 2026-09-22\n\n- 14:13:20 \
             **Army3**: e\n"
        );
    }

    #[test]
    fn json_is_exact() {
        let text = exported(Format::JsonLines);
        let first: Exported = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first.m.text, "a *b* \u{202e}\u{1b}[2Jc\nd");
        assert_eq!((first.g.as_str(), text.lines().count()), ("r", 2));
    }

    #[test]
    fn any_time_is_written() {
        assert_eq!(clock(0), "1970-01-01 00:00:00");
        assert!(!clock(u64::MAX).is_empty());
    }
}
