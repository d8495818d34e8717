//! `gx plugin list`: the plugins and how they stand.

use clap::Args;
use gx_host::{PluginReport, PluginState};
use serde::Serialize;

use super::super::Context;
use super::short;
use crate::error::Result;
use crate::output::{Show, Table, View};

const EXAMPLES: &str = "\
Examples:
  gx plugin list
  gx plugin list --json | jq '.plugins[] | select(.state == \"refused\")'";

/// What `gx plugin list` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {}

pub(crate) fn run(_: &ListArgs, context: &Context<'_>) -> Result {
    let plugins = context.plugins()?.reports();
    context.out.show(&Plugins { plugins: &plugins })?;
    for plugin in &plugins {
        if let Some(error) = &plugin.last_error {
            context.out.warn(&format!("{}: {error}", plugin.name), plugin.hint.as_deref());
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Plugins<'a> {
    plugins: &'a [PluginReport],
}

impl Show for Plugins<'_> {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new([
            "name",
            "kind",
            "version",
            "api",
            "state",
            "isolation",
            "sha256",
            "restarts",
            "file",
        ]);
        for plugin in self.plugins {
            table.row([
                plugin.name.to_string(),
                plugin.kind.to_string(),
                plugin.version.clone().unwrap_or_default(),
                plugin.api.join(" "),
                state(plugin.state).to_owned(),
                plugin.isolation.to_string(),
                plugin.sha256.as_deref().map(short).unwrap_or_default(),
                plugin.restarts.to_string(),
                plugin.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            ]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.plugins.iter().map(|plugin| format!("{}\n", plugin.name)).collect()
    }
}

fn state(state: PluginState) -> &'static str {
    match state {
        PluginState::Declared => "ready",
        PluginState::Loading => "loading",
        PluginState::Loaded => "loaded",
        PluginState::Hung => "hung",
        PluginState::Restarting => "restarting",
        PluginState::Failed => "failed",
        PluginState::Disabled => "disabled",
        PluginState::Refused => "refused",
    }
}
