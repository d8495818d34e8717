//! `gx`: parses, runs, prints the error, exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gx_cli::complete();
    let (cli, out) = match gx_cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(status) => return status.into(),
    };
    gx_cli::run(cli, &out).unwrap_or_else(|error| out.error(&error)).into()
}
