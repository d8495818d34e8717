//! Names and passwords: asked for on the terminal, or read from a file.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use gx_chat::UserName;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::error::{CliError, Kind, Result};

/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 4_096;

/// Returns whether there is somebody who can be asked.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks who talks.
pub(super) fn ask_user(system: Option<&UserName>) -> Result<UserName> {
    if !can_ask() {
        return Err(CliError::usage("nobody is named who talks").hint("--as USER, or `user` in [chat]"));
    }
    let offer = system.map(|user| format!(" [{user}]")).unwrap_or_default();
    let line = ask(&format!("user{offer}: "))?;
    match (line.trim(), system) {
        ("", Some(user)) => Ok(user.clone()),
        (name, _) => Ok(name.parse()?),
    }
}

fn ask(question: &str) -> Result<String> {
    let fail = |error: std::io::Error| CliError::io("cannot ask on the terminal", &error);
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(fail)?;
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line).map_err(fail)?;
    match line.is_empty() {
        true => Err(CliError::new(Kind::Interrupted, "interrupted")),
        false => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// Asks without showing what is typed.
pub(super) fn ask_password(question: &str) -> Result<String> {
    let fail = |error: rustix::io::Errno| CliError::io("cannot set the terminal", &error.into());
    let before = tcgetattr(std::io::stdin()).map_err(fail)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(fail)?;
    let answer = ask(question);
    // Where the terminal is gone there is nothing to give back.
    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    let _ = std::io::stderr().write_all(b"\n");
    answer
}

/// Returns the first line of a file.
pub(super) fn password_in(file: &std::path::Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_PASSWORD).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_PASSWORD).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        CliError::io(format!("cannot read {}", file.display()), &error)
            .hint("name a file with the password in its first line")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{} is not UTF-8", file.display()))
            .hint("a password is text, in the first line")
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
