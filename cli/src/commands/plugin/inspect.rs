//! `gx plugin inspect`: what a file says of itself. Nothing in it is run.

use std::path::PathBuf;

use clap::Args;
use gx_core::plugin::manifest::ValueType;
use gx_host::{Inspection, PluginHost};
use serde::Serialize;

use super::super::Context;
use crate::error::Result;
use crate::output::{Pairs, Show, Table, View, human};

const EXAMPLES: &str = "\
Examples:
  gx plugin inspect libgx_plugin_runc.so
  gx plugin inspect --json libgx_plugin_runc.so | jq .manifest.config";

/// What `gx plugin inspect` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// The plugin's file
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

pub(crate) fn run(args: &InspectArgs, context: &Context<'_>) -> Result {
    context.out.show(&Inspected(PluginHost::inspect(&args.file)?))
}

#[derive(Serialize)]
struct Inspected(Inspection);

impl Show for Inspected {
    fn text(&self, view: &View) -> String {
        let Inspection { path, sha256, size_bytes, manifest } = &self.0;
        let pairs = Pairs::new()
            .pair("name", &manifest.name)
            .pair("version", &manifest.version)
            .pair("kind", manifest.kind)
            .pair("api", manifest.api.join(" "))
            .pair("description", &manifest.description)
            .pair("license", &manifest.license)
            .some("homepage", manifest.homepage.as_ref())
            .pair("file", path.display())
            .pair("size", human::bytes(*size_bytes))
            .pair("sha256", sha256)
            .text(view);
        if manifest.config.is_empty() {
            return pairs;
        }
        let mut table = Table::new(["key", "type", "default", "meaning"]);
        for (name, key) in &manifest.config {
            let secret = if key.secret { " (secret)" } else { "" };
            let needed = if key.required { "required".to_owned() } else { String::new() };
            table.row([
                name.clone(),
                format!("{}{secret}", word(key.value_type)),
                key.default.as_ref().map_or(needed, ToString::to_string),
                key.doc.clone(),
            ]);
        }
        format!("{pairs}\n{}", table.text(view))
    }
}

fn word(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::String => "string",
        ValueType::Integer => "integer",
        ValueType::Number => "number",
        ValueType::Boolean => "boolean",
        ValueType::Array => "array",
        ValueType::Table => "table",
    }
}
