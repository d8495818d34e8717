//! All tests that need more than one crate, in one binary.
//!
//! | file | what it shows |
//! |---|---|
//! | `tidy` | the rules of structure hold |
//! | `support` | how tests start programs, hosts and engines |

mod support;
mod tidy;
