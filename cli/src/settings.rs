//! The configuration of one run: defaults < file < environment < flags. Which file it is, and where the data lies.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gx_core::PluginName;
use gx_core::config::Config;

use crate::cli::{Environment, Globals};
use crate::error::{CliError, Result};

/// The folder of a system's configuration.
const SYSTEM_CONFIG: &str = "/etc/gx/config.toml";
/// The data folder of a system service, which has no home.
const SYSTEM_DATA: &str = "/var/lib/gx";

/// The configuration of one run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Everything, flags and environment included.
    pub(crate) config: Config,
    /// The file it came from; without one the defaults hold.
    pub(crate) file: Option<PathBuf>,
    /// The text of the file.
    pub(crate) text: String,
    /// The data folder.
    pub(crate) data: PathBuf,
}

impl Settings {
    /// Reads the configuration.
    pub(crate) fn load(globals: &Globals, environment: &Environment) -> Result<Self> {
        let (file, text) = read_first(&candidates(globals, environment))?;
        let origin = file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        let mut config = Config::from_text(&origin, &text)?;
        if let Some(folder) = file.as_deref().and_then(Path::parent) {
            resolve_paths(&mut config, folder, environment.home.as_deref());
        }
        if let Some(on) = globals.on.clone().or_else(|| environment.on.clone()) {
            config.client.on = on;
        }
        if let Some(runtime) = &environment.runtime {
            let runtime = runtime.parse::<PluginName>();
            config.client.runtime =
                Some(runtime.map_err(|error| CliError::from(error).hint("GX_RUNTIME names the runtime"))?);
        }
        let data = data_folder(&config, environment);
        Ok(Self { config, file, text, data })
    }

    /// Returns the name of the file, for errors.
    pub(crate) fn origin(&self) -> String {
        self.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default()
    }
}

/// Where a configuration may be; `must` says that one that is missing is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    file: PathBuf,
    must: bool,
}

/// Returns the file that `gx config init` writes.
pub(crate) fn own_file(globals: &Globals, environment: &Environment) -> PathBuf {
    let mut candidates = candidates(globals, environment);
    candidates.swap_remove(0).file
}

fn candidates(globals: &Globals, environment: &Environment) -> Vec<Candidate> {
    if let Some(file) = globals.config.clone().or_else(|| environment.config.clone()) {
        return vec![Candidate { file, must: true }];
    }
    let config_home = environment.xdg_config_home.clone();
    let config_home = config_home.or_else(|| environment.home.as_ref().map(|home| home.join(".config")));
    let own = config_home.map(|folder| folder.join("gx/config.toml"));
    own.into_iter()
        .chain([PathBuf::from(SYSTEM_CONFIG)])
        .map(|file| Candidate { file, must: false })
        .collect()
}

fn read_first(candidates: &[Candidate]) -> Result<(Option<PathBuf>, String)> {
    for Candidate { file, must } in candidates {
        match std::fs::read(file) {
            Ok(bytes) => return Ok((Some(file.clone()), text_of(file, bytes)?)),
            // A folder on the way that is a file (NotADirectory) has no configuration in it either.
            Err(error) if !must && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            }
            Err(error) => {
                let told = CliError::usage(format!("cannot read the configuration {}", file.display()));
                let told = told.cause(error.to_string());
                return Err(match error.kind() {
                    ErrorKind::NotFound => told.hint("`gx config init` writes one with every key explained"),
                    _ => told,
                });
            }
        }
    }
    Ok((None, String::new()))
}

fn text_of(file: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::usage(format!("{}:{line}: the configuration is not UTF-8", file.display()))
            .hint("save the file as UTF-8 text")
    })
}

// A path in the file counts from the file, wherever the program was started; those of plugins gx-host resolves.
fn resolve_paths(config: &mut Config, folder: &Path, home: Option<&Path>) {
    if let Some(data) = &mut config.server.data {
        *data = folder.join(&*data);
    }
    if let Some(policy) = &mut config.chat.policy {
        *policy = folder.join(&*policy);
    }
    if let Some(key) = &mut config.client.ssh_key {
        *key = match (key.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => folder.join(&*key),
        };
    }
}

