//! What the program is called and takes: the global flags, the commands, and the only names of environment
//! variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    allow, audit, build, chat, completions, config, cp, create, doctor, events, exec, extend, id, images,
    invite, join, list, logs, passwd, peers, plugin, port, pull, reference, rm, runtimes, serve, show, specs,
    ssh, start, stats, stop, ui, vnc,
};

/// The version of gx.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The variable by which the completion scripts ask the program for candidates.
pub const COMPLETE: &str = "GX_COMPLETE";

const CONFIG: &str = "GX_CONFIG";
const DATA_DIR: &str = "GX_DATA_DIR";
const ON: &str = "GX_ON";
const RUNTIME: &str = "GX_RUNTIME";
const NO_COLOR: &str = "NO_COLOR";
const USER: &str = "USER";
const BROWSER: &str = "BROWSER";
const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// What a plugin in a child process may see of the environment: where engines listen, and what a program needs.
const CHILD: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

const AFTER_HELP: &str = "\
Examples:
  gx create debian:bookworm -- sleep 1h        a container on this machine
  gx create --runtime podman -p 80 nginx       with podman, and its port 80 published
  gx --on 192.168.1.7 list                     what runs on another machine
  gx ssh web                                   a shell in a container

Environment: GX_CONFIG (the configuration file), GX_DATA_DIR (keys and state), GX_ON (as --on), \
GX_RUNTIME (as --runtime), NO_COLOR.
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 host unreachable, 4 plugin or engine, 5 not allowed, \
70 a fault of gx.";

/// gx lends and borrows machines: containers here and on other people's hosts, through any engine.
#[derive(Debug, Parser)]
#[command(name = "gx", version, propagate_version = false, after_help = AFTER_HELP, max_term_width = 110)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The flags every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// Reads this configuration file and no other
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Acts there: `local`, a joined host by its name, a server of `gx peers` by its id, an address as [NODEID@]HOST[:PORT], or for create `best`
    #[arg(long, global = true, value_name = "WHERE")]
    pub on: Option<String>,
    /// Prints JSON, one object per line for streams; errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Says more, on standard error; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Prints ids only, and neither progress nor notes
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a container and starts it
    Create(Box<create::CreateArgs>),
    /// Lists containers
    #[command(visible_aliases = ["ps", "ls"])]
    List(list::ListArgs),
    /// Shows everything about a container
    #[command(visible_alias = "inspect")]
    Show(show::ShowArgs),
    /// Prints what a container wrote
    Logs(logs::LogsArgs),
    /// Runs a command in a container
    Exec(exec::ExecArgs),
    /// Gives a shell in a container, or runs a command there, by SSH
    Ssh(ssh::SshArgs),
    /// Stops containers
    Stop(stop::StopArgs),
    /// Starts containers that have ended
    Start(start::StartArgs),
    /// Makes the lease of a container longer
    Extend(extend::ExtendArgs),
    /// Removes containers
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
    /// Shows where a container's ports are on the host
    Port(port::PortArgs),
    /// Makes new passwords for a container, and shows them once
    Passwd(passwd::PasswdArgs),
    /// Shows what containers use
    Stats(stats::StatsArgs),
    /// Prints what happens to containers, as it happens
    Events(events::EventsArgs),
    /// Copies files into a container and out of it
    Cp(cp::CpArgs),
    /// Shows where a container's desktop is, or opens it in the browser
    Vnc(vnc::VncArgs),
    /// Opens a dashboard of machines and containers in the browser
    Ui(ui::UiArgs),
    /// Lists images
    Images(images::ImagesArgs),
    /// Fetches an image
    Pull(pull::PullArgs),
    /// Builds an image from a folder
    Build(build::BuildArgs),
    /// Shows what a machine is and lends
    Specs(specs::SpecsArgs),
    /// Lists runtimes and the health of their engines
    Runtimes(runtimes::RuntimesArgs),
    /// Lists the servers that are known, measures them, and finds the best
    Peers(Box<peers::PeersArgs>),
    /// Talks along an organisation's hierarchy, in groups that its policy gives
    Chat(Box<chat::ChatArgs>),
    /// Lends this machine
    Serve(serve::ServeArgs),
    /// Shows who this node is, and which hosts it knows
    Id(id::IdArgs),
    /// Becomes a member of a host, by a ticket
    Join(join::JoinArgs),
    /// Prints a ticket by which others become members of this host
    Invite(Box<invite::InviteArgs>),
    /// Lists, lets in and removes members of this host
    #[command(subcommand)]
    Allow(allow::AllowCommand),
    /// Shows who did what on this host
    Audit(audit::AuditArgs),
    /// Finds, checks and installs plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Writes, checks and shows the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Checks that everything is in place, and says what to do where it is not
    Doctor(doctor::DoctorArgs),
    /// Prints a script by which a shell completes commands, ids and names
    Completions(completions::CompletionsArgs),
    /// Writes the manual pages, the commands' help and the configuration's schema into a folder
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
    /// Holds one plugin, for the program that started it
    #[command(name = "plugin-host", hide = true)]
    PluginHost(PluginHostArgs),
}

/// What the parent says to its child; its form is between the two.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct PluginHostArgs {
    /// Everything after the name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<std::ffi::OsString>,
}

/// What the environment says. An empty variable counts as none.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// Where to act.
    pub on: Option<String>,
    /// The runtime.
    pub runtime: Option<String>,
    /// The user's folder.
    pub home: Option<PathBuf>,
    /// The user's name on this machine.
    pub user: Option<String>,
    /// The folder for configuration; absolute, else it does not count (XDG Base Directory Specification).
    pub xdg_config_home: Option<PathBuf>,
    /// The folder for data; absolute likewise.
    pub xdg_data_home: Option<PathBuf>,
    /// The commands that open a page, separated by colons.
    pub browser: Option<String>,
    /// Whether there is a display to open a page on.
    pub has_display: bool,
    /// What plugins in child processes may see.
    pub child: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        Self {
            config: path(CONFIG),
            data_dir: path(DATA_DIR),
            on: text(ON),
            runtime: text(RUNTIME),
            home: absolute("HOME"),
            user: text(USER),
            xdg_config_home: absolute("XDG_CONFIG_HOME"),
            xdg_data_home: absolute("XDG_DATA_HOME"),
            browser: text(BROWSER),
            has_display: DISPLAYS.iter().any(|name| text(name).is_some()),
            child: CHILD.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect(),
        }
    }

    /// Returns whether colour is refused (<https://no-color.org>).
    pub fn no_color() -> bool {
        std::env::var_os(NO_COLOR).is_some_and(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    check(sub, &path);
                } else {
                    let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.contains("Example"), "{path} has no example");
                    assert!(help.contains(&path), "the examples of {path} do not show it");
                }
            }
        }
        check(&Cli::command(), "gx");
    }
}
