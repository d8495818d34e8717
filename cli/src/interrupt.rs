//! Ctrl-C: the first cancels what runs and lets it clean up, the second exits at once.

use std::future::Future;
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
        kind = signals.next() => {
            tokio::spawn(exit_on_next(signals));
            Err(CliError::new(kind, "interrupted"))
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

/// One keypress may arrive twice, where a program in between passes it on to its whole group, as timeout(1) does.
const SAME_KEYPRESS: Duration = Duration::from_millis(300);

async fn exit_on_next(mut signals: Signals) {
    let echoes = async {
        loop {
            signals.next().await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(SAME_KEYPRESS, echoes).await;
    let kind = signals.next().await;
    std::process::exit(i32::from(kind.status().0));
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
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

    async fn next(&mut self) -> Kind {
        tokio::select! {
            _ = self.interrupt.recv() => Kind::Interrupted,
            _ = self.terminate.recv() => Kind::Terminated,
            _ = self.hangup.recv() => Kind::Terminated,
        }
    }
}
