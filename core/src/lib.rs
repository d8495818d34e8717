//! What all parts of gx and all authors of plugins agree on.
//!
//! | noun | file |
//! |---|---|
//! | ids and names, timestamps | [`id`] |
//! | where a host is | [`address`] |
//! | image references | [`image`] |
//! | containers: what is asked for, what there is | [`container`] |
//! | networks: addresses, and what a container is attached to | [`network`] |
//! | byte streams with flow control | [`stream`] |
//! | the engine that runs containers | [`runtime`] |
//! | what host and guest agree on | [`guest`] |
//! | a text nobody may see by accident | [`secret`] |
//! | public keys of SSH | [`ssh`] |
//! | members of a host | [`member`] |
//! | tickets, by which they become members | [`ticket`] |
//! | the measuring of a peer | [`measurement`] |
//! | servers: their records, the table of them, the exchange of tables | [`peers`] |
//! | sizes and spans of time | [`units`] |
//! | the configuration file | [`config`] |
//! | the HTTP contract | [`api`] |
//! | what crosses into a plugin | [`plugin`] |
//! | the system's words for an error | [`os_error`] |
//!
//! Nothing here touches the network, a terminal, the environment or a clock.

pub mod address;
pub mod api;
pub mod audit;
mod base32;
pub mod config;
pub mod container;
pub mod guest;
pub mod id;
pub mod image;
pub mod measurement;
pub mod member;
pub mod network;
pub mod os_error;
pub mod peers;
pub mod plugin;
pub mod runtime;
pub mod secret;
pub mod ssh;
pub mod stream;
pub mod ticket;
pub mod units;

pub use address::{Address, Endpoint};
pub use container::{
    Container, ContainerSpec, ContainerState, Exit, Gpus, Mount, PortMapping, PortRequest, Protocol,
    Resources, Security,
};
pub use id::{
    ContainerId, ContainerName, IdempotencyKey, InviteId, NodeId, PeerName, PluginName, Timestamp, VolumeName,
};
pub use image::ImageRef;
pub use runtime::{ErrorCode, Runtime, RuntimeError};
