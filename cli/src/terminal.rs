//! The user's terminal while a command in a container has it: raw, and restored on every way out.

use std::io::{IsTerminal as _, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{CliError, Result};

/// Returns whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    stdin().is_terminal()
}

/// Returns the terminal's size in columns and rows, if there is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal that passes every key on as it is. Dropping it gives the terminal back as it was.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes the terminal on standard input raw.
    pub(crate) fn enter() -> Result<Self> {
        let fail = |error: rustix::io::Errno| CliError::io("cannot set the terminal", &error.into());
        let before = tcgetattr(stdin()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        // At once, so that what was typed ahead is not lost.
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
