//! One case while it runs: the calls it makes often, what it has made, and how it says what is wrong.

use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use gx_core::ContainerId;
use gx_core::container::{Container, ContainerSpec, Exit};
use gx_core::runtime::{
    Capabilities, ErrorCode, ExecSpec, Feature, ListFilter, LogOptions, RemoveOptions, Runtime, RuntimeError,
    list_all,
};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Input, InputChunk, Items, Kind, input, pipe};

use crate::{LABEL, Options};

/// One case.
pub(crate) struct Case {
    /// `group/what is done`.
    pub(crate) name: &'static str,
    /// The promise it checks, as the trait's documentation has it.
    pub(crate) promise: &'static str,
    /// Without these it is skipped.
    pub(crate) needs: &'static [Feature],
    /// Whether nothing else may run meanwhile.
    pub(crate) alone: bool,
    /// What is done.
    pub(crate) run: fn(Arc<Trial>) -> BoxFuture<'static, Verdict>,
}

/// Writes down a case: name, promise, the features it needs, the function, and `alone`.
macro_rules! case {
    ($name:literal, $promise:literal, [$($feature:ident),*], $run:expr) => {
        case!($name, $promise, [$($feature),*], $run, false)
    };
    ($name:literal, $promise:literal, [$($feature:ident),*], $run:expr, alone) => {
        case!($name, $promise, [$($feature),*], $run, true)
    };
    ($name:literal, $promise:literal, [$($feature:ident),*], $run:expr, $alone:literal) => {
        $crate::trial::Case {
            name: $name,
            promise: $promise,
            needs: &[$(gx_core::runtime::Feature::$feature),*],
            alone: $alone,
            run: |trial| Box::pin($run(trial)),
        }
    };
}

/// Fails the case unless something holds.
macro_rules! check {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::trial::Failure::new(format!($($why)+)));
        }
    };
}

pub(crate) use {case, check};

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was seen instead of what is promised.
    Failed(String),
    /// What is missing for trying it.
    Skipped(String),
}

impl Failure {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    pub(crate) fn skip(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

/// How a case ended.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// Says of a result which call gave it.
pub(crate) trait Called<T> {
    /// Turns an error into a failure of this call.
    fn of(self, call: &str) -> Verdict<T>;
}

impl<T> Called<T> for Result<T, RuntimeError> {
    fn of(self, call: &str) -> Verdict<T> {
        self.map_err(|error| Failure::new(format!("{call}: {}", said(&error))))
    }
}

fn said(error: &RuntimeError) -> String {
    let field = error.field.as_ref().map(|field| format!(" (field {field})")).unwrap_or_default();
    let backend = error.backend.as_ref().map(|backend| format!(" [{backend}]")).unwrap_or_default();
    format!("{:?}{field}: {}{backend}", error.code, error.message)
}

/// Fails unless two values are equal.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Verdict {
    if got == want {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        let cut: String = text.chars().take(300).collect();
        if cut.len() < text.len() { cut + "…" } else { cut }
    };
    Err(Failure::new(format!("{what} is {}, not {}", short(&got), short(&want))))
}

/// Fails unless a call is refused with this code and field.
pub(crate) fn refused<T: Debug>(
    call: &str,
    result: Result<T, RuntimeError>,
    code: ErrorCode,
    field: Option<&str>,
) -> Verdict {
    match result {
        Err(error) if error.code == code && (field.is_none() || error.field.as_deref() == field) => {
            check!(!error.message.trim().is_empty(), "{call}: the error has no message");
            Ok(())
        }
        other => {
            let want = field.map(|field| format!(" with field {field}")).unwrap_or_default();
            let got = match other {
                Ok(value) => format!("Ok({value:?})"),
                Err(error) => said(&error),
            };
            Err(Failure::new(format!("{call} gives {got}, not {code:?}{want}")))
        }
    }
}

/// Waits for a call that must end soon.
pub(crate) async fn soon<T>(what: &str, limit: Duration, call: impl Future<Output = T>) -> Verdict<T> {
    let late = |_| Failure::new(format!("{what} does not end within {} s", limit.as_secs_f32()));
    tokio::time::timeout(limit, call).await.map_err(late)
}

/// The time that "soon" is: long for a busy machine, short for a person.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// What a command has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn new(stdout: &str, stderr: &str) -> Self {
        Self { stdout: stdout.into(), stderr: stderr.into() }
    }
}

