//! One pull at a time for each image and runtime: who asks for the same joins it. It ends early when the last who
//! asked is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gx_core::image::Image;
use gx_core::runtime::PullRequest;
use gx_core::stream::{self, DEFAULT_WINDOW_BYTES, Kind, Output};
use gx_core::{ErrorCode, PluginName, Runtime, RuntimeError};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use super::shipped;

type Key = (PluginName, String, Option<String>);
type Outcome = Option<Result<Image, RuntimeError>>;
type Running = Arc<Mutex<HashMap<Key, Flight>>>;

/// How many steps of progress somebody may be behind before some are left out.
const PROGRESS_BACKLOG: usize = 256;

/// The pulls under way.
#[derive(Default)]
pub(crate) struct Pulls(Running);

struct Flight {
    progress: broadcast::Sender<(Kind, Bytes)>,
    outcome: watch::Receiver<Outcome>,
    abort: AbortHandle,
    waiters: usize,
}

struct Seat {
    key: Key,
    running: Running,
    progress: broadcast::Receiver<(Kind, Bytes)>,
    outcome: watch::Receiver<Outcome>,
}

impl Pulls {
    /// Fetches an image, or joins whoever is fetching it, writing progress.
    ///
    /// # Errors
    /// Those of [`shipped::fetch`].
    pub(crate) async fn pull(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: PullRequest,
        out: Output,
    ) -> Result<Image, RuntimeError> {
        if request.auth.is_some() {
            return shipped::fetch(runtime, request, out).await; // a login is nobody else's
        }
        self.join(name, runtime, request).follow(out).await
    }

    /// Returns how many wait for a pull.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(|flight| flight.waiters).sum()
    }

    fn join(&self, name: &PluginName, runtime: &Arc<dyn Runtime>, request: PullRequest) -> Seat {
        let key = (name.clone(), request.image.tagged(), request.platform.clone());
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let flight =
            running.entry(key.clone()).or_insert_with(|| self.begin(key.clone(), runtime.clone(), request));
        flight.waiters += 1;
        Seat {
            progress: flight.progress.subscribe(),
            outcome: flight.outcome.clone(),
            running: self.0.clone(),
            key,
        }
    }

    fn begin(&self, key: Key, runtime: Arc<dyn Runtime>, request: PullRequest) -> Flight {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        let (told, outcome) = watch::channel(None);
        let (listeners, running) = (progress.clone(), self.0.clone());
        let task = tokio::spawn(async move {
            let (out, mut items) = stream::pipe(DEFAULT_WINDOW_BYTES);
            let spread = async {
                while let Some(item) = items.next().await {
                    let _ = listeners.send((item.kind, item.bytes)); // nobody may be listening
                }
            };
            let (result, ()) = tokio::join!(shipped::fetch(&runtime, request, out), spread);
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            let _ = told.send(Some(result));
        });
        Flight { progress, outcome, abort: task.abort_handle(), waiters: 0 }
    }
}

impl Seat {
    async fn follow(mut self, out: Output) -> Result<Image, RuntimeError> {
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                step = self.progress.recv(), if listening => match step {
                    Ok((kind, bytes)) => listening = out.write(kind, &bytes).await.is_ok(),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => listening = false,
                },
                result = outcome(&mut self.outcome) => return result,
            }
        }
    }
}

async fn outcome(told: &mut watch::Receiver<Outcome>) -> Result<Image, RuntimeError> {
    let result = told.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    let fault = || RuntimeError::new(ErrorCode::Internal, "the pull ended without a result");
    result.unwrap_or_else(|| Err(fault()))
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flight) = running.get_mut(&self.key) else {
            return;
        };
        // A later pull of the same image may have taken the place of the one this seat is in.
        if !flight.outcome.same_channel(&self.outcome) {
            return;
        }
        flight.waiters -= 1;
        if flight.waiters == 0 {
            flight.abort.abort();
            running.remove(&self.key);
        }
    }
}
