//! The link to a plugin in this process: its table is called directly.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::RwLock;
use std::time::Duration;

use gx_core::plugin::abi::{ABI_MAJOR, ABI_MINOR, HostApi, RawBytes, status};

use crate::calls::{Body, Calls};
use crate::library::{LoadFault, Plugin};
use crate::link::Link;

/// A plugin in this process.
pub(crate) struct Inline {
    plugin: Plugin,
    /// Held for reading in every call, so that none is made during or after shutdown.
    open: RwLock<bool>,
}

impl Inline {
    /// Loads a library, makes an instance and sends what it says to `calls`. Blocks.
    ///
    /// # Errors
    /// [`LoadFault`].
    pub(crate) fn load(path: &Path, calls: &Arc<Calls>, hello: &[u8]) -> Result<Self, LoadFault> {
        // Both live for good: the plugin is never unloaded and may keep the pointers.
        let ctx = Arc::into_raw(calls.clone()).cast_mut().cast();
        let host = Box::leak(Box::new(host_api(ctx)));
        let plugin = Plugin::load(path, host, hello)?;
        Ok(Self { plugin, open: RwLock::new(true) })
    }

    fn while_open<T>(&self, act: impl FnOnce(&Plugin) -> T) -> Option<T> {
        // A shutdown that waits for the lock must not stop a callback that calls in again: try, and take a closing
        // instance for a closed one.
        let open = self.open.try_read().ok()?;
        open.then(|| act(&self.plugin))
    }
}

impl Link for Inline {
    fn call(&self, call: u64, method: u32, timeout_ms: u32, body: &[u8]) -> i32 {
        self.while_open(|plugin| plugin.call(call, method, timeout_ms, body)).unwrap_or(status::GONE)
    }

    fn cancel(&self, call: u64) {
        self.while_open(|plugin| plugin.cancel(call));
    }

    fn credit(&self, call: u64, bytes: u32) {
        self.while_open(|plugin| plugin.credit(call, bytes));
    }

    fn input(&self, call: u64, kind: u32, chunk: &[u8]) -> i32 {
        self.while_open(|plugin| plugin.input(call, kind, chunk)).unwrap_or(status::GONE)
    }

    fn shutdown(&self, grace: Duration) {
        // A call that never returns would hold the lock for good: then the plugin is left as it is.
        let deadline = std::time::Instant::now() + grace;
        while std::time::Instant::now() < deadline {
            if let Ok(mut open) = self.open.try_write() {
                if std::mem::replace(&mut *open, false) {
                    self.plugin.shutdown(u32::try_from(grace.as_millis()).unwrap_or(u32::MAX));
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(&self, _: &str) {
        // Code in this process cannot be ended; that is what isolation = "process" is for.
    }
}

fn host_api(ctx: *mut c_void) -> HostApi {
    HostApi {
        size: size_of::<HostApi>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        features: 0,
        ctx,
        complete,
        emit,
        log,
    }
}

unsafe extern "C" fn complete(ctx: *mut c_void, call: u64, status: i32, body: RawBytes) {
    // SAFETY: `ctx` is the leaked `Calls`; the plugin lends `body` for the call.
    let (calls, body) = unsafe { (calls(ctx), body.get()) };
    guarded(|| {
        calls.complete(call, status, Body::Lent(body));
        status::OK
    });
}

unsafe extern "C" fn emit(ctx: *mut c_void, call: u64, kind: u32, item: RawBytes) -> i32 {
    // SAFETY: as in `complete`.
    let (calls, item) = unsafe { (calls(ctx), item.get()) };
    guarded(|| calls.emit(call, kind, Body::Lent(item)))
}

unsafe extern "C" fn log(ctx: *mut c_void, level: u32, target: RawBytes, message: RawBytes) {
    // SAFETY: as in `complete`.
    let (calls, target, message) = unsafe { (calls(ctx), target.get(), message.get()) };
    guarded(|| {
        calls.log(level, target, message);
        status::OK
    });
}

/// Returns the calls behind a context.
///
/// # Safety
/// The context is the one [`Inline::load`] leaked.
unsafe fn calls<'a>(ctx: *mut c_void) -> &'a Calls {
    // SAFETY: by contract a leaked `Arc<Calls>`.
    unsafe { &*ctx.cast::<Calls>() }
}

fn guarded(act: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(status::PANICKED)
}
