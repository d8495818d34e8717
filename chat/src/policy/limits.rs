//! `[chat]`: how long messages are kept, how long one may be, how many a user may send.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use gx_core::id::ParseIdError;
use gx_core::units::Span;
use serde::{Serialize, Serializer};

use super::PolicyError;
use super::file::{ChatTable, Source};

/// How long a message may be kept.
const RETENTION: Range<Duration> = Duration::from_secs(60)..Duration::from_secs(366 * 86_400);
/// The longest text, in bytes: escaped in JSON it has six times as many and fits into a frame of 64 KiB.
const MAX_TEXT: u64 = 8 * 1_024;
/// The most messages in one window of a rate.
const MAX_COUNT: u32 = 100_000;

/// What holds for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// How long a message is kept.
    #[serde(serialize_with = "in_seconds", rename = "retention_s")]
    pub retention: Duration,
    /// The longest text of a message, in bytes.
    pub max_text: usize,
    /// How many messages a user may send.
    pub rate: Rate,
}

fn in_seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.as_secs())
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(7 * 86_400),
            max_text: 4_096,
            rate: Rate { count: 50, per: Duration::from_secs(10) },
        }
    }
}

impl Limits {
    pub(super) fn read(table: &ChatTable, source: &Source<'_>) -> Result<Self, PolicyError> {
        let mut limits = Self::default();
        if let Some(retention) = &table.retention {
            limits.retention = retention.get_ref().0;
            if !RETENTION.contains(&limits.retention) {
                let told = format!("a retention of {} is not kept", retention.get_ref());
                return Err(source.at(retention.span(), told).hint("it is from 1m to 366d, as in \"7d\""));
            }
        }
        if let Some(max_text) = &table.max_text {
            let bytes = max_text.get_ref().0;
            if !(1..=MAX_TEXT).contains(&bytes) {
                let told = format!("texts of {} do not fit", max_text.get_ref());
                return Err(source
                    .at(max_text.span(), told)
                    .hint("it is from 1 B to 8 KiB, as in \"4 KiB\""));
            }
            limits.max_text = usize::try_from(bytes).expect("it was compared with a small number");
        }
        if let Some(rate) = &table.rate {
            limits.rate = (rate.get_ref().parse())
                .map_err(|error: ParseIdError| source.at(rate.span(), error.to_string()))?;
        }
        Ok(limits)
    }
}

/// So many in so much time. Text: `50/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, all of which may come at once.
    pub count: u32,
    /// In how much time.
    pub per: Duration,
}

impl Rate {
    /// Returns how many a second it is in the long run, at least 1.
    pub fn per_s(self) -> u32 {
        let per_s = u128::from(self.count) * 1_000 / self.per.as_millis().max(1);
        u32::try_from(per_s).unwrap_or(u32::MAX).max(1)
    }
}

impl FromStr for Rate {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let rate = text.split_once('/').and_then(|(count, per)| {
            let per = if per.starts_with(|c: char| c.is_ascii_digit()) {
                per.to_owned()
            } else {
                format!("1{per}")
            };
            let count = count.trim().parse().ok().filter(|count| (1..=MAX_COUNT).contains(count))?;
            let per = per.parse::<Span>().ok()?.0;
            (Duration::from_millis(100)..=Duration::from_secs(86_400))
                .contains(&per)
                .then_some(Self { count, per })
        });
        let rule = "it is a number of messages and a span of time, as in 50/10s or 5/s";
        rate.ok_or_else(|| ParseIdError::new("rate", text, rule))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, Span(self.per))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
