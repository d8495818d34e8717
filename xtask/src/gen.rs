//! `cargo xtask gen`: the documents that the program itself writes.

use std::fs;

use clap::Args;

use crate::shell::{self, Doing, Failure, Result, cargo, root, say};

/// What `gx reference` writes, and where it lies here.
const DOCUMENTS: [&str; 2] = ["cli.md", "config.schema.json"];

/// Write or compare.
#[derive(Args)]
pub(crate) struct GenArgs {
    /// Writes nothing, and fails where a document is not what the program would write now
    #[arg(long)]
    check: bool,
}

/// Writes the generated documents anew, or compares them.
///
/// # Errors
/// [`Failure::Because`] names the documents that differ.
pub(crate) fn run(args: &GenArgs) -> Result<()> {
    let folder = tempfile::tempdir().doing("a folder for the documents")?;
    shell::run(
        cargo(&["run", "--quiet", "--package", "gx", "--", "--quiet", "reference"]).arg(folder.path()),
    )?;
    let mut stale = Vec::new();
    for name in DOCUMENTS {
        let new = fs::read_to_string(folder.path().join(name)).doing(name)?;
        let file = root().join("docs").join(name);
        if fs::read_to_string(&file).is_ok_and(|old| old == new) {
            continue;
        }
        if args.check {
            stale.push(format!("docs/{name}"));
        } else {
            fs::write(&file, new).doing(file.display())?;
            say(format_args!("docs/{name} is written anew"));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::Because(format!("{} is stale: `cargo xtask gen` writes it anew", stale.join(", "))))
}
