//! The conformance suite every runtime must pass.
