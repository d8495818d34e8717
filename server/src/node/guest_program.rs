//! The guest's program, as `build.rs` built it.

/// Statically linked, for the platform this is built for; empty where that is not Linux.
pub(crate) static GUEST: &[u8] = include_bytes!(env!("GX_GUEST_PROGRAM"));

#[cfg(test)]
mod tests {
    use super::GUEST;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_guest_is_a_small_static_program() {
        assert_eq!(GUEST.get(..4), Some(&b"\x7fELF"[..]));
        assert!(GUEST.len() <= 4 << 20, "{} bytes", GUEST.len());
        // A dynamic program names its loader right behind the headers.
        assert!(!GUEST[..4096].windows(4).any(|window| window == b"/ld-"));
    }
}
