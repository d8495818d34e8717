//! `gx plugin new`: the source of a plugin of one's own, in a workspace of its own, which can be built and tested at
//! once.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gx_core::PluginName;
use gx_host::{CoreSource, Scaffold};
use serde::Serialize;

use super::super::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, View};

const EXAMPLES: &str = "\
Examples:
  gx plugin new runc --core ~/src/gx
  gx plugin new runc --core https://example.org/gx.git --folder plugins/runc";

/// What `gx plugin new` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NewArgs {
    /// The plugin's name; its crate is called gx-plugin-NAME
    #[arg(value_name = "NAME")]
    pub name: PluginName,
    /// What it is
    #[arg(long, default_value = "runtime")]
    pub kind: Kind,
    /// Where gx's source is, for the crate gx-core: a folder, or the URL of a git repository
    #[arg(long, value_name = "SOURCE", value_hint = clap::ValueHint::DirPath)]
    pub core: String,
    /// The folder to write; without it gx-plugin-NAME
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}

/// What there is a template for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A runtime.
    Runtime,
}

pub(crate) fn run(args: &NewArgs, context: &Context<'_>) -> Result {
    let name = args.name.clone();
    let folder = args.folder.clone().unwrap_or_else(|| format!("gx-plugin-{name}").into());
    let files = Scaffold { name: name.clone(), core: core_source(&args.core)? }.write(&folder)?;
    context.out.show(&Made { name, folder, files })
}

fn core_source(source: &str) -> Result<CoreSource> {
    let folder = Path::new(source);
    if folder.join("core/Cargo.toml").is_file() {
        let core = folder.join("core").canonicalize();
        return Ok(CoreSource::Path(
            core.map_err(|error| CliError::io(format!("cannot read {source}"), &error))?,
        ));
    }
    if source.contains("://") || source.starts_with("git@") {
        return Ok(CoreSource::Git(source.to_owned()));
    }
    Err(CliError::usage(format!("{source} is neither a folder with gx's source nor a URL"))
        .hint("the folder is the one that has `core` in it"))
}

#[derive(Serialize)]
struct Made {
    name: PluginName,
    folder: PathBuf,
    files: Vec<PathBuf>,
}

impl Show for Made {
    fn text(&self, _: &View) -> String {
        let file = format!("target/release/libgx_plugin_{}.so", self.name.as_str().replace('-', "_"));
        format!(
            "{} is a runtime over an engine's program, to be made your own:\n  \
             cd {0} && cargo test && cargo build --release && gx plugin test {file}\n",
            self.folder.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_gx_is_a_folder_or_a_url() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        assert!(matches!(core_source(here).unwrap(), CoreSource::Path(path) if path.ends_with("core")));
        let url = "https://example.org/gx.git";
        assert_eq!(core_source(url).unwrap(), CoreSource::Git(url.to_owned()));
        assert!(core_source("/nowhere").unwrap_err().message.contains("/nowhere is neither"));
    }
}
