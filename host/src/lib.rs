//! Finds, checks, loads and supervises plugins.
