//! The steps behind the README's commands: `cargo xtask test`, `cargo xtask demo` and the rest.
//!
//! Each step is one file. What a step needs of the machine it asks of [`setup`] and [`engines`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a person at a terminal")]

mod engines;
mod images;
mod interrupt;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::{Failure, Result};

/// The steps behind the README's commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Installs what the tests need, starts the engines, runs lints and all tests, ends the engines.
    Test(test::TestArgs),
    /// Builds the images that tests and demo use, in both engines and without a registry.
    Images,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::watch();
    match run(cli.step) {
        Ok(()) => ExitCode::SUCCESS,
        // The runner's own summary has said it all; its output is to stay the last.
        Err(Failure::Told(code)) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(step: Step) -> Result<()> {
    match step {
        Step::Test(args) => test::run(&args),
        Step::Images => images(),
    }
}

fn images() -> Result<()> {
    setup::install_missing(setup::ENGINES)?;
    // Starting the engines builds the images: a container of them shows whether Podman works as it is.
    engines::Engines::start().map(drop)
}
