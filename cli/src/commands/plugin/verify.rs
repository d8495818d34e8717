//! `gx plugin verify`: checks the files of plugins again, as before a load, running nothing of them.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::PluginName;
use gx_host::Verified;
use serde::Serialize;

use super::super::Context;
use super::{names, short};
use crate::error::{Kind, Result, Status};
use crate::output::{Show, Table, View, clean};

const EXAMPLES: &str = "\
Examples:
  gx plugin verify
  gx plugin verify runc --json

It ends with 4 when something is wrong.";

/// What `gx plugin verify` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The plugin's name; without it all are checked
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
    pub name: Option<PluginName>,
}

pub(crate) fn run(args: &VerifyArgs, context: &Context<'_>) -> Result<Status> {
    let plugins = context.plugins()?.verify(args.name.as_ref())?;
    let good = plugins.iter().all(|plugin| plugin.error.is_none());
    context.out.show(&All { plugins })?;
    Ok(if good { Status::DONE } else { Kind::Engine.status() })
}

#[derive(Serialize)]
struct All {
    plugins: Vec<Verified>,
}

impl Show for All {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["name", "sha256", "file", "verdict"]);
        for plugin in &self.plugins {
            table.row([
                plugin.name.to_string(),
                plugin.sha256.as_deref().map(short).unwrap_or_default(),
                plugin.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                plugin.error.clone().unwrap_or_else(|| "good".to_owned()),
            ]);
        }
        let hints = self.plugins.iter().filter_map(|plugin| {
            let hint = plugin.hint.as_ref()?;
            Some(format!("{} for {}: {}\n", view.cyan("hint"), plugin.name, clean::line(hint)))
        });
        table.text(view) + &hints.collect::<String>()
    }
}
