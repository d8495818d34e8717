//! Who a node is: its ed25519 key, what is proved with it, and whom it has met. Client and server share it.
//!
//! A node is known by its [`NodeId`](gx_core::NodeId), the public half of the key; there is no authority above it.

mod certificate;
mod key;
mod known;
mod rotation;
pub mod tls;

pub use key::{KeyError, NodeKey, mac, open, to_hex, verify};
pub use known::{Known, KnownError, KnownHosts, Met};
pub use rotation::{former, is_signed, leads, rotate, rotations, sign};
