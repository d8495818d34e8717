//! One loaded plugin from the inside: its own tokio runtime, the calls under way, and how each of them ends.
//!
//! The rule it keeps: every accepted call is completed exactly once, whether its future ends, panics, is
//! cancelled, runs out of time, or is still there at shutdown.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::abi::{MAX_BODY_BYTES, input, status};
use super::export::Connect;
use super::linger::Linger;
use super::method::{CONFIGURE, Configured, Hello, PING, takes_input};
use super::service::{Call, Request, Service};
use super::upcall::{CallSink, Host};
use crate::runtime::{ErrorCode, RuntimeError};
use crate::stream::{self, Credit, DEFAULT_WINDOW_BYTES, InputChunk, InputSender, Output};

/// How many threads a plugin's runtime has. With a second one every wake-up wakes that one too, to look for work: a
/// call took two to three times as long (on two cores, 7.5 µs against 20 µs). What blocks belongs on a thread of its
/// own (`tokio::task::spawn_blocking`).
const WORKERS: usize = 1;

/// A loaded plugin, from `create` to `shutdown`.
pub(super) struct Instance {
    pub(super) host: Arc<Host>,
    hello: Hello,
    connect: Connect,
    service: OnceLock<Arc<dyn Service>>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
    calls: Mutex<Calls>,
    idle: Condvar,
    linger: Arc<Linger>,
}

/// The calls under way. New ones are let in, and spawned, only under the lock and while it is open.
struct Calls {
    open: bool,
    running: HashMap<u64, Running>,
    /// When the sweep looks for calls whose time is up; `None`: it does not run.
    sweep_at: Option<Instant>,
}

/// What can still be done to a call.
struct Running {
    abort: AbortHandle,
    credit: Arc<Credit>,
    input: Option<mpsc::UnboundedSender<InputChunk>>,
    input_room: usize,
    input_taken: Arc<AtomicUsize>,
    limit: Option<Limit>,
}

/// How long a call may take.
#[derive(Clone, Copy)]
struct Limit {
    method: u32,
    timeout_ms: u32,
    deadline: Instant,
    passed: bool,
}

