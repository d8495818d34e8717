//! `gx create`: makes a container and starts it, here or on a host.

use std::collections::BTreeMap;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use gx_core::api::{ContainerInfo, CreateRequest, PullPolicy};
use gx_core::network::NetworkMode;
use gx_core::peers::Needs;
use gx_core::secret::Secret;
use gx_core::stream::pipe;
use gx_core::units::{Size, Span};
use gx_core::{ContainerName, Gpus, IdempotencyKey, ImageRef, PluginName, PortRequest};

use serde::Serialize;

use super::{Context, completions};
use crate::error::{CliError, Result, Status};
use crate::identity::{self, Identity};
use crate::output::{Pairs, Show, View};
use crate::target::{BEST, Target};
use crate::variables;

mod best;

const EXAMPLES: &str = "\
Examples:
  gx create debian:bookworm -- sleep 1h
  gx create --runtime podman -p 80 --name web nginx
  gx create --on 192.168.1.7 --cpus 4 --memory 8GiB --gpus 1 --ttl 2h debian
  gx create --wait debian -- make test         ends when the container does, with its exit code
  gx create --name mydesk gx-desktop           a desktop, for gx vnc
  gx create --name box debian                  stays until it is stopped; `gx ssh box` gets in
  gx create --env-file secrets app             variables that no argument shows
  gx create --network none debian -- make      without any way out or in
  gx create --on best --needs 'gpu>=1' app     on the best server that is known; see gx peers
  gx create --name box --idle 30m debian       stopped after half an hour without a session and without work

Everything after IMAGE is the command; `--` before it keeps its flags its own. An image that would only run a shell \
stays until it is stopped, for those who log in. The password is shown once; `gx passwd` makes another.

`gx-desktop` comes with gx: an engine that lacks it builds it when it is first named, in a minute or two, from \
`gx-debian:bookworm` where it has that image, else from Debian's own of a registry. `gx pull gx-desktop` builds it too.";

/// What `gx create` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
    /// The image, as registries name it
    #[arg(add = ArgValueCandidates::new(completions::images))]
    pub image: ImageRef,
    /// The command to run, instead of the image's own
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// The runtime to make it in; without it the configured one, else the host's first healthy one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completions::runtimes))]
    pub runtime: Option<PluginName>,
    /// A name for it, unique on the host; without it one is chosen
    #[arg(long)]
    pub name: Option<ContainerName>,
    /// Publishes a port of the container, as CONTAINER or HOST:CONTAINER, with /udp for UDP; may be repeated
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<PortRequest>,
    /// Publishes so many TCP ports more, chosen by the host, the same number inside and outside
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ports: u16,
    /// GPUs: a number, `all`, or uuids joined by commas
    #[arg(long, default_value = "none", hide_default_value = true)]
    pub gpus: Gpus,
    /// CPUs at most, as in 1.5
    #[arg(long, value_name = "N", value_parser = milli_cpus)]
    pub cpus: Option<u32>,
    /// Memory at most, as in 512MiB or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// What it may write to its own file system at most, as in 10GiB, where the engine can bound it
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Size>,
    /// Processes and threads at most
    #[arg(long, value_name = "N")]
    pub pids: Option<u32>,
    /// Sets an environment variable in the container; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Sets the variables in this file, a line NAME=VALUE each, - for standard input; may be repeated
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,
    /// Labels the container; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// The lease, after which it is stopped and removed, as in 30m or 2h
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<Span>,
    /// Stops it, without removing it, after so long without a session and without work, as in 30m
    #[arg(long, value_name = "SPAN")]
    pub idle: Option<Span>,
    /// The user in the container, as NAME or UID, with :GROUP or :GID
    #[arg(short, long)]
    pub user: Option<String>,
    /// The working folder in the container
    #[arg(short, long, value_name = "FOLDER")]
    pub workdir: Option<String>,
    /// Replaces the image's entry point; an empty one removes it
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Lets the public keys in this file log in, beside gx's own; may be repeated
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "no_guest")]
    pub ssh_key: Vec<PathBuf>,
    /// Leaves the image as it is: no SSH, the image's own entry point first
    #[arg(long)]
    pub no_guest: bool,
    /// How far it reaches; without it, as far as the host allows
    #[arg(long, value_name = "HOW")]
    pub network: Option<Network>,
    /// Lets nothing be written to the container's root
    #[arg(long)]
    pub read_only: bool,
    /// Gives the main process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: Pull,
    /// Waits until the container has ended, and ends with its exit code
    #[arg(long)]
    pub wait: bool,
    /// With --on best: what the server has to have, as in 'gpu>=1 memory>=8G'
    #[arg(long, value_name = "NEEDS", value_parser = super::peers::needs)]
    pub needs: Option<Needs>,
    /// Checks everything and makes nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
}

