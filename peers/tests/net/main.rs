//! Updates over real sockets: of a few good servers, and of some that are not as they should be.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fake;
mod hostile;
