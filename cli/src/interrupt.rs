//! Ctrl-C: the first cancels what runs and lets it clean up, the second exits at once.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, Kind, Result};

/// Runs `work` to its end, or drops it on the first signal that asks the program to end. From then on a second one
/// ends the program at once, whatever still cleans up.
pub(crate) async fn or_cancel<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        result = work => result,
        asked = signals.next() => {
            tokio::spawn(exit_on_next(signals));
            Err(CliError::new(asked.kind(), "interrupted"))
        }
    }
}

/// Listens from now on, and returns what waits until the program is asked to end. From then on a second signal ends
/// it at once.
pub(crate) fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        signals.next().await;
        tokio::spawn(exit_on_next(signals));
    })
}

/// As [`asked_to_end`], for a service: SIGHUP asks it to read its configuration again, unless it comes of a terminal
/// that is gone.
pub(crate) fn asked_to_end_or_reload(mut reload: impl FnMut()) -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    let on_terminal = std::io::stdin().is_terminal();
    Ok(async move {
        while signals.next().await == Asked::Hangup && (std::io::stdin().is_terminal() || !on_terminal) {
            reload();
        }
        tokio::spawn(exit_on_next(signals));
    })
}

/// One keypress may arrive twice, where a program in between passes it on to its whole group, as timeout(1) does.
const SAME_KEYPRESS: Duration = Duration::from_millis(300);

async fn exit_on_next(mut signals: Signals) {
    let echoes = async {
        loop {
            signals.next().await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(SAME_KEYPRESS, echoes).await;
    let asked = signals.next().await;
    std::process::exit(i32::from(asked.kind().status().0));
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Interrupt,
    Terminate,
    Hangup,
}

impl Asked {
    fn kind(self) -> Kind {
        match self {
            Self::Interrupt => Kind::Interrupted,
            Self::Terminate | Self::Hangup => Kind::Terminated,
        }
    }
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| CliError::io("cannot listen for signals", &error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Hangup,
        }
    }
}
