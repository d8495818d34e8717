//! The table of servers: runs `benches/peers.rs` and `benches/update.rs`, and writes down what they found, beside what the
//! predecessor has published of itself.

use serde_json::Value;

use crate::bench::report::{heading, publish, results};
use crate::shell::{self, Doing, Result, cargo, root, say};

mod plot;

/// Where the drawing goes, below docs/.
const DRAWING: &str = "plots/peers-update.svg";
/// What the predecessor took for 32 local servers, in seconds, which grows as the square of their number: each is tested once for
/// every table that names it.
const PREDECESSOR: (f64, f64) = (32.0, 7.0);

/// Returns the requests of the predecessor for so many servers: 12 for each server in each table, and 3 for each table.
fn predecessor_requests(servers: f64) -> f64 {
    12.0 * servers.powi(2) + 3.0 * servers
}

/// Returns the seconds of the predecessor for so many servers, by what it took for 32.
fn predecessor_seconds(servers: f64) -> f64 {
    PREDECESSOR.1 * (servers / PREDECESSOR.0).powi(2)
}

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
    section.push_str(&compared(&rows));
    let drawing = root().join("docs").join(DRAWING);
    if let Some(folder) = drawing.parent() {
        std::fs::create_dir_all(folder).doing(folder.display())?;
    }
    std::fs::write(&drawing, drawn(&rows)).doing(drawing.display())?;
    section.push_str(&format!("\n![Time of an update by the number of servers]({DRAWING})\n"));
    publish("peers", &section)
}

/// Returns what was found of updates for each number of servers, as this row says it: `, one known before` is seconds.
fn by_servers(rows: &[Value], what: &str) -> Vec<(f64, f64)> {
    let found = rows.iter().filter_map(|row| {
        let servers = row["what"].as_str()?.strip_prefix("update: ")?.strip_suffix(what)?;
        Some((servers.replace(',', "").parse().ok()?, row["found"].as_f64()?))
    });
    found.collect()
}

/// Draws the updates that were measured, and what the predecessor would have taken.
fn drawn(rows: &[Value]) -> String {
    let points = by_servers(rows, " servers, one known before");
    let before = points.iter().map(|(servers, _)| (*servers, predecessor_seconds(*servers))).collect();
    plot::draw(&[
        plot::Line { name: "gx, measured", colour: "#0a7bbd", points },
        plot::Line { name: "predecessor, from N = 32", colour: "#c8551b", points: before },
    ])
}

/// Puts each update beside the predecessor's, whose figures are as published for 32 servers and computed for the rest.
fn compared(rows: &[Value]) -> String {
    let mut text = String::from(
        "\n| servers | gx s | gx requests | predecessor s, computed | predecessor requests, computed |\n\
         |--:|--:|--:|--:|--:|\n",
    );
    let requests = by_servers(rows, " servers, requests for tables");
    for (servers, seconds) in by_servers(rows, " servers, one known before") {
        let asked =
            requests.iter().find(|(count, _)| *count == servers).map_or(f64::NAN, |(_, asked)| *asked);
        let (then, then_asked) = (predecessor_seconds(servers), predecessor_requests(servers));
        text.push_str(&format!("| {servers} | {seconds:.2} | {asked} | {then:.1} | {then_asked} |\n"));
    }
    text
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
    fn updates_stand_beside_the_predecessors() {
        let row = |what: &str, found: f64| json!({ "what": what, "unit": "", "found": found, "goal": null });
        let rows = [
            row("update: 32 servers, one known before", 0.25),
            row("update: 32 servers, requests for tables", 6.0),
            row("update: 31 servers and one silent, longer by", 1.0),
        ];
        assert!(compared(&rows).ends_with("|--:|\n| 32 | 0.25 | 6 | 7.0 | 12384 |\n"), "{}", compared(&rows));
        assert!(drawn(&rows).contains("<circle"));
    }

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
