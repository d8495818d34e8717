//! The host: its state and its HTTP server.
