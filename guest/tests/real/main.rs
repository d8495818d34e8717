//! The real program as an ordinary process, visited by OpenSSH's own programs.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod files;
mod init;
mod limits;
mod login;
mod ports;
mod services;
mod session;
mod support;