fn data_folder(config: &Config, environment: &Environment) -> PathBuf {
    let share = || {
        let home = environment.home.as_ref().map(|home| home.join(".local/share"));
        environment.xdg_data_home.clone().or(home).map(|folder| folder.join("gx"))
    };
    let named = environment.data_dir.clone().or_else(|| config.server.data.clone());
    named.or_else(share).unwrap_or_else(|| PathBuf::from(SYSTEM_DATA))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { home: Some("/home/ann".into()), ..Environment::default() }
    }

    fn files(globals: &Globals, environment: &Environment) -> Vec<(String, bool)> {
        let name = |c: Candidate| (c.file.display().to_string(), c.must);
        candidates(globals, environment).into_iter().map(name).collect()
    }

    #[test]
    fn the_file_is_looked_for_in_order() {
        let mut globals = Globals::default();
        let mut environment = environment();
        assert_eq!(
            files(&globals, &environment),
            [("/home/ann/.config/gx/config.toml".into(), false), (SYSTEM_CONFIG.into(), false)]
        );
        environment.xdg_config_home = Some("/c".into());
        assert_eq!(files(&globals, &environment)[0].0, "/c/gx/config.toml");
        environment.config = Some("/e.toml".into());
        assert_eq!(files(&globals, &environment), [("/e.toml".into(), true)]);
        globals.config = Some("/f.toml".into());
        assert_eq!(files(&globals, &environment), [("/f.toml".into(), true)]);
        assert_eq!(files(&Globals::default(), &Environment::default()), [(SYSTEM_CONFIG.into(), false)]);
    }

    #[test]
    fn the_data_folder_is_the_users_or_the_systems() {
        let mut config = Config::default();
        let mut environment = environment();
        assert_eq!(data_folder(&config, &Environment::default()), Path::new("/var/lib/gx"));
        assert_eq!(data_folder(&config, &environment), Path::new("/home/ann/.local/share/gx"));
        environment.xdg_data_home = Some("/d".into());
        assert_eq!(data_folder(&config, &environment), Path::new("/d/gx"));
        config.server.data = Some("/s".into());
        assert_eq!(data_folder(&config, &environment), Path::new("/s"));
        environment.data_dir = Some("/g".into());
        assert_eq!(data_folder(&config, &environment), Path::new("/g"));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gx.toml");
        std::fs::write(&file, "[client]\non = \"a\"\nruntime = \"docker\"\n[server]\ndata = \"d\"\n")
            .unwrap();
        let mut globals = Globals { config: Some(file), ..Globals::default() };
        let mut environment = environment();
        let settings = Settings::load(&globals, &environment).unwrap();
        assert_eq!(settings.config.client.on, "a");
        assert_eq!(settings.data, folder.path().join("d"));
        environment.on = Some("b".into());
        environment.runtime = Some("podman".into());
        let settings = Settings::load(&globals, &environment).unwrap();
        assert_eq!(settings.config.client.on, "b");
        assert_eq!(settings.config.client.runtime.unwrap().as_str(), "podman");
        globals.on = Some("c".into());
        assert_eq!(Settings::load(&globals, &environment).unwrap().config.client.on, "c");
    }

    #[test]
    fn paths_count_from_the_file_and_the_users_folder() {
        let mut config = Config::default();
        config.server.data = Some("data".into());
        config.client.ssh_key = Some("~/.ssh/id.pub".into());
        resolve_paths(&mut config, Path::new("/etc/gx"), Some(Path::new("/home/ann")));
        assert_eq!(config.server.data.as_deref(), Some(Path::new("/etc/gx/data")));
        assert_eq!(config.client.ssh_key.as_deref(), Some(Path::new("/home/ann/.ssh/id.pub")));
        config.client.ssh_key = Some("id.pub".into());
        resolve_paths(&mut config, Path::new("/etc/gx"), Some(Path::new("/home/ann")));
        assert_eq!(config.client.ssh_key.as_deref(), Some(Path::new("/etc/gx/id.pub")));
    }

    #[test]
    fn a_named_file_must_be_there_and_be_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gx.toml");
        let globals = Globals { config: Some(file.clone()), ..Globals::default() };
        let error = Settings::load(&globals, &environment()).unwrap_err();
        assert!(error.message.contains("gx.toml") && !error.hints.is_empty(), "{error:?}");
        std::fs::write(&file, b"[client]\non = \"\xff\"\n").unwrap();
        let error = Settings::load(&globals, &environment()).unwrap_err();
        assert!(error.message.contains("gx.toml:2"), "{error:?}");
    }
}
