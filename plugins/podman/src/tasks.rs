//! Work that must not be cut in half: it goes on when its caller is dropped, and a shutdown waits for it.

use std::sync::Arc;
use std::time::Duration;

use gx_core::plugin::{ErrorCode, Result, RuntimeError};
use tokio::sync::{oneshot, watch};

/// How long a shutdown waits for work whose caller is gone.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// The work in flight.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    /// Each piece of work holds a receiver.
    running: Arc<watch::Sender<()>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { running: Arc::new(watch::Sender::new(())) }
    }

    /// Does the work to its end, whether or not the caller waits for it.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let running = self.begin();
        let task = tokio::spawn(async move {
            let done = work.await;
            drop(running);
            done
        });
        task.await.unwrap_or_else(|error| Err(panicked(&error)))
    }

    /// Returns a token; a shutdown waits until it is dropped.
    pub(crate) fn begin(&self) -> Running {
        Running { _receiver: self.running.subscribe() }
    }

    /// Does the work to its end and returns the answer; what a dropped caller did not take is undone. What was made
    /// is kept until then, and with it what it holds.
    pub(crate) async fn finish_or_undo<T, A, U>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
        answer: impl FnOnce(&T) -> A + Send + 'static,
        undo: impl FnOnce(T) -> U + Send + 'static,
    ) -> Result<A>
    where
        T: Send + Sync + 'static,
        A: Send + 'static,
        U: Future<Output = ()> + Send,
    {
        let running = self.begin();
        let (sender, answered) = oneshot::channel();
        tokio::spawn(async move {
            match work.await {
                Err(error) => drop(sender.send(Err(error))),
                Ok(made) => {
                    // An answer that is sent may still be dropped unread; only what the caller confirms is taken.
                    let (taken, confirmed) = oneshot::channel::<()>();
                    if sender.send(Ok((answer(&made), taken))).is_err() || confirmed.await.is_err() {
                        undo(made).await;
                    }
                }
            }
            drop(running);
        });
        let (answer, taken) = answered.await.map_err(|error| panicked(&error))??;
        // From here to the return nothing is awaited, so that the caller has it.
        let _ = taken.send(());
        Ok(answer)
    }

    /// Waits until all work is done.
    pub(crate) async fn settled(&self) {
        let _ = tokio::time::timeout(SHUTDOWN_LIMIT, self.running.closed()).await;
    }
}

/// Work that is not done while this is there.
#[derive(Debug)]
pub(crate) struct Running {
    _receiver: watch::Receiver<()>,
}

pub(crate) fn panicked(error: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::new(ErrorCode::Internal, format!("the plugin failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_a_dropped_caller_did_not_take_is_undone() {
        let tasks = Tasks::new();
        let (gate, undone) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (opened, flag) = (gate.clone(), undone.clone());
        let work = async move {
            opened.notified().await;
            Ok(7)
        };
        let undo = move |_: i32| async move { flag.store(true, Ordering::SeqCst) };
        let dropped =
            tokio::time::timeout(Duration::ZERO, tasks.finish_or_undo(work, |made| *made, undo)).await;
        assert!(dropped.is_err());
        gate.notify_one();
        tasks.settled().await;
        assert!(undone.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn what_is_taken_is_kept() {
        let tasks = Tasks::new();
        let undo = |_: i32| async { panic!("it was taken") };
        assert_eq!(tasks.finish_or_undo(async { Ok(7) }, |made| *made, undo).await, Ok(7));
        tasks.settled().await;
    }
}
