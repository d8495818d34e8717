//! What all parts of gx and all authors of plugins agree on.
//!
//! | noun | file |
//! |---|---|
//! | ids and names, timestamps | [`id`] |
//! | image references | [`image`] |
//! | containers: what is asked for, what there is | [`container`] |
//! | byte streams with flow control | [`stream`] |
//! | the engine that runs containers | [`runtime`] |
//! | what host and guest agree on | [`guest`] |
//! | a text nobody may see by accident | [`secret`] |
//! | public keys of SSH | [`ssh`] |
//! | the measuring of a peer | [`measurement`] |
//! | servers: their records, the table of them, the exchange of tables | [`peers`] |
//! | sizes and spans of time | [`units`] |
//! | the configuration file | [`config`] |
//! | the HTTP contract | [`api`] |
//! | what crosses into a plugin | [`plugin`] |
//!
//! Nothing here touches the network, a terminal, the environment or a clock.

pub mod api;
pub mod config;
pub mod container;
pub mod guest;
pub mod id;
pub mod image;
pub mod measurement;
pub mod member;
pub mod peers;
pub mod plugin;
pub mod runtime;
pub mod secret;
pub mod ssh;
pub mod stream;
pub mod units;

pub use container::{
    Container, ContainerSpec, ContainerState, Exit, Gpus, PortMapping, PortRequest, Protocol, Resources,
    Security,
};
pub use id::{ContainerId, ContainerName, IdempotencyKey, NodeId, PluginName, Timestamp};
pub use image::ImageRef;
pub use runtime::{ErrorCode, Runtime, RuntimeError};
