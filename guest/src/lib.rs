//! The program inside a container: its first process, and an SSH server beside the image's own.
//!
//! The host copies it into a container before the start and puts it in front of the image's entry point. What both
//! agree on is in [`gx_core::guest`]; docs/guest.md says what it promises.
//!
//! One thread does everything: an idle guest is to weigh next to nothing.

mod account;
mod backoff;
mod control;
mod init;
mod launch;
mod place;
mod reaper;
mod resolve;
mod say;
mod services;
mod sftp;
mod shell;
mod ssh;
mod status;
mod told;
mod vault;

use std::ffi::OsString;
use std::process::ExitCode;

use gx_core::guest::word;

use crate::place::Place;
use crate::vault::Source;

/// `sftp`: the guest's own word, for the subsystem of a session.
const SFTP: &str = "sftp";

/// Does what the words after the program's name say, and returns what to end with.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let place = Place::here();
    let (first, rest) = match words.split_first() {
        Some((first, rest)) => (first.to_str().unwrap_or_default(), rest),
        None => ("", &[][..]),
    };
    match first {
        word::INIT => init::run(place, Source::File, rest),
        word::INIT_TOLD => {
            let (nonce, rest) = rest
                .split_first()
                .map_or((String::new(), rest), |(nonce, rest)| (nonce.to_string_lossy().into_owned(), rest));
            init::run(place, Source::Input(nonce), rest)
        }
        word::APPLY => control::apply(&place),
        word::STATUS => control::status(&place),
        word::SHELL => shell::run(&place, rest),
        SFTP => sftp::run(),
        _ => {
            say::line(
                "the words are init [ARGV…], init-told NONCE [ARGV…], apply, status and shell [-c COMMAND]",
            );
            ExitCode::from(2)
        }
    }
}
