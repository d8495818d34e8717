//! Sizes and spans of time as people write them: `4 GiB`, `500MB`, `2h`, `90s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::ParseIdError;

/// A number of bytes. Text: a number and `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `K`, `KiB`, `M`, `MiB`,
/// `G`, `GiB`, `T`, `TiB` (powers of 1024), in either case, with or without a space; a bare number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, JsonSchema)]
#[serde(into = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            noun: "size",
            value: text.chars().take(80).collect(),
            rule: "it is a number with a unit, as in 512MiB, 2g or 1.5 GB",
        };
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(bad()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(bad);
        }
        let number = parse_decimal(number).ok_or_else(bad)?;
        let bytes = number * factor as f64;
        if bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let one = 1_u64 << shift;
            if self.0 >= one {
                let text = if self.0.is_multiple_of(one) {
                    format!("{} {unit}", self.0 >> shift)
                } else {
                    format!("{:.1} {unit}", self.0 as f64 / one as f64)
                };
                return f.pad(&text);
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}

/// A span of time. Text: a number and `ms`, `s`, `m`, `h` or `d`, and several of them after one another (`1h30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, JsonSchema)]
#[serde(into = "String")]
pub struct Span(#[schemars(with = "String")] pub Duration);

impl FromStr for Span {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            noun: "span of time",
            value: text.chars().take(80).collect(),
            rule: "it is a number with a unit, as in 30s, 2h or 1h30m",
        };
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let seconds = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return Err(bad()),
            };
            let number = parse_decimal(number).ok_or_else(bad)?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
            sum = sum.checked_add(part).filter(|s| s.as_secs() <= 100 * 366 * 86_400).ok_or_else(bad)?;
            rest = tail.trim_start();
        }
        if text.trim().is_empty() { Err(bad()) } else { Ok(Self(sum)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if left >= ms {
                text.push_str(&format!("{}{unit}", left / ms));
                left %= ms;
            }
        }
        f.pad(&text)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn parse_decimal(text: &str) -> Option<f64> {
    let digits =
        text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if digits { text.parse().ok().filter(|n: &f64| n.is_finite()) } else { None }
}

impl From<Size> for String {
    /// Returns a text that is read back as the very same number, which the rounded one for people may not be.
    fn from(size: Size) -> String {
        let rounded = size.to_string();
        if rounded.parse() == Ok(size) { rounded } else { format!("{} B", size.0) }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

macro_rules! text_or_number {
    ($name:ident, $number:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number with a unit")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        let read: fn(u64) -> Option<$name> = $number;
                        read(number)
                            .ok_or_else(|| E::invalid_type(serde::de::Unexpected::Unsigned(number), &self))
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        match u64::try_from(number) {
                            Ok(number) => self.visit_u64(number),
                            Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
                        }
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}
text_or_number!(Size, |number| Some(Size(number)));
text_or_number!(Span, |_| None); // a bare number has no unit: seconds or hours?

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("512", 512), ("2g", 2 << 30), ("4 GiB", 4 << 30), ("1.5kB", 1500), ("64MiB", 64 << 20)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "g", "-1", "1e3", "99999999999g", "1 gig", ".", "nan"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("2h", 7_200), ("1h30m", 5_400), ("7d", 604_800), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        for bad in ["", "5", "h", "-1s", "1y", "1e9d", "999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn spans_survive_a_round_trip(ms in 0_u64..1_000_000_000_000) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }

        #[test]
        fn a_size_that_is_written_is_read_back(bytes in 0_u64..1 << 50) {
            let text = String::from(Size(bytes));
            prop_assert_eq!(text.parse::<Size>().unwrap(), Size(bytes));
        }

        #[test]
        fn any_text_is_a_size_or_an_error(text in "\\PC{0,20}") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Span>();
        }
    }
}
