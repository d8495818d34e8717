//! The chat along a hierarchy: who may do what in which group, what goes over the wire, and where it is kept. Client and
//! server share it; it has no terminal, no socket and no environment.
//!
//! | what | where |
//! |---|---|
//! | names, numbers and hashes, checked once | [`id`] |
//! | what client and server say to each other | [`frames`] |
//! | who may do what | [`policy`] |
//! | that nothing was changed afterwards | [`chain`] |
//! | where messages are kept | [`store`] |
//! | the server's side, without a socket | [`hub`] |
//! | the client's side, without a socket and a terminal | [`client`] |

pub mod chain;
pub mod client;
pub mod frames;
pub mod hub;
pub mod id;
pub mod policy;
pub mod store;

pub use id::{ChainHash, Cid, DeviceId, GroupId, Seq, UserName};
