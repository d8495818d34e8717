//! The suite over runtimes that break one promise each: the case for that promise fails.
//!
//! A suite that never fails proves nothing; here each wrapper around the mock has one fault that was seen, or
//! nearly made, in a real plugin.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gx_conformance::{Hooks, Options};
use gx_core::plugin::*;
use gx_core::runtime::list_all;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Items, input, pipe};
use gx_plugin_mock::Mock;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    CreateStarts,
    CreateLosesLabels,
    CreateIgnoresTheKey,
    CreateIgnoresTheSpec,
    CreateIsNotAtomic,
    CreateLeavesHalf,
    StartIsNotRepeatable,
    StopDoesNotKill,
    StopKillsAtOnce,
    StopIgnoresTheSignal,
    RemoveAlwaysForces,
    RemoveOfMissingFails,
    RemoveDoesNothing,
    WaitLosesTheCode,
    WaitLosesTheSignal,
    LogsAreMixed,
    LogsIgnoreTail,
    LogsIgnoreSince,
    LogsLoseThePartialLine,
    LogsNeverEnd,
    LogsFillTheMemory,
    LogsIgnoreTheReader,
    ExecLosesTheCode,
    ExecLosesStdin,
    ExecHasNoTerminal,
    ExecNeverResizes,
    ExecIgnoresTheTimeout,
    CopyNeedsARunningOne,
    CopyNamesNoField,
    CopyWritesFullPaths,
    ListIgnoresLabels,
    ListIgnoresStates,
    ListForgetsSome,
    ImageOfMissingFails,
    EventsForgetTheStart,
    EventsBeginTooEarly,
    StatsEndTooEarly,
    StatsAreHidden,
    InspectPanics,
    InspectCannotTakeACrowd,
    UnknownIsInternal,
}

