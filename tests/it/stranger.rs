//! A stranger's plugin: made by `gx plugin new` in a workspace of its own outside this one, under another name, built
//! there, installed, put to the test and used.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{IMAGE, Removed, Surroundings, engine, eventually, root, run_within, unique};

/// How long a build or the suite may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);

#[test]
fn a_plugin_from_a_workspace_of_its_own_is_as_good_as_ours() {
    let here = Surroundings::new().configured("[plugins.elsewhere.config]\nprogram = \"/usr/bin/docker\"\n");
    let workspace = here.path("somewhere/else");
    let (core, folder) = (root().display().to_string(), workspace.display().to_string());
    here.ok(&["plugin", "new", "elsewhere", "--core", &core, "--folder", &folder]);
    let file = built(&workspace);
    installed(&here, &file);
    tested(&here);
    used(&here);
    upgraded_and_back(&here, &workspace);
}

fn installed(here: &Surroundings, file: &str) {
    let inspected = here.json(&["plugin", "inspect", file]);
    assert_eq!(inspected["manifest"]["name"], "elsewhere");
    let digest = inspected["sha256"].as_str().expect("a digest").to_owned();
    let another = here.gx(&["plugin", "install", "--sha256", &"0".repeat(64), file]);
    assert_eq!(another.code, 4, "{another:?}");
    assert!(another.stderr.contains(&digest), "{another:?}");
    let installed = here.json(&["plugin", "install", "--sha256", &digest, file]);
    assert_eq!(installed["sha256"], digest.as_str());
    let again = here.gx(&["plugin", "install", file]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("gx plugin upgrade FILE"), "{again:?}");
    assert_eq!(listed(here)["isolation"], "process");
    here.ok(&["plugin", "verify", "elsewhere"]);
}

// Without the cases that make hundreds of containers or write a hundred megabytes: the bundled plugins' tests do.
fn tested(here: &Surroundings) {
    let mut suite = here.command(&["plugin", "test", "elsewhere", "--skip", "list/many", "--skip", "flood"]);
    suite.args(["--image", IMAGE]);
    let run = run_within(suite, PATIENCE);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("pass  lifecycle/create"), "{}", run.stdout);
    assert!(run.stdout.contains(" 0 failed"), "{}", run.stdout);
}

fn used(here: &Surroundings) {
    let name = unique("stranger");
    let _removed = Removed("docker", format!("gx-{name}"));
    let script = "echo from elsewhere; sleep 600";
    let create = ["create", "--runtime", "elsewhere", "--name", &name, IMAGE, "--", "sh", "-c", script];
    let made = here.json(&create);
    assert_eq!((made["runtime"].as_str(), made["state"].as_str()), (Some("elsewhere"), Some("running")));
    let seen = engine("docker", &["inspect", "--format", "{{.Id}}", &format!("gx-{name}")]);
    assert_eq!(made["id"].as_str(), Some(seen.trim()));
    eventually("it says something", || (here.ok(&["logs", &name]) == "from elsewhere\n").then_some(()));
    here.ok(&["rm", "--force", &name]);
}

fn upgraded_and_back(here: &Surroundings, workspace: &Path) {
    let manifest = workspace.join("gx-plugin.toml");
    let text = std::fs::read_to_string(&manifest).expect("it was written");
    std::fs::write(&manifest, text.replace("\"0.1.0\"", "\"0.2.0\"")).expect("it can be written");
    here.ok(&["plugin", "upgrade", &built(workspace)]);
    assert_eq!(listed(here)["version"], "0.2.0");
    here.ok(&["plugin", "rollback", "elsewhere"]);
    assert_eq!(listed(here)["version"], "0.1.0");
    here.ok(&["plugin", "remove", "elsewhere"]);
    let gone = here.gx(&["plugin", "verify", "elsewhere"]);
    assert_eq!(gone.code, 4, "{gone:?}");
    assert!(gone.stdout.contains("plugin `elsewhere` has no file"), "{gone:?}");
}

fn listed(here: &Surroundings) -> serde_json::Value {
    let all = here.json(&["plugin", "list"]);
    let plugins = all["plugins"].as_array().expect("a list");
    plugins.iter().find(|plugin| plugin["name"] == "elsewhere").expect("it is listed").clone()
}

/// Runs the workspace's own tests, builds it, and returns its file. What it depends on is built once for all runs.
fn built(workspace: &Path) -> String {
    // The same versions as here, which are on this machine already.
    std::fs::copy(root().join("Cargo.lock"), workspace.join("Cargo.lock")).expect("a file can be copied");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
    for step in ["test", "build"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([step, "--offline", "--quiet"]).current_dir(workspace).stdin(Stdio::null());
        cargo.env("CARGO_TARGET_DIR", &target);
        let run = run_within(cargo, PATIENCE);
        assert_eq!(run.code, 0, "cargo {step}: {}{}", run.stdout, run.stderr);
    }
    let file: PathBuf = target.join("debug/libgx_plugin_elsewhere.so");
    file.display().to_string()
}
