//! The steps behind the README's commands: `cargo xtask test`, `cargo xtask demo` and the rest.
//!
//! Each step is one file. What a step needs of the machine it asks of [`setup`] and [`engines`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a person at a terminal")]

mod bench;
mod build;
mod demo;
mod desktop;
mod dist;
mod engines;
mod r#gen;
mod images;
mod install;
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
    /// Tells a short story with a host and a container on it, in both engines.
    Demo,
    /// Builds the images that tests and demo use, in both engines and without a registry.
    Images(ImagesArgs),
    /// Writes docs/cli.md and docs/config.schema.json from the program.
    Gen(r#gen::GenArgs),
    /// Installs gx, its plugins, completions, manual pages and unit; or removes them.
    Install(install::InstallArgs),
    /// Makes a tarball and a Debian package.
    Dist,
    /// Measures, and writes docs/benchmarks.md.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// A wire between two network namespaces; `bench speed` lays it.
    #[command(hide = true)]
    Wire(bench::WireArgs),
}

/// Which images to build.
#[derive(clap::Args)]
struct ImagesArgs {
    /// The one with a desktop too, from a base made with mmdebstrap; a minute or two for each engine.
    #[arg(long)]
    desktop: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // gx refuses plugins that a group may write, as some systems' default has it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
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
        Step::Demo => demo::run(),
        Step::Images(args) => images(&args),
        Step::Gen(args) => r#gen::run(&args),
        Step::Install(args) => install::run(&args),
        Step::Dist => dist::run(),
        Step::Bench(bench) => bench::run(&bench),
        Step::Wire(args) => bench::wire(&args),
    }
}

fn images(args: &ImagesArgs) -> Result<()> {
    if !args.desktop {
        setup::install_missing(&[setup::ENGINES])?;
        // Starting the engines builds the images: a container of them shows whether Podman works as it is.
        return engines::Engines::start().map(drop);
    }
    setup::install_missing(&[setup::ENGINES, setup::DESKTOP])?;
    let engines = engines::Engines::start()?;
    desktop::bases(&engines)?;
    desktop::build(&engines)
}
