//! The only code that prints: values as tables or JSON, raw bytes, notes, progress, errors, logs.
//!
//! Text from outside is cleaned of everything that steers a terminal; only what a container writes itself goes
//! through as it is.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::StyledStr;
use gx_core::ErrorCode;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;

use crate::cli::{Cli, Command, Environment, Globals};
use crate::error::{CliError, Kind, Result, Status};

pub(crate) mod clean;
pub(crate) mod human;
mod log;
mod progress;
mod rates;
mod table;

pub(crate) use progress::Steps;
pub(crate) use rates::Rates;
pub(crate) use table::{Pairs, Table};

/// What a command prints.
pub(crate) trait Show: Serialize {
    /// Returns it as people read it, each line with its end.
    fn text(&self, view: &View) -> String;

    /// Returns it with `--quiet`: ids, one a line; where there are none, the whole text.
    fn ids(&self, view: &View) -> String {
        self.text(view)
    }
}

/// What shapes a text for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    colour: bool,
    /// The present, for ages.
    pub(crate) now: OffsetDateTime,
}

impl View {
    /// Returns the view of a pipe, with an unmoving clock.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colour: false, now: OffsetDateTime::UNIX_EPOCH }
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.styled("1;31", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        self.styled("33", text)
    }

    pub(crate) fn cyan(&self, text: &str) -> String {
        self.styled("36", text)
    }

    // ECMA-48 §8.3.117, select graphic rendition.
    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Where a command prints.
#[derive(Debug)]
pub struct Out {
    json: bool,
    quiet: bool,
    colour: bool,
    stdout_terminal: bool,
    stderr_terminal: bool,
    screen_cleared: AtomicBool,
}

impl Out {
    /// Prints as the global flags say.
    pub fn new(globals: &Globals) -> Self {
        Self {
            json: globals.json,
            quiet: globals.quiet,
            colour: !Environment::no_color(),
            stdout_terminal: std::io::stdout().is_terminal(),
            stderr_terminal: std::io::stderr().is_terminal(),
            screen_cleared: AtomicBool::new(false),
        }
    }

    /// Returns whether programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether standard output is a terminal.
    pub(crate) fn to_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Prints what a command ends in.
    pub(crate) fn show<T: Show>(&self, value: &T) -> Result {
        let text = match (self.json, self.stdout_terminal) {
            (true, true) => in_json(serde_json::to_string_pretty(value)),
            (true, false) => in_json(serde_json::to_string(value)),
            (false, _) if self.quiet => value.ids(&self.view()),
            (false, _) => value.text(&self.view()),
        };
        self.write(text.as_bytes())
    }

    /// Prints one of a stream of values: one line of JSON, or its text.
    pub(crate) fn item<T: Show>(&self, value: &T) -> Result {
        match self.json {
            true => self.write(in_json(serde_json::to_string(value)).as_bytes()),
            false => self.write(value.text(&self.view()).as_bytes()),
        }
    }

    /// Prints a value over the one before it, on a terminal; else as [`item`](Self::item).
    pub(crate) fn repaint<T: Show>(&self, value: &T) -> Result {
        if !self.stdout_terminal || self.json {
            return self.item(value);
        }
        // Home, and clear below; the first time all of the screen, so that nothing of before shows through.
        let first = !self.screen_cleared.swap(true, Ordering::Relaxed);
        let begin = if first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H\u{1b}[J" };
        self.write(format!("{begin}{}", value.text(&self.view())).as_bytes())
    }

    /// Writes bytes as they are: generated files, completion scripts.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Passes on what a container wrote to its standard output, without blocking the program's other tasks.
    pub(crate) async fn raw_stdout(&self, bytes: &[u8]) -> Result {
        let mut stdout = tokio::io::stdout();
        stdout.write_all(bytes).await?;
        Ok(stdout.flush().await?)
    }

    /// Passes on what a container wrote to its standard error.
    pub(crate) async fn raw_stderr(&self, bytes: &[u8]) -> Result {
        let mut stderr = tokio::io::stderr();
        stderr.write_all(bytes).await?;
        Ok(stderr.flush().await?)
    }

    /// Tells people something beside the result, on standard error.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            self.to_stderr(&format!("{}\n", clean::lines(text)));
        }
    }

    /// Warns people, on standard error.
    pub(crate) fn warn(&self, text: &str, hint: Option<&str>) {
        if self.json {
            return;
        }
        let view = self.error_view();
        let mut lines = format!("{}: {}\n", view.yellow("warning"), clean::line(text));
        if let Some(hint) = hint {
            lines.push_str(&format!("  {}: {}\n", view.cyan("hint"), clean::line(hint)));
        }
        self.to_stderr(&lines);
    }

