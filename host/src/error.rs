//! What can go wrong between a plugin's name and a loaded plugin, and what to do about it.
//!
//! Errors of a plugin's own methods are [`RuntimeError`](gx_core::RuntimeError)s and never pass through here.

use std::path::{Path, PathBuf};

use gx_core::PluginName;
use gx_core::config::{ConfigError, PluginKind};
use gx_core::plugin::abi::AbiMismatch;

/// Why a plugin cannot be found, trusted, configured, loaded or installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nobody has named such a plugin.
    #[error("no plugin is named `{name}`")]
    Unknown {
        /// The name.
        name: PluginName,
        /// The plugins there are.
        known: Vec<PluginName>,
    },
    /// The plugin is something else.
    #[error("plugin `{name}` is a {found}, not a {wanted}")]
    WrongKind {
        /// The plugin.
        name: PluginName,
        /// What was asked for.
        wanted: PluginKind,
        /// What it is.
        found: PluginKind,
    },
    /// It is switched off.
    #[error("plugin `{name}` is disabled in {by}")]
    Disabled {
        /// The plugin.
        name: PluginName,
        /// The file that says so.
        by: String,
        /// Whether that file is the configuration, which gx does not write.
        in_config: bool,
    },
    /// Its file is not there.
    #[error("plugin `{name}` has no file: looked for {}", list(.looked_for))]
    Missing {
        /// The plugin.
        name: PluginName,
        /// Where it could have been.
        looked_for: Vec<PathBuf>,
    },
    /// A check of trust failed; none of its code has run.
    #[error("{} is not trusted: {reason}", .path.display())]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// Which check.
        reason: Distrust,
    },
    /// It is no plugin.
    #[error("{} is not a gx plugin: {reason}", .path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is made for another machine.
    #[error("{} is built for {found}, this machine is {wanted}", .path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What it is built for.
        found: String,
        /// What this machine is.
        wanted: &'static str,
    },
    /// It speaks another version of the plugin ABI.
    #[error("{} cannot be loaded: {mismatch}", .path.display())]
    OtherAbi {
        /// The file.
        path: PathBuf,
        /// Its version and this program's.
        mismatch: AbiMismatch,
    },
    /// It speaks no version of its trait that this program speaks.
    #[error("plugin `{name}` offers {}, this gx speaks {}", .offered.join(", "), .wanted.join(", "))]
    OtherApi {
        /// The plugin.
        name: PluginName,
        /// What its manifest offers.
        offered: Vec<String>,
        /// What this program speaks.
        wanted: &'static [&'static str],
    },
    /// The name in its manifest is not the one it is configured or installed under.
    #[error("{} is the plugin `{found}`, not `{wanted}`", .path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// The name in the manifest.
        found: PluginName,
        /// The name it goes by here.
        wanted: PluginName,
    },
    /// Its configuration is wrong.
    #[error("{}", configs(.errors))]
    Config {
        /// The plugin.
        name: PluginName,
        /// What is wrong, at least one.
        errors: Vec<ConfigError>,
    },
    /// It was being loaded when gx came to a violent end, more than once.
    #[error("plugin `{name}` was being loaded the last {times} times gx crashed")]
    CrashedWhileLoading {
        /// The plugin.
        name: PluginName,
        /// How often in a row.
        times: u32,
    },
    /// It is installed already.
    #[error("plugin `{name}` {version} is installed already")]
    Installed {
        /// The plugin.
        name: PluginName,
        /// The version that is installed.
        version: String,
    },
    /// A plugin of this name comes with gx.
    #[error("plugin `{name}` comes with gx")]
    Bundled {
        /// The plugin.
        name: PluginName,
    },
    /// It is not one of the installed plugins.
    #[error("plugin `{name}` is not installed")]
    NotInstalled {
        /// The plugin.
        name: PluginName,
        /// Whether it is there without being installed: it comes with gx or is named in the configuration.
        there: bool,
        /// The plugins that are installed.
        installed: Vec<PluginName>,
    },
    /// There is no version to go back to.
    #[error("plugin `{name}` has no earlier version")]
    NoEarlier {
        /// The plugin.
        name: PluginName,
    },
    /// The list of installed plugins cannot be read.
    #[error("{error}")]
    Lock {
        /// What is wrong, with its place.
        error: Box<ConfigError>,
    },
    /// The dynamic loader or the plugin itself refused to be loaded.
    #[error("plugin `{name}` cannot be loaded: {reason}")]
    Load {
        /// The plugin.
        name: PluginName,
        /// Why not.
        reason: String,
        /// What to do about it, if that is known.
        hint: Option<String>,
    },
    /// The plugins have been shut down.
    #[error("the plugins are shut down")]
    Closed,
    /// Something is where a new plugin's source should go.
    #[error("{} is there already", .path.display())]
    Occupied {
        /// The file or folder.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Which check of trust failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// It is a symbolic link.
    #[error("it is a symbolic link")]
    Symlink,
    /// It is a folder, a socket or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// It belongs to somebody else.
    #[error("it belongs to user {owner}, neither to root nor to the user gx runs as ({us})")]
    Owner {
        /// The owner's number.
        owner: u32,
        /// The number of the user this program runs as.
        us: u32,
    },
    /// Others may write to it.
    #[error("its mode {mode:04o} lets group or others write to it")]
    Writable {
        /// Its permissions.
        mode: u32,
    },
    /// Others may put files beside it.
    #[error("the mode {mode:04o} of its folder {} lets group or others write to it", .folder.display())]
    FolderWritable {
        /// The folder.
        folder: PathBuf,
        /// The folder's permissions.
        mode: u32,
    },
    /// Nobody has said which content is right.
    #[error("no SHA-256 of it is recorded")]
    Unpinned {
        /// The SHA-256 it has.
        actual: String,
    },
    /// The content has changed.
    #[error("its SHA-256 is {actual}, {expected} is recorded in {by}")]
    Changed {
        /// The SHA-256 it has.
        actual: String,
        /// The SHA-256 it should have.
        expected: String,
        /// Who says so.
        by: String,
    },
}