/// When to fetch the image.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Pull {
    /// When the engine lacks it.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// How far a container reaches.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Network {
    /// To the internet, and its published ports are reached.
    Full,
    /// To what the host lists, and its published ports are reached.
    Outbound,
    /// Nowhere, and nobody reaches it: no ports and no SSH, but `gx exec` and `gx cp`.
    None,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Full => Self::Full,
            Network::Outbound => Self::Outbound,
            Network::None => Self::None,
        }
    }
}

pub(crate) async fn run(args: CreateArgs, context: &Context<'_>) -> Result<Status> {
    let needs = args.needs.clone();
    let (wait, dry_run, idle) = (args.wait, args.dry_run, args.idle.is_some());
    let keys = if args.no_guest { Vec::new() } else { keys(&args.ssh_key, context)? };
    let request = CreateRequest { ssh_keys: keys, ..request(args, context)? };
    let settings = context.settings()?;
    let place = match (settings.config.client.on.as_str(), needs) {
        (BEST, needs) => best::create(&request, &needs.unwrap_or_default(), &settings, context).await?,
        (_, Some(_)) => {
            return Err(
                CliError::usage("--needs chooses among servers, and the host is named").hint("--on best")
            );
        }
        (_, None) => {
            let target = context.target().await?;
            let info = on(target, request, random_key()?, context).await?;
            Place { target: target.clone(), info, on: context.globals.on.clone() }
        }
    };
    let Place { target, mut info, on } = place;
    if dry_run {
        context.out.note("nothing was made: this is what there would be");
    } else if idle && target.is_local() {
        context
            .out
            .note("it is stopped when it is idle, as leases end, while `gx serve` runs on this machine");
    }
    if !wait {
        context.out.show(&Made { info, on })?;
        return Ok(Status::DONE);
    }
    let exit = target.wait(info.id.as_str()).await?;
    info = target.show(info.id.as_str()).await.unwrap_or(info);
    context.out.show(&info)?;
    Ok(Status::of(&exit))
}

/// Where a container was made.
struct Place {
    target: Target,
    info: ContainerInfo,
    /// What `--on` takes for it; nothing for where commands act anyway.
    on: Option<String>,
}

/// Makes a container there, and shows the progress.
async fn on(
    target: &Target,
    request: CreateRequest,
    key: IdempotencyKey,
    context: &Context<'_>,
) -> Result<ContainerInfo> {
    let (output, items) = pipe(0);
    let (made, ()) = tokio::join!(target.create(request, key, output), context.out.steps().follow(items));
    made
}

fn request(args: CreateArgs, context: &Context<'_>) -> Result<CreateRequest> {
    Ok(CreateRequest {
        runtime: context.runtime(args.runtime)?,
        name: args.name,
        entrypoint: args.entrypoint.map(|program| if program.is_empty() { vec![] } else { vec![program] }),
        command: args.command,
        env: BTreeMap::from_iter(variables::all(&args.env_file, args.env)?),
        labels: BTreeMap::from_iter(args.label),
        user: args.user,
        workdir: args.workdir,
        tty: args.tty,
        milli_cpus: args.cpus,
        memory_bytes: args.memory.map(|size| size.0),
        disk_bytes: args.disk.map(|size| size.0),
        pids: args.pids,
        ports: args.publish,
        extra_ports: args.ports,
        gpus: args.gpus,
        no_guest: args.no_guest,
        read_only: args.read_only,
        require_ssh: !args.ssh_key.is_empty(),
        ttl_s: args.ttl.map(|span| span.0.as_secs()),
        idle_s: args.idle.map(|span| span.0.as_secs()),
        network: args.network.map(NetworkMode::from),
        pull: args.pull.into(),
        dry_run: args.dry_run,
        ..CreateRequest::new(args.image)
    })
}

/// Returns the public keys that may log in: gx's own, those of the configuration, and those in the files.
fn keys(files: &[PathBuf], context: &Context<'_>) -> Result<Vec<String>> {
    let settings = context.settings()?;
    let mut keys = vec![Identity::open(&settings.data)?.public];
    for file in settings.config.client.ssh_key.iter().chain(files) {
        keys.extend(identity::public_keys(file)?);
    }
    let mut lines: Vec<String> = Vec::new();
    for line in keys.iter().map(ToString::to_string) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Makes a key under which the host does the request once, however often it arrives.
fn random_key() -> Result<IdempotencyKey> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| CliError::io("the system gives no random numbers", &error.into()))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)).parse()?)
}

/// A container that was just made, with the secrets that are told only now.
#[derive(Serialize)]
#[serde(transparent)]
struct Made {
    info: ContainerInfo,
    /// The host, where the command line names it.
    #[serde(skip)]
    on: Option<String>,
}

