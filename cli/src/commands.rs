//! The commands, one file each, and what they share: the configuration, where they act, where they print.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use gx_core::PluginName;
use gx_host::PluginHost;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::cli::{Cli, Command, Environment, Globals};
use crate::error::{CliError, Kind, Result, Status};
use crate::interrupt;
use crate::output::Out;
use crate::road;
use crate::settings::Settings;
use crate::target::{self, Target};

pub(crate) mod allow;
pub(crate) mod allowance;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod extend;
pub(crate) mod id;
pub(crate) mod images;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod passwd;
pub(crate) mod peers;
pub(crate) mod plugin;
pub(crate) mod port;
pub(crate) mod pull;
pub(crate) mod reference;
pub(crate) mod rm;
pub(crate) mod runtimes;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod specs;
pub(crate) mod ssh;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod ui;
pub(crate) mod vnc;

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) globals: Globals,
    pub(crate) environment: Environment,
    pub(crate) out: &'a Out,
    target: OnceCell<Target>,
    at_end: Mutex<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(globals: Globals, out: &'a Out) -> Self {
        Self {
            globals,
            environment: Environment::read(),
            out,
            target: OnceCell::new(),
            at_end: Mutex::default(),
        }
    }

    /// Reads the configuration.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Settings::load(&self.globals, &self.environment)
    }

    /// Returns the runtime that was named, else the configured one; `None` leaves the choice to the host.
    pub(crate) fn runtime(&self, named: Option<PluginName>) -> Result<Option<PluginName>> {
        match named {
            Some(named) => Ok(Some(named)),
            None => Ok(self.settings()?.config.client.runtime),
        }
    }

    /// Returns where the command acts: this machine, or the host that `--on` names.
    pub(crate) async fn target(&self) -> Result<&Target> {
        self.target_on(None).await
    }

    /// Returns where the command acts, at `peer` if it is given.
    pub(crate) async fn target_on(&self, peer: Option<String>) -> Result<&Target> {
        let open = async || {
            let mut settings = self.settings()?;
            if let Some(peer) = peer {
                settings.config.client.on = peer;
            }
            Target::open(&settings, &self.environment, self.out).await
        };
        self.target.get_or_try_init(open).await
    }

    /// Returns the plugins of this machine, whatever `--on` says; they are what administers them, not a node.
    pub(crate) fn plugins(&self) -> Result<Arc<PluginHost>> {
        Ok(PluginHost::open(target::host_options(&self.settings()?, &self.environment)?)?)
    }

    /// Does this when the command has ended, however it ended; the last first.
    pub(crate) fn at_end(&self, work: impl Future<Output = ()> + 'static) {
        self.at_end.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }

    /// Lets what was cancelled clean up after itself.
    async fn close(&self) {
        let work = std::mem::take(&mut *self.at_end.lock().unwrap_or_else(PoisonError::into_inner));
        for work in work.into_iter().rev() {
            work.await;
        }
        if let Some(target) = self.target.get() {
            target.close().await;
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(cli: Cli, out: &Out) -> Result<Status> {
    let command = match cli.command {
        Command::PluginHost(args) => return Ok(child(args.rest)),
        command => command,
    };
    let runtime = tokio_for(&command)?;
    let context = Context::new(cli.globals, out);
    let result = runtime.block_on(async {
        let result = match command {
            // It ends by itself, in good order, when it is asked to.
            Command::Serve(args) => serve::run(args, &context).await.map(|()| Status::DONE),
            command => {
                let endless = is_endless(&command);
                match followed(interrupt::or_cancel(dispatch(command, &context)).await, &context).await {
                    Err(error) if endless && error.kind == Kind::Interrupted => Ok(error.kind.status()),
                    result => result,
                }
            }
        };
        context.close().await;
        result
    });
    // A read of standard input cannot be cancelled; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// Where another node answers in a host's place, finds out whether it is the same one with a new key, and says so.
async fn followed(result: Result<Status>, context: &Context<'_>) -> Result<Status> {
    let Err(mut error) = result else { return result };
    let (Some(other), Ok(settings)) = (error.other_node.take(), context.settings()) else {
        return Err(error);
    };
    let Ok(Some(node)) = road::follow(&other, &settings.data).await else { return Err(error) };
    let told = format!(
        "the host has a new key, which its old one has signed: it is known as node {node} from now on"
    );
    Err(CliError::new(error.kind, told).hint("nothing was sent to it yet: run the command again"))
}

/// Returns whether a command goes on until somebody ends it, so that Ctrl-C is no error.
fn is_endless(command: &Command) -> bool {
    match command {
        Command::Audit(args) => args.follow,
        Command::Chat(args) => args.is_endless(),
        Command::Logs(args) => args.follow,
        Command::Events(_) => true,
        Command::Stats(args) => !args.no_stream,
        Command::Ui(_) => true,
        Command::Vnc(args) => args.open,
        _ => false,
    }
}

async fn dispatch(command: Command, context: &Context<'_>) -> Result<Status> {
    let done = match command {
        Command::Create(args) => return create::run(*args, context).await,
        Command::Exec(args) => return exec::run(args, context).await,
        Command::Ssh(args) => return ssh::run(args, context).await,
        Command::Doctor(args) => return doctor::run(args, context).await,
        Command::Chat(args) => return chat::run(*args, context).await,
        Command::Plugin(command) => return plugin::run(command, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::Start(args) => start::run(args, context).await,
        Command::Extend(args) => extend::run(args, context).await,
        Command::Rm(args) => rm::run(args, context).await,
        Command::Port(args) => port::run(args, context).await,
        Command::Passwd(args) => passwd::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Cp(args) => cp::run(args, context).await,
        Command::Vnc(args) => vnc::run(args, context).await,
        Command::Ui(args) => ui::run(args, context).await,
        Command::Images(args) => images::run(args, context).await,
        Command::Pull(args) => pull::run(args, context).await,
        Command::Build(args) => build::run(args, context).await,
        Command::Specs(args) => specs::run(args, context).await,
        Command::Runtimes(args) => runtimes::run(args, context).await,
        Command::Invite(args) => invite::run(*args, context).await,
        Command::Allow(command) => allow::run(command, context).await,
        Command::Peers(args) => peers::run(*args, context).await,
        Command::Config(command) => config::run(command, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Reference(args) => reference::run(&args, context),
        Command::Id(args) => id::run(args, context).await,
        Command::Join(args) => join::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::PluginHost(args) => return Ok(child(args.rest)),
    };
    done.map(|()| Status::DONE)
}

fn child(args: Vec<std::ffi::OsString>) -> Status {
    Status(u8::try_from(gx_host::child_main(args)).unwrap_or(1))
}

// One thread is enough for one command, and starts faster; plugins have threads of their own.
fn tokio_for(command: &Command) -> Result<Runtime> {
    let mut builder = match command {
        Command::Serve(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build().map_err(|error| CliError::io("cannot start threads", &error))
}
