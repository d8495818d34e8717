//! The host: its state and its HTTP server.
//!
//! [`Node`] is the state, with one method for each use case. [`run`] serves it over HTTP.

mod audit;
mod bridge;
mod counters;
mod error;
mod node;
pub mod page;
mod rates;
mod routes;
mod serve;
#[cfg(test)]
mod tests;

pub use error::{ChatError, Result, ServerError, TrustError};
pub use node::{
    Caller, FirewallTable, Good, Inside, Node, NodeOptions, Origin, RecoverReport, Verb, Whose, authorize,
    firewall_tables, rotate,
};
pub use serve::{Server, Transport, run};
