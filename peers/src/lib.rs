//! The table of servers in its file and over the network. Client and server share it: the client updates its table when its
//! user says so, the server from time to time.
//!
//! | what | where |
//! |---|---|
//! | the file, and programs that change it at the same time | [`Peers`] |
//! | what a server says of itself | [`own`] |
//! | reaching servers, how far they are | [`dial`] |
//! | asking them for what is new | [`ask`] |
//! | servers to begin with | [`seed`] |
//! | servers of the local network | [`lan`] |
//! | all of it in turn | [`update`] |
//!
//! What is decided without a network, as whom to ask for what, is in [`gx_core::peers`].

pub mod ask;
pub mod dial;
pub mod lan;
pub mod own;
mod patience;
pub mod seed;
mod store;
pub mod update;

pub use store::{Opened, Peers, SetAside, StoreError};

/// Returns the present.
fn now() -> gx_core::Timestamp {
    std::time::SystemTime::now().into()
}

/// Returns a random number.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u64::from_ne_bytes(bytes),
        // Which servers are asked is then the clock's choice.
        Err(_) => now().unix_ms() as u64,
    }
}
