//! Where lines are typed and shown: a terminal, on which the typed line stays whatever comes in, or plain input and output.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;

use gx_chat::client::Shown;
use rustyline_async::{Readline, ReadlineError, ReadlineEvent, SharedWriter};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::{CliError, Result};
use crate::output::{Out, Show, View};

/// The longest typed line, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Lines of plain input that wait.
const AHEAD: usize = 16;

/// What was typed.
pub(super) enum Input {
    Line(String),
    /// What is no text.
    Garbage,
    End,
}

/// Where lines are typed and shown.
pub(super) enum Screen<'a> {
    Terminal(Box<Terminal>),
    Plain(mpsc::Receiver<Input>, &'a Out),
}

pub(super) struct Terminal {
    readline: Readline,
    writer: SharedWriter,
    prompt: String,
    colour: bool,
}

impl<'a> Screen<'a> {
    /// Takes the terminal where there is one, else reads lines.
    pub(super) fn open(out: &'a Out) -> Result<Self> {
        if !crate::terminal::is_input() || !out.to_terminal() || out.is_json() {
            return Ok(Self::Plain(lines(), out));
        }
        let prompt = "... > ".to_owned();
        let (mut readline, writer) = Readline::new(prompt.clone()).map_err(|error| broken(&error))?;
        // What was typed comes back as a message, in its place among the others.
        readline.should_print_line_on(false, false);
        let colour = !crate::cli::Environment::no_color();
        Ok(Self::Terminal(Box::new(Terminal { readline, writer, prompt, colour })))
    }

    /// Returns whether somebody looks at it while it goes on.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Returns what is typed next. Nothing is lost when it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Input> {
        match self {
            Self::Plain(lines, _) => Ok(lines.recv().await.unwrap_or(Input::End)),
            Self::Terminal(terminal) => {
                terminal.write(&[])?;
                terminal.read().await
            }
        }
    }

    /// Shows lines, all at once.
    pub(super) fn show(&mut self, lines: &[Shown]) -> Result {
        match self {
            Self::Plain(_, out) => lines.iter().try_for_each(|line| out.item(&Line::from(line))),
            Self::Terminal(terminal) => terminal.show(lines),
        }
    }

    /// Has a text ready to be taken with the key Up.
    pub(super) fn offer(&mut self, text: String) {
        if let Self::Terminal(terminal) = self {
            terminal.readline.add_history_entry(text);
        }
    }

    /// Says what stands before the typed line.
    pub(super) fn prompt(&mut self, prompt: String) -> Result {
        match self {
            Self::Terminal(terminal) if terminal.prompt != prompt => {
                terminal.readline.update_prompt(&prompt).map_err(|error| broken(&error))?;
                terminal.prompt = prompt;
                Ok(())
            }
            Self::Terminal(_) | Self::Plain(..) => Ok(()),
        }
    }

    /// Gives the terminal back.
    pub(super) fn close(self) {
        if let Self::Terminal(mut terminal) = self {
            // Where the terminal is gone there is nothing to give back.
            let _ = terminal
                .readline
                .flush()
                .map(|()| terminal.write(&[]))
                .and_then(|_| terminal.readline.flush());
        }
    }
}

impl Terminal {
    async fn read(&mut self) -> Result<Input> {
        match self.readline.readline().await {
            Ok(ReadlineEvent::Line(line)) => {
                if !line.trim().is_empty() {
                    self.readline.add_history_entry(line.clone());
                }
                Ok(Input::Line(line))
            }
            Ok(ReadlineEvent::Eof | ReadlineEvent::Interrupted) | Err(ReadlineError::Closed) => {
                Ok(Input::End)
            }
            Err(error) => Err(broken(&error)),
        }
    }

    fn show(&mut self, lines: &[Shown]) -> Result {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(|line| Line::from(line).coloured(self.colour)).collect();
        // It is drawn above the line that is typed while the next input is waited for.
        self.write(text.as_bytes())
    }

    /// Hands text over; where there is no room it waits in the writer, for the next call.
    fn write(&mut self, text: &[u8]) -> Result {
        match self.writer.write(text) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn broken(error: &ReadlineError) -> CliError {
    CliError::failed("the terminal cannot be used").cause(error.to_string()).hint("`gx chat send` needs none")
}

/// A line of the chat as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    text: &'a str,
}

impl<'a> From<&'a Shown> for Line<'a> {
    fn from(line: &'a Shown) -> Self {
        let (kind, text) = match line {
            Shown::Message(text) => ("message", text),
            Shown::Notice(text) => ("notice", text),
            Shown::Wrong(text) => ("wrong", text),
        };
        Self { kind, text }
    }
}

impl Line<'_> {
    fn plain(&self) -> String {
        match self.kind {
            "message" => format!("{}\n", self.text),
            "notice" => format!("* {}\n", self.text),
            _ => format!("! {}\n", self.text),
        }
    }

    // ECMA-48 §8.3.117: what the client says itself is dim, what is wrong red.
    fn coloured(&self, colour: bool) -> String {
        let plain = self.plain();
        let line = plain.trim_end_matches('\n');
        match (colour, self.kind) {
            (true, "notice") => format!("\u{1b}[2m{line}\u{1b}[0m\n"),
            (true, "wrong") => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
            _ => plain,
        }
    }
}

impl Show for Line<'_> {
    fn text(&self, _: &View) -> String {
        self.plain()
    }
}

/// Reads standard input in a thread of its own, as it cannot be waited for otherwise; a few lines ahead at most.
fn lines() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            let read = stdin.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
            let input = match (read, String::from_utf8(bytes)) {
                (Ok(0) | Err(_), _) => Input::End,
                (Ok(_), Ok(line)) => Input::Line(line),
                (Ok(_), Err(_)) => Input::Garbage,
            };
            let is_end = matches!(input, Input::End);
            if sender.blocking_send(input).is_err() || is_end {
                return;
            }
        }
    });
    receiver
}

/// Writes a new file that its user alone may read.
pub(super) fn save(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all())
}
