//! The program `/.gx/guest`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    gx_guest::run(std::env::args_os().skip(1).collect())
}
