//! Reading on a thread of its own: a driver or a file system may hang, and then nothing else must.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may wait at a time.
const WAITING_MAX: usize = 64;

/// A thread that reads when it is asked. It begins with the first question and ends with this.
#[derive(Debug)]
pub(super) struct Aside<T> {
    name: &'static str,
    asks: OnceLock<SyncSender<Ask<T>>>,
}

type Ask<T> = oneshot::Sender<T>;

impl<T: Clone + Send + 'static> Aside<T> {
    /// Makes one whose thread will have this name.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, asks: OnceLock::new() }
    }

    /// Reads, and returns what was read; `None` when there is no answer in time. `begin` makes, on the thread, what
    /// reads from then on.
    pub(super) async fn read<R: FnMut() -> T>(
        &self,
        begin: impl FnOnce() -> R + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.asks.get_or_init(|| start(self.name, begin)).try_send(answer).ok()?;
        tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()
    }
}

fn start<T: Clone + Send + 'static, R: FnMut() -> T>(
    name: &str,
    begin: impl FnOnce() -> R + Send + 'static,
) -> SyncSender<Ask<T>> {
    let (sender, asks) = mpsc::sync_channel(WAITING_MAX);
    let thread = std::thread::Builder::new().name(name.to_owned());
    if let Err(error) = thread.spawn(move || answer(&asks, begin())) {
        tracing::warn!(%error, name, "cannot start a thread");
    }
    sender
}

/// Answers all who have asked by the time a reading begins with that one.
fn answer<T: Clone>(asks: &Receiver<Ask<T>>, mut read: impl FnMut() -> T) {
    while let Ok(first) = asks.recv() {
        let waiting: Vec<Ask<T>> = std::iter::once(first).chain(asks.try_iter()).collect();
        if waiting.iter().all(Ask::is_closed) {
            continue;
        }
        let value = read();
        for ask in waiting {
            let _ = ask.send(value.clone()); // who is gone needs no answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_reading_is_a_new_one() {
        let aside = Aside::new("test");
        let begin = || {
            let mut count = 0;
            move || {
                count += 1;
                count
            }
        };
        assert_eq!(aside.read(begin).await, Some(1));
        assert_eq!(aside.read(begin).await, Some(2));
    }

    #[tokio::test]
    async fn whoever_asks_when_too_many_wait_is_not_held_up() {
        let aside = Aside::<()>::new("test");
        let (sender, _asks) = mpsc::sync_channel(0); // nobody is there to take it
        aside.asks.set(sender).unwrap();
        assert_eq!(aside.read(|| || ()).await, None);
    }
}
