//! The boundary: the only types that cross it, their versions and the meaning of every number.
//!
//! Two tables of C functions, call ids and borrowed bytes. Bodies are JSON (see [`method`](super::method)); what
//! is streamed is raw bytes. `examples/plugins/c/gx_plugin.h` says the same to a C compiler.
//!
//! 1. `gx_plugin_entry_v1` gives the plugin's table. Majors must be equal; the smaller minor counts; tables only
//!    grow at the end, and `size` says how far they go.
//! 2. `create` is cheap and does no I/O. Then [`method::CONFIGURE`](super::method::CONFIGURE) is called, once.
//! 3. `call` returns at once. Each accepted call (status [`OK`](status::OK)) is completed exactly once, by any
//!    thread. A refused call is not completed.
//! 4. A call may `emit` only as many bytes as it was given credit for; an item costs its length plus
//!    [`ITEM_COST_BYTES`](crate::stream::ITEM_COST_BYTES), at most half the default window. There is none at the
//!    start. Credit of 0 bytes says that nobody reads any more.
//! 5. `input` may carry [`DEFAULT_WINDOW_BYTES`](crate::stream::DEFAULT_WINDOW_BYTES) that the plugin has not yet
//!    taken; it gives room back by emitting [`emit::INPUT_TAKEN`]. Only chunks of [`input::DATA`] count, by length.
//! 6. `cancel` may come at any time, also for a call that is done; a running one completes
//!    [`CANCELLED`](status::CANCELLED).
//! 7. After `shutdown` returns no callback is made and no function of the table is called.
//!
//! Bytes are borrowed for the time of a call, both ways; the receiver copies.

use std::ffi::c_void;

/// The major version of the boundary: another one cannot be spoken with.
pub const ABI_MAJOR: u16 = 1;
/// The minor version of the boundary: additions.
pub const ABI_MINOR: u16 = 0;

/// The first eight bytes of a manifest, as the machine keeps a number.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"GXPLUGIN");
/// The section of the file that holds the manifest.
pub const SECTION: &str = ".gx_plugin";
/// The exported symbol of the manifest.
pub const MANIFEST_SYMBOL: &str = "gx_plugin_manifest_v1";
/// The exported symbol of the entry function.
pub const ENTRY_SYMBOL: &str = "gx_plugin_entry_v1";

/// The largest body of a call, a reply or an item, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How a function or a call ended.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// Failed; the body is a [`RuntimeError`](crate::RuntimeError) as JSON.
    pub const ERR: i32 = 1;
    /// Cancelled as asked.
    pub const CANCELLED: i32 = 2;
    /// The plugin panicked; the body, if any, is as for `ERR`.
    pub const PANICKED: i32 = 3;
    /// The method is not known.
    pub const UNSUPPORTED: i32 = 4;
    /// There is no room now.
    pub const NO_CREDIT: i32 = 5;
    /// The other end or the call is gone.
    pub const GONE: i32 = 6;
    /// The versions do not fit.
    pub const MISMATCH: i32 = 7;
}

/// The kinds of `emit` beside those of [`Kind`](crate::stream::Kind).
pub mod emit {
    /// The plugin has taken input: the item is the number of bytes, a `u32`, little-endian. Costs no credit.
    pub const INPUT_TAKEN: u32 = 5;
}

/// The kinds of `input`.
pub mod input {
    /// Bytes of standard input or an archive.
    pub const DATA: u32 = 1;
    /// The terminal's new size: columns and rows, a `u16` each, little-endian.
    pub const RESIZE: u32 = 2;
    /// The end; nothing follows.
    pub const END: u32 = 3;
}

/// The levels of `log`.
pub mod level {
    /// Something failed.
    pub const ERROR: u32 = 1;
    /// Something looks wrong.
    pub const WARN: u32 = 2;
    /// Worth knowing.
    pub const INFO: u32 = 3;
    /// For those who look for a fault.
    pub const DEBUG: u32 = 4;
}

/// Bytes that are lent for the time of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawBytes {
    /// The first byte; may be anything when `len` is 0.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

