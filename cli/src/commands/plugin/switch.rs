//! `gx plugin enable`, `disable`, `remove` and `rollback`: what takes just a plugin's name.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::PluginName;
use serde::Serialize;

use super::super::Context;
use super::install::Installed;
use super::names;
use crate::error::Result;
use crate::output::{Show, View};

macro_rules! named {
    ($($(#[$doc:meta])* $name:ident, $examples:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Args)]
            #[command(after_help = $examples)]
            pub struct $name {
                /// The plugin's name
                #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
                pub name: PluginName,
            }
        )*
    };
}

named! {
    /// What `gx plugin rollback` takes.
    RollbackArgs, "Examples:\n  gx plugin rollback runc";
    /// What `gx plugin remove` takes.
    RemoveArgs, "Examples:\n  gx plugin remove runc";
    /// What `gx plugin enable` takes.
    EnableArgs, "Examples:\n  gx plugin enable runc";
    /// What `gx plugin disable` takes.
    DisableArgs, "Examples:\n  gx plugin disable podman    leaves podman alone, even where it is there";
}

pub(crate) fn rollback(args: &RollbackArgs, context: &Context<'_>) -> Result {
    context.out.show(&Installed(context.plugins()?.rollback(&args.name)?))
}

pub(crate) fn remove(args: &RemoveArgs, context: &Context<'_>) -> Result {
    context.plugins()?.remove(&args.name)?;
    done(&args.name, "removed", context)
}

pub(crate) fn enable(args: &EnableArgs, context: &Context<'_>) -> Result {
    context.plugins()?.enable(&args.name)?;
    done(&args.name, "enabled", context)
}

pub(crate) fn disable(args: &DisableArgs, context: &Context<'_>) -> Result {
    context.plugins()?.disable(&args.name)?;
    done(&args.name, "disabled", context)
}

fn done(name: &PluginName, change: &'static str, context: &Context<'_>) -> Result {
    context.out.show(&Changed { name, change })
}

#[derive(Serialize)]
struct Changed<'a> {
    name: &'a PluginName,
    change: &'static str,
}

impl Show for Changed<'_> {
    fn text(&self, _: &View) -> String {
        format!("{} {}\n", self.name, self.change)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.name)
    }
}
