//! The table of servers: runs `benches/peers.rs` and writes down what it found.

use serde_json::Value;

use crate::bench::report::{heading, publish, results};
use crate::shell::{self, Doing, Result, cargo, say};

pub(crate) fn run() -> Result<()> {
    let file = results()?.join("peers.json");
    say("building with optimisation, then measuring");
    shell::run(cargo(&["bench", "--package", "gx-core", "--bench", "peers", "--", "--json"]).arg(&file))?;
    let text = std::fs::read_to_string(&file).doing(file.display())?;
    let rows: Vec<Value> = serde_json::from_str(&text).doing(file.display())?;
    let mut section = heading("cargo xtask bench peers")?;
    section.push_str("| | unit | found | goal | |\n|---|---|--:|--:|---|\n");
    rows.iter().for_each(|row| section.push_str(&line(row)));
    publish("peers", &section)
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let found = row["found"].as_f64().unwrap_or(f64::INFINITY);
    let (goal, verdict) = match row["goal"].as_f64() {
        Some(goal) if found <= goal => (format!("≤ {goal}"), "holds"),
        Some(goal) => (format!("≤ {goal}"), "does not hold"),
        None => ("–".to_owned(), ""),
    };
    format!("| {} | {} | {found:.2} | {goal} | {verdict} |\n", text("what"), text("unit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_holds_up_to_its_goal() {
        let row = |found: f64| line(&json!({ "what": "x", "unit": "s", "found": found, "goal": 1.0 }));
        assert_eq!(row(1.0), "| x | s | 1.00 | ≤ 1 | holds |\n");
        assert!(row(1.1).contains("does not hold"));
        assert!(
            line(&json!({ "what": "x", "unit": "s", "found": 2.0, "goal": null })).ends_with("| – |  |\n")
        );
    }
}
