//! A library that is loaded into this process: the dynamic loader, the version, and its table as safe functions.
//!
//! Used by the link within the host and by the child; the checks before loading are made elsewhere.

use std::ffi::c_void;
use std::path::Path;

use gx_core::plugin::abi::{
    ABI_MAJOR, ABI_MINOR, AbiMismatch, ENTRY_SYMBOL, Entry, HostApi, PluginApi, RawBytes, common_minor,
    status,
};
use libloading::os::unix::{Library as Loader, RTLD_LOCAL, RTLD_NOW};
use serde::{Deserialize, Serialize};

/// Keeps a library mapped for good (dlopen(3), glibc and musl). Unloading would not help: a library with
/// thread-local destructors stays mapped anyway, and opening it again gives the old code.
const RTLD_NODELETE: i32 = 0x1000;

/// Why a library is not a plugin that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum LoadFault {
    #[error("the system cannot load it: {0}")]
    Open(String),
    #[error("it has no function {ENTRY_SYMBOL}")]
    NoEntry,
    #[error("it was built for plugin ABI {major}.{minor}, and this gx speaks {ABI_MAJOR}.{ABI_MINOR}")]
    Abi { major: u16, minor: u16 },
    #[error("its table of functions is cut short")]
    Table,
    #[error("it could not be made: {}", status_name(*.0))]
    Create(i32),
}

/// Returns what a status means, for messages.
pub(crate) fn status_name(status: i32) -> String {
    match status {
        status::OK => "ok".to_owned(),
        status::ERR => "it reported an error".to_owned(),
        status::CANCELLED => "it was cancelled".to_owned(),
        status::PANICKED => "it panicked".to_owned(),
        status::UNSUPPORTED => "it is not supported".to_owned(),
        status::NO_CREDIT => "there is no room".to_owned(),
        status::GONE => "it is gone".to_owned(),
        status::MISMATCH => "the versions do not fit".to_owned(),
        other => format!("it answered {other}"),
    }
}

/// A plugin's table and what `create` gave. Never freed, as the library is never unloaded.
pub(crate) struct Plugin {
    api: &'static PluginApi,
    instance: *mut c_void,
}

// SAFETY: the functions of the table may be called from any thread (rule of the boundary).
unsafe impl Send for Plugin {}
// SAFETY: as for `Send`.
unsafe impl Sync for Plugin {}

impl Plugin {
    /// Loads a library and makes an instance.
    ///
    /// # Errors
    /// [`LoadFault`].
    pub(crate) fn load(path: &Path, host: &'static HostApi, hello: &[u8]) -> Result<Self, LoadFault> {
        let api = entry(path)?;
        let mut instance = std::ptr::null_mut();
        // SAFETY: `host` lives for good, `hello` for the call, and `instance` can be written.
        let made = unsafe { (api.create)(host, RawBytes::lend(hello), &raw mut instance) };
        match made {
            status::OK if !instance.is_null() => Ok(Self { api, instance }),
            status::OK => Err(LoadFault::Create(status::ERR)),
            refused => Err(LoadFault::Create(refused)),
        }
    }

    pub(crate) fn call(&self, call: u64, method: u32, timeout_ms: u32, body: &[u8]) -> i32 {
        // SAFETY: the instance is what `create` gave; `body` lives for the call.
        unsafe { (self.api.call)(self.instance, call, method, timeout_ms, RawBytes::lend(body)) }
    }

    pub(crate) fn cancel(&self, call: u64) {
        // SAFETY: as in `call`.
        unsafe { (self.api.cancel)(self.instance, call) }
    }

    pub(crate) fn credit(&self, call: u64, bytes: u32) {
        // SAFETY: as in `call`.
        unsafe { (self.api.credit)(self.instance, call, bytes) }
    }

    pub(crate) fn input(&self, call: u64, kind: u32, chunk: &[u8]) -> i32 {
        // SAFETY: as in `call`.
        unsafe { (self.api.input)(self.instance, call, kind, RawBytes::lend(chunk)) }
    }

    /// Ends the instance. The caller sees to it that no other function is called afterwards.
    pub(crate) fn shutdown(&self, grace_ms: u32) -> i32 {
        // SAFETY: as in `call`.
        unsafe { (self.api.shutdown)(self.instance, grace_ms) }
    }
}

fn entry(path: &Path) -> Result<&'static PluginApi, LoadFault> {
    // SAFETY: constructors run here; who may be loaded has been decided before (trust).
    let library = unsafe { Loader::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
        .map_err(|error| LoadFault::Open(said_by_loader(&error)))?;
    // SAFETY: a symbol of this name has this type in every version of the boundary.
    let entry = unsafe { library.get::<Entry>(ENTRY_SYMBOL) }.map_err(|_| LoadFault::NoEntry)?;
    // SAFETY: as above.
    let table = unsafe { entry(ABI_MAJOR, ABI_MINOR) };
    std::mem::forget(library);
    if table.is_null() {
        return Err(LoadFault::NoEntry);
    }
    // SAFETY: the first eight bytes are the same in every version.
    let (size, major, minor) = unsafe { ((*table).size, (*table).abi_major, (*table).abi_minor) };
    common_minor(major, minor).map_err(|AbiMismatch { major, minor }| LoadFault::Abi { major, minor })?;
    if (size as usize) < size_of::<PluginApi>() {
        return Err(LoadFault::Table);
    }
    // SAFETY: `size` says that the whole table is there; it is constant and never unmapped.
    Ok(unsafe { &*table })
}

/// Returns what the loader says, without the name the library was opened under: a descriptor's.
fn said_by_loader(error: &libloading::Error) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match said.strip_prefix("/proc/self/fd/").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.to_owned(),
        None => said,
    }
}
