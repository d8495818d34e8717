//! The cases, a file for each group.

use crate::trial::Case;

mod clean;
pub(crate) mod configuration;
mod copy;
mod events;
mod exec;
mod exits;
mod faults;
mod feed;
mod handshake;
mod idempotence;
mod images;
mod lifecycle;
mod lists;
mod logs;
mod networks;
mod ports;
mod process;
mod stats;

/// All groups in the order of the report.
pub(crate) const ALL: &[&[Case]] = &[
    handshake::CASES,
    configuration::CASES,
    lifecycle::CASES,
    process::CASES,
    idempotence::CASES,
    exits::CASES,
    logs::CASES,
    exec::CASES,
    copy::CASES,
    feed::CASES,
    lists::CASES,
    images::CASES,
    ports::CASES,
    networks::CASES,
    events::CASES,
    stats::CASES,
    faults::CASES,
    clean::CASES,
];
