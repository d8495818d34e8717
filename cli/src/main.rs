//! Lends and borrows machines.

fn main() {}
