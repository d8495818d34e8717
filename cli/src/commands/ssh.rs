//! `gx ssh`: a shell or a command in a container by the system's `ssh`, with nothing to be asked: gx's own key, and the
//! host key that the host has told.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::ContainerState;
use gx_core::api::{ContainerInfo, Service};
use gx_core::guest;
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::TcpStream;

use super::{Context, completions, exec};
use crate::error::{CliError, Kind, Result, Status};
use crate::identity::{self, Identity};
use crate::target::Target;
use crate::terminal;

mod call;
mod login;

use call::Call;
pub(crate) use login::Login;

const EXAMPLES: &str = "\
Examples:
  gx ssh web                                 a shell
  gx ssh web -- ls -l /srv                   a command; each word arrives as it is
  gx ssh web 'cd /srv && ls | wc -l'         a single word is a line for the container's shell
  gx ssh -L 8080:localhost:80 web            the container's port 80 on this machine
  gx ssh -A web -- git pull                  with this machine's ssh-agent
  gx ssh --ssh-config web >> ~/.ssh/config   for scp, sftp, rsync, VS Code and Ansible: the host is gx-web

It ends with the exit code of the command, and with 255 when ssh itself fails. The user's ssh configuration is not \
read; -o sets what else is wanted.";

/// What `gx ssh` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SshArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// The command and its arguments; without one a shell
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub command: Vec<String>,
    /// Leads a port of this machine into the container; may be repeated
    #[arg(short = 'L', value_name = "[ADDRESS:]PORT:HOST:PORT")]
    pub local: Vec<String>,
    /// Leads a port of the container to this machine; may be repeated
    #[arg(short = 'R', value_name = "[ADDRESS:]PORT:HOST:PORT")]
    pub remote: Vec<String>,
    /// Makes a port of this machine a SOCKS proxy into the container; may be repeated
    #[arg(short = 'D', value_name = "[ADDRESS:]PORT")]
    pub dynamic: Vec<String>,
    /// Lends this machine's ssh-agent to the container
    #[arg(short = 'A')]
    pub agent: bool,
    /// Runs nothing: for -L, -R and -D alone
    #[arg(short = 'N', conflicts_with = "command")]
    pub nothing: bool,
    /// Gives the command a terminal
    #[arg(short = 't', conflicts_with = "no_tty")]
    pub tty: bool,
    /// Gives the shell no terminal
    #[arg(short = 'T')]
    pub no_tty: bool,
    /// Logs in with this private key too; may be repeated
    #[arg(short = 'i', value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub identity: Vec<PathBuf>,
    /// An option of ssh_config(5); may be repeated
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    pub option: Vec<String>,
    /// Joins standard input and output with the container's SSH server, as ssh's ProxyCommand
    #[arg(long, conflicts_with_all = ["command", "ssh_config"])]
    pub stdio: bool,
    /// Prints the part of an ssh configuration by which other programs get in
    #[arg(long, conflicts_with = "command")]
    pub ssh_config: bool,
}

/// How long a host may take to let a connection to a published port through, before it is led through gx.
const PROBE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: SshArgs, context: &Context<'_>) -> Result<Status> {
    let target = context.target().await?;
    if args.stdio {
        return join(target, &args.id).await.map(|()| Status::DONE);
    }
    let info = target.show(&args.id).await?;
    let login = Login::of(&info)?;
    let settings = context.settings()?;
    if args.ssh_config {
        let way = if matches!(target, Target::Local(_)) { own(&login) } else { None };
        let call = prepare(&login, way, &settings.data, context)?;
        context.out.write(call.config(&info.name).as_bytes())?;
        return Ok(Status::DONE);
    }
    if info.state != ContainerState::Running {
        let told = CliError::new(Kind::Failed, format!("{} is not running: it is {}", info.name, info.state));
        return Err(told.hint(format!("gx start {}", info.name)));
    }
    let Some(program) = find(context.environment.child.get("PATH").map(String::as_str)) else {
        return by_exec(&args, &info, context).await;
    };
    let way = reach(target, &login, &args.id).await?;
    let call = prepare(&login, way, &settings.data, context)?;
    let words = call.words(&args, context.globals.verbose, context.globals.quiet);
    // Nothing of this process is left to clean up once it is another program.
    context.close().await;
    let error = std::process::Command::new(&program).args(words).exec();
    Err(CliError::io(format!("cannot run {}", program.display()), &error))
}

