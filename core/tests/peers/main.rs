//! The table of servers and the exchange of tables, from outside: laws, limits, and networks of many servers.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod attack;
mod churn;
mod network;
mod record;
mod sketch;
mod spread;
mod table;
mod text;
mod world;
