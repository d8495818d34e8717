//! The macros a plugin ends with, and what they rest on: the entry symbol, the embedded manifest, the table.
//!
//! Every function of the table catches panics. Each plugin has its own tokio runtime; no future, waker or handle
//! crosses.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::abi::{ABI_MAJOR, ABI_MINOR, HostApi, PluginApi, RawBytes, common_minor, level, status};
use super::instance::Instance;
use super::service::{MeasurementService, RuntimeService};
use super::upcall::Host;
use super::{ConfigIssue, PluginContext};
use crate::measurement::Measurement;
use crate::runtime::Runtime;

#[doc(hidden)]
pub use super::abi::EmbeddedManifest;
#[doc(hidden)]
pub use super::service::Service;

/// The future of a plugin that is being configured.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn Service>, Vec<ConfigIssue>>> + Send>>;
/// Configures a plugin.
pub type Connect = fn(Value, PluginContext) -> Connecting;

/// Makes a library a runtime plugin.
///
/// `new` is an `async fn(Config, PluginContext) -> Result<MyRuntime, Vec<ConfigIssue>>`; it does no network I/O, and
/// an engine that is down does not make it fail.
///
/// ```ignore
/// gx_core::export_runtime!(MyRuntime, config = Config, new = MyRuntime::connect, manifest = include_str!("../gx-plugin.toml"));
/// ```
#[macro_export]
macro_rules! export_runtime {
    ($type:ty, config = $config:ty, new = $new:expr, manifest = $manifest:expr $(,)?) => {
        $crate::__export_plugin!(runtime_service, $type, $config, $new, $manifest);
    };
}

