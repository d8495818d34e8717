//! A runtime in memory, and a template for authors.
