//! The store on a real file system: every refusal, a full disk, a kill at any moment.

use std::process::Command;

use super::*;
use crate::error::ErrorClass;
use crate::manifest::tests::library;

struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("plugins"));
    Place { folder, store }
}

fn text(name: &str, version: &str, description: &str) -> String {
    format!(
        "name = \"{name}\"\nversion = \"{version}\"\nkind = \"runtime\"\napi = [\"runtime/1\"]\ndescription = \"{description}\"\n"
    )
}

impl Place {
    fn plugin(&self, name: &str, version: &str) -> PathBuf {
        self.file(&format!("{name}-{version}.so"), &library(&text(name, version, ""), (1, 0)))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn install(&self, file: &Path) -> Result<InstalledPlugin, HostError> {
        self.store.install(file, None, |name| name.as_str() == "docker")
    }

    fn versions(&self) -> Vec<(String, Vec<String>)> {
        self.store.installed().unwrap().into_iter().map(|plugin| (plugin.version, plugin.earlier)).collect()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = entries(&self.store.folder.join("runc"))
            .chain(entries(&self.store.folder))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn name() -> PluginName {
    "runc".parse().unwrap()
}

fn told(error: HostError) -> (String, String) {
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn an_installed_plugin_is_a_read_only_copy_under_its_content() {
    let place = place();
    assert_eq!(place.store.installed().unwrap(), []);
    let file = place.plugin("runc", "0.1.0");
    let installed = place.install(&file).unwrap();
    assert_eq!(place.store.installed().unwrap(), std::slice::from_ref(&installed));
    let expected = format!("plugins/runc/0.1.0-{}.so", installed.sha256);
    assert_eq!(installed.path, place.folder.path().join(expected));
    assert_eq!(std::fs::read(&installed.path).unwrap(), std::fs::read(&file).unwrap());
    assert_eq!(std::fs::metadata(&installed.path).unwrap().permissions().mode() & 0o7777, 0o444);
    assert_eq!(std::fs::metadata(&place.store.folder).unwrap().permissions().mode() & 0o7777, 0o700);
    let pin = trust::Pin::Recorded { sha256: Some(installed.sha256), by: String::new() };
    trust::open(&installed.path, &pin).unwrap();
}

#[test]
fn a_second_install_is_refused_with_a_hint_at_upgrade() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    let (said, hint) = told(place.install(&place.plugin("runc", "0.2.0")).unwrap_err());
    assert_eq!(said, "plugin `runc` 0.1.0 is installed already");
    assert_eq!(hint, "gx plugin upgrade FILE replaces it, gx plugin rollback goes back");
}

#[test]
fn a_name_that_comes_with_gx_is_refused() {
    let place = place();
    let (said, hint) = told(place.install(&place.plugin("docker", "0.1.0")).unwrap_err());
    assert_eq!(said, "plugin `docker` comes with gx");
    assert!(hint.starts_with("give the plugin another name"), "{hint}");
    assert_eq!(place.files(), [CHANGING]);
}

#[test]
fn a_symlink_garbage_and_another_content_than_expected_are_refused_and_leave_nothing() {
    let place = place();
    let file = place.plugin("runc", "0.1.0");
    let link = place.folder.path().join("link.so");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let shown = link.display();
    let refused = |path: &Path, sha256| place.store.install(path, sha256, |_| false).unwrap_err();
    assert_eq!(refused(&link, None).to_string(), format!("{shown} is not trusted: it is a symbolic link"));
    let garbage = place.file("garbage.so", b"hello");
    assert!(
        refused(&garbage, None).to_string().ends_with("garbage.so is not a gx plugin: it is not an ELF file")
    );
    let zeros = "0".repeat(64);
    let error = refused(&file, Some(&zeros));
    assert_eq!(error.class(), ErrorClass::Trust);
    assert!(error.to_string().ends_with(&format!("{} is recorded in --sha256", "0".repeat(64))), "{error}");
    let missing = refused(&place.folder.path().join("missing.so"), None);
    assert!(
        missing.told().ends_with("missing.so: No such file or directory (os error 2)"),
        "{}",
        missing.told()
    );
    let strange = place.file("strange.so", &library(&text("runc", "../1", ""), (1, 0)));
    assert!(refused(&strange, None).to_string().contains("\"../1\" is not a plugin version"));
    assert_eq!(place.files(), [CHANGING]);
}

#[test]
fn a_source_others_may_write_to_needs_a_sha256() {
    let place = place();
    let file = place.plugin("runc", "0.1.0");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        place
            .install(&file)
            .unwrap_err()
            .to_string()
            .contains("its mode 0666 lets group or others write to it")
    );
    let sha256 = trust::sha256_of(&File::open(&file).unwrap(), &file).unwrap();
    place.store.install(&file, Some(&sha256), |_| false).unwrap();
}

#[test]
fn an_upgrade_can_be_rolled_back_as_far_as_builds_are_kept() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    for version in ["0.2.0", "0.3.0", "0.4.0"] {
        place.store.upgrade(&place.plugin("runc", version), None).unwrap();
    }
    let kept = |versions: &[&str]| versions.iter().map(|version| (*version).to_owned()).collect::<Vec<_>>();
    assert_eq!(place.versions(), [("0.4.0".to_owned(), kept(&["0.2.0", "0.3.0"]))]);
    assert_eq!(place.files().len(), 3 + 3); // three builds; the list, the lock file and the plugin's folder
    assert_eq!(place.store.rollback(&name()).unwrap().version, "0.3.0");
    assert_eq!(place.store.rollback(&name()).unwrap().version, "0.2.0");
    let (said, hint) = told(place.store.rollback(&name()).unwrap_err());
    assert_eq!(said, "plugin `runc` has no earlier version");
    assert_eq!(hint, "only gx plugin upgrade leaves an earlier version behind");
    assert_eq!(place.files().len(), 1 + 3);
}

#[test]
fn an_upgrade_to_what_is_there_changes_nothing_and_one_to_an_earlier_build_works() {
    let place = place();
    let (first, second) = (place.plugin("runc", "0.1.0"), place.plugin("runc", "0.2.0"));
    place.install(&first).unwrap();
    place.store.upgrade(&first, None).unwrap();
    assert_eq!(place.versions(), [("0.1.0".to_owned(), vec![])]);
    place.store.upgrade(&second, None).unwrap();
    place.store.upgrade(&first, None).unwrap();
    assert_eq!(place.versions(), [("0.1.0".to_owned(), vec!["0.2.0".to_owned()])]);
}

#[test]
fn a_rollback_to_a_file_that_has_changed_is_refused() {
    let place = place();
    let first = place.install(&place.plugin("runc", "0.1.0")).unwrap();
    place.store.upgrade(&place.plugin("runc", "0.2.0"), None).unwrap();
    std::fs::remove_file(&first.path).unwrap();
    std::fs::write(&first.path, "evil").unwrap();
    assert_eq!(place.store.rollback(&name()).unwrap_err().class(), ErrorClass::Trust);
    assert_eq!(place.versions()[0].0, "0.2.0");
}

#[test]
fn what_is_not_installed_is_told_with_what_is() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    let (said, hint) = told(place.store.remove(&"runk".parse().unwrap()).unwrap_err());
    assert_eq!((said.as_str(), hint.as_str()), ("plugin `runk` is not installed", "did you mean `runc`?"));
    let error = place.store.upgrade(&place.plugin("crun", "0.1.0"), None).unwrap_err();
    assert_eq!(error.to_string(), "plugin `crun` is not installed");
}