impl RawBytes {
    /// Lends a slice. The slice must outlive the call this is handed to.
    pub const fn lend(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// Returns what was lent.
    ///
    /// # Safety
    /// `ptr` must be valid for reads of `len` bytes for as long as `'a`, unless `len` is 0.
    pub const unsafe fn get<'a>(self) -> &'a [u8] {
        if self.len == 0 || self.ptr.is_null() {
            return &[];
        }
        // SAFETY: valid for `len` bytes by this function's contract, and not null.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// Bits of [`HostApi::features`]; a plugin may pass over those it does not know.
pub mod feature {
    /// All functions of the plugin are called by one thread, which has nothing else to do: a call may be worked on, and
    /// completed, before it returns. A child has it; in the host's own process a call returns at once.
    pub const PATIENT_CALLER: u64 = 1;
}

/// What the host offers to a plugin.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct HostApi {
    /// `sizeof` this table in the host.
    pub size: u32,
    /// The host's major version.
    pub abi_major: u16,
    /// The host's minor version.
    pub abi_minor: u16,
    /// See [`feature`].
    pub features: u64,
    /// Handed back in every callback.
    pub ctx: *mut c_void,
    /// Ends a call; exactly once for each.
    pub complete: unsafe extern "C" fn(ctx: *mut c_void, call: u64, status: i32, body: RawBytes),
    /// Writes an item of a call; `OK`, `NO_CREDIT` (the item is not taken) or `GONE`.
    pub emit: unsafe extern "C" fn(ctx: *mut c_void, call: u64, kind: u32, item: RawBytes) -> i32,
    /// Writes a line to the host's log.
    pub log: unsafe extern "C" fn(ctx: *mut c_void, level: u32, target: RawBytes, message: RawBytes),
}

/// What a plugin offers to the host.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginApi {
    /// `sizeof` this table in the plugin.
    pub size: u32,
    /// The plugin's major version.
    pub abi_major: u16,
    /// The plugin's minor version.
    pub abi_minor: u16,
    /// Bits for additions; none yet.
    pub features: u64,
    /// Makes an instance from [`Hello`](super::method::Hello) as JSON. `host` is valid until it is shut down.
    pub create:
        unsafe extern "C" fn(host: *const HostApi, hello: RawBytes, instance: *mut *mut c_void) -> i32,
    /// Begins a call and returns at once; `timeout_ms` 0 is no limit.
    pub call: unsafe extern "C" fn(
        instance: *mut c_void,
        call: u64,
        method: u32,
        timeout_ms: u32,
        body: RawBytes,
    ) -> i32,
    /// Ends a call soon; an unknown id is ignored.
    pub cancel: unsafe extern "C" fn(instance: *mut c_void, call: u64),
    /// Lets a call emit so many bytes more; 0: nobody reads any more.
    pub credit: unsafe extern "C" fn(instance: *mut c_void, call: u64, bytes: u32),
    /// Hands input to a call; `OK`, `NO_CREDIT` or `GONE`.
    pub input: unsafe extern "C" fn(instance: *mut c_void, call: u64, kind: u32, chunk: RawBytes) -> i32,
    /// Ends the instance within `grace_ms`.
    pub shutdown: unsafe extern "C" fn(instance: *mut c_void, grace_ms: u32) -> i32,
}

/// The entry function of a plugin: takes the host's version and returns the plugin's table, or null.
pub type Entry = unsafe extern "C" fn(host_major: u16, host_minor: u16) -> *const PluginApi;

/// The manifest as it lies in the file. `text` is TOML, UTF-8, `len` bytes.
#[repr(C)]
#[derive(Debug)]
pub struct EmbeddedManifest<const N: usize> {
    magic: u64,
    abi_major: u16,
    abi_minor: u16,
    len: u32,
    text: [u8; N],
}

impl<const N: usize> EmbeddedManifest<N> {
    /// Embeds a text of `N` bytes.
    pub const fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        bytes.copy_from_slice(text.as_bytes());
        Self { magic: MAGIC, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR, len: N as u32, text: bytes }
    }

    /// Returns the bytes as they lie in the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_ne_bytes().to_vec();
        bytes.extend(self.abi_major.to_ne_bytes());
        bytes.extend(self.abi_minor.to_ne_bytes());
        bytes.extend(self.len.to_ne_bytes());
        bytes.extend(self.text);
        bytes
    }
}

/// A plugin and this program speak different majors of the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was built for plugin ABI {major}.{minor}, and this gx speaks {ABI_MAJOR}.{ABI_MINOR}")]
pub struct AbiMismatch {
    /// The plugin's major version.
    pub major: u16,
    /// The plugin's minor version.
    pub minor: u16,
}

impl AbiMismatch {
    /// Returns what to do about it.
    pub fn hint(self) -> String {
        if self.major > ABI_MAJOR {
            format!("update gx, or install a version of the plugin that is built for ABI {ABI_MAJOR}")
        } else {
            format!("install a newer version of the plugin, or rebuild it with a gx-core of ABI {ABI_MAJOR}")
        }
    }
}

/// Returns the minor version that both sides speak.
///
/// # Errors
/// [`AbiMismatch`] when the majors differ.
pub fn common_minor(major: u16, minor: u16) -> Result<u16, AbiMismatch> {
    if major == ABI_MAJOR { Ok(std::cmp::min(minor, ABI_MINOR)) } else { Err(AbiMismatch { major, minor }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_laid_out_as_the_header_says() {
        assert_eq!((size_of::<HostApi>(), size_of::<PluginApi>()), (48, 64));
        assert_eq!(std::mem::offset_of!(HostApi, complete), 24);
        assert_eq!(std::mem::offset_of!(PluginApi, create), 16);
        assert_eq!(std::mem::offset_of!(EmbeddedManifest<3>, text), 16);
    }

    #[test]
    fn another_major_is_refused_with_both_numbers_and_the_fix() {
        assert_eq!(common_minor(ABI_MAJOR, 9), Ok(ABI_MINOR));
        let newer = common_minor(2, 3).unwrap_err();
        assert_eq!(newer.to_string(), "it was built for plugin ABI 2.3, and this gx speaks 1.0");
        assert!(newer.hint().starts_with("update gx"), "{}", newer.hint());
        assert!(common_minor(0, 9).unwrap_err().hint().contains("rebuild"));
    }
}
