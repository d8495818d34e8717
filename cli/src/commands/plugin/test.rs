//! `gx plugin test`: the conformance suite against a plugin, a file that is not installed too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use gx_conformance::{CaseResult, Hosted, Options, Report};
use gx_core::config::{Isolation, PluginConfig};
use gx_core::{ImageRef, PluginName};
use gx_host::{HostOptions, PluginHost};
use serde::Serialize;

use super::super::Context;
use crate::error::{CliError, Kind, Result, Status};
use crate::output::{Show, View, clean};
use crate::target;

const EXAMPLES: &str = "\
Examples:
  gx plugin test target/debug/libgx_plugin_runc.so
  gx plugin test docker --inline --focus '^logs/'
  gx plugin test podman --junit report.xml --json

The suite makes containers of its own and removes them. It ends with 0 when every promise holds that was checked.";

/// What `gx plugin test` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TestArgs {
    /// The plugin's file, or the name of one that is there
    #[arg(value_name = "LIB")]
    pub plugin: String,
    /// Loads it into this process
    #[arg(long, conflicts_with = "process")]
    pub inline: bool,
    /// Loads it into a process of its own
    #[arg(long)]
    pub process: bool,
    /// The image of the containers; it has busybox's `sh` and programs, and no entry point
    #[arg(long, default_value = "gx-busybox")]
    pub image: ImageRef,
    /// An image in a registry, to be pulled; without it pulling is not tested
    #[arg(long, value_name = "IMAGE")]
    pub pull: Option<ImageRef>,
    /// Runs only cases whose name has this in it; `*` stands for anything, `^` and `$` for its ends; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub focus: Vec<String>,
    /// Leaves out cases whose name has this in it; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub skip: Vec<String>,
    /// Writes a report there, as JUnit XML
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub junit: Option<PathBuf>,
}

pub(crate) async fn run(args: TestArgs, context: &Context<'_>) -> Result<Status> {
    let (plugins, name) = subject(&args, context)?;
    let (hosted, runtime) = Hosted::load(plugins, name.clone()).await?;
    let mut options = Options::new(args.image.clone());
    options.hooks = hosted.hooks();
    context.at_end(async move { hosted.shutdown().await });
    options.focus.clone_from(&args.focus);
    options.skip.clone_from(&args.skip);
    options.hooks.pull_image.clone_from(&args.pull);
    let (left, run_id) = (Arc::clone(&runtime), options.run_id.clone());
    context.at_end(async move {
        // What could not be removed the engine has told already, as the result of the case.
        let _ = gx_conformance::sweep(&*left, &run_id).await;
    });
    let mut printed = Ok(());
    let report = gx_conformance::run(runtime, options, &mut |case| {
        if printed.is_ok() && !context.out.is_json() {
            printed = context.out.item(&Case(case));
        }
    })
    .await;
    printed?;
    if let Some(file) = &args.junit {
        let written = std::fs::write(file, report.to_junit(name.as_str()));
        written.map_err(|error| CliError::io(format!("cannot write {}", file.display()), &error))?;
    }
    context.out.show(&Tested(&report))?;
    Ok(if report.is_ok() { Status::DONE } else { Kind::Failed.status() })
}

/// Returns the plugins of this machine, with the one to be tested as it is to be tested.
fn subject(args: &TestArgs, context: &Context<'_>) -> Result<(HostOptions, PluginName)> {
    let settings = context.settings()?;
    let mut options = target::host_options(&settings, &context.environment)?;
    let isolation = match (args.inline, args.process) {
        (true, _) => Some(Isolation::Inline),
        (_, true) => Some(Isolation::Process),
        _ => None,
    };
    let file = Path::new(&args.plugin);
    let name = match args.plugin.parse::<PluginName>() {
        // A name, unless it is a file's: `docker` is no path anybody means.
        Ok(name) if !file.is_file() => name,
        _ => name_of(file, &mut options.config)?,
    };
    let config = options.config.entry(name.clone()).or_default();
    config.isolation = isolation.or(config.isolation);
    Ok((options, name))
}

// Who asks for the test of a file trusts this file, as it is now; its configuration is that of its name.
fn name_of(
    file: &Path,
    config: &mut std::collections::BTreeMap<PluginName, PluginConfig>,
) -> Result<PluginName> {
    let path = file.canonicalize().map_err(|error| {
        CliError::usage(format!("there is no plugin {}", clean::line(&file.display().to_string())))
            .cause(error.to_string())
            .hint("give the path of a library, or a name that `gx plugin list` shows")
    })?;
    let inspected = PluginHost::inspect(&path)?;
    let name = inspected.manifest.name;
    let entry = config.entry(name.clone()).or_default();
    entry.kind = inspected.manifest.kind;
    entry.path = Some(path);
    entry.sha256 = Some(inspected.sha256);
    entry.enabled = true;
    Ok(name)
}

#[derive(Serialize)]
struct Case<'a>(&'a CaseResult);

impl Show for Case<'_> {
    fn text(&self, view: &View) -> String {
        let text = clean::lines(&self.0.to_string()).into_owned();
        match self.0.word() {
            "fail" => view.red(text.trim_end()) + "\n",
            "skip" => view.dim(text.trim_end()) + "\n",
            _ => text,
        }
    }
}

#[derive(Serialize)]
struct Tested<'a>(&'a Report);

impl Show for Tested<'_> {
    fn text(&self, view: &View) -> String {
        format!("{}\n", view.bold(&self.0.summary()))
    }
}
