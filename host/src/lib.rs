//! Finds, checks, loads and supervises plugins.
//!
//! | what | file |
//! |---|---|
//! | the plugins by name, loaded on first use | [`registry`] |
//! | which there are, and the checks of one | [`catalog`] |
//! | whose a file is and what is in it | [`trust`], [`manifest`] |
//! | a plugin's own configuration | [`settings`] |
//! | what is installed | [`store`], [`lock`], [`replace`], [`changes`] |
//! | what a loaded plugin is to the registry | [`loaded`], [`checked`] |
//!
//! Nothing here prints, reads the environment, or knows which plugins are good for what.

mod catalog;
mod changes;
mod checked;
mod error;
mod loaded;
mod lock;
mod manifest;
mod options;
mod registry;
mod replace;
mod report;
mod settings;
mod store;
mod trust;

pub use error::{Distrust, ErrorClass, HostError};
pub use options::HostOptions;
pub use registry::PluginHost;
pub use report::{Inspection, Origin, PluginReport, PluginState, Verified};
pub use store::InstalledPlugin;