/// What sort of error it is, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// What was asked for or configured is wrong: nothing of a plugin was tried.
    Config,
    /// A plugin's file is not allowed to run.
    Trust,
    /// The plugin itself is at fault.
    Plugin,
    /// The system is at fault: a full disk, missing permissions.
    System,
}

impl HostError {
    /// Returns what sort of error it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unknown { .. }
            | Self::WrongKind { .. }
            | Self::Disabled { .. }
            | Self::OtherName { .. }
            | Self::Config { .. }
            | Self::Installed { .. }
            | Self::Bundled { .. }
            | Self::NotInstalled { .. }
            | Self::NoEarlier { .. }
            | Self::Occupied { .. } => ErrorClass::Config,
            Self::Untrusted { .. } => ErrorClass::Trust,
            Self::Missing { .. }
            | Self::NotAPlugin { .. }
            | Self::OtherMachine { .. }
            | Self::OtherAbi { .. }
            | Self::OtherApi { .. }
            | Self::Load { .. }
            | Self::CrashedWhileLoading { .. } => ErrorClass::Plugin,
            Self::Lock { .. } | Self::Closed | Self::Io { .. } => ErrorClass::System,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { name, known } => return Some(near(name, known)),
            Self::WrongKind { name, found, .. } => {
                format!("if the configuration says otherwise, write kind = \"{found}\" in [plugins.{name}]")
            }
            Self::Disabled { name, by, in_config: true } => {
                format!("write enabled = true in [plugins.{name}] of {by}")
            }
            Self::Disabled { name, .. } => format!("gx plugin enable {name}"),
            Self::Missing { name, .. } => {
                format!("install it with gx plugin install FILE, or write its path in [plugins.{name}]")
            }
            Self::Untrusted { path, reason } => reason.hint(path),
            Self::NotAPlugin { .. } => {
                "a plugin is a shared library made with gx_core's export macro; see docs/plugins.md"
                    .to_owned()
            }
            Self::OtherMachine { wanted, .. } => format!("build it for {wanted}"),
            Self::OtherAbi { mismatch, .. } => mismatch.hint(),
            Self::OtherApi { wanted, .. } => {
                format!("rebuild the plugin with a gx-core that has {}", wanted.join(" or "))
            }
            Self::OtherName { found, wanted, .. } => {
                format!("write [plugins.{found}] instead of [plugins.{wanted}]")
            }
            Self::Config { errors, .. } => return errors.first().and_then(|error| error.hint.clone()),
            Self::CrashedWhileLoading { name, .. } => {
                format!(
                    "gx plugin enable {name} tries it again; isolation = \"process\" keeps its crashes apart"
                )
            }
            Self::Installed { .. } => {
                "gx plugin upgrade FILE replaces it, gx plugin rollback goes back".to_owned()
            }
            Self::Bundled { name } => {
                format!(
                    "give the plugin another name, or write path and sha256 in [plugins.{name}] to use it instead"
                )
            }
            Self::NotInstalled { name, there: true, .. } => {
                format!(
                    "it comes with gx or is named in the configuration; gx plugin disable {name} switches it off"
                )
            }
            Self::NotInstalled { name, installed, .. } => return Some(near(name, installed)),
            Self::NoEarlier { .. } => "only gx plugin upgrade leaves an earlier version behind".to_owned(),
            Self::Lock { error } => error.hint.clone().unwrap_or_else(|| {
                "repair it by hand, or move it away and install the plugins again".to_owned()
            }),
            Self::Load { hint, .. } => return hint.clone(),
            Self::Closed => return None,
            Self::Occupied { .. } => "name another folder, or an empty one".to_owned(),
            Self::Io { source, .. } => return io_hint(source).map(str::to_owned),
        })
    }

    /// Returns the errors of the configuration, with their places, where that is what is wrong.
    pub fn config_errors(&self) -> &[ConfigError] {
        match self {
            Self::Config { errors, .. } => errors,
            _ => &[],
        }
    }

    /// Returns the message with its causes, in one line.
    pub fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            told.push_str(&format!(": {error}"));
            cause = error.source();
        }
        told
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn untrusted(path: &Path, reason: Distrust) -> Self {
        Self::Untrusted { path: path.to_owned(), reason }
    }

    pub(crate) fn not_a_plugin(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotAPlugin { path: path.to_owned(), reason: reason.into() }
    }
}

