//! `cargo xtask test`: lints and all tests, with the engines they need.

use clap::Args;

use crate::desktop;
use crate::engines::Engines;
use crate::setup;
use crate::shell::{self, Failure, Result, cargo, find, say};

/// Without nextest: everything but benches and what is in the documentation, so that tests come last.
const PLAIN: &[&str] = &["test", "--lib", "--bins", "--tests", "--examples"];

/// What to test.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Passed to the test runner; a name runs the tests that contain it, without the lints.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Installs what is missing, checks, tests, and ends the engines it started.
///
/// The last output is the test runner's own summary.
///
/// # Errors
/// [`Failure::Because`] for what fails before the tests, [`Failure::Told`] for the tests.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    setup::install_missing(&[setup::ENGINES, setup::SSH, setup::TESTS, setup::DESKTOP, setup::VIEWERS])?;
    setup::give_ids()?;
    if args.filter.is_empty() {
        lints()?;
        say("tests in the documentation");
        shell::run(cargo(&["test", "--workspace", "--doc", "--quiet"]).args(locked()))?;
    }
    let nextest = find("cargo-nextest").is_some();
    say("building the tests");
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { PLAIN };
    shell::run(cargo(runner).args(["--workspace", "--no-run"]).args(locked()))?;
    let engines = Engines::start()?;
    let wanted = |part| args.filter.is_empty() || args.filter.iter().any(|filter| filter.contains(part));
    if wanted("desktop") {
        // The tests let gx build the image itself, as it does when a create first names it.
        desktop::bases(&engines)?;
    }
    if wanted("clients") || wanted("ports") {
        desktop::build_clients(&engines)?;
    }
    say("testing");
    let mut tests = cargo(runner);
    tests.args(["--workspace", "--no-fail-fast"]).args(locked()).args(&args.filter);
    // With this a missing engine is a failure and not a skipped test.
    tests.env("GX_REQUIRE_ENGINES", "1");
    if !shell::is_root() {
        say(
            "not root: what makes networks or members' containers fails here; as root, with `sudo -E`, all of it runs",
        );
    }
    shell::run_telling(engines.apply(&mut tests))
}

fn lints() -> Result<()> {
    if has("fmt")? {
        say("checking the format");
        shell::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    }
    if has("clippy")? {
        say("checking with clippy");
        let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
        shell::run(clippy.args(locked()).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// Returns whether this part of the toolchain is there; where a gate runs it has to be.
fn has(part: &str) -> Result<bool> {
    if shell::read(&mut cargo(&[part, "--version"])).is_ok() {
        return Ok(true);
    }
    let text = format!("cargo {part} is not there: `rustup component add rustfmt clippy` brings it");
    if in_ci() {
        return Err(Failure::Because(text));
    }
    say(format_args!("not checked: {text}"));
    Ok(false)
}

/// Where nobody can commit a changed lock file, it is not to change.
fn locked() -> Option<&'static str> {
    in_ci().then_some("--locked")
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}
