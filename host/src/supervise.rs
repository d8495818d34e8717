//! A loaded plugin that stays usable: loading, configuring, restarting, and what state it is in.
//!
//! [`load`] takes a plugin that has passed every check. The handle it gives holds across restarts of a child: a call
//! in flight at the crash fails with `Unavailable` (field `plugin`), the next one waits for the new child.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use gx_core::config::Isolation;
use gx_core::plugin::abi::AbiMismatch;
use gx_core::plugin::manifest::ManifestError;
use gx_core::plugin::method::{self, CONFIGURE, Configured, Hello};
use gx_core::plugin::{ConfigIssue, PluginContext};
use gx_core::{ErrorCode, RuntimeError};
use tokio::sync::{oneshot, watch};

use crate::backoff::Backoff;
use crate::calls::Calls;
use crate::checked::Checked;
use crate::child::{self, NotReady, Reader};
use crate::inline::Inline;
use crate::library::LoadFault;
use crate::link::Session;
use crate::loaded::Status;
use crate::process::Start;
use crate::report::PluginState;
use crate::sentinel::Sentinel;

/// How long loading, and then configuring, may take.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a call waits for a plugin that is being started again.
const RESTART_LIMIT: Duration = Duration::from_secs(5);

/// Why a plugin that passed every check cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It speaks another version of the boundary than its file said.
    #[error(transparent)]
    Abi(AbiMismatch),
    /// It speaks no version of its trait that is spoken here.
    #[error(transparent)]
    Api(ManifestError),
    /// The library cannot be loaded, or does not make a plugin.
    #[error("{0}")]
    Library(String),
    /// It does not accept its configuration.
    #[error("it does not accept its configuration: {}", issues(.0))]
    Config(Vec<ConfigIssue>),
    /// It failed while it was configured.
    #[error("it failed while it was configured: {0}")]
    Configure(RuntimeError),
    /// Its process came to an end.
    #[error("its process came to an end while it was being loaded: {0}")]
    Crashed(String),
    /// It does not answer.
    #[error("it did not finish {0} within {limit} s", limit = LOAD_LIMIT.as_secs())]
    Silent(&'static str),
    /// The process for it cannot be started.
    #[error("the process for it cannot be started")]
    Spawn(#[source] std::io::Error),
    /// gx itself came to an end while it was loading it, several times in a row.
    #[error("gx came to a violent end while loading it, {times} times in a row")]
    CrashedWhileLoading {
        /// How often.
        times: u32,
    },
}

impl LoadError {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Abi(mismatch) => Some(mismatch.hint()),
            Self::Api(_) => Some("install another version of the plugin, or update gx".to_owned()),
            Self::CrashedWhileLoading { .. } => Some(
                "gx plugin enable NAME tries it again; isolation = \"process\" keeps its crashes apart"
                    .to_owned(),
            ),
            Self::Configure(error) => error.hint.clone(),
            Self::Library(_) | Self::Crashed(_) | Self::Silent(_) => {
                Some("this is a fault of the plugin: install another version of it".to_owned())
            }
            Self::Config(_) | Self::Spawn(_) => None,
        }
    }
}

#[derive(Clone)]
enum State {
    Loading,
    Loaded(Arc<Session>),
    /// Here only; a child that hangs is killed.
    Hung(Arc<Session>),
    Restarting(Instant),
    Failed,
    Stopped,
}

/// A loaded plugin.
pub(crate) struct Supervised {
    checked: Checked,
    state: watch::Sender<State>,
    told: Mutex<Told>,
    stop: Mutex<Option<Sender<()>>>,
}

#[derive(Default)]
struct Told {
    last_error: Option<String>,
    restarts: u32,
}

/// Loads and configures a plugin that has passed every check, here or in a child as `checked.isolation` says.
///
/// # Errors
/// [`LoadError`].
pub(crate) async fn load(checked: Checked) -> Result<Arc<Supervised>, LoadError> {
    let hello = hello(&checked)?;
    let isolation = checked.isolation;
    let plugin = Arc::new(Supervised {
        checked,
        state: watch::Sender::new(State::Loading),
        told: Mutex::default(),
        stop: Mutex::default(),
    });
    match isolation {
        Isolation::Inline => plugin.load_inline(hello).await?,
        Isolation::Process => plugin.load_child(hello).await?,
    }
    crate::watch::add(&plugin);
    Ok(plugin)
}

