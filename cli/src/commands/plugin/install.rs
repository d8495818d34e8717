//! `gx plugin install` and `upgrade`: a plugin's file into the store, its digest into the list.

use std::path::PathBuf;

use clap::Args;
use gx_host::InstalledPlugin;
use serde::Serialize;

use super::super::Context;
use crate::error::Result;
use crate::output::{Pairs, Show, View};

const INSTALL: &str = "\
Examples:
  gx plugin install ./libgx_plugin_runc.so
  gx plugin install --sha256 9f86d081884c7d65… libgx_plugin_runc.so    only if it is this very file

The file is copied; a plugin that is installed runs in a process of its own.";

const UPGRADE: &str = "\
Examples:
  gx plugin upgrade ./libgx_plugin_runc.so
  gx plugin rollback runc                     goes back";

/// What `gx plugin install` takes.
#[derive(Debug, Args)]
#[command(after_help = INSTALL)]
pub struct InstallArgs {
    /// The plugin's file
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The SHA-256 the file must have, in 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<String>,
}

/// What `gx plugin upgrade` takes.
#[derive(Debug, Args)]
#[command(after_help = UPGRADE)]
pub struct UpgradeArgs {
    /// The file of the other version
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The SHA-256 the file must have, in 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<String>,
}

pub(crate) fn install(args: &InstallArgs, context: &Context<'_>) -> Result {
    let installed = context.plugins()?.install(&args.file, args.sha256.as_deref())?;
    context.out.show(&Installed(installed))
}

pub(crate) fn upgrade(args: &UpgradeArgs, context: &Context<'_>) -> Result {
    let installed = context.plugins()?.upgrade(&args.file, args.sha256.as_deref())?;
    context.out.show(&Installed(installed))
}

/// An installed plugin.
#[derive(Serialize)]
pub(super) struct Installed(pub(super) InstalledPlugin);

impl Show for Installed {
    fn text(&self, view: &View) -> String {
        Pairs::new()
            .pair("name", &self.0.name)
            .pair("kind", self.0.kind)
            .pair("version", &self.0.version)
            .pair("earlier", self.0.earlier.join(", "))
            .pair("sha256", &self.0.sha256)
            .pair("file", self.0.path.display())
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.0.name)
    }
}
