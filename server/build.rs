//! Builds the guest, the program that goes into containers, for `src/node/guest_program.rs` to embed.
//!
//! It is a build of its own: linked statically, small, optimised whatever this build is. Its files are in a folder
//! inside the target folder, so that neither waits for the other's lock.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // As it is now, not when this was compiled: a checkout may have been moved since, with what was built.
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let root = folder.parent().expect("the server is in the workspace");
    for input in ["guest/src", "guest/Cargo.toml", "core/src/guest.rs", "core/src/secret.rs", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo names the target");
    let program = if target.contains("-linux-") { build(root, &target) } else { nothing() };
    println!("cargo::rustc-env=GX_GUEST_PROGRAM={}", program.display());
    println!("cargo::rustc-env=GX_GUEST_DIGEST={:016x}", digest(&program));
}

/// Returns by what a version of the program is told from others: FNV-1a.
fn digest(program: &Path) -> u64 {
    let bytes = std::fs::read(program).expect("the program was just built");
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Containers of another system have no guest.
fn nothing() -> PathBuf {
    let file = out().join("no-guest");
    std::fs::write(&file, []).expect("the build's folder can be written");
    file
}

fn build(root: &Path, target: &str) -> PathBuf {
    let folder = target_folder().join("guest");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo names itself"));
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "gx-guest", "--bin", "gx-guest"])
        .args(["--profile", "guest", "--target", target, "--target-dir"])
        .arg(&folder);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_build)) {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest does not build: see above, or run `cargo build -p gx-guest`");
    folder.join(target).join("guest/gx-guest")
}

/// Returns whether a variable says how this build is to be done, and not where cargo and its tools are.
fn is_of_this_build(name: &str) -> bool {
    const WHOLE: &[&str] = &[
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_RUSTDOCFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_BUILD_INCREMENTAL",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "OUT_DIR",
    ];
    const BEGIN: &[&str] =
        &["CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_MANIFEST_", "DEP_"];
    WHOLE.contains(&name)
        || BEGIN.iter().any(|begin| name.starts_with(begin))
        || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
}

fn out() -> PathBuf {
    env::var_os("OUT_DIR").expect("cargo names the build's folder").into()
}

/// Returns the folder of the whole build: above `debug/build/gx-server-…/out`.
fn target_folder() -> PathBuf {
    let out = out();
    out.ancestors().nth(4).unwrap_or(&out).to_owned()
}