/// Makes a library a measurement plugin; as [`export_runtime!`](crate::export_runtime).
#[macro_export]
macro_rules! export_measurement {
    ($type:ty, config = $config:ty, new = $new:expr, manifest = $manifest:expr $(,)?) => {
        $crate::__export_plugin!(measurement_service, $type, $config, $new, $manifest);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($service:ident, $type:ty, $config:ty, $new:expr, $manifest:expr) => {
        #[cfg(panic = "abort")]
        compile_error!("a plugin of gx must be built with panic = \"unwind\": a panic would end the host");

        const _: () = {
            const TEXT: &str = $manifest;

            // In a section of its own, to be read without loading; exported, so that strip and LTO keep it.
            #[used]
            #[unsafe(link_section = ".gx_plugin")]
            #[unsafe(no_mangle)]
            pub static gx_plugin_manifest_v1: $crate::plugin::export::EmbeddedManifest<{ TEXT.len() }> =
                $crate::plugin::export::EmbeddedManifest::new(TEXT);

            fn connect(
                config: $crate::plugin::serde_json::Value,
                context: $crate::plugin::PluginContext,
            ) -> $crate::plugin::export::Connecting {
                ::std::boxed::Box::pin(async move {
                    let config: $config = $crate::plugin::export::read_config(config)?;
                    let plugin: $type = ($new)(config, context).await?;
                    ::std::result::Result::Ok($crate::plugin::export::$service(plugin))
                })
            }

            unsafe extern "C" fn create(
                host: *const $crate::plugin::abi::HostApi,
                hello: $crate::plugin::abi::RawBytes,
                instance: *mut *mut ::std::ffi::c_void,
            ) -> i32 {
                // SAFETY: handed on as they came from the host.
                unsafe { $crate::plugin::export::create(connect, host, hello, instance) }
            }

            static API: $crate::plugin::abi::PluginApi = $crate::plugin::export::table(create);

            #[unsafe(no_mangle)]
            pub extern "C" fn gx_plugin_entry_v1(_: u16, _: u16) -> *const $crate::plugin::abi::PluginApi {
                &API
            }
        };
    };
}

#[doc(hidden)]
pub fn runtime_service<T: Runtime>(runtime: T) -> Arc<dyn Service> {
    Arc::new(RuntimeService(runtime))
}

#[doc(hidden)]
pub fn measurement_service<T: Measurement>(measurement: T) -> Arc<dyn Service> {
    Arc::new(MeasurementService(measurement))
}

#[doc(hidden)]
pub fn read_config<T: DeserializeOwned>(config: Value) -> Result<T, Vec<ConfigIssue>> {
    serde_json::from_value(config).map_err(|error| vec![ConfigIssue::new("", error.to_string())])
}

/// Returns the table of a plugin whose `create` is this.
#[doc(hidden)]
pub const fn table(
    create: unsafe extern "C" fn(*const HostApi, RawBytes, *mut *mut c_void) -> i32,
) -> PluginApi {
    PluginApi {
        size: size_of::<PluginApi>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        features: 0,
        create,
        call,
        cancel,
        credit,
        input,
        shutdown,
    }
}

/// Makes an instance.
///
/// # Safety
/// As the boundary says: `host` points to a table that holds until shutdown, `hello` is valid for the call,
/// `instance` can be written.
#[doc(hidden)]
pub unsafe fn create(
    connect: Connect,
    host: *const HostApi,
    hello: RawBytes,
    instance: *mut *mut c_void,
) -> i32 {
    guarded(|| {
        // SAFETY: the first eight bytes of every version of the table are the same.
        let (size, major, minor) = unsafe { ((*host).size, (*host).abi_major, (*host).abi_minor) };
        if common_minor(major, minor).is_err() || (size as usize) < size_of::<HostApi>() {
            return status::MISMATCH;
        }
        // SAFETY: `size` says that the whole table is there, and it holds until shutdown.
        let host = Arc::new(unsafe { Host::new(*host) });
        // SAFETY: valid for this call.
        let Ok(hello) = serde_json::from_slice(unsafe { hello.get() }) else { return status::ERR };
        match Instance::new(host.clone(), hello, connect) {
            Ok(made) => {
                // Never freed: the host may hold the pointer for as long as it runs.
                // SAFETY: the host lends a place to write to.
                unsafe { *instance = Box::into_raw(Box::new(made)).cast() };
                status::OK
            }
            Err(error) => {
                host.log(level::ERROR, "gx_core::plugin", &format!("no runtime: {error}"));
                status::ERR
            }
        }
    })
}

unsafe extern "C" fn call(
    instance: *mut c_void,
    call: u64,
    method: u32,
    timeout_ms: u32,
    body: RawBytes,
) -> i32 {
    // SAFETY: the host lends `body` for this call and hands back what `create` gave.
    guarded(|| unsafe { it(instance).call(call, method, timeout_ms, body.get()) })
}

unsafe extern "C" fn cancel(instance: *mut c_void, call: u64) {
    // SAFETY: as in `call`.
    guarded(|| unsafe {
        it(instance).cancel(call);
        status::OK
    });
}

unsafe extern "C" fn credit(instance: *mut c_void, call: u64, bytes: u32) {
    // SAFETY: as in `call`.
    guarded(|| unsafe {
        it(instance).credit(call, bytes);
        status::OK
    });
}

unsafe extern "C" fn input(instance: *mut c_void, call: u64, kind: u32, chunk: RawBytes) -> i32 {
    // SAFETY: as in `call`.
    guarded(|| unsafe { it(instance).input(call, kind, chunk.get()) })
}

unsafe extern "C" fn shutdown(instance: *mut c_void, grace_ms: u32) -> i32 {
    // SAFETY: as in `call`.
    guarded(|| unsafe { it(instance).shutdown(Duration::from_millis(grace_ms.into())) })
}

/// Returns the instance behind a pointer.
///
/// # Safety
/// The pointer is one that [`create`] gave; those are never freed.
unsafe fn it<'a>(instance: *mut c_void) -> &'a Arc<Instance> {
    // SAFETY: by contract a leaked `Box<Arc<Instance>>`.
    unsafe { &*instance.cast::<Arc<Instance>>() }
}

fn guarded(act: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(status::PANICKED)
}

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Marks a thread as one of a plugin's runtime.
pub(super) fn mark_thread() {
    OURS.set(true);
}

/// Does something as a thread of a plugin's runtime would.
pub(super) fn on_behalf<T>(act: impl FnOnce() -> T) -> T {
    let before = OURS.replace(true);
    let done = act(); // which catches its panics
    OURS.set(before);
    done
}

/// Sends the message of a panic in a plugin's thread to the host's log instead of its terminal.
pub(super) fn report_panics(host: &Arc<Host>) {
    static HOOK: Once = Once::new();
    static HOST: std::sync::Mutex<Weak<Host>> = std::sync::Mutex::new(Weak::new());
    *super::instance::lock(&HOST) = Arc::downgrade(host);
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let host = super::instance::lock(&HOST).upgrade();
            match host.filter(|_| OURS.get()) {
                Some(host) => host.log(level::ERROR, "panic", &info.to_string()),
                None => previous(info),
            }
        }));
    });
}
