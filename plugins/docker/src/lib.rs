//! Runs containers with Docker.
