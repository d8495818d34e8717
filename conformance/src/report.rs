//! What a run has found, for people, as JSON and as JUnit XML.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The promise holds.
    Pass,
    /// It does not.
    Fail {
        /// What was seen instead.
        why: String,
    },
    /// It was not tried.
    Skip {
        /// What is missing for it.
        why: String,
    },
}

/// One case and how it ended. Its text is a line for people, with further lines where it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// `group/what is done`.
    pub name: &'static str,
    /// The promise it checks.
    pub promise: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
}

impl CaseResult {
    /// Returns `pass`, `fail` or `skip`.
    pub fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail { .. } => "fail",
            Outcome::Skip { .. } => "skip",
        }
    }

    /// Returns why it failed or was skipped.
    pub fn why(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Pass => None,
            Outcome::Fail { why } | Outcome::Skip { why } => Some(why),
        }
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, name, ms) = (self.word(), self.name, self.duration.as_millis());
        match &self.outcome {
            Outcome::Pass => writeln!(f, "{word}  {name}  ({ms} ms)"),
            Outcome::Skip { why } => writeln!(f, "{word}  {name}: {why}"),
            Outcome::Fail { why } => {
                writeln!(f, "{word}  {name}  ({ms} ms)\n      promised: {}\n      seen: {why}", self.promise)
            }
        }
    }
}

impl Serialize for CaseResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("CaseResult", 5)?;
        fields.serialize_field("name", self.name)?;
        fields.serialize_field("outcome", self.word())?;
        match self.why() {
            Some(why) => fields.serialize_field("why", why)?,
            None => fields.skip_field("why")?,
        }
        fields.serialize_field("promise", self.promise)?;
        fields.serialize_field("duration_ms", &(self.duration.as_millis() as u64))?;
        fields.end()
    }
}

/// All cases of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run's id.
    pub run_id: String,
    /// How many promises hold.
    pub passed: usize,
    /// How many do not.
    pub failed: usize,
    /// How many were not tried.
    pub skipped: usize,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
    /// The cases, always in the same order.
    pub cases: Vec<CaseResult>,
}

impl Report {
    pub(crate) fn new(run_id: String, cases: Vec<CaseResult>, duration: Duration) -> Self {
        let count = |word| cases.iter().filter(|case| case.word() == word).count();
        let (passed, failed, skipped) = (count("pass"), count("fail"), count("skip"));
        Self { run_id, passed, failed, skipped, duration_ms: duration.as_millis() as u64, cases }
    }

    /// Returns whether promises were checked and all of them hold.
    pub fn is_ok(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Returns the cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| matches!(case.outcome, Outcome::Fail { .. }))
    }

    /// Returns the one line that says it all.
    pub fn summary(&self) -> String {
        let Self { passed, failed, skipped, .. } = self;
        let seconds = self.duration_ms as f64 / 1000.0;
        format!(
            "{} cases: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.1} s",
            self.cases.len()
        )
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers always become JSON")
    }

    /// Returns the report as JUnit XML (the form that Jenkins and GitLab read), `suite` being the name of what was
    /// tested.
    pub fn to_junit(&self, suite: &str) -> String {
        use fmt::Write;
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let (tests, seconds) = (self.cases.len(), self.duration_ms as f64 / 1000.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            xml,
            "<testsuite name=\"{}\" tests=\"{tests}\" failures=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
            escape(suite),
            self.failed,
            self.skipped
        );
        for case in &self.cases {
            let (group, name) = case.name.split_once('/').unwrap_or(("", case.name));
            let seconds = case.duration.as_secs_f64();
            let open = format!(
                "  <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"",
                escape(group),
                escape(name)
            );
            let _ = match &case.outcome {
                Outcome::Pass => writeln!(xml, "{open}/>"),
                Outcome::Skip { why } => {
                    writeln!(xml, "{open}><skipped message=\"{}\"/></testcase>", escape(why))
                }
                Outcome::Fail { why } => {
                    let (message, promise) = (escape(why), escape(case.promise));
                    writeln!(
                        xml,
                        "{open}><failure message=\"{message}\">promised: {promise}</failure></testcase>"
                    )
                }
            };
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

/// Escapes text for an attribute, and leaves out what XML 1.0 cannot hold.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let case = |name, outcome| CaseResult {
            name,
            promise: "it <works>",
            outcome,
            duration: Duration::from_millis(12),
        };
        let cases = vec![
            case("logs/split", Outcome::Pass),
            case("exec/tty", Outcome::Fail { why: "\"a\" & \u{1b}[1m\nb".into() }),
            case("copy/in", Outcome::Skip { why: "no Copy".into() }),
        ];
        Report::new("r1".into(), cases, Duration::from_millis(1234))
    }

    #[test]
    fn junit_is_escaped() {
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <testsuite name=\"a&amp;b\" tests=\"3\" failures=\"1\" skipped=\"1\" time=\"1.234\">\n  \
            <testcase classname=\"logs\" name=\"split\" time=\"0.012\"/>\n  \
            <testcase classname=\"exec\" name=\"tty\" time=\"0.012\"><failure message=\"&quot;a&quot; &amp; \
            \u{fffd}[1m&#10;b\">promised: it &lt;works&gt;</failure></testcase>\n  \
            <testcase classname=\"copy\" name=\"in\" time=\"0.012\"><skipped message=\"no Copy\"/></testcase>\n\
            </testsuite>\n";
        assert_eq!(report().to_junit("a&b"), expected);
    }

    #[test]
    fn json_has_every_case() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!((&json["passed"], &json["failed"], &json["skipped"]), (&1.into(), &1.into(), &1.into()));
        assert_eq!(json["cases"][2]["why"], "no Copy");
        assert_eq!(json["cases"][0]["outcome"], "pass");
    }

    #[test]
    fn a_run_without_a_passed_case_is_not_ok() {
        assert_eq!(report().summary(), "3 cases: 1 passed, 1 failed, 1 skipped in 1.2 s");
        assert!(!report().is_ok());
        assert!(!Report::new("r".into(), Vec::new(), Duration::ZERO).is_ok());
    }
}
