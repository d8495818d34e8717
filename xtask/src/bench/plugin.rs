//! The boundary between gx and a plugin: runs `benches/plugin.rs` and writes down what it found.

use std::fmt::Write;

use serde_json::Value;

use crate::bench::report::{heading, publish, results};
use crate::shell::{self, Doing, Result, cargo, say};

pub(crate) fn run() -> Result<()> {
    let file = results()?.join("plugin.json");
    say("building with optimisation, then measuring");
    shell::run(cargo(&["bench", "--package", "gx-host", "--bench", "plugin", "--", "--json"]).arg(&file))?;
    let text = std::fs::read_to_string(&file).doing(file.display())?;
    let rows: Vec<Value> = serde_json::from_str(&text).doing(file.display())?;
    let mut section = heading("cargo xtask bench plugin")?;
    section.push_str("| median | unit | inline | goal | child | goal | |\n|---|---|--:|--:|--:|--:|---|\n");
    for row in &rows {
        section.push_str(&line(row));
    }
    publish("plugin", &section)
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let unit = text("unit");
    // Of a rate more is better, of a time less.
    let rate = unit.ends_with("/s");
    let holds = |found: &str, goal: &str| match (row[found].as_f64(), row[goal].as_f64()) {
        (Some(found), Some(goal)) if rate => found >= goal,
        (Some(found), Some(goal)) => found <= goal,
        (_, None) => true,
        (None, Some(_)) => false,
    };
    let both = holds("inline", "goal_inline") && holds("child", "goal_child");
    let mut line = format!("| {} | {unit} |", text("what"));
    for key in ["inline", "goal_inline", "child", "goal_child"] {
        let sign = match (key.starts_with("goal"), rate) {
            (false, _) => "",
            (true, true) => "≥ ",
            (true, false) => "≤ ",
        };
        let _ = match row[key].as_f64() {
            Some(figure) => write!(line, " {sign}{figure:.2} |"),
            None => write!(line, " – |"),
        };
    }
    let _ = writeln!(line, " {} |", if both { "holds" } else { "does not hold" });
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_holds_from_below_and_a_rate_from_above() {
        let row = |unit: &str, found: f64| {
            line(&json!({ "what": "x", "unit": unit, "inline": found, "child": null,
                          "goal_inline": 2.0, "goal_child": null }))
        };
        assert_eq!(row("ms", 1.5), "| x | ms | 1.50 | ≤ 2.00 | – | – | holds |\n");
        assert!(row("ms", 2.5).contains("does not hold"));
        assert!(row("GB/s", 1.5).contains("does not hold"));
    }
}
