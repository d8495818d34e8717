//! The rules of structure, as tests: who may depend on whom, and what every file begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::root;

/// For each crate of ours: the crates of ours it may depend on, in what it ships (tests may use more).
const MAY_USE: &[(&str, &[&str])] = &[
    ("gx-core", &[]),
    ("gx-host", &["gx-core"]),
    ("gx-identity", &["gx-core"]),
    ("gx-client", &["gx-core", "gx-identity"]),
    ("gx-peers", &["gx-client", "gx-core", "gx-identity"]),
    ("gx-chat", &["gx-core"]),
    ("gx-guest", &["gx-core"]),
    ("gx-conformance", &["gx-core", "gx-host"]),
    ("gx-server", &["gx-chat", "gx-client", "gx-core", "gx-host", "gx-identity", "gx-peers"]),
    ("gx-plugin-docker", &["gx-core"]),
    ("gx-plugin-podman", &["gx-core"]),
    // It speaks TLS with nodes itself, as its payload never crosses the plugin boundary.
    ("gx-plugin-speedtest", &["gx-core", "gx-identity"]),
    ("gx-plugin-mock", &["gx-core"]),
    ("gx-plugin-faulty", &["gx-core"]),
    ("gx-plugin-template", &["gx-core"]),
    (
        "gx",
        &[
            "gx-chat",
            "gx-client",
            "gx-conformance",
            "gx-core",
            "gx-host",
            "gx-identity",
            "gx-peers",
            "gx-server",
        ],
    ),
];

/// Crates that only one of ours may know (programs that are not shipped, like xtask, apart).
const ONE_USER: &[(&str, &str)] = &[
    ("warp", "gx-server"),
    ("reqwest", "gx-client"),
    ("clap", "gx"),
    ("libloading", "gx-host"),
    ("mdns-sd", "gx-peers"),
    ("rustls", "gx-identity"),
    ("tokio-rustls", "gx-identity"),
    ("russh", "gx-guest"),
    ("rusqlite", "gx-chat"),
    ("bollard", "gx-plugin-docker"),
    ("podman-api", "gx-plugin-podman"),
];

/// Not shipped: they may use what they like.
const TOOLS: &[&str] = &["xtask", "gx-benches"];

struct Package {
    uses: BTreeSet<String>,
    uses_in_tests: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let listed = metadata["packages"].as_array().expect("cargo metadata lists packages");
    listed
        .iter()
        .map(|package| {
            let of_kind = |dev: bool| {
                let all = package["dependencies"].as_array().into_iter().flatten();
                all.filter(|d| (d["kind"] == "dev") == dev).map(|d| text(&d["name"])).collect()
            };
            (text(&package["name"]), Package { uses: of_kind(false), uses_in_tests: of_kind(true) })
        })
        .collect()
}

#[test]
fn data_flows_one_way() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    for (name, package) in packages.iter().filter(|(name, _)| !TOOLS.contains(&name.as_str())) {
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            panic!("{name} is not in the table: say what it may use");
        };
        for used in package.uses.iter().filter(|used| ours.contains(used.as_str())) {
            assert!(allowed.contains(&used.as_str()), "{name} must not depend on {used}");
        }
    }
    for (name, plugin) in packages.iter().filter(|(name, _)| name.starts_with("gx-plugin-")) {
        let other = plugin.uses_in_tests.iter().find(|used| used.starts_with("gx-plugin-"));
        assert_eq!(other, None, "{name} must not know another plugin, not even in tests");
    }
}

#[test]
fn one_crate_knows_each_foreign_world() {
    for (name, package) in packages().iter().filter(|(name, _)| !TOOLS.contains(&name.as_str())) {
        for (library, user) in ONE_USER {
            let knows = package.uses.contains(*library);
            assert!(!knows || name == user, "{name} uses {library}, which only {user} may");
        }
    }
}

#[test]
fn every_member_takes_versions_and_lints_from_the_workspace() {
    for manifest in files("toml").iter().filter(|path| path.ends_with("Cargo.toml")) {
        let table: toml::Table = read(manifest).parse().expect("a manifest is TOML");
        let Some(package) = table.get("package") else { continue };
        let name = &package["name"];
        assert!(table.contains_key("lints"), "{name} takes no lints from the workspace");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in table.get(kind).and_then(|t| t.as_table()).into_iter().flatten() {
                let shared = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(shared, "{name}: the version of {dependency} belongs in the workspace");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in files("rs") {
        assert!(read(&path).starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn nobody_waits_for_time_in_tests() {
    let pattern = ["sleep", "("].concat();
    for path in files("rs").iter().filter(|path| path.to_string_lossy().contains("/tests/")) {
        // The places that wait for conditions, and runtimes and roads that are slow on purpose.
        let slow = [
            "/support.rs",
            "/tests/mod.rs",
            "/tests/faulty/",
            "/conformance/tests/broken",
            "/chat_faults/cuts.rs",
        ];
        if slow.iter().any(|place| path.to_string_lossy().contains(place)) {
            continue;
        }
        let text = read(path);
        let found = text.lines().find(|line| line.contains(&pattern) && !line.trim_start().starts_with("//"));
        assert_eq!(found, None, "{} sleeps", path.display());
    }
}

#[test]
fn unsafe_lives_in_few_places() {
    let keyword = ["unsafe", " {"].concat();
    for path in files("rs") {
        let shown = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let allowed = ["core/src/plugin/", "host/", "guest/", "tests/faulty/"];
        if !allowed.iter().any(|place| shown.starts_with(place)) {
            assert!(!read(&path).contains(&keyword), "{shown} has unsafe code");
        }
    }
}

#[test]
fn every_fault_that_is_told_of_has_its_tests() {
    let sources: String = files("rs").iter().map(|path| read(path)).collect();
    let page = read(&root().join("docs/faults.md"));
    let rows = page.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let mut told = 0;
    for (row, shown_by) in rows.filter(|(_, shown_by)| shown_by.contains('`')) {
        for name in shown_by.split('`').skip(1).step_by(2) {
            assert!(sources.contains(&format!("fn {name}(")), "no test {name}, which is to show: {row}");
            told += 1;
        }
    }
    assert!(told > 80, "{told} tests are few");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the files with this ending that git tracks.
fn files(ending: &str) -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    let listed = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths: Vec<PathBuf> = listed
        .split('\0')
        .filter(|path| path.rsplit_once('.').is_some_and(|(_, e)| e == ending))
        .map(|path| root().join(path))
        .filter(|path| path.exists())
        .collect();
    assert!(!paths.is_empty(), "git lists no {ending} files");
    paths
}