#[test]
fn an_upgrade_to_another_kind_is_refused() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    let other = text("runc", "0.2.0", "").replace("runtime", "measurement");
    let error = place.store.upgrade(&place.file("m.so", &library(&other, (1, 0))), None).unwrap_err();
    assert_eq!(error.to_string(), "plugin `runc` is a measurement, not a runtime");
}

#[test]
fn removing_takes_the_files_along_and_forgets_that_it_was_off() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    place.store.disable(&name()).unwrap();
    assert!(!place.store.installed().unwrap()[0].enabled);
    place.store.remove(&name()).unwrap();
    assert_eq!(place.files(), [CHANGING, LOCK_FILE]);
    assert!(place.install(&place.plugin("runc", "0.1.0")).unwrap().enabled);
}

#[test]
fn a_list_others_may_write_to_is_refused() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    let path = place.store.lock_path();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).unwrap();
    let (said, hint) = told(place.store.read().unwrap_err());
    assert_eq!(
        said,
        format!("{} is not trusted: its mode 0646 lets group or others write to it", path.display())
    );
    assert_eq!(hint, format!("chmod go-w {}", path.display()));
}

#[test]
fn a_damaged_list_is_told_with_its_place_and_left_alone() {
    let place = place();
    place.install(&place.plugin("runc", "0.1.0")).unwrap();
    let path = place.store.lock_path();
    std::fs::write(&path, "version = 1\nplugins = 3\n").unwrap();
    let (said, hint) = told(place.install(&place.plugin("crun", "0.1.0")).unwrap_err());
    assert!(said.starts_with(&format!("{}:2:11: ", path.display())), "{said}");
    assert!(hint.starts_with("repair it by hand"), "{hint}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "version = 1\nplugins = 3\n");
}

#[test]
fn installs_at_a_time_do_not_lose_one_another() {
    let place = place();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = place.plugin(&format!("plugin-{number}"), "1.0.0");
            let store = &place.store;
            scope.spawn(move || store.install(&file, None, |_| false).unwrap());
        }
    });
    assert_eq!(place.store.installed().unwrap().len(), 8);
}

