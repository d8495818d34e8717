//! All tests that need more than one crate, in one binary.
//!
//! | file | what it shows |
//! |---|---|
//! | `tidy` | the rules of structure hold |
//! | `example` | `examples/config.toml` names every key, with its default |
//! | `support` | how tests start programs, hosts and engines |

mod example;
mod support;
mod tidy;
