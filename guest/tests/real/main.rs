//! The real program as an ordinary process, visited by OpenSSH's own programs.

mod files;
mod init;
mod limits;
mod login;
mod ports;
mod session;
mod support;
