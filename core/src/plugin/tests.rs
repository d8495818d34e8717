//! The exported side of the boundary, driven by hand as a host would.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::abi::{ABI_MAJOR, ABI_MINOR, HostApi, PluginApi, RawBytes, emit, feature, input, status};
use super::export;
use super::method::{self, Hello, RuntimeMethod};
use super::*;

#[derive(Debug, serde::Deserialize)]
struct Config {
    #[serde(default)]
    refuse: bool,
}

struct Odd;

impl Odd {
    async fn connect(config: Config, _: PluginContext) -> Result<Self, Vec<ConfigIssue>> {
        if config.refuse { Err(vec![ConfigIssue::new("refuse", "is set")]) } else { Ok(Self) }
    }
}

#[async_trait]
impl Runtime for Odd {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities::default())
    }
    async fn info(&self) -> Result<RuntimeInfo> {
        panic!("on purpose")
    }
    async fn health(&self) -> Result<Health> {
        std::future::pending().await
    }
    async fn image(&self, _: ImageRef) -> Result<Option<Image>> {
        Ok(None)
    }
    async fn create(&self, _: ContainerSpec) -> Result<ContainerId> {
        Err(RuntimeError::new(ErrorCode::InvalidArgument, "no"))
    }
    async fn start(&self, _: ContainerId) -> Result<()> {
        Ok(())
    }
    async fn wait(&self, _: ContainerId) -> Result<Exit> {
        Ok(Exit::default())
    }
    async fn stop(&self, _: ContainerId, _: StopOptions) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: ContainerId, _: RemoveOptions) -> Result<()> {
        Ok(())
    }
    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        Err(RuntimeError::no_container(&id))
    }
    async fn list(&self, _: ListFilter, _: Output) -> Result<()> {
        Ok(())
    }
    async fn logs(&self, _: ContainerId, _: LogOptions, out: Output) -> Result<()> {
        while out.stdout(&[1; 1000]).await.is_ok() {}
        Ok(())
    }
    async fn copy_in(&self, _: ContainerId, _: String, mut archive: Input) -> Result<()> {
        let mut bytes = 0;
        while let Some(chunk) = archive.next_data().await {
            bytes += chunk.len();
        }
        Err(RuntimeError::new(ErrorCode::Internal, format!("{bytes} bytes")))
    }
}

/// What the host has been told.
#[derive(Default)]
struct Heard {
    done: Mutex<HashMap<u64, Vec<(i32, String)>>>,
    items: Mutex<HashMap<u64, (usize, usize)>>,
    changed: Condvar,
}

unsafe extern "C" fn complete(ctx: *mut c_void, call: u64, status: i32, body: RawBytes) {
    // SAFETY: `ctx` is the leaked `Heard` of the test, `body` is lent for the call.
    let (heard, body) = unsafe { (&*ctx.cast::<Heard>(), body.get()) };
    let body = String::from_utf8(body.to_vec()).unwrap();
    heard.done.lock().unwrap().entry(call).or_default().push((status, body));
    heard.changed.notify_all();
}

unsafe extern "C" fn emit_item(ctx: *mut c_void, call: u64, kind: u32, item: RawBytes) -> i32 {
    // SAFETY: as in `complete`.
    let (heard, item) = unsafe { (&*ctx.cast::<Heard>(), item.get()) };
    let mut items = heard.items.lock().unwrap();
    let (count, taken) = items.entry(call).or_default();
    if kind == emit::INPUT_TAKEN {
        *taken += u32::from_le_bytes(item.try_into().unwrap()) as usize;
    } else {
        *count += 1;
    }
    heard.changed.notify_all();
    status::OK
}

unsafe extern "C" fn log(_: *mut c_void, _: u32, _: RawBytes, _: RawBytes) {}

struct Loaded {
    api: PluginApi,
    instance: *mut c_void,
    heard: &'static Heard,
}

fn connect(config: serde_json::Value, context: PluginContext) -> export::Connecting {
    Box::pin(async move {
        let config = export::read_config::<Config>(config)?;
        Ok(export::runtime_service(Odd::connect(config, context).await?))
    })
}

unsafe extern "C" fn create(host: *const HostApi, hello: RawBytes, instance: *mut *mut c_void) -> i32 {
    // SAFETY: handed on.
    unsafe { export::create(connect, host, hello, instance) }
}

