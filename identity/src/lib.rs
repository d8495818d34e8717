//! Who a node is: its ed25519 key, and what is proved with it. Client and server share it.
//!
//! A node is known by its [`NodeId`](gx_core::NodeId), the public half of the key; there is no authority above it.

mod key;

pub use key::{KeyError, NodeKey, open, to_hex, verify};
