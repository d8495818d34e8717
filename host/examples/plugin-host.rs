//! The child of tests and benchmarks: what `gx plugin-host` is in the program.

fn main() {
    // The first argument is `plugin-host`, as for gx.
    std::process::exit(gx_host::child_main(std::env::args_os().skip(2)));
}