fn hello() -> String {
    let name = "odd".parse().unwrap();
    let context = PluginContext { name, state_dir: "/tmp".into(), host_version: "1".into() };
    serde_json::to_string(&Hello { api: "runtime/1".into(), context }).unwrap()
}

fn host_api(heard: &'static Heard, features: u64) -> HostApi {
    HostApi {
        size: size_of::<HostApi>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        features,
        ctx: std::ptr::from_ref(heard).cast_mut().cast(),
        complete,
        emit: emit_item,
        log,
    }
}

impl Loaded {
    fn new(features: u64) -> Self {
        let heard: &'static Heard = Box::leak(Box::default());
        let host: &'static HostApi = Box::leak(Box::new(host_api(heard, features)));
        let api = export::table(create);
        let (hello, mut instance) = (hello(), std::ptr::null_mut());
        // SAFETY: everything lent outlives the call, and the table is never freed.
        let status = unsafe { (api.create)(host, RawBytes::lend(hello.as_bytes()), &raw mut instance) };
        assert_eq!(status, status::OK);
        Self { api, instance, heard }
    }

    /// Makes one whose host wants calls to return at once, and one whose host waits for what they do.
    fn configured() -> [Self; 2] {
        [0, feature::PATIENT_CALLER].map(|features| {
            let loaded = Self::new(features);
            assert_eq!(loaded.call(1, method::CONFIGURE, 0, "{}"), status::OK);
            assert_eq!(loaded.done(1), (status::OK, r#"{"issues":[]}"#.to_owned()));
            loaded
        })
    }

    fn call(&self, call: u64, method: u32, timeout_ms: u32, body: &str) -> i32 {
        // SAFETY: the instance lives, the body is lent.
        unsafe { (self.api.call)(self.instance, call, method, timeout_ms, RawBytes::lend(body.as_bytes())) }
    }

    fn input(&self, call: u64, kind: u32, chunk: &[u8]) -> i32 {
        // SAFETY: as in `call`.
        unsafe { (self.api.input)(self.instance, call, kind, RawBytes::lend(chunk)) }
    }

    fn credit(&self, call: u64, bytes: u32) {
        // SAFETY: as in `call`.
        unsafe { (self.api.credit)(self.instance, call, bytes) }
    }

    fn shutdown(&self) -> i32 {
        // SAFETY: as in `call`.
        unsafe { (self.api.shutdown)(self.instance, 2_000) }
    }

    fn done(&self, call: u64) -> (i32, String) {
        let done = self.heard.done.lock().unwrap();
        let limit = Duration::from_secs(10);
        let (done, waited) =
            self.heard.changed.wait_timeout_while(done, limit, |done| !done.contains_key(&call)).unwrap();
        assert!(!waited.timed_out(), "call {call} was never completed");
        assert_eq!(done[&call].len(), 1, "completed once");
        done[&call][0].clone()
    }

    fn wait_items(&self, call: u64, ready: impl Fn(usize, usize) -> bool) {
        let items = self.heard.items.lock().unwrap();
        let waited = self.heard.changed.wait_timeout_while(items, Duration::from_secs(10), |items| {
            let (count, taken) = items.get(&call).copied().unwrap_or_default();
            !ready(count, taken)
        });
        assert!(!waited.unwrap().1.timed_out());
    }
}

const ID: &str = r#"{"id":"a"}"#;

#[test]
fn nothing_but_ping_works_before_it_is_configured() {
    let loaded = Loaded::new(0);
    loaded.call(1, method::PING, 0, "");
    assert_eq!(loaded.done(1), (status::OK, String::new()));
    loaded.call(2, RuntimeMethod::Inspect.number(), 0, ID);
    assert!(loaded.done(2).1.contains("FailedPrecondition"));
    loaded.call(3, method::CONFIGURE, 0, r#"{"refuse":true}"#);
    assert_eq!(loaded.done(3).1, r#"{"issues":[{"path":"refuse","message":"is set"}]}"#);
    loaded.call(4, method::CONFIGURE, 0, r#"{"refuse":1}"#);
    assert!(loaded.done(4).1.contains("expected a boolean"), "{:?}", loaded.done(4));
    loaded.call(5, method::CONFIGURE, 0, "{}");
    assert_eq!(loaded.done(5).1, r#"{"issues":[]}"#);
}

#[test]
fn a_panic_is_a_status_and_the_plugin_stays_usable() {
    for loaded in Loaded::configured() {
        loaded.call(2, RuntimeMethod::Info.number(), 0, "");
        let (status, body) = loaded.done(2);
        assert_eq!(status, status::PANICKED);
        assert!(body.contains("panicked: on purpose"), "{body}");
        loaded.call(3, RuntimeMethod::Inspect.number(), 0, ID);
        assert!(loaded.done(3).1.contains(r#""code":"NotFound""#), "{:?}", loaded.done(3));
    }
}

#[test]
fn a_call_is_cancelled_or_runs_out_of_time() {
    for loaded in Loaded::configured() {
        loaded.call(2, RuntimeMethod::Health.number(), 0, "");
        // SAFETY: the instance lives.
        unsafe {
            (loaded.api.cancel)(loaded.instance, 2);
            (loaded.api.cancel)(loaded.instance, 99);
        }
        assert_eq!(loaded.done(2).0, status::CANCELLED);
        loaded.call(3, RuntimeMethod::Health.number(), 20, "");
        let (status, body) = loaded.done(3);
        assert_eq!(status, status::ERR);
        assert!(body.contains("health took longer than 20 ms"), "{body}");
    }
}

#[test]
fn what_is_not_known_or_not_json_is_answered() {
    for loaded in Loaded::configured() {
        loaded.call(2, 4_000, 0, "");
        assert_eq!(loaded.done(2).0, status::UNSUPPORTED);
        loaded.call(3, RuntimeMethod::Inspect.number(), 0, "]");
        assert!(loaded.done(3).1.contains("InvalidArgument"));
        loaded.call(4, RuntimeMethod::Pull.number(), 0, r#"{"request":{"image":"a"}}"#);
        assert!(loaded.done(4).1.contains("Unsupported"));
    }
}

#[test]
fn a_call_that_need_not_wait_is_done_before_it_returns_where_the_caller_is_patient() {
    let [_, loaded] = Loaded::configured();
    loaded.call(2, RuntimeMethod::Start.number(), 0, ID);
    assert!(loaded.heard.done.lock().unwrap().contains_key(&2));
}

#[test]
fn output_waits_for_credit_and_ends_when_nobody_reads() {
    for loaded in Loaded::configured() {
        loaded.call(2, RuntimeMethod::Logs.number(), 0, ID);
        loaded.credit(2, 5 * 1032);
        loaded.wait_items(2, |count, _| count == 5);
        loaded.credit(2, 0);
        assert_eq!(loaded.done(2), (status::OK, String::new()));
        assert_eq!(loaded.heard.items.lock().unwrap()[&2].0, 5);
    }
}

#[test]
fn input_has_a_window_and_an_end() {
    for loaded in Loaded::configured() {
        loaded.call(2, RuntimeMethod::CopyIn.number(), 0, r#"{"id":"a","path":"/"}"#);
        let chunk = vec![0; crate::stream::MAX_ITEM_BYTES];
        for sent in 1..=100 {
            assert_eq!(loaded.input(2, input::DATA, &chunk), status::OK);
            loaded.wait_items(2, |_, taken| taken == sent * chunk.len());
        }
        assert_eq!(loaded.input(2, input::DATA, &vec![0; 10_000_000]), status::NO_CREDIT);
        assert_eq!(loaded.input(2, input::END, &[]), status::OK);
        assert!(loaded.done(2).1.contains("6553600 bytes"));
        assert_eq!(loaded.input(2, input::DATA, &chunk), status::GONE);
    }
}

#[test]
fn after_shutdown_everything_is_completed_and_nothing_is_called() {
    for loaded in Loaded::configured() {
        for call in 10..20 {
            loaded.call(call, RuntimeMethod::Health.number(), 0, "");
        }
        assert_eq!(loaded.shutdown(), status::OK);
        let heard = loaded.heard.done.lock().unwrap().len();
        assert_eq!(heard, 11);
        for call in 10..20 {
            assert_eq!(loaded.done(call).0, status::CANCELLED);
        }
        assert_eq!(loaded.call(30, method::PING, 0, ""), status::GONE);
        assert_eq!(loaded.shutdown(), status::GONE);
    }
}

#[test]
fn a_host_of_another_major_is_refused() {
    let mut api = host_api(Box::leak(Box::default()), 0);
    api.abi_major = 9;
    let mut instance = std::ptr::null_mut();
    // SAFETY: the table is lent for the call, which fails.
    let status = unsafe { create(&raw const api, RawBytes::lend(b"{}"), &raw mut instance) };
    assert_eq!(status, status::MISMATCH);
    assert!(instance.is_null());
}