/// Writes what ssh reads from files.
fn prepare(login: &Login, way: Option<(String, u16)>, data: &Path, context: &Context<'_>) -> Result<Call> {
    let identity = Identity::open(data)?;
    let hosts = identity::folder(data)?.join("known_hosts");
    std::fs::create_dir_all(&hosts)
        .map_err(|error| CliError::io(format!("cannot make the folder {}", hosts.display()), &error))?;
    let known_hosts = hosts.join(&login.alias);
    let line = login.known_host();
    if std::fs::read_to_string(&known_hosts).ok().as_ref() != Some(&line) {
        identity::replace(&known_hosts, &line)?;
    }
    Ok(Call {
        login: login.clone(),
        way,
        identity: identity.file,
        known_hosts,
        proxy: proxy(login, context)?,
    })
}

/// Forgets the key of a container that is gone.
pub(crate) fn forget(data: &Path, id: &gx_core::ContainerId) {
    // It may never have been there.
    let _ = std::fs::remove_file(data.join("ssh/known_hosts").join(login::alias(id)));
}

/// Returns the command by which ssh gets at the container through gx.
fn proxy(login: &Login, context: &Context<'_>) -> Result<Vec<OsString>> {
    let program =
        std::env::current_exe().map_err(|error| CliError::io("cannot find the program itself", &error))?;
    let mut words: Vec<OsString> = vec![program.into()];
    if let Some(file) = &context.globals.config {
        words.extend(["--config".into(), std::path::absolute(file).unwrap_or_else(|_| file.clone()).into()]);
    }
    words.extend(["--on".into(), context.settings()?.config.client.on.into()]);
    words.extend(["ssh".into(), "--stdio".into(), login.id.to_string().into()]);
    Ok(words)
}

/// Returns the address by which ssh can connect by itself; `None` leads it through gx.
async fn reach(target: &Target, login: &Login, id: &str) -> Result<Option<(String, u16)>> {
    match target {
        Target::Local(_) => {
            // Right after the start nobody may listen yet; this waits until somebody does, and says why nobody will.
            target.tunnel(id, Service::Ssh).await?;
            Ok(own(login))
        }
        Target::Host(client) => {
            let Some(way) = login.afar(client.address()) else { return Ok(None) };
            let connect = TcpStream::connect((way.0.as_str(), way.1));
            let connected = tokio::time::timeout(PROBE, connect).await;
            Ok(matches!(connected, Ok(Ok(_))).then_some(way))
        }
    }
}

/// Returns the address of a container on this machine.
fn own(login: &Login) -> Option<(String, u16)> {
    login.address.map(|address| match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => ("127.0.0.1".to_owned(), address.port()),
        IpAddr::V6(any) if any.is_unspecified() => ("::1".to_owned(), address.port()),
        one => (one.to_string(), address.port()),
    })
}

/// Passes bytes both ways until the container's side ends.
async fn join(target: &Target, id: &str) -> Result {
    let ended = crate::interrupt::asked_to_end()?;
    let stream = target.tunnel(id, Service::Ssh).await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let going = async {
        let _ = copy(&mut tokio::io::stdin(), &mut to).await;
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let coming = async {
        let mut out = tokio::io::stdout();
        copy(&mut from, &mut out).await?;
        out.flush().await
    };
    tokio::select! {
        done = coming => done.map_err(CliError::from),
        () = going => Ok(()),
        () = ended => Ok(()), // ssh ends its ProxyCommand so, and has nothing to hear of it
    }
}

/// Gets in without an `ssh` program: through the engine's exec, which has no ports to lead anywhere.
async fn by_exec(args: &SshArgs, info: &ContainerInfo, context: &Context<'_>) -> Result<Status> {
    let needs_ssh = [args.local.len(), args.remote.len(), args.dynamic.len(), args.option.len()];
    if args.agent || args.nothing || needs_ssh.iter().any(|count| *count > 0) {
        return Err(CliError::failed("there is no ssh program on this machine")
            .hint("install OpenSSH's client, as with `apt-get install openssh-client`"));
    }
    context.out.note("there is no ssh program on this machine: the engine's own exec is used");
    let line = call::line(&args.command);
    let shell = [guest::PROGRAM, guest::word::SHELL].map(str::to_owned).into_iter();
    let words = line.into_iter().flat_map(|line| ["-c".to_owned(), line]);
    let at_terminal = terminal::is_input() && !args.no_tty;
    let exec = exec::ExecArgs {
        id: info.id.to_string(),
        command: shell.chain(words).collect(),
        interactive: true,
        tty: at_terminal && (args.command.is_empty() || args.tty),
        env: Vec::new(),
        env_file: Vec::new(),
        user: Some("0:0".to_owned()),
        workdir: None,
        timeout: None,
    };
    exec::run(exec, context).await
}

/// Returns the `ssh` on the path.
fn find(path: Option<&str>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let can_run = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path?).map(|folder| folder.join("ssh")).find(can_run)
}