impl Supervised {
    /// Returns the plugin's name.
    pub(crate) fn name(&self) -> &str {
        self.checked.name.as_str()
    }

    /// Returns how it stands. One that was shut down stands as if nobody had used it.
    pub(crate) fn status(&self) -> Status {
        let state = match &*self.state.borrow() {
            State::Loading => PluginState::Loading,
            State::Loaded(_) => PluginState::Loaded,
            State::Hung(_) => PluginState::Hung,
            State::Restarting(_) => PluginState::Restarting,
            State::Failed => PluginState::Failed,
            State::Stopped => PluginState::Declared,
        };
        let told = self.told();
        Status { state, last_error: told.last_error.clone(), restarts: told.restarts }
    }

    /// Returns the live instance, waiting a little for one that is being started again.
    ///
    /// # Errors
    /// `Unavailable`, field `plugin`, when there is none.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, RuntimeError> {
        if let State::Loaded(session) = &*self.state.borrow() {
            return Ok(session.clone());
        }
        self.next_session(None).await
    }

    /// Returns the live instance that follows one that is known to be gone.
    ///
    /// # Errors
    /// Those of [`session`](Self::session).
    pub(crate) async fn next_session(
        &self,
        gone: Option<&Arc<Session>>,
    ) -> Result<Arc<Session>, RuntimeError> {
        let mut changes = self.state.subscribe();
        let settled = changes.wait_for(|state| match state {
            State::Loaded(session) => gone.is_none_or(|gone| !Arc::ptr_eq(gone, session)),
            State::Hung(_) | State::Failed | State::Stopped => true,
            State::Restarting(at) => at.saturating_duration_since(Instant::now()) > RESTART_LIMIT / 2,
            State::Loading => false,
        });
        match tokio::time::timeout(RESTART_LIMIT, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Loaded(session) => Ok(session.clone()),
                State::Restarting(at) => Err(self.restarting(*at)),
                State::Hung(_) => {
                    Err(self.unusable("hangs", "restart gx, or give it isolation = \"process\""))
                }
                State::Failed => {
                    Err(self.unusable("has failed", "see gx plugin list; gx plugin enable tries again"))
                }
                State::Loading | State::Stopped => Err(self.unusable("was shut down", "start gx again")),
            },
            _ => Err(self.restarting(Instant::now())),
        }
    }

    /// Lets the plugin go; at most `grace`, then without its consent.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let (done, ended) = oneshot::channel();
        match self.state.send_replace(State::Stopped) {
            State::Loaded(session) => {
                std::thread::spawn(move || {
                    session.link.shutdown(grace);
                    let _ = done.send(());
                });
                let _ = tokio::time::timeout(grace + Duration::from_secs(2), ended).await;
            }
            State::Hung(session) => session.calls.end_all(),
            State::Loading | State::Restarting(_) | State::Failed | State::Stopped => {}
        }
        lock(&self.stop).take();
    }

    /// Looks for calls that do not come back. Called by the watch.
    pub(crate) fn check(&self, now: Instant) {
        let state = self.state.borrow().clone();
        if let State::Loaded(session) | State::Hung(session) = &state {
            session.calls.expire(now);
        }
        match (state, self.checked.isolation) {
            (State::Loaded(session), isolation) => {
                let Some(method) = session.calls.overdue(now) else { return };
                let why = format!("{} did not return", method::name(method));
                tracing::error!(plugin = self.name(), "the plugin hangs: {why}");
                match isolation {
                    Isolation::Process => session.link.kill(&why),
                    Isolation::Inline => {
                        self.told().last_error = Some(why);
                        self.state.send_replace(State::Hung(session));
                    }
                }
            }
            (State::Hung(session), _) if session.calls.overdue(now).is_none() => {
                tracing::info!(plugin = self.name(), "the plugin hangs no more");
                self.state.send_replace(State::Loaded(session));
            }
            _ => {}
        }
    }

    async fn load_inline(self: &Arc<Self>, hello: Vec<u8>) -> Result<(), LoadError> {
        let folder = self.checked.state_dir.parent().unwrap_or(&self.checked.state_dir);
        let sentinel = Sentinel::set(folder, &self.checked.name)
            .map_err(|times| LoadError::CrashedWhileLoading { times })?;
        let calls = Arc::new(Calls::new(self.name()));
        let (path, ours) = (keep_open(&self.checked), calls.clone());
        let (done, loaded) = oneshot::channel();
        std::thread::spawn(move || done.send(Inline::load(&path, &ours, &hello)));
        let link = match tokio::time::timeout(LOAD_LIMIT, loaded).await {
            Ok(Ok(loaded)) => Box::new(loaded.map_err(LoadError::from)?),
            _ => return Err(LoadError::Silent("loading")),
        };
        let session = Arc::new(Session { link, calls });
        let body = self.checked.config.to_string();
        let limit_ms = LOAD_LIMIT.as_millis() as u32;
        let answer = match session.begin(CONFIGURE, limit_ms, body.as_bytes(), false) {
            Ok((call, _)) => {
                // Nobody watches it yet.
                let limit = LOAD_LIMIT + Duration::from_secs(1);
                let done = tokio::time::timeout(limit, call.done()).await;
                done.map_err(|_| LoadError::Silent("configuring"))?
            }
            Err(refused) => Err(refused),
        };
        accepted(answer.as_deref().map_err(Clone::clone))?;
        if let Some(sentinel) = sentinel {
            sentinel.loaded();
        }
        self.state.send_replace(State::Loaded(session));
        Ok(())
    }

    async fn load_child(self: &Arc<Self>, hello: Vec<u8>) -> Result<(), LoadError> {
        let (first, ready) = oneshot::channel();
        let (stop, stopped) = channel();
        *lock(&self.stop) = Some(stop);
        let plugin = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name(format!("gx-{}", self.name()));
        thread.spawn(move || live(&plugin, &hello, first, &stopped)).map_err(LoadError::Spawn)?;
        ready.await.unwrap_or_else(|_| Err(LoadError::Crashed("its thread is gone".to_owned())))
    }

    /// Starts a child and brings it to where it can be called.
    fn start_child(&self, hello: &[u8]) -> Result<(Arc<Session>, Reader), LoadError> {
        let calls = Arc::new(Calls::new(self.name()));
        let checked = &self.checked;
        let start = Start {
            plugin: checked.name.as_str(),
            program: &checked.child_program,
            env: &checked.child_env,
            library: &checked.file,
        };
        let (link, mut reader) = child::start(&start, &calls).map_err(LoadError::Spawn)?;
        link.hello(hello);
        reader.wait_ready(LOAD_LIMIT).map_err(|why| not_ready(why, &reader, "loading"))?;
        let session = Arc::new(Session { link: Box::new(link), calls });
        let limit_ms = LOAD_LIMIT.as_millis() as u32;
        let body = checked.config.to_string();
        let (id, mut done, _) = session.calls.enter(CONFIGURE, None, false);
        session.link.call(id, CONFIGURE, limit_ms, body.as_bytes());
        session.calls.taken(id);
        let mut answer = None;
        let wait = reader.wait_for(LOAD_LIMIT + Duration::from_secs(1), || {
            answer = done.try_recv().ok();
            answer.is_some()
        });
        wait.map_err(|why| not_ready(why, &reader, "configuring"))?;
        let answer = answer
            .as_ref()
            .map_or(Ok(&[][..]), |done| session.outcome(CONFIGURE, done).map(|body| &body[..]));
        if let Err(error) = accepted(answer) {
            reader.kill("it is of no use");
            reader.reap();
            return Err(error);
        }
        Ok((session, reader))
    }

    fn restarting(&self, at: Instant) -> RuntimeError {
        let left = at.saturating_duration_since(Instant::now());
        let mut error = self.unusable("is being started again after a crash", "try again in a moment");
        error.retry_after_ms = Some(u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(100));
        error
    }

    fn unusable(&self, what: &str, hint: &str) -> RuntimeError {
        let why = self.told().last_error.clone().map(|why| format!(": {why}")).unwrap_or_default();
        RuntimeError::new(ErrorCode::Unavailable, format!("the plugin {} {what}{why}", self.name()))
            .field("plugin")
            .hint(hint)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        lock(&self.told)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let State::Loaded(session) = self.state.send_replace(State::Stopped) {
            session.link.kill("nobody needs it any more");
        }
    }
}

