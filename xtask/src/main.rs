//! The steps behind the README's commands.

fn main() {}