/// Each fault and the case that must find it.
const TABLE: &[(Fault, &str)] = &[
    (Fault::CreateStarts, "lifecycle/create"),
    (Fault::CreateLosesLabels, "lifecycle/create"),
    (Fault::CreateIgnoresTheKey, "idempotence/same request"),
    (Fault::CreateIgnoresTheSpec, "idempotence/other request"),
    (Fault::CreateIsNotAtomic, "idempotence/race"),
    (Fault::CreateLeavesHalf, "faults/create dropped"),
    (Fault::StartIsNotRepeatable, "lifecycle/start twice"),
    (Fault::StopDoesNotKill, "lifecycle/stop kills"),
    (Fault::StopKillsAtOnce, "lifecycle/stop"),
    (Fault::StopIgnoresTheSignal, "lifecycle/stop by another signal"),
    (Fault::RemoveAlwaysForces, "lifecycle/remove a running one"),
    (Fault::RemoveOfMissingFails, "lifecycle/remove a missing one"),
    (Fault::RemoveDoesNothing, "lifecycle/remove"),
    (Fault::RemoveDoesNothing, "clean/nothing is left"),
    (Fault::WaitLosesTheCode, "exits/43"),
    (Fault::WaitLosesTheSignal, "exits/137"),
    (Fault::LogsAreMixed, "logs/split"),
    (Fault::LogsIgnoreTail, "logs/tail"),
    (Fault::LogsIgnoreSince, "logs/since and until"),
    (Fault::LogsLoseThePartialLine, "logs/bytes"),
    (Fault::LogsNeverEnd, "logs/follow"),
    (Fault::LogsFillTheMemory, "logs/flood"),
    (Fault::LogsIgnoreTheReader, "logs/reader gone"),
    (Fault::ExecLosesTheCode, "exec/codes"),
    (Fault::ExecLosesStdin, "exec/stdin"),
    (Fault::ExecHasNoTerminal, "exec/terminal"),
    (Fault::ExecNeverResizes, "exec/resize"),
    (Fault::ExecIgnoresTheTimeout, "exec/time-out"),
    (Fault::CopyNeedsARunningOne, "copy/into a created one"),
    (Fault::CopyNamesNoField, "copy/missing path"),
    (Fault::CopyWritesFullPaths, "copy/folder"),
    (Fault::ListIgnoresLabels, "list/labels"),
    (Fault::ListIgnoresStates, "list/states"),
    (Fault::ListForgetsSome, "list/many"),
    (Fault::ImageOfMissingFails, "images/none"),
    (Fault::EventsForgetTheStart, "events/order"),
    (Fault::EventsBeginTooEarly, "events/from now on"),
    (Fault::StatsEndTooEarly, "stats/series"),
    (Fault::StatsAreHidden, "handshake/features"),
    (Fault::InspectPanics, "faults/unknown container"),
    (Fault::InspectCannotTakeACrowd, "faults/crowd"),
    (Fault::UnknownIsInternal, "faults/unknown container"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_is_found() {
    let runs =
        TABLE.iter().map(|&(fault, case)| tokio::spawn(async move { (fault, case, run(fault, case).await) }));
    for run in runs.collect::<Vec<_>>() {
        let (fault, case, report) = run.await.unwrap();
        assert!(report.failures().any(|failure| failure.name == case), "{fault:?}: {report:?}");
        report.failures().for_each(|failure| print!("{fault:?}: {failure}"));
    }
}

async fn run(fault: Fault, case: &str) -> gx_conformance::Report {
    let context = PluginContext {
        name: "mock".parse().expect("a name"),
        state_dir: std::env::temp_dir(),
        host_version: "test".into(),
    };
    let inner = Mock::connect(Default::default(), context).await.expect("a good configuration");
    let broken = Broken { inner, fault, creating: AtomicBool::new(false), inspecting: AtomicUsize::new(0) };
    let mut options = Options::new("gx-busybox".parse().expect("an image"));
    options.focus = vec![format!("^{case}$")];
    if case.starts_with("clean/") {
        options.focus.push("^lifecycle/remove$".into()); // somebody must make something first
    }
    options.hooks = Hooks { memory: Some(Arc::new(resident)), ..Hooks::default() };
    gx_conformance::run(Arc::new(broken), options, &mut |_| {}).await
}

/// Returns the resident set of this process (proc_pid_statm(5): the second number, in pages).
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

struct Broken {
    inner: Mock,
    fault: Fault,
    creating: AtomicBool,
    inspecting: AtomicUsize,
}

fn internal() -> RuntimeError {
    RuntimeError::new(ErrorCode::Internal, "broken on purpose")
}

/// Passes items on, changed.
async fn pass_on(mut items: Items, out: &Output, mut change: impl FnMut(Item) -> Option<Item>) {
    while let Some(item) = items.next().await {
        let Some(item) = change(item) else { continue };
        if out.write(item.kind, &item.bytes).await.is_err() {
            return;
        }
    }
}

fn without_resizes(mut whole: Input) -> Input {
    let (sender, rest) = input();
    tokio::spawn(async move {
        while let Some(bytes) = whole.next_data().await {
            let _ = sender.send(InputChunk::Data(bytes)).await;
        }
    });
    rest
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Runtime for Broken {
    async fn capabilities(&self) -> Result<Capabilities> {
        let mut capabilities = self.inner.capabilities().await?;
        if self.has(Fault::StatsAreHidden) {
            capabilities.features.remove(&Feature::Stats);
        }
        Ok(capabilities)
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        self.inner.info().await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        let found = self.inner.image(image).await?;
        let failing = found.is_none() && self.has(Fault::ImageOfMissingFails);
        if failing { Err(RuntimeError::new(ErrorCode::NotFound, "no image")) } else { Ok(found) }
    }

    async fn create(&self, mut spec: ContainerSpec) -> Result<ContainerId> {
        match self.fault {
            Fault::CreateLosesLabels => drop(spec.labels.remove("gx.conformance.odd")),
            Fault::CreateIgnoresTheKey => drop(spec.labels.remove(label::KEY)),
            Fault::CreateIgnoresTheSpec => {
                let labels = [(label::KEY.to_owned(), spec.key().map(str::to_owned))].into();
                let earlier = list_all(&self.inner, ListFilter { labels, states: BTreeSet::new() }).await?;
                if let (Some(earlier), true) = (earlier.first(), spec.key().is_some()) {
                    return Ok(earlier.id.clone());
                }
            }
            Fault::CreateIsNotAtomic => {
                if self.creating.swap(true, Ordering::SeqCst) {
                    return Err(internal());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.creating.store(false, Ordering::SeqCst);
            }
            Fault::CreateLeavesHalf => {
                let half = ContainerSpec { labels: Default::default(), ..spec.clone() };
                let half = self.inner.create(half).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.inner.remove(half, RemoveOptions::default()).await?;
            }
            _ => {}
        }
        let id = self.inner.create(spec).await?;
        if self.has(Fault::CreateStarts) {
            self.inner.start(id.clone()).await?;
        }
        Ok(id)
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        let running = self.inner.inspect(id.clone()).await?.state == ContainerState::Running;
        if running && self.has(Fault::StartIsNotRepeatable) {
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, "it is running"));
        }
        self.inner.start(id).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        let exit = self.inner.wait(id).await?;
        Ok(match self.fault {
            Fault::WaitLosesTheCode => Exit { code: exit.code.min(1), ..exit },
            Fault::WaitLosesTheSignal => Exit { signal: None, ..exit },
            _ => exit,
        })
    }

    async fn stop(&self, id: ContainerId, mut options: StopOptions) -> Result<()> {
        match self.fault {
            Fault::StopDoesNotKill if options.grace_ms.is_some_and(|grace| grace > 0) => return Ok(()),
            Fault::StopKillsAtOnce => options.signal = Some("SIGKILL".into()),
            Fault::StopIgnoresTheSignal => {
                options =
                    StopOptions { signal: None, grace_ms: options.grace_ms.map(|grace| grace.min(500)) };
            }
            _ => {}
        }
        self.inner.stop(id, options).await
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        self.inner.signal(id, signal).await
    }

    async fn remove(&self, id: ContainerId, mut options: RemoveOptions) -> Result<()> {
        match self.fault {
            Fault::RemoveAlwaysForces => options.force = true,
            Fault::RemoveOfMissingFails => drop(self.inner.inspect(id.clone()).await?),
            Fault::RemoveDoesNothing => return Ok(()),
            _ => {}
        }
        self.inner.remove(id, options).await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        let together = self.inspecting.fetch_add(1, Ordering::SeqCst);
        if self.has(Fault::InspectCannotTakeACrowd) {
            tokio::task::yield_now().await;
        }
        let found = self.inner.inspect(id).await;
        self.inspecting.fetch_sub(1, Ordering::SeqCst);
        match self.fault {
            Fault::InspectPanics if found.is_err() => panic!("broken on purpose"),
            Fault::UnknownIsInternal if found.is_err() => Err(internal()),
            Fault::InspectCannotTakeACrowd if together > 100 => Err(internal()),
            _ => found,
        }
    }

    async fn list(&self, mut filter: ListFilter, out: Output) -> Result<()> {
        match self.fault {
            Fault::ListIgnoresLabels => filter.labels.clear(),
            Fault::ListIgnoresStates => filter.states.clear(),
            _ => {}
        }
        let most = if self.has(Fault::ListForgetsSome) { 100 } else { usize::MAX };
        for container in list_all(&self.inner, filter).await?.into_iter().take(most) {
            if out.event(&container).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, id: ContainerId, mut options: LogOptions, out: Output) -> Result<()> {
        match self.fault {
            Fault::LogsIgnoreTail => options.tail = None,
            Fault::LogsIgnoreSince => options.since = None,
            _ => {}
        }
        let follow = options.follow;
        let (inner_out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
        let call = self.inner.logs(id, options, inner_out);
        let passing = async {
            if self.has(Fault::LogsFillTheMemory) {
                let mut all = Vec::new();
                while let Some(item) = items.next().await {
                    all.extend_from_slice(&item.bytes);
                }
                let _ = out.stdout(&all).await;
                return;
            }
            pass_on(items, &out, |item| match self.fault {
                Fault::LogsAreMixed => Some(Item { kind: Kind::Stdout, ..item }),
                Fault::LogsLoseThePartialLine => item.bytes.ends_with(b"\n").then_some(item),
                _ => Some(item),
            })
            .await;
            if follow && [Fault::LogsNeverEnd, Fault::LogsIgnoreTheReader].contains(&self.fault) {
                std::future::pending::<()>().await;
            }
        };
        let (ended, ()) = tokio::join!(call, passing);
        ended
    }

    async fn exec(&self, id: ContainerId, mut spec: ExecSpec, mut input: Input, out: Output) -> Result<Exit> {
        match self.fault {
            Fault::ExecLosesStdin => input = Input::empty(),
            Fault::ExecHasNoTerminal => spec.tty = false,
            Fault::ExecNeverResizes => input = without_resizes(input),
            Fault::ExecIgnoresTheTimeout => spec.timeout_ms = spec.timeout_ms.map(|_| 1),
            _ => {}
        }
        let exit = self.inner.exec(id, spec, input, out).await?;
        if self.has(Fault::ExecLosesTheCode) { Ok(Exit { code: 0, ..exit }) } else { Ok(exit) }
    }

    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        let state = self.inner.inspect(id.clone()).await?.state;
        if self.has(Fault::CopyNeedsARunningOne) && state != ContainerState::Running {
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, "it does not run"));
        }
        let copied = self.inner.copy_in(id, path, archive).await;
        let nameless = |error| RuntimeError { field: None, ..error };
        if self.has(Fault::CopyNamesNoField) { copied.map_err(nameless) } else { copied }
    }

    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        let path = if self.has(Fault::CopyWritesFullPaths) { "/".into() } else { path };
        self.inner.copy_out(id, path, out).await
    }

    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        let every_ms = if self.has(Fault::StatsEndTooEarly) { 0 } else { every_ms };
        self.inner.stats(id, every_ms, out).await
    }

    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let early = self.has(Fault::EventsBeginTooEarly) && since.is_none();
        let since = if early { Some(Timestamp::from_unix(0)) } else { since };
        let (inner_out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let forgotten = |item: &Item| {
            self.has(Fault::EventsForgetTheStart)
                && serde_json::from_slice::<Event>(&item.bytes)
                    .is_ok_and(|event| event.action == EventAction::Start)
        };
        tokio::select! {
            ended = self.inner.events(since, inner_out) => ended,
            () = pass_on(items, &out, |item| (!forgotten(&item)).then_some(item)) => Ok(()),
            () = out.gone() => Ok(()),
        }
    }
}
