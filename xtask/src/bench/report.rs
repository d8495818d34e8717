//! What a bench found: a table on the terminal, JSON for programs, and a section of docs/benchmarks.md.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::bench::sample::Sample;
use crate::shell::{self, Doing, Failure, Result, root, say};

/// One bench's findings.
pub(crate) struct Report {
    /// Its name, as on the command line.
    name: &'static str,
    /// The whole command.
    command: String,
    rows: Vec<Row>,
    verdicts: Vec<Verdict>,
}

struct Row {
    what: String,
    sample: Sample,
}

struct Verdict {
    goal: String,
    found: String,
    /// `None` where there is no goal.
    holds: Option<bool>,
}

impl Report {
    pub(crate) fn new(name: &'static str, command: String) -> Self {
        Self { name, command, rows: Vec::new(), verdicts: Vec::new() }
    }

    /// Adds times; returns their median.
    pub(crate) fn row(&mut self, what: impl Into<String>, sample: Sample) -> f64 {
        let median = sample.median();
        self.rows.push(Row { what: what.into(), sample });
        median
    }

    /// Adds whether a goal holds.
    pub(crate) fn verdict(&mut self, goal: impl Into<String>, found: impl Into<String>, holds: bool) {
        self.verdicts.push(Verdict { goal: goal.into(), found: found.into(), holds: Some(holds) });
    }

    /// Adds something that is worth knowing and has no goal.
    pub(crate) fn note(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.verdicts.push(Verdict { goal: what.into(), found: found.into(), holds: None });
    }

    /// Prints the table, writes target/bench/NAME.json and the section of docs/benchmarks.md.
    ///
    /// # Errors
    /// [`Failure::Because`] where a file cannot be written or docs/benchmarks.md has no place for it.
    pub(crate) fn publish(&self) -> Result<()> {
        let folder = results()?;
        let file = folder.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(&self.json()?).doing("the results")?;
        fs::write(&file, text + "\n").doing(file.display())?;
        publish(self.name, &self.section()?)
    }

    fn section(&self) -> Result<String> {
        let mut text = heading(&self.command)?;
        text.push_str("| | median ms | p10 | p90 | n |\n|---|--:|--:|--:|--:|\n");
        for Row { what, sample } in &self.rows {
            let [median, p10, p90] =
                [sample.median(), sample.percentile(10), sample.percentile(90)].map(shown);
            let _ = writeln!(text, "| {what} | {median} | {p10} | {p90} | {} |", sample.values().len());
        }
        text.push_str("\n| goal | found | |\n|---|---|---|\n");
        for Verdict { goal, found, holds } in &self.verdicts {
            let word = match holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "–",
            };
            let _ = writeln!(text, "| {goal} | {found} | {word} |");
        }
        Ok(text)
    }

    fn json(&self) -> Result<Value> {
        let rows = self.rows.iter().map(|row| {
            json!({ "what": row.what, "median_ms": row.sample.median(), "values_ms": row.sample.values() })
        });
        let verdicts = self
            .verdicts
            .iter()
            .map(|verdict| json!({ "goal": verdict.goal, "found": verdict.found, "holds": verdict.holds }));
        Ok(json!({
            "command": self.command,
            "machine": machine()?,
            "rows": rows.collect::<Vec<_>>(),
            "goals": verdicts.collect::<Vec<_>>(),
        }))
    }
}

/// Returns the folder that JSON results go to.
///
/// # Errors
/// [`Failure::Because`] where it cannot be made.
pub(crate) fn results() -> Result<PathBuf> {
    let folder = shell::target().join("bench");
    fs::create_dir_all(&folder).doing(folder.display())?;
    Ok(folder)
}

/// Returns the line above a table: what was run, on what, when.
///
/// # Errors
/// [`Failure::Because`] where the machine does not say what it is.
pub(crate) fn heading(command: &str) -> Result<String> {
    Ok(format!("`{command}`, {}.\n\n", machine()?))
}

/// Prints a section, and puts it into docs/benchmarks.md.
///
/// # Errors
/// [`Failure::Because`] where there is no place for it.
pub(crate) fn publish(name: &str, section: &str) -> Result<()> {
    println!("\n{section}");
    let document = root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&document).doing(document.display())?;
    let new = placed(&old, name, section)
        .ok_or_else(|| Failure::Because(format!("{} has no place for {name}", document.display())))?;
    fs::write(&document, new).doing(document.display())?;
    say(format_args!("docs/benchmarks.md and {}/{name}.json are written", results()?.display()));
    Ok(())
}

/// Says what was measured on, when, and how busy it was besides.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").doing("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|m| m.1);
    let count = std::thread::available_parallelism().doing("the number of CPUs")?;
    let kernel = shell::read(Command::new("uname").arg("-sr"))?;
    let date = shell::read(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M UTC"]))?;
    let load = fs::read_to_string("/proc/loadavg").doing("/proc/loadavg")?;
    let load = load.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    let model = model.unwrap_or("unknown");
    Ok(format!("{date}, {count} CPUs ({model}), {kernel}, load over five minutes {load}"))
}

/// Writes milliseconds as exactly as they are worth it.
fn shown(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

/// Puts a section between its marks.
fn placed(document: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{section}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_the_one_between_its_marks() {
        let old = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        assert_eq!(
            placed(old, "x", "new\n").as_deref(),
            Some("a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n")
        );
        assert_eq!(placed(old, "y", "new\n"), None);
    }
}
