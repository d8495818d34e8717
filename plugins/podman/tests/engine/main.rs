//! The plugin against a real Podman, line by line of what `Runtime` promises.
//!
//! Without Podman the tests are skipped, unless `CI` or `GX_REQUIRE_ENGINES` is set.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers fail and tell as tests do")]

mod create;
mod events;
mod exec;
mod feed;
mod files;
mod images;
mod lifecycle;
mod logs;
mod registry;
mod service;
mod support;
