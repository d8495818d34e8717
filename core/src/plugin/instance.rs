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
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::abi::{MAX_BODY_BYTES, input, status};
use super::export::Connect;
use super::method::{CONFIGURE, Configured, Hello, PING};
use super::service::{Call, Request, Service};
use super::upcall::{CallSink, Host};
use crate::runtime::{ErrorCode, RuntimeError};
use crate::stream::{self, Credit, DEFAULT_WINDOW_BYTES, InputChunk, InputSender, Output};

/// How many threads a plugin's runtime has.
const WORKERS: usize = 2;

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
}

/// The calls under way. New ones are let in, and spawned, only under the lock and while it is open.
struct Calls {
    open: bool,
    running: HashMap<u64, Running>,
}

/// What can still be done to a call.
struct Running {
    abort: AbortHandle,
    credit: Arc<Credit>,
    input: Option<mpsc::UnboundedSender<InputChunk>>,
    input_room: usize,
    input_taken: Arc<AtomicUsize>,
}

type Outcome = (i32, Vec<u8>);
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Instance {
    pub(super) fn new(host: Arc<Host>, hello: Hello, connect: Connect) -> std::io::Result<Arc<Self>> {
        super::export::report_panics(&host);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(format!("gx-{}", hello.context.name))
            .on_thread_start(super::export::mark_thread)
            .enable_all()
            .build()?;
        Ok(Arc::new(Self {
            host,
            hello,
            connect,
            service: OnceLock::new(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            calls: Mutex::new(Calls { open: true, running: HashMap::new() }),
            idle: Condvar::new(),
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
        let (input, chunks) = mpsc::unbounded_channel(); // bounded by the input window
        let taken = Arc::new(AtomicUsize::new(0));
        let work = self.clone().work(call, method, body.to_vec(), Feed { chunks, taken: taken.clone() }, out);
        let task =
            Task { instance: self.clone(), call, work: Some(Box::pin(limited(work, method, timeout_ms))) };
        let mut calls = lock(&self.calls);
        if !calls.open || calls.running.contains_key(&call) {
            task.forget();
            return if calls.open { status::ERR } else { status::GONE };
        }
        let abort = self.handle.spawn(task).abort_handle();
        let (input, input_room) = (Some(input), DEFAULT_WINDOW_BYTES);
        calls.running.insert(call, Running { abort, credit, input, input_room, input_taken: taken });
        status::OK
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
        feed: Feed,
        out: Output,
    ) -> Outcome {
        match method {
            PING => (status::OK, Vec::new()),
            CONFIGURE => self.configure(&body).await,
            _ => {
                let Some(service) = self.service.get() else {
                    return failed(&RuntimeError::new(ErrorCode::FailedPrecondition, "not configured yet"));
                };
                let (sender, input) = stream::input();
                let feeding = feed.run(&self.host, call, sender);
                let request = Request { method, body, input, out };
                let done = tokio::select! {
                    biased;
                    done = service.call(Call(request)) => done,
                    () = feeding => unreachable!("feeding never ends"),
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

async fn limited(work: impl Future<Output = Outcome>, method: u32, timeout_ms: u32) -> Outcome {
    if timeout_ms == 0 {
        return work.await;
    }
    match tokio::time::timeout(Duration::from_millis(timeout_ms.into()), work).await {
        Ok(outcome) => outcome,
        Err(_) => failed(&RuntimeError::new(
            ErrorCode::DeadlineExceeded,
            format!("{} took longer than {timeout_ms} ms", super::method::name(method)),
        )),
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
        self.end((status::CANCELLED, Vec::new()));
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
