//! Plugins as a user meets them: bad ones are refused with a message that says what to do, and misbehaving ones
//! cost nobody anything but themselves.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Run, Surroundings, install, plugin_file};

/// Surroundings with a copy of a plugin's file and the configuration that names it, in a child process.
struct Named {
    here: Surroundings,
    file: PathBuf,
}

fn named(plugin: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Named {
    named_as(plugin, "process", "", edit)
}

fn named_as(plugin: &str, isolation: &str, config: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Named {
    use sha2::Digest;
    let here = Surroundings::new();
    let file = here.path("plugins").join(format!("libgx_plugin_{plugin}.so"));
    install(&plugin_file(plugin), &file);
    std::fs::set_permissions(here.path("plugins"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let bytes = edit(std::fs::read(&file).expect("it was copied"));
    std::fs::write(&file, &bytes).expect("a file can be written");
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "[plugins.{plugin}]\npath = \"{}\"\nsha256 = \"{digest}\"\nisolation = \"{isolation}\"\n\
         [plugins.{plugin}.config]\n{config}\n",
        file.display()
    );
    Named { here: here.configured(&text), file }
}

fn unchanged(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "nothing to replace");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[track_caller]
fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is missing: {run:?}");
    }
    // What to do: a hint, or the place in the file and what it must be.
    assert!(run.stderr.contains("hint") || run.stderr.contains('^'), "neither hint nor place: {run:?}");
}

const USE: &[&str] = &["plugin", "run", "faulty", "capabilities"];

#[test]
fn a_missing_file_is_named() {
    let faulty = named("faulty", unchanged);
    std::fs::remove_file(&faulty.file).expect("it can be removed");
    refused(&faulty.here.gx(USE), 4, &["libgx_plugin_faulty.so"]);
}

#[test]
fn garbage_is_not_a_plugin() {
    let faulty = named("faulty", |_| b"not a library at all".to_vec());
    refused(&faulty.here.gx(USE), 4, &["is not a gx plugin"]);
    let library = named("faulty", |bytes| replaced(bytes, b".gx_plugin\0", b".gy_plugin\0"));
    let symbol_too = std::fs::read(&library.file).expect("it is there");
    std::fs::write(&library.file, replaced(symbol_too, b"gx_plugin_manifest_v1", b"gy_plugin_manifest_v1"))
        .expect("it can be written");
    let run = library.here.gx(&["plugin", "inspect", &library.file.display().to_string()]);
    refused(&run, 4, &["is not a gx plugin"]);
}

#[test]
fn another_abi_is_refused_with_both_numbers() {
    let ours = gx_core::plugin::abi::ABI_MAJOR;
    let faulty = named("faulty", |mut bytes| {
        // The magic, then the major version as 16 bits in the machine's order.
        let magic = bytes.windows(8).rposition(|window| window == b"GXPLUGIN").expect("the magic is there");
        bytes[magic + 8..magic + 10].copy_from_slice(&77_u16.to_ne_bytes());
        bytes
    });
    let run = faulty.here.gx(USE);
    refused(&run, 4, &["77", &ours.to_string()]);
}

#[test]
fn a_file_that_others_may_write_is_not_trusted() {
    let faulty = named("faulty", unchanged);
    std::fs::set_permissions(&faulty.file, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    refused(&faulty.here.gx(USE), 4, &["is not trusted", "0777", "chmod"]);
}

#[test]
fn a_file_that_changed_since_it_was_recorded_is_not_trusted() {
    let faulty = named("faulty", unchanged);
    changed(&faulty.file);
    refused(&faulty.here.gx(USE), 4, &["is not trusted", "SHA-256"]);
}

#[test]
fn an_installed_plugin_whose_file_changed_is_not_used() {
    let here = Surroundings::new();
    let source = here.path("source.so");
    install(&plugin_file("mock"), &source);
    here.ok(&["plugin", "install", &source.display().to_string()]);
    here.ok(&["plugin", "verify"]);
    let listed = here.json(&["plugin", "list"]);
    let rows = listed["plugins"].as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|plugin| plugin["name"] == "mock").expect("mock is listed");
    let path = PathBuf::from(row["path"].as_str().expect("it has a file"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    changed(&path);
    let verified = here.gx(&["plugin", "verify"]);
    assert_eq!(verified.code, 4, "{verified:?}");
    assert!(verified.stdout.contains("is not trusted: its SHA-256 is"), "{verified:?}");
    refused(&here.gx(&["create", "--runtime", "mock", "gx-busybox"]), 4, &["SHA-256"]);
}

fn changed(file: &Path) {
    let mut bytes = std::fs::read(file).expect("it is there");
    bytes.push(0);
    std::fs::write(file, bytes).expect("it can be written");
}

#[test]
fn a_panic_is_an_error_and_no_more() {
    for isolation in ["inline", "process"] {
        let faulty = named_as("faulty", isolation, "", unchanged);
        let run = faulty.here.gx(&["plugin", "run", "faulty", "inspect", r#"{"id":"panic"}"#]);
        assert_eq!(run.code, 4, "{run:?}");
        assert!(run.stderr.contains("asked to panic"), "{run:?}");
    }
}

#[test]
fn a_crash_costs_the_child_and_not_the_host() {
    for fault in ["segfault", "exit", "abort", "stack-overflow"] {
        let faulty = named("faulty", unchanged);
        let body = format!(r#"{{"id":"{fault}"}}"#);
        let run = faulty.here.gx(&["plugin", "run", "faulty", "inspect", &body]);
        assert_eq!(run.code, 4, "{fault}: {run:?}");
        assert!(run.stderr.contains("faulty"), "{fault}: {run:?}");
    }
}

#[test]
fn what_a_plugin_says_cannot_drive_the_terminal() {
    let faulty = named("faulty", unchanged);
    let listed = faulty.here.gx(&["runtimes"]);
    assert!(listed.stdout.contains("faulty"), "{listed:?}");
    assert!(!listed.stdout.contains('\u{1b}') && !listed.stdout.contains('\u{7}'), "{listed:?}");
}

#[test]
fn a_wrong_value_in_a_plugins_own_table_has_its_place() {
    let faulty = named_as("faulty", "process", "levl = 3", unchanged);
    refused(&faulty.here.gx(USE), 2, &["config.toml:6:1", "did you mean `level`?"]);
    let faulty = named_as("faulty", "process", "level = 11", unchanged);
    refused(&faulty.here.gx(USE), 2, &["config.toml:6:", "10"]);
    let faulty = named_as("faulty", "process", "fault = \"refuse\"", unchanged);
    refused(&faulty.here.gx(USE), 2, &["config.toml:6:", "refuse is refused"]);
}

#[test]
fn a_plugin_that_crashes_on_the_way_in_leaves_the_others_alone() {
    let faulty = named_as("faulty", "process", "fault = \"abort-in-configure\"", unchanged);
    let run = faulty.here.gx(USE);
    assert_eq!(run.code, 4, "{run:?}");
    let runtimes = faulty.here.json(&["runtimes"]);
    let rows = runtimes["runtimes"].as_array().expect("a list");
    let healthy = rows.iter().filter(|runtime| runtime["health"]["status"] == "healthy");
    assert!(healthy.count() >= 2, "{runtimes}");
}