/// The life of the thread that belongs to a child: start, read until it is gone, start again.
fn live(
    plugin: &Weak<Supervised>,
    hello: &[u8],
    first: oneshot::Sender<Result<(), LoadError>>,
    stopped: &Receiver<()>,
) {
    let mut first = Some(first);
    let mut backoff = Backoff::default();
    loop {
        let Some(owner) = plugin.upgrade() else { return };
        let how = match owner.start_child(hello) {
            Ok((session, reader)) => {
                owner.state.send_replace(State::Loaded(session.clone()));
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                drop(owner);
                serve(plugin, &session, reader)
            }
            Err(error) => match first.take() {
                Some(first) => {
                    owner.state.send_replace(State::Failed);
                    let _ = first.send(Err(error));
                    return;
                }
                None => error.to_string(),
            },
        };
        let Some(owner) = plugin.upgrade() else { return };
        if matches!(*owner.state.borrow(), State::Stopped) {
            return;
        }
        let path = owner.checked.path.display();
        tracing::error!(plugin = owner.name(), %path, "the plugin's process {how}");
        owner.told().last_error = Some(format!("its process {how}"));
        let Some(pause) = backoff.crashed(Instant::now()) else {
            tracing::error!(plugin = owner.name(), "the plugin has crashed too often and is left alone");
            owner.state.send_replace(State::Failed);
            return;
        };
        owner.told().restarts += 1;
        owner.state.send_if_modified(|state| restart_at(state, Instant::now() + pause));
        drop(owner);
        if !pause.is_zero() && stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Reads what a child says until it is gone, and returns how it ended. Who calls after its end waits for the next.
fn serve(plugin: &Weak<Supervised>, session: &Session, mut reader: Reader) -> String {
    reader.run();
    if let Some(owner) = plugin.upgrade() {
        owner.state.send_if_modified(|state| restart_at(state, Instant::now()));
    }
    session.calls.end_all();
    reader.reap()
}

fn restart_at(state: &mut State, at: Instant) -> bool {
    let goes_on = !matches!(state, State::Stopped);
    if goes_on {
        *state = State::Restarting(at);
    }
    goes_on
}

fn not_ready(why: NotReady, reader: &Reader, step: &'static str) -> LoadError {
    let error = match why {
        NotReady::Fault(fault) => Some(fault.into()),
        NotReady::Silent => Some(LoadError::Silent(step)),
        NotReady::Ended => None,
    };
    if error.is_some() {
        reader.kill("it is of no use");
    }
    let how = reader.reap();
    error.unwrap_or(LoadError::Crashed(how))
}

fn accepted(answer: Result<&[u8], RuntimeError>) -> Result<(), LoadError> {
    let answer = answer.map_err(LoadError::Configure)?;
    match serde_json::from_slice::<Configured>(answer) {
        Ok(Configured { issues }) if issues.is_empty() => Ok(()),
        Ok(Configured { issues }) => Err(LoadError::Config(issues.into_iter().map(clean_issue).collect())),
        Err(error) => Err(LoadError::Library(format!("its answer to configure cannot be read: {error}"))),
    }
}

fn clean_issue(issue: ConfigIssue) -> ConfigIssue {
    ConfigIssue { path: crate::text::clean(&issue.path), message: crate::text::clean(&issue.message) }
}

fn hello(checked: &Checked) -> Result<Vec<u8>, LoadError> {
    let api = checked.manifest.common_api().map_err(LoadError::Api)?.to_owned();
    let context = PluginContext {
        name: checked.name.clone(),
        state_dir: checked.state_dir.clone(),
        host_version: checked.host_version.clone(),
    };
    Ok(serde_json::to_vec(&Hello { api, context }).expect("our own types always become JSON"))
}

/// Returns the name under which the loader gets the checked file, whose descriptor then stays open for good: the
/// loader knows libraries by name.
fn keep_open(checked: &Checked) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    let file = std::mem::ManuallyDrop::new(checked.file.clone());
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

impl From<LoadFault> for LoadError {
    fn from(fault: LoadFault) -> Self {
        match fault {
            LoadFault::Abi { major, minor } => Self::Abi(AbiMismatch { major, minor }),
            other => Self::Library(crate::text::clean(&other.to_string())),
        }
    }
}

fn issues(issues: &[ConfigIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
