//! The plugin against a real engine, one test for each thing the trait's documentation says.
//!
//! Without an engine the tests say that they are skipped; with `CI` or `GX_REQUIRE_ENGINES` set they fail.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers fail and tell as tests do")]

mod build;
mod container;
mod down;
mod exec;
mod files;
mod logs;
mod registry;
mod support;
mod watch;
