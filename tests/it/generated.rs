//! The documents that the program writes of itself are what it would write now.

use std::process::Command;

use crate::support::root;

#[test]
fn the_documents_are_fresh() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut gx = Command::new(env!("CARGO_BIN_EXE_gx"));
    let status = gx.args(["--quiet", "reference"]).arg(folder.path()).status().expect("gx runs");
    assert!(status.success());
    for name in ["cli.md", "config.schema.json"] {
        let now = std::fs::read_to_string(folder.path().join(name)).expect("gx has written it");
        let there = std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_default();
        assert!(now == there, "docs/{name} is stale: `cargo xtask gen` writes it anew");
    }
    let pages = std::fs::read_dir(folder.path().join("man")).expect("gx has written manual pages");
    assert!(pages.count() > 20, "there is a page for each command");
}
