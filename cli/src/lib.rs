//! The command line of gx, as a library: the program, and what writes its manual pages and completions.
//!
//! A command reads straight down: [`cli`] says what it is called and takes, `commands/NAME.rs` what it does,
//! [`target`] where it acts, [`output`] how it is printed. Nothing else prints or reads the environment.

mod archive;
mod browser;
pub mod cli;
mod commands;
mod error;
mod hosts;
mod identity;
mod ignore;
mod interrupt;
mod output;
mod peers;
mod road;
mod settings;
mod target;
mod terminal;
mod usage;
mod variables;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;

use clap::{CommandFactory as _, Parser as _};

pub use error::{CliError, Status, Told};
pub use output::Out;

/// Returns the description of the whole command line, for manual pages, completions and documents.
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Returns the JSON schema of the configuration.
pub fn config_schema() -> String {
    commands::config::schema()
}

/// Answers a shell that asks for completions, and exits; returns at once when none does.
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(command).var(cli::COMPLETE).complete();
}

/// Reads the command line.
///
/// # Errors
/// The exit status, when help was asked for or the line was wrong; what there is to say is already printed.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(cli::Cli, Out), Status> {
    let args: Vec<OsString> = args.into_iter().collect();
    match cli::Cli::try_parse_from(&args) {
        Ok(cli) => {
            let out = Out::new(&cli.globals);
            Ok((cli, out))
        }
        Err(told) => {
            let out = Out::new(&usage::globals(&args));
            let shows_help = usage::is_help(&told) && !(told.use_stderr() && out.is_json());
            if !shows_help {
                return Err(out.error(&usage::explain(&told, &args)));
            }
            let status = if told.use_stderr() { usage::STATUS } else { Status::DONE };
            Err(out.help(&told.render()).map_or_else(|error| out.error(&error), |()| status))
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`CliError`] with everything a user needs to go on.
pub fn run(cli: cli::Cli, out: &Out) -> Result<Status, CliError> {
    output::log_to_stderr(&cli, out);
    std::panic::catch_unwind(AssertUnwindSafe(|| commands::run(cli, out)))
        .unwrap_or_else(|panic| Err(CliError::bug(panic.as_ref())))
}