/// Not a test of its own: what the tests below run in another process, again and again until it fails or is killed.
#[test]
#[ignore = "run by other tests"]
fn helper() {
    let Some(folder) = std::env::var_os("STORE_HELPER") else { return };
    let folder = PathBuf::from(folder);
    let store = Store::new(folder.join("plugins"));
    for round in 0_u32.. {
        let file = folder.join(["a.so", "b.so"][round as usize % 2]);
        if let Err(error) = store.upgrade(&file, None) {
            std::fs::write(
                folder.join("error"),
                format!("{}\n{}", error.told(), error.hint().unwrap_or_default()),
            )
            .unwrap();
            return;
        }
        if round == 0 {
            std::fs::write(folder.join("started"), "").unwrap();
        }
    }
}

// Two builds of 64 KiB, one of them installed.
fn with_two_builds() -> (Place, [PathBuf; 2]) {
    let place = place();
    let builds = ["a", "b"].map(|build| {
        let text = text("runc", &format!("1.0.0-{build}"), &"x".repeat(64 * 1024));
        place.file(&format!("{build}.so"), &library(&text, (1, 0)))
    });
    place.install(&builds[1]).unwrap();
    (place, builds)
}

fn helper_command(before: &str, place: &Place) -> Command {
    let mut command = Command::new("sh");
    let program = std::env::current_exe().unwrap();
    command.arg("-c").arg(format!("{before} exec \"$0\" --exact store::tests::helper --ignored"));
    command.arg(program).env("STORE_HELPER", place.folder.path());
    command.stdout(std::process::Stdio::null());
    command
}

// The list is read, what it names is there and is what it says, and the next change leaves no rubbish.
fn is_whole(place: &Place, builds: &[PathBuf; 2]) {
    for plugin in place.store.installed().unwrap() {
        let pin = trust::Pin::Recorded { sha256: Some(plugin.sha256), by: String::new() };
        trust::open(&plugin.path, &pin).unwrap();
    }
    for build in builds {
        place.store.upgrade(build, None).unwrap();
    }
    assert_eq!(place.files().len(), 2 + 3, "{:?}", place.files());
}

#[test]
fn on_a_full_disk_the_old_state_stays_and_the_error_is_clear() {
    let (place, builds) = with_two_builds();
    // A limit on the size of files: writing beyond it fails as on a full disk, once its signal is ignored.
    assert!(helper_command("trap '' XFSZ; ulimit -f 16;", &place).status().unwrap().success());
    let said = std::fs::read_to_string(place.folder.path().join("error")).unwrap();
    assert_eq!(
        said,
        format!(
            "cannot write to {}: File too large (os error 27)\nmake room and try again; what was there before is untouched",
            place.store.folder.display()
        )
    );
    assert_eq!(place.versions(), [("1.0.0-b".to_owned(), vec![])]);
    assert_eq!(place.files().len(), 1 + 3);
    is_whole(&place, &builds);
}

#[test]
fn killed_while_it_writes_it_leaves_the_old_state() {
    let (place, builds) = with_two_builds();
    // The same limit, and now its signal kills in the middle of a write.
    assert!(!helper_command("ulimit -c 0; ulimit -f 16;", &place).status().unwrap().success());
    assert_eq!(place.versions(), [("1.0.0-b".to_owned(), vec![])]);
    assert!(place.files().iter().any(|name| name.starts_with(UNFINISHED)), "{:?}", place.files());
    is_whole(&place, &builds);
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_state() {
    let (place, builds) = with_two_builds();
    let started = place.folder.path().join("started");
    for round in 0..12 {
        let mut child = helper_command("", &place).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !started.exists() {
            assert!(std::time::Instant::now() < deadline, "the helper does not begin");
            std::thread::yield_now();
        }
        // Another moment of its work each time.
        for _ in 0..round * 40 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&started).unwrap();
        is_whole(&place, &builds);
    }
}
