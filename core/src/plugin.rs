//! What crosses into a plugin.
