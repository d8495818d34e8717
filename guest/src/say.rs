//! The few lines the guest says: on its standard error, which is the container's log. Never a secret.

use std::fmt::Display;
use std::io::Write;

/// Writes one line; nobody reading is no reason to fail.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "gx: {text}");
}
