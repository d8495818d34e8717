//! Finds, checks, loads and supervises plugins.
//!
//! | what | file |
//! |---|---|
//! | the plugins by name, loaded on first use | [`registry`] |
//! | which there are, and the checks of one | [`catalog`] |
//! | whose a file is and what is in it | [`trust`], [`manifest`] |
//! | a plugin's own configuration | [`settings`] |
//! | what is installed | [`store`], [`lock`], [`replace`], [`changes`] |
//! | the source of a new plugin | [`scaffold`] |
//! | what a loaded plugin is to the registry | [`loaded`], [`checked`] |
//! | keeping a loaded plugin usable | [`supervise`], [`backoff`], [`watch`], [`sentinel`] |
//! | a loaded plugin as a runtime or measurement | [`proxy`], [`streams`] |
//! | the way to an instance, and the calls under way | [`link`], [`calls`] |
//! | an instance in this process | [`inline`], [`library`] |
//! | an instance in a child: the host's side | [`child`], [`process`], [`outgoing`], [`frame`] |
//! | the child's side | [`child_main`](mod@child_main) |
//!
//! Nothing here prints, reads the environment, or knows which plugins are good for what.

mod backoff;
mod calls;
mod catalog;
mod changes;
mod checked;
mod child;
mod child_main;
mod eager;
mod error;
mod frame;
#[expect(unsafe_code, reason = "it is called by plugins in this process")]
mod inline;
#[expect(unsafe_code, reason = "it loads libraries and calls their tables")]
mod library;
mod link;
mod loaded;
mod lock;
mod manifest;
mod options;
mod outgoing;
mod process;
mod proxy;
mod registry;
mod replace;
mod report;
mod scaffold;
mod sentinel;
mod settings;
mod store;
mod streams;
mod supervise;
mod text;
mod trust;
mod watch;

#[cfg(test)]
mod tests;

pub use child_main::child_main;
pub use error::{Distrust, ErrorClass, HostError};
pub use options::HostOptions;
pub use registry::PluginHost;
pub use report::{Inspection, Origin, PluginReport, PluginState, Verified};
pub use scaffold::{CoreSource, Scaffold};
pub use store::InstalledPlugin;
