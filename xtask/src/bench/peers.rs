//! The table of servers: runs `benches/peers.rs` and writes down what it found.

use serde_json::Value;

use crate::bench::report::{heading, publish, results};
use crate::shell::{self, Doing, Result, cargo, root, say};

mod plot;

/// Where the drawing goes, below docs/.
const DRAWING: &str = "peers-update.svg";
/// What the predecessor took for 32 local servers, in seconds, which grows as the square of their number: each is tested once for
/// every table that names it.
const PREDECESSOR: (f64, f64) = (32.0, 7.0);

pub(crate) fn run() -> Result<()> {
    say("building with optimisation, then measuring");
    let mut rows: Vec<Value> = Vec::new();
    for (package, bench) in [("gx-core", "peers"), ("gx-peers", "update")] {
        let file = results()?.join(format!("{bench}.json"));
        shell::run(cargo(&["bench", "--package", package, "--bench", bench, "--", "--json"]).arg(&file))?;
        let text = std::fs::read_to_string(&file).doing(file.display())?;
        rows.extend(serde_json::from_str::<Vec<Value>>(&text).doing(file.display())?);
    }
    let mut section = heading("cargo xtask bench peers")?;
    section.push_str("| | unit | found | goal | |\n|---|---|--:|--:|---|\n");
    rows.iter().for_each(|row| section.push_str(&line(row)));
    let drawing = root().join("docs").join(DRAWING);
    std::fs::write(&drawing, drawn(&rows)).doing(drawing.display())?;
    section.push_str(&format!("\n![Time of an update by the number of servers]({DRAWING})\n"));
    publish("peers", &section)
}

/// Draws the updates that were measured, and what the predecessor would have taken.
fn drawn(rows: &[Value]) -> String {
    let measured = rows.iter().filter_map(|row| {
        let servers =
            row["what"].as_str()?.strip_prefix("update: ")?.strip_suffix(" servers, one known before")?;
        Some((servers.replace(',', "").parse().ok()?, row["found"].as_f64()?))
    });
    let points: Vec<(f64, f64)> = measured.collect();
    let (count, seconds) = PREDECESSOR;
    let before = points.iter().map(|(servers, _)| (*servers, seconds * (servers / count).powi(2))).collect();
    plot::draw(&[
        plot::Line { name: "gx, measured", colour: "#0a7bbd", points },
        plot::Line { name: "predecessor, from N = 32", colour: "#c8551b", points: before },
    ])
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
