//! Runs containers with Podman.
