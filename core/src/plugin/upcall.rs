//! The plugin's way to the host: the callbacks, behind a gate that shutdown closes.

use std::sync::RwLock;

use super::abi::{HostApi, RawBytes, emit, feature, status};
use crate::stream::{Gone, Kind, Sink};

/// The host's callbacks. After [`close`](Host::close) returns none is made any more.
pub(super) struct Host {
    api: HostApi,
    open: RwLock<bool>,
}

// SAFETY: the host's table is constant, and its functions may be called from any thread, with `ctx` (rule of the
// boundary).
unsafe impl Send for Host {}
// SAFETY: as for `Send`.
unsafe impl Sync for Host {}

impl Host {
    /// Wraps the host's table.
    ///
    /// # Safety
    /// The functions in `api` must be callable from any thread until `close` returns.
    pub(super) unsafe fn new(api: HostApi) -> Self {
        Self { api, open: RwLock::new(true) }
    }

    /// Returns whether the thread that calls may be kept waiting.
    pub(super) fn calls_patiently(&self) -> bool {
        self.api.features & feature::PATIENT_CALLER != 0
    }

    /// Waits for callbacks that are under way, and lets no other begin.
    pub(super) fn close(&self) {
        *self.open.write().unwrap_or_else(std::sync::PoisonError::into_inner) = false;
    }

    /// Ends a call.
    pub(super) fn complete(&self, call: u64, status: i32, body: &[u8]) {
        self.while_open(|api| {
            // SAFETY: the gate is open, so the table holds; `body` outlives the call.
            unsafe { (api.complete)(api.ctx, call, status, RawBytes::lend(body)) }
        });
    }

    /// Writes an item of a call.
    pub(super) fn emit(&self, call: u64, kind: u32, item: &[u8]) -> i32 {
        self.while_open(|api| {
            // SAFETY: as in `complete`.
            unsafe { (api.emit)(api.ctx, call, kind, RawBytes::lend(item)) }
        })
        .unwrap_or(status::GONE)
    }

    /// Says that a call has taken input.
    pub(super) fn input_taken(&self, call: u64, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.emit(call, emit::INPUT_TAKEN, &bytes.to_le_bytes());
    }

    /// Writes a line to the host's log.
    pub(super) fn log(&self, level: u32, target: &str, message: &str) {
        self.while_open(|api| {
            let (target, message) = (RawBytes::lend(target.as_bytes()), RawBytes::lend(message.as_bytes()));
            // SAFETY: as in `complete`.
            unsafe { (api.log)(api.ctx, level, target, message) }
        });
    }

    fn while_open<T>(&self, act: impl FnOnce(&HostApi) -> T) -> Option<T> {
        let open = self.open.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.then(|| act(&self.api))
    }
}

/// Where the [`Output`](crate::stream::Output) of a call leads.
pub(super) struct CallSink {
    pub(super) host: std::sync::Arc<Host>,
    pub(super) call: u64,
}

impl Sink for CallSink {
    fn emit(&self, kind: Kind, bytes: &[u8]) -> Result<(), Gone> {
        match self.host.emit(self.call, kind as u32, bytes) {
            status::OK => Ok(()),
            _ => Err(Gone),
        }
    }
}
