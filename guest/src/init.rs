//! The first process of a container: starts the main process, hands signals on, reaps, and ends as the main process
//! does.

#![expect(unsafe_code, reason = "a signal by its number")]

use std::ffi::OsString;
use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::account::Accounts;
use crate::launch::{Environment, Launch, Stance, Trouble};
use crate::place::Place;
use crate::reaper::{Reaper, Running};
use crate::ssh::Guest;
use crate::vault::{Source, Vault};
use crate::{control, say, services, ssh};

/// `init [ARGV…]` and `init-told [ARGV…]`: returns what the main process ended with.
pub(crate) fn run(place: Place, source: Source, argv: &[OsString]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::line(format_args!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(live(place, source, argv));
    // Sessions that still run end with the container: nobody waits for them.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn live(place: Place, source: Source, argv: &[OsString]) -> u8 {
    // First of all: a signal without a handler is lost to the first process.
    let mut signals = Signals::all();
    if rustix::process::getpid() != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    }
    let reaper = Reaper::default();
    let vault = Vault::open(&place, source);
    let services = services::read(&place);
    let mut environment = Environment::of_container();
    services::add(&mut environment, &services.env);
    let mut main = None;
    if !argv.is_empty() {
        match start(argv, &place, &vault, &environment, &reaper) {
            Ok(running) => main = Some(running),
            Err((text, code)) => {
                say::line(text);
                return code;
            }
        }
    }
    let guest = Arc::new(Guest::new(place, vault, environment, reaper));
    control::serve(&guest);
    ssh::serve(&guest);
    services::serve(&guest, services, &guest.renewed());
    attend(main, &mut signals, &guest.reaper).await
}

/// Hands signals on until the main process ends; without one, until somebody asks the container to stop.
async fn attend(mut main: Option<Running>, signals: &mut Signals, reaper: &Reaper) -> u8 {
    // Whoever ended before the handler was there told nobody.
    reaper.reap();
    loop {
        let ended = async {
            match &mut main {
                Some(main) => (&mut main.ended).await.map_or(u8::MAX, |end| end.code()),
                None => std::future::pending().await,
            }
        };
        let number = tokio::select! {
            biased;
            code = ended => return code,
            number = signals.next() => number,
        };
        match (&main, number) {
            (_, libc::SIGCHLD) => reaper.reap(),
            (Some(main), number) => forward(main.pid, number),
            (None, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP) => return 0,
            (None, _) => {}
        }
    }
}

fn start(
    argv: &[OsString],
    place: &Place,
    vault: &Vault,
    environment: &Environment,
    reaper: &Reaper,
) -> Result<Running, (String, u8)> {
    let account = Accounts::read(place).resolve(vault.user()).map_err(|who| (who.to_string(), 126))?;
    let mut environment = environment.clone();
    if !vault.home_is_set() {
        environment.set("HOME", &account.home);
    }
    let terminal = rustix::termios::tcgetpgrp(rustix::stdio::stdin()).is_ok();
    let launch = Launch {
        argv: argv.to_vec(),
        arg0: None,
        environment: &environment,
        folder: None,
        account: &account,
        stance: if terminal { Stance::Foreground } else { Stance::Group },
    };
    let told = |trouble: Trouble| (trouble.to_string(), trouble.code());
    let mut command = launch.command().map_err(told)?;
    reaper.spawn(&mut command).map_err(|error| told(launch.trouble(error)))
}

fn forward(pid: i32, number: i32) {
    // SAFETY: the number is one the kernel just delivered, and none that a C library keeps for itself.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Every signal that can be handed on, and that of a child's end.
struct Signals(Vec<(i32, Stream)>);

impl Signals {
    fn all() -> Self {
        let handled = (1..=64).filter(|number| can_be_handed_on(*number) || *number == libc::SIGCHLD);
        Self(
            handled.filter_map(|number| Some((number, signal(SignalKind::from_raw(number)).ok()?))).collect(),
        )
    }

    async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Returns whether a signal means the main process: not those a process brings upon itself, those nobody can handle,
/// and those a C library keeps.
fn can_be_handed_on(number: i32) -> bool {
    const OWN: &[i32] = &[
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGSTOP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGSYS,
        32,
        33,
    ];
    !OWN.contains(&number)
}
