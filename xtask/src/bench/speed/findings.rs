//! What the bench has found, piece by piece: kept between runs in target/bench/speed.json, so that it can be run in short
//! pieces on a calm machine, and written into docs/benchmarks.md as a whole.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::bench::report::{heading, publish, results};
use crate::bench::sample::Sample;
use crate::shell::{Doing, Result};

/// What one piece has found.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    ratios: Vec<Value>,
    others: Vec<Value>,
}

/// What a ratio is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Band {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Band {
    pub(crate) const fn at_least(low: f64) -> Self {
        Self { low, high: f64::INFINITY }
    }

    pub(crate) fn within(part: f64) -> Self {
        Self { low: 1.0 - part, high: 1.0 + part }
    }

    fn text(self) -> String {
        if self.high.is_finite() {
            format!("± {:.2}", self.high - 1.0)
        } else {
            format!("≥ {:.2}", self.low)
        }
    }
}

impl Piece {
    /// Notes a rate against iperf3's: the ratio of the medians counts, and that of each pair is shown.
    pub(crate) fn ratio(&mut self, what: &str, way: &str, pairs: &[(f64, f64)], band: Band) {
        let median = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).collect::<Sample>().median();
        let (theirs, ours) = (median(|pair| pair.0), median(|pair| pair.1));
        let ratio = ours / theirs;
        let each: Vec<f64> = pairs.iter().map(|(theirs, ours)| ours / theirs).collect();
        self.ratios.push(json!({
            "what": what, "way": way, "iperf3_mbit": theirs, "gx_mbit": ours, "ratio": ratio, "pairs": each,
            "low": band.low, "high": band.high.is_finite().then_some(band.high), "goal": band.text(),
            "holds": (band.low..=band.high).contains(&ratio),
        }));
    }

    /// Notes anything else that has a goal.
    pub(crate) fn other(&mut self, what: impl Into<String>, found: String, goal: &str, holds: bool) {
        self.others.push(json!({ "what": what.into(), "found": found, "goal": goal, "holds": holds }));
    }
}

/// Everything found so far, by piece.
#[derive(Debug)]
pub(crate) struct Findings(BTreeMap<String, Value>);

impl Findings {
    /// Reads what earlier runs have found.
    pub(crate) fn read() -> Result<Self> {
        let text = std::fs::read_to_string(results()?.join("speed.json")).unwrap_or_default();
        Ok(Self(serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Keeps a piece in the place of what was found of it before.
    pub(crate) fn keep(&mut self, name: &str, piece: Piece, command: &str) -> Result<()> {
        let on = heading(command)?.trim().to_owned();
        self.0.insert(name.to_owned(), json!({ "on": on, "ratios": piece.ratios, "others": piece.others }));
        let file = results()?.join("speed.json");
        let text = serde_json::to_string_pretty(&self.0).doing("the results")?;
        std::fs::write(&file, text + "\n").doing(file.display())
    }

    /// Returns all ratios, in the order of the pieces.
    pub(crate) fn ratios(&self) -> Vec<&Value> {
        self.0.values().filter_map(|piece| piece["ratios"].as_array()).flatten().collect()
    }

    /// Writes the section.
    pub(crate) fn publish(&self) -> Result<()> {
        let mut section = String::from(
            "![gx against iperf3](plots/speed.svg)\n\n\
             | | way | iperf3 Mbit/s | gx Mbit/s | gx : iperf3 | goal | |\n|---|---|--:|--:|--:|---|---|\n",
        );
        for row in self.ratios() {
            let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
            let _ = writeln!(
                section,
                "| {} | {} | {:.1} | {:.1} | {:.3} | {} | {} |",
                text(row, "what"),
                text(row, "way"),
                number("iperf3_mbit"),
                number("gx_mbit"),
                number("ratio"),
                text(row, "goal"),
                verdict(row)
            );
        }
        section.push_str("\n| | found | goal | |\n|---|---|---|---|\n");
        for row in self.0.values().filter_map(|piece| piece["others"].as_array()).flatten() {
            let cells = [text(row, "what"), text(row, "found"), text(row, "goal"), verdict(row)];
            let _ = writeln!(section, "| {} |", cells.join(" | "));
        }
        section.push('\n');
        for piece in self.0.values() {
            let _ = writeln!(section, "- {}", text(piece, "on"));
        }
        publish("speed", &section)
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or("–")
}

fn verdict(row: &Value) -> &'static str {
    if row["holds"] == json!(true) { "holds" } else { "does not hold" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_the_medians() {
        let mut piece = Piece::default();
        piece.ratio("x", "up", &[(100.0, 90.0), (200.0, 300.0), (110.0, 100.0)], Band::within(0.10));
        let row = &piece.ratios[0];
        assert!((row["ratio"].as_f64().unwrap_or_default() - 100.0 / 110.0).abs() < 1e-9, "{row}");
        assert_eq!((&row["holds"], &row["goal"]), (&json!(true), &json!("± 0.10")));
        piece.ratio("x", "up", &[(100.0, 89.0)], Band::at_least(0.90));
        assert_eq!((&piece.ratios[1]["holds"], &piece.ratios[1]["high"]), (&json!(false), &Value::Null));
    }
}
