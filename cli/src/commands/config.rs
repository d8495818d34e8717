//! `gx config …`: writes, checks and shows the configuration.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gx_core::PluginName;
use gx_core::config::Config;
use gx_core::plugin::manifest::ConfigKey;
use gx_host::{HostError, PluginHost};
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Result, Told};
use crate::output::{Pairs, Show, View};
use crate::settings::{self, Settings};

/// The shipped example: every key with its default and a comment, and a runtime selected.
const EXAMPLE: &str = include_str!("../../../examples/config.toml");

/// What `gx config init` writes: the example, with the choice of a runtime left to whoever edits it.
fn initial() -> String {
    EXAMPLE.replace("\nruntime = ", "\n#runtime = ")
}

/// What stands where a secret is.
const HIDDEN: &str = "(hidden)";

/// What `gx config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Writes a configuration with every key explained
    Init(InitArgs),
    /// Checks the configuration, and the tables of plugins in it
    Check(CheckArgs),
    /// Shows what holds, defaults, environment and flags included
    Show(ShowArgs),
    /// Prints the JSON schema of the configuration
    Schema(SchemaArgs),
}

/// What `gx config init` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx config init\n  gx --config ./gx.toml config init")]
pub struct InitArgs {
    /// Replaces a file that is there
    #[arg(long)]
    pub force: bool,
}

/// What `gx config check` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx config check\n  gx --config ./gx.toml config check --json")]
pub struct CheckArgs {}

/// What `gx config show` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx config show\n  gx config show --json | jq .config.server.limits")]
pub struct ShowArgs {}

/// What `gx config schema` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx config schema > gx.schema.json")]
pub struct SchemaArgs {}

pub(crate) fn run(command: ConfigCommand, context: &Context<'_>) -> Result {
    match command {
        ConfigCommand::Init(args) => init(&args, context),
        ConfigCommand::Check(_) => check(context),
        ConfigCommand::Show(_) => show(context),
        ConfigCommand::Schema(_) => context.out.write(schema().as_bytes()),
    }
}

/// Returns the JSON schema of the configuration.
pub(crate) fn schema() -> String {
    let schema = schemars::schema_for!(Config);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

fn init(args: &InitArgs, context: &Context<'_>) -> Result {
    let file = settings::own_file(&context.globals, &context.environment);
    write_new(&file, args.force)?;
    context.out.show(&Written { written: file })
}

fn write_new(file: &Path, force: bool) -> Result {
    let fail = |error: std::io::Error| CliError::io(format!("cannot write {}", file.display()), &error);
    if !force && file.symlink_metadata().is_ok() {
        return Err(CliError::failed(format!("{} is there already", file.display()))
            .hint("--force replaces it; gx config check checks it"));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(fail)?;
    // Beside, then renamed: nobody reads half of it. Its own user's only: plugins' tables may have secrets.
    let beside =
        folder.join(format!(".{}.{}", file.file_name().unwrap_or_default().display(), std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut new| new.write_all(initial().as_bytes()).and_then(|()| new.sync_all()))
        .and_then(|()| std::fs::rename(&beside, file));
    written.map_err(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(&beside);
        }
        fail(error)
    })
}

fn check(context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    let plugins = context.plugins()?;
    let names: Vec<_> = settings.config.plugins.iter().filter(|(_, plugin)| plugin.enabled).collect();
    let errors: Vec<HostError> = names.iter().filter_map(|(name, _)| plugins.check(name).err()).collect();
    let errors: Vec<CliError> = errors.into_iter().map(CliError::from).collect();
    if errors.is_empty() {
        return context.out.show(&Checked { good: settings.file.clone(), plugins: names.len() });
    }
    Err(together(errors))
}

// Every fault at once: who repairs a file wants to see all of them.
fn together(mut errors: Vec<CliError>) -> CliError {
    let mut first = errors.remove(0);
    for Told { message, causes, hints, snippet, .. } in errors.into_iter().map(Told::from) {
        first.causes.extend([message].into_iter().chain(causes));
        first.hints.extend(hints);
        first.snippet = format!("{}\n{snippet}", first.snippet);
    }
    first
}

fn show(context: &Context<'_>) -> Result {
    let mut settings = context.settings()?;
    let plugins = context.plugins()?;
    hide_secrets(&mut settings, &plugins);
    context.out.show(&Shown { file: settings.file, data: settings.data, config: settings.config })
}

// Which keys are secret the manifest says; where it cannot be read, all may be.
fn hide_secrets(settings: &mut Settings, plugins: &PluginHost) {
    for (name, plugin) in &mut settings.config.plugins {
        let manifest = manifest(name, plugins);
        for (key, value) in &mut plugin.config {
            let known = manifest.as_ref().and_then(|manifest| manifest.get(key));
            if known.is_none_or(|known| known.secret) {
                *value = HIDDEN.into();
            }
        }
    }
}

fn manifest(
    name: &PluginName,
    plugins: &PluginHost,
) -> Option<std::collections::BTreeMap<String, ConfigKey>> {
    let report = plugins.reports().into_iter().find(|report| report.name == *name)?;
    PluginHost::inspect(&report.path?).ok().map(|inspected| inspected.manifest.config)
}

#[derive(Serialize)]
struct Written {
    written: PathBuf,
}

impl Show for Written {
    fn text(&self, view: &View) -> String {
        Pairs::new().pair("written", self.written.display()).text(view)
    }
}

#[derive(Serialize)]
struct Checked {
    good: Option<PathBuf>,
    plugins: usize,
}

impl Show for Checked {
    fn text(&self, _: &View) -> String {
        match &self.good {
            Some(file) => {
                let plugins = if self.plugins == 1 { "plugin" } else { "plugins" };
                format!("{} is good, with {} {plugins}\n", file.display(), self.plugins)
            }
            None => "there is no configuration file, and none is needed: the defaults hold\n".to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Shown {
    file: Option<PathBuf>,
    data: PathBuf,
    config: Config,
}

impl Show for Shown {
    fn text(&self, view: &View) -> String {
        let file = self
            .file
            .as_ref()
            .map_or("none: the defaults hold".to_owned(), |file| file.display().to_string());
        let config = toml::to_string(&self.config).expect("a configuration that was TOML becomes TOML");
        let head = format!("# file: {file}\n# data: {}\n", self.data.display());
        format!("{}\n{config}", view.dim(head.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_a_configuration_and_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/config.toml");
        write_new(&file, false).unwrap();
        Config::from_text("x", &std::fs::read_to_string(&file).unwrap()).unwrap();
        assert!(write_new(&file, false).unwrap_err().message.contains("is there already"));
        std::fs::write(&file, "").unwrap();
        write_new(&file, true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), initial());
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn the_schema_knows_every_table() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        for table in ["client", "server", "plugins"] {
            assert!(schema["properties"][table].is_object(), "{table}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let shown = Shown { file: None, data: "/d".into(), config: Config::default() };
        assert_eq!(Config::from_text("x", &shown.text(&View::plain())).unwrap(), Config::default());
    }
}