    /// Returns what shows the steps of long work on standard error: bars on a terminal, lines elsewhere.
    pub(crate) fn steps(&self) -> Steps {
        Steps::new(!self.quiet && !self.json, self.stderr_terminal)
    }

    /// Returns what draws rates while they are measured, on a terminal.
    pub(crate) fn rates(&self) -> Rates {
        Rates::new(!self.quiet && !self.json && self.stderr_terminal)
    }

    /// Prints help and version.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn help(&self, help: &StyledStr) -> Result {
        let text =
            if self.stdout_terminal && self.colour { help.ansi().to_string() } else { help.to_string() };
        self.write(text.as_bytes())
    }

    /// Prints an error and returns the exit status.
    pub fn error(&self, error: &CliError) -> Status {
        match error.kind {
            Kind::BrokenPipe => {}
            _ if self.json => {
                let mut told = serde_json::to_value(&**error).unwrap_or_default();
                told["exit_code"] = json!(error.kind.status().0);
                self.to_stderr(&format!("{}\n", json!({ "error": told })));
            }
            _ => self.to_stderr(&error_text(error, &self.error_view())),
        }
        error.kind.status()
    }

    fn view(&self) -> View {
        View { colour: self.colour && self.stdout_terminal, now: OffsetDateTime::now_utc() }
    }

    fn error_view(&self) -> View {
        View { colour: self.colour && self.stderr_terminal, ..self.view() }
    }

    fn to_stderr(&self, text: &str) {
        // Where standard error itself is gone there is nobody to tell.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn in_json(text: serde_json::Result<String>) -> String {
    text.expect("our own types always become JSON") + "\n"
}

fn error_text(error: &CliError, view: &View) -> String {
    let mut text = format!("{}: {}\n", view.red("error"), indented(&error.message));
    if !error.snippet.is_empty() {
        text.push_str(&format!("{}\n", clean::lines(&error.snippet)));
    }
    for cause in &error.causes {
        text.push_str(&format!("  {}: {}\n", view.dim("because"), indented(cause)));
    }
    for hint in &error.hints {
        text.push_str(&format!("  {}: {}\n", view.cyan("hint"), indented(hint)));
    }
    // Only of a fault does the host's log tell more than what is told here.
    if let (Some(id), Some(ErrorCode::Internal)) = (&error.request_id, error.code) {
        text.push_str(&format!("  {}: {}\n", view.dim("request id"), clean::line(id)));
    }
    text
}

fn indented(text: &str) -> String {
    clean::lines(text.trim_end()).replace('\n', "\n    ")
}

/// Sends the program's log to standard error: faults only; with `-v`, and for `serve`, more.
pub(crate) fn log_to_stderr(cli: &Cli, out: &Out) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;

    let serves = matches!(cli.command, Command::Serve(_));
    let level = match cli.globals.verbose + u8::from(serves && !cli.globals.quiet) {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // What others log, as the HTTP libraries, is of use only to who looks for a fault in them.
    let others = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::ERROR };
    let ours = ["gx", "gx_cli", "gx_client", "gx_core", "gx_host", "gx_server", "plugin"];
    let filter = Targets::new().with_default(others).with_targets(ours.map(|target| (target, level)));
    let registry = tracing_subscriber::registry();
    if out.json {
        registry.with(log::json(std::io::stderr).with_filter(filter)).init();
    } else {
        let colour = out.colour && out.stderr_terminal;
        registry.with(log::text(std::io::stderr, colour).with_filter(filter)).init();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!(target: "gx", "{panic}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_place_causes_and_hints() {
        let config = gx_core::config::Config::from_text("gx.toml", "[client]\nruntme = 1\n").unwrap_err();
        let text = error_text(&CliError::from(config).cause("a\u{1b}[2J\nb"), &View::plain());
        assert_eq!(
            text,
            "error: gx.toml:2:1: unknown key `runtme` in [client]\n  |\n2 | runtme = 1\n  | ^^^^^^\n  \
             because: a\n    b\n  hint: did you mean `runtime`?\n"
        );
    }

    #[test]
    fn without_colour_nothing_is_coloured() {
        assert_eq!(View::plain().red("x"), "x");
        assert_eq!(View { colour: true, ..View::plain() }.green("x"), "\u{1b}[32mx\u{1b}[0m");
    }
}