/// Reads a stream to its end.
pub(crate) async fn read(mut items: Items) -> Said {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.kind {
            Kind::Stdout => stdout.extend_from_slice(&item.bytes),
            Kind::Stderr => stderr.extend_from_slice(&item.bytes),
            Kind::Event | Kind::Progress => {}
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { stdout: text(stdout), stderr: text(stderr) }
}

/// One case while it runs.
pub(crate) struct Trial {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) options: Arc<Options>,
    pub(crate) capabilities: Capabilities,
    name: String,
    made: Mutex<Vec<ContainerId>>,
    count: AtomicU32,
}

impl Trial {
    pub(crate) fn new(
        case: &Case,
        runtime: Arc<dyn Runtime>,
        options: Arc<Options>,
        capabilities: Capabilities,
    ) -> Self {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name = case.name.chars().map(word).take(32).collect();
        Self { runtime, options, capabilities, name, made: Mutex::default(), count: AtomicU32::new(0) }
    }

    /// Returns a text that no other case or run has, 50 characters at most.
    pub(crate) fn unique(&self) -> String {
        let run = &self.options.run_id[..self.options.run_id.len().min(14)];
        format!("{run}-{}-{}", self.name, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns a spec that runs this, with a name and labels of its own.
    pub(crate) fn spec(&self, command: Vec<String>) -> ContainerSpec {
        let name =
            format!("gx-cf-{}", self.unique()).parse().expect("letters, digits and '-', under 63 of them");
        let mut spec = ContainerSpec::new(name, self.options.image.clone());
        spec.command = command;
        spec.labels.insert(LABEL.into(), self.options.run_id.clone());
        spec
    }

    /// Makes a container, which goes away with the case.
    pub(crate) async fn create(&self, spec: ContainerSpec) -> Verdict<ContainerId> {
        let id = soon("create", SOON, self.runtime.create(spec)).await?.of("create")?;
        self.made(&id);
        Ok(id)
    }

    /// Remembers a container to remove it with the case.
    pub(crate) fn made(&self, id: &ContainerId) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
    }

    /// Makes and starts a container.
    pub(crate) async fn running(&self, command: Vec<String>) -> Verdict<ContainerId> {
        self.running_spec(self.spec(command)).await
    }

    /// Makes and starts a container.
    pub(crate) async fn running_spec(&self, spec: ContainerSpec) -> Verdict<ContainerId> {
        let id = self.create(spec).await?;
        self.start(&id).await?;
        Ok(id)
    }

    pub(crate) async fn start(&self, id: &ContainerId) -> Verdict {
        soon("start", SOON, self.runtime.start(id.clone())).await?.of("start")
    }

    /// Makes a container, runs it to its end, and returns how it ended.
    pub(crate) async fn ended(&self, spec: ContainerSpec) -> Verdict<(ContainerId, Exit)> {
        let id = self.running_spec(spec).await?;
        let exit = self.wait(&id).await?;
        Ok((id, exit))
    }

    pub(crate) async fn wait(&self, id: &ContainerId) -> Verdict<Exit> {
        soon("wait", 2 * SOON, self.runtime.wait(id.clone())).await?.of("wait")
    }

    pub(crate) async fn inspect(&self, id: &ContainerId) -> Verdict<Container> {
        soon("inspect", SOON, self.runtime.inspect(id.clone())).await?.of("inspect")
    }

    /// Stops a [`graceful`](crate::workload::graceful) container, however long it takes to do what it does then.
    pub(crate) async fn ask_to_end(&self, id: &ContainerId) -> Verdict {
        let options = gx_core::runtime::StopOptions { signal: Some("TERM".into()), grace_ms: Some(60_000) };
        soon("stop", 2 * SOON, self.runtime.stop(id.clone(), options)).await?.of("stop")
    }

    pub(crate) async fn kill(&self, id: &ContainerId) -> Verdict {
        let options = gx_core::runtime::StopOptions { signal: None, grace_ms: Some(0) };
        soon("stop without grace", SOON, self.runtime.stop(id.clone(), options)).await?.of("stop")
    }

    pub(crate) async fn remove(&self, id: &ContainerId) -> Verdict {
        let removed = self.runtime.remove(id.clone(), RemoveOptions { force: true });
        soon("remove", SOON, removed).await?.of("remove")
    }

    /// Returns what a container has written.
    pub(crate) async fn logs(&self, id: &ContainerId, options: LogOptions) -> Verdict<Said> {
        let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let both = async { tokio::join!(self.runtime.logs(id.clone(), options, out), read(items)) };
        let (ended, said) = soon("logs", 2 * SOON, both).await?;
        ended.of("logs").map(|()| said)
    }

    /// Waits until a container has written this.
    pub(crate) async fn until_said(&self, id: &ContainerId, text: &str) -> Verdict {
        let what = format!("{text:?} in the logs");
        self.until(&what, || async { Ok(self.logs(id, LogOptions::default()).await?.stdout.contains(text)) })
            .await
    }

    /// Runs a command in a container and returns how it ended and what it wrote.
    pub(crate) async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Verdict<(Exit, Said)> {
        self.exec_with(id, spec, Input::empty()).await
    }

    /// Runs a command in a container with this on its standard input.
    pub(crate) async fn exec_input(
        &self,
        id: &ContainerId,
        spec: ExecSpec,
        bytes: impl Into<Bytes>,
    ) -> Verdict<(Exit, Said)> {
        let (sender, input) = input();
        let bytes = bytes.into();
        tokio::spawn(async move { sender.send(InputChunk::Data(bytes)).await });
        self.exec_with(id, ExecSpec { stdin: true, ..spec }, input).await
    }

    async fn exec_with(&self, id: &ContainerId, spec: ExecSpec, input: Input) -> Verdict<(Exit, Said)> {
        let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let what = format!("exec {:?}", spec.argv);
        let both = async { tokio::join!(self.runtime.exec(id.clone(), spec, input, out), read(items)) };
        let (exit, said) = soon(&what, 2 * SOON, both).await?;
        Ok((exit.of(&what)?, said))
    }

    /// Returns the containers with all these labels, whichever state they are in.
    pub(crate) async fn listed(&self, labels: &[(&str, Option<&str>)]) -> Verdict<Vec<Container>> {
        let own = |&(key, value): &(&str, Option<&str>)| (key.to_owned(), value.map(str::to_owned));
        let filter = ListFilter { labels: labels.iter().map(own).collect(), ..ListFilter::default() };
        self.list(filter).await
    }

    pub(crate) async fn list(&self, filter: ListFilter) -> Verdict<Vec<Container>> {
        soon("list", SOON, list_all(&*self.runtime, filter)).await?.of("list")
    }

    /// Tries again until something holds.
    pub(crate) async fn until<F: Future<Output = Verdict<bool>>>(
        &self,
        what: &str,
        mut holds: impl FnMut() -> F,
    ) -> Verdict {
        let began = Instant::now();
        while !holds().await? {
            check!(began.elapsed() < SOON, "there is no {what} after {} s", SOON.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Removes what the case has made.
    pub(crate) async fn clean(&self) -> Verdict {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let removals = made.iter().map(|id| self.runtime.remove(id.clone(), RemoveOptions { force: true }));
        let removed = futures_util::future::join_all(removals).await;
        removed.into_iter().collect::<Result<(), _>>().of("removing what the case has made")
    }
}
