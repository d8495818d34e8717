//! What Rust does not let one do by accident.

/// Reads from the first page, which is never mapped.
#[expect(unsafe_code, reason = "a segmentation fault is what is asked for")]
pub(super) fn segfault() {
    // SAFETY: none; this is meant to end the process.
    unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() };
}
