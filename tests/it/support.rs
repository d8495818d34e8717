//! How tests start programs, hosts and engines, and wait for conditions.

use std::path::Path;

/// Returns the project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ is in the project's root")
}