impl Show for Made {
    fn text(&self, view: &View) -> String {
        let (info, text) = (&self.info, self.info.text(view));
        let Some(ssh) = &info.ssh else { return text };
        let on = self.on.as_ref().map(|on| format!("--on {on} ")).unwrap_or_default();
        let desktop = info.vnc.as_ref();
        let way = Pairs::new()
            .pair("get in", format!("gx {on}ssh {}", info.name))
            .some("password", ssh.password.as_ref().map(Secret::reveal))
            .some("desktop's password", desktop.and_then(|vnc| vnc.password.as_ref()).map(Secret::reveal))
            .text(view);
        format!("{text}\n{way}")
    }

    fn ids(&self, view: &View) -> String {
        self.info.ids(view)
    }
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Always => Self::Always,
            Pull::Never => Self::Never,
        }
    }
}

/// Reads `NAME=VALUE`; the value may be empty and have more of `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err(format!("{text:?} has no name before the '='")),
        None => Err(format!("{text:?} has no value: write {text}=VALUE")),
    }
}

pub(crate) fn milli_cpus(text: &str) -> Result<u32, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let cpus = text.parse::<f64>().ok().filter(|cpus| plain && (0.001..=65_536.0).contains(cpus));
    let cpus =
        cpus.ok_or_else(|| format!("{text:?} is not a number of CPUs: it is at least 0.001, as in 1.5"))?;
    Ok((cpus * 1_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::commands::list;
    use clap::Parser as _;

    fn args(line: &str) -> CreateArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Create(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_is_everything_after_the_image() {
        assert_eq!(args("gx create debian -- sh -c x").command, ["sh", "-c", "x"]);
        assert_eq!(args("gx create debian sh -c x --name y").command, ["sh", "-c", "x", "--name", "y"]);
        let named = args("gx create debian --name web -- -x");
        assert_eq!((named.name.unwrap().as_str(), named.command), ("web", vec!["-x".to_owned()]));
        assert!(Cli::try_parse_from(["gx", "create", "debian", "--nmae", "web"]).is_err());
    }

    #[test]
    fn sizes_ports_and_pairs_are_read_as_people_write_them() {
        let args =
            args("gx create -p 80 -p 8080:53/udp --cpus 1.5 --memory 2g --ttl 1h30m -e A=b=c -e B= debian");
        assert_eq!(args.publish[1].host_port, Some(8080));
        assert_eq!(args.cpus, Some(1_500));
        assert_eq!(args.memory, Some(Size(2 << 30)));
        assert_eq!(args.ttl.unwrap().0.as_secs(), 5_400);
        assert_eq!(args.env, [("A".into(), "b=c".into()), ("B".into(), String::new())]);
        for bad in ["0", "-1", "1e3", "inf", "x", "0.0001", "99999999"] {
            assert!(milli_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_entry_point_removes_the_images() {
        let out = crate::Out::new(&crate::cli::Globals::default());
        let context = Context::new(crate::cli::Globals::default(), &out);
        let args =
            CreateArgs { entrypoint: Some(String::new()), ..args("gx create --runtime docker debian") };
        assert_eq!(request(args, &context).unwrap().entrypoint, Some(vec![]));
    }

    #[test]
    fn keys_come_from_gx_the_configuration_and_the_line_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pub");
        let other = gx_core::ssh::PublicKey::ed25519(&[7; 32]).to_string();
        std::fs::write(&file, format!("{other} ann\n{other}\n")).unwrap();
        let config = folder.path().join("gx.toml");
        std::fs::write(&config, "[client]\nssh_key = \"a.pub\"\n[server]\ndata = \"data\"\n").unwrap();
        let globals = crate::cli::Globals { config: Some(config), ..Default::default() };
        let out = crate::Out::new(&globals);
        let mut context = Context::new(globals, &out);
        context.environment.data_dir = None;
        let own = Identity::open(&folder.path().join("data")).unwrap().public.to_string();
        assert_eq!(keys(&[file], &context).unwrap(), [own, other]);
        assert!(keys(&[folder.path().join("data/ssh/id_ed25519")], &context).is_err());
    }

    #[test]
    fn who_makes_a_container_is_told_how_to_get_in() {
        let mut info = list::tests::container("web", gx_core::ContainerState::Running);
        let ssh = serde_json::json!({
            "user": "app", "host_key": "k", "fingerprint": "SHA256:f", "password": "secret",
            "command": "ssh -p 20001 app@127.0.0.1",
        });
        (info.ssh, info.expires_at) = (Some(serde_json::from_value(ssh).unwrap()), None);
        let text =
            |on: Option<&str>| Made { info: info.clone(), on: on.map(str::to_owned) }.text(&View::plain());
        let here = text(None);
        assert!(here.contains("ssh        ssh -p 20001 app@127.0.0.1\nhost key   SHA256:f\n"), "{here}");
        assert!(here.ends_with("\n\nget in     gx ssh web\npassword   secret\n"), "{here}");
        assert!(text(Some("host")).contains("gx --on host ssh web\n"));
        assert!(!info.text(&View::plain()).contains("secret"), "only a create tells it");
    }

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(random_key().unwrap(), random_key().unwrap());
    }
}