impl Distrust {
    fn hint(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Symlink | Self::NotAFile => "name the file itself".to_owned(),
            Self::Owner { .. } => format!("if it is what you think it is: chown root {path}"),
            Self::Writable { .. } => format!("chmod go-w {path}"),
            Self::FolderWritable { folder, .. } => format!("chmod go-w {}", folder.display()),
            Self::Unpinned { actual } => format!(
                "if it is what you think it is, write sha256 = \"{actual}\" beside its path, or gx plugin install {path}"
            ),
            Self::Changed { .. } => {
                "if you changed it yourself, record the new SHA-256 or use gx plugin upgrade FILE; if not, find out who did"
                    .to_owned()
            }
        }
    }
}

fn near(name: &PluginName, known: &[PluginName]) -> String {
    match gx_core::config::closest(name.as_str(), known.iter().map(PluginName::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none; gx plugin install FILE adds one".to_owned(),
        None => format!("there are: {}", known.iter().map(PluginName::as_str).collect::<Vec<_>>().join(", ")),
    }
}

fn io_hint(source: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    match source.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            Some("make room and try again; what was there before is untouched")
        }
        Kind::PermissionDenied => Some("run gx as the user the folder belongs to, or set GX_DATA_DIR"),
        Kind::ReadOnlyFilesystem => Some("set GX_DATA_DIR to a folder that can be written to"),
        _ => None,
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn configs(errors: &[ConfigError]) -> String {
    errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("; ")
}