type Outcome = (i32, Vec<u8>);
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Instance {
    pub(super) fn new(host: Arc<Host>, hello: Hello, connect: Connect) -> std::io::Result<Arc<Self>> {
        super::export::report_panics(&host);
        let linger = Arc::new(Linger::new());
        let before_sleep = linger.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(format!("gx-{}", hello.context.name))
            .on_thread_start(super::export::mark_thread)
            .on_thread_park(move || before_sleep.before_sleep())
            .enable_all()
            .build()?;
        Ok(Arc::new(Self {
            host,
            hello,
            connect,
            service: OnceLock::new(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            calls: Mutex::new(Calls { open: true, running: HashMap::new(), sweep_at: None }),
            idle: Condvar::new(),
            linger,
        }))
    }

    /// Begins a call. The table is locked until the call is in it, so that the call cannot end before.
    pub(super) fn call(self: &Arc<Self>, call: u64, method: u32, timeout_ms: u32, body: &[u8]) -> i32 {
        if body.len() > MAX_BODY_BYTES {
            return status::NO_CREDIT;
        }
        let credit = Arc::new(Credit::new(0));
        let sink = CallSink { host: self.host.clone(), call };
        let out = Output::new(Arc::new(sink), credit.clone());
        let taken = Arc::new(AtomicUsize::new(0));
        let (input, feed) = if takes_input(method) {
            let (input, chunks) = mpsc::unbounded_channel(); // bounded by the input window
            (Some(input), Some(Feed { chunks, taken: taken.clone() }))
        } else {
            (None, None)
        };
        let work = Box::pin(self.clone().work(call, method, body.to_vec(), feed, out));
        let mut task = Task { instance: self.clone(), call, work: Some(work) };
        let limit = Limit::new(method, timeout_ms);
        let mut calls = lock(&self.calls);
        if !calls.open || calls.running.contains_key(&call) {
            task.forget();
            return if calls.open { status::ERR } else { status::GONE };
        }
        if input.is_none() && self.host.calls_patiently() {
            drop(calls); // nobody else can call in meanwhile, and ending a call takes the lock
            if task.poll_here() {
                return status::OK;
            }
            calls = lock(&self.calls);
        }
        let abort = self.handle.spawn(task).abort_handle();
        if let Some(limit) = limit
            && calls.sweep_at.is_none_or(|at| limit.deadline < at)
        {
            calls.sweep_at = Some(limit.deadline);
            self.handle.spawn(self.clone().sweep(limit.deadline));
        }
        let input_room = DEFAULT_WINDOW_BYTES;
        calls.running.insert(call, Running { abort, credit, input, input_room, input_taken: taken, limit });
        drop(calls);
        if !self.host.calls_patiently() {
            self.linger.called();
        }
        status::OK
    }

    /// Ends the calls whose time is up. One timer for all: one for each call costs two system calls each time.
    async fn sweep(self: Arc<Self>, mut at: Instant) {
        loop {
            tokio::time::sleep_until(at.into()).await;
            let mut calls = lock(&self.calls);
            if calls.sweep_at != Some(at) {
                return; // an earlier one has taken over
            }
            let now = Instant::now();
            for running in calls.running.values_mut() {
                running.end_if_late(now);
            }
            calls.sweep_at = calls.running.values().filter_map(Running::deadline).min();
            match calls.sweep_at {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    pub(super) fn cancel(&self, call: u64) {
        let abort = lock(&self.calls).running.get(&call).map(|running| running.abort.clone());
        if let Some(abort) = abort {
            abort.abort();
        }
    }

    pub(super) fn credit(&self, call: u64, bytes: u32) {
        let credit = lock(&self.calls).running.get(&call).map(|running| running.credit.clone());
        match (credit, bytes) {
            (Some(credit), 0) => credit.close(),
            (Some(credit), bytes) => credit.give(bytes),
            (None, _) => {}
        }
    }

    pub(super) fn input(&self, call: u64, kind: u32, bytes: &[u8]) -> i32 {
        let mut calls = lock(&self.calls);
        let Some(running) = calls.running.get_mut(&call) else { return status::GONE };
        let chunk = match (kind, bytes) {
            (input::DATA, bytes) => {
                running.input_room += running.input_taken.swap(0, Ordering::AcqRel);
                let Some(room) = running.input_room.checked_sub(bytes.len()) else {
                    return status::NO_CREDIT;
                };
                running.input_room = room;
                InputChunk::Data(bytes::Bytes::copy_from_slice(bytes))
            }
            (input::RESIZE, &[c0, c1, r0, r1]) => InputChunk::Resize {
                columns: u16::from_le_bytes([c0, c1]),
                rows: u16::from_le_bytes([r0, r1]),
            },
            (input::END, _) => {
                running.input = None;
                return status::OK;
            }
            _ => return status::ERR,
        };
        match &running.input {
            Some(input) if input.send(chunk).is_ok() => status::OK,
            _ => status::GONE,
        }
    }

    /// Lets the plugin go, ends all calls and its threads. At most `grace`, then without their consent.
    pub(super) fn shutdown(&self, grace: Duration) -> i32 {
        let deadline = Instant::now() + grace;
        let Some(runtime) = lock(&self.runtime).take() else { return status::GONE };
        // The calls first: what they undo when they are dropped is what the plugin then waits for.
        self.end_calls(grace / 2);
        if let Some(service) = self.service.get().cloned() {
            let (done, wait) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                service.shutdown().await;
                let _ = done.send(());
            });
            let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        self.host.close();
        runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
        status::OK
    }

    fn end_calls(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut calls = lock(&self.calls);
        calls.open = false;
        calls.running.values().for_each(|running| running.abort.abort());
        while !calls.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(50));
            let (guard, waited) = self.idle.wait_timeout(calls, left).unwrap_or_else(PoisonError::into_inner);
            calls = guard;
            if waited.timed_out() {
                break;
            }
        }
    }

    async fn work(
        self: Arc<Self>,
        call: u64,
        method: u32,
        body: Vec<u8>,
        feed: Option<Feed>,
        out: Output,
    ) -> Outcome {
        match method {
            PING => (status::OK, Vec::new()),
            CONFIGURE => self.configure(&body).await,
            _ => {
                let Some(service) = self.service.get() else {
                    return failed(&RuntimeError::new(ErrorCode::FailedPrecondition, "not configured yet"));
                };
                let done = match feed {
                    None => service.call(Call(Request { method, body, input: None, out })).await,
                    Some(feed) => {
                        let (sender, input) = stream::input();
                        let feeding = feed.run(&self.host, call, sender);
                        let request = Request { method, body, input: Some(input), out };
                        tokio::select! {
                            biased;
                            done = service.call(Call(request)) => done,
                            () = feeding => unreachable!("feeding never ends"),
                        }
                    }
                };
                match done {
                    Some(Ok(body)) => (status::OK, body),
                    Some(Err(error)) => failed(&error),
                    None => (status::UNSUPPORTED, Vec::new()),
                }
            }
        }
    }

    async fn configure(&self, body: &[u8]) -> Outcome {
        let config = match serde_json::from_slice(body) {
            Ok(config) => config,
            Err(error) => return failed(&RuntimeError::new(ErrorCode::InvalidArgument, error.to_string())),
        };
        let issues = match (self.connect)(config, self.hello.context.clone()).await {
            Ok(service) => match self.service.set(service) {
                Ok(()) => Vec::new(),
                Err(_) => {
                    return failed(&RuntimeError::new(ErrorCode::FailedPrecondition, "configured already"));
                }
            },
            Err(issues) => issues,
        };
        (status::OK, serde_json::to_vec(&Configured { issues }).expect("our own types always become JSON"))
    }

    /// Completes a call, and only then takes it off the table: shutdown waits for the table to be empty.
    fn complete(&self, call: u64, (status, body): &Outcome) {
        self.host.complete(call, *status, body);
        lock(&self.calls).running.remove(&call);
        self.idle.notify_all();
    }
}

/// Moves input from the boundary to the method, and tells the host what was taken.
struct Feed {
    chunks: mpsc::UnboundedReceiver<InputChunk>,
    taken: Arc<AtomicUsize>,
}

impl Feed {
    async fn run(mut self, host: &Host, call: u64, sender: InputSender) {
        while let Some(chunk) = self.chunks.recv().await {
            let bytes = if let InputChunk::Data(bytes) = &chunk { bytes.len() } else { 0 };
            let _ = sender.send(chunk).await; // who does not read its input wants the rest to vanish
            if bytes > 0 {
                self.taken.fetch_add(bytes, Ordering::AcqRel);
                host.input_taken(call, bytes);
            }
        }
        drop(sender);
        std::future::pending().await
    }
}

impl Limit {
    fn new(method: u32, timeout_ms: u32) -> Option<Self> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        (timeout_ms > 0).then_some(Self { method, timeout_ms, deadline, passed: false })
    }
}

