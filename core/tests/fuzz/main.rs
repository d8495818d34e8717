//! Fuzz targets: what comes from outside is read without a panic, whatever it is. Each begins with the nasty cases in
//! `corpus/`, as they are, and goes on with changes of them; what fails is kept beside the target and tried first from
//! then on. `PROPTEST_CASES=1000000 cargo test --release -p gx-core --test fuzz` looks for longer.

mod bodies;
mod config;
mod frames;
mod mutate;
mod ticket;
