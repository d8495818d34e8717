//! The HTTP client of a gx host: one method per endpoint.