impl Running {
    fn deadline(&self) -> Option<Instant> {
        self.limit.filter(|limit| !limit.passed).map(|limit| limit.deadline)
    }

    fn end_if_late(&mut self, now: Instant) {
        if let Some(limit) = self.limit.as_mut().filter(|limit| !limit.passed && limit.deadline <= now) {
            limit.passed = true;
            self.abort.abort();
        }
    }

    /// Returns how the call ends when its future is dropped before it was done.
    fn cut_short(&self) -> Outcome {
        match self.limit {
            Some(Limit { passed: true, method, timeout_ms, .. }) => failed(&RuntimeError::new(
                ErrorCode::DeadlineExceeded,
                format!("{} took longer than {timeout_ms} ms", super::method::name(method)),
            )),
            _ => (status::CANCELLED, Vec::new()),
        }
    }
}

fn failed(error: &RuntimeError) -> Outcome {
    (status::ERR, serde_json::to_vec(error).expect("our own types always become JSON"))
}

/// The completion guard: a call's future, and the promise that the call is completed once.
struct Task {
    instance: Arc<Instance>,
    call: u64,
    work: Option<Work>,
}

impl Task {
    /// Lets the call get as far as it can on this thread; returns whether it has ended. What it waits for wakes
    /// nobody: the runtime looks at it again at once.
    fn poll_here(&mut self) -> bool {
        let instance = self.instance.clone();
        let _runtime = instance.handle.enter();
        super::export::on_behalf(|| Pin::new(self).poll(&mut Context::from_waker(Waker::noop())).is_ready())
    }

    fn forget(mut self) {
        self.work = None;
    }

    /// Drops the future, which may panic too, and completes the call.
    fn end(&mut self, outcome: Outcome) {
        let Some(work) = self.work.take() else { return };
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(work)));
        let outcome = dropped.map_or_else(|panic| panicked(&*panic), |()| outcome);
        self.instance.complete(self.call, &outcome);
    }
}

impl Future for Task {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = self.work.as_mut() else { return Poll::Ready(()) };
        let outcome = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => outcome,
            Err(panic) => panicked(&*panic),
        };
        self.end(outcome);
        Poll::Ready(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.work.is_some() {
            let outcome = lock(&self.instance.calls).running.get(&self.call).map(Running::cut_short);
            self.end(outcome.unwrap_or((status::CANCELLED, Vec::new())));
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let (_, body) = failed(&RuntimeError::new(ErrorCode::Internal, format!("panicked: {said}")));
    (status::PANICKED, body)
}

/// Locks, poisoned or not: every section here leaves what it guards whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
