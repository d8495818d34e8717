//! `gx reference FOLDER`: writes what this program says of itself into files, for packages and for the documents in
//! `docs/`. Hidden: it is for those who build gx, not for those who use it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Command};

use super::Context;
use super::config::schema;
use crate::error::{CliError, Result};

/// The width of help texts in documents, in columns.
const WIDTH: usize = 100;

/// What `gx reference` takes.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// The folder: man/*.1, cli.md and config.schema.json are written into it
    pub folder: PathBuf,
}

pub(crate) fn run(args: &ReferenceArgs, context: &Context<'_>) -> Result {
    let mut command = crate::command().term_width(WIDTH);
    command.build();
    let man = args.folder.join("man");
    std::fs::create_dir_all(&man).map_err(|error| cannot_write(&man, &error))?;
    clap_mangen::generate_to(crate::command(), &man).map_err(|error| cannot_write(&man, &error))?;
    for (name, text) in [("cli.md", document(&mut command)), ("config.schema.json", schema())] {
        let file = args.folder.join(name);
        std::fs::write(&file, text).map_err(|error| cannot_write(&file, &error))?;
    }
    context.out.note(&format!("written into {}", args.folder.display()));
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CliError {
    CliError::io(format!("cannot write {}", path.display()), error)
}

/// Returns every command with its help, as Markdown.
fn document(command: &mut Command) -> String {
    let mut text = String::from(
        "# The commands of gx\n\nWritten by `cargo xtask gen` from the program itself; `gx COMMAND --help` says the same.\n",
    );
    section(&mut text, command, "gx");
    text
}

fn section(text: &mut String, command: &mut Command, path: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## {path}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        section(text, sub, &path);
    }
}
