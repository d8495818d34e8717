//! What can go wrong before a plugin is usable.

use super::*;

/// Writes a copy of the library in which one piece of bytes is another.
fn edited(folder: &Path, from: &[u8], to: &[u8]) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(faulty()).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "there is nothing to edit");
    let path = folder.join("edited.so");
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn refused_library(isolation: Isolation, from: &[u8], to: &[u8]) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let path = edited(folder.path(), from, to);
    refused(isolation, |checked| checked.file = Arc::new(File::open(&path).unwrap())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_abi_is_refused_with_both_numbers_and_the_fix() {
    // The head of the plugin's table: size, major, minor.
    let (ours, theirs) = (
        [64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [64, 0, 0, 0, 7, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    for isolation in BOTH {
        let error = refused_library(isolation, &ours, &theirs).await;
        assert_eq!(error.to_string(), "it was built for plugin ABI 7.3, and this gx speaks 1.0");
        assert!(error.hint().unwrap().starts_with("update gx"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_without_the_entry_or_that_is_none_is_refused() {
    for isolation in BOTH {
        let error = refused_library(isolation, b"gx_plugin_entry_v1", b"xx_plugin_entry_v1").await;
        assert_eq!(error.to_string(), "it has no function gx_plugin_entry_v1");
        let folder = tempfile::tempdir().unwrap();
        let garbage = folder.path().join("garbage.so");
        std::fs::write(&garbage, b"\x7fELF but nothing more").unwrap();
        let error =
            refused(isolation, |checked| checked.file = Arc::new(File::open(&garbage).unwrap())).await;
        assert_eq!(error.to_string(), "the system cannot load it: file too short");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plugin_says_of_its_configuration_is_told() {
    for isolation in BOTH {
        let error =
            refused(isolation, |checked| checked.config = serde_json::json!({"fault": "refuse"})).await;
        assert_eq!(error.to_string(), "it does not accept its configuration: fault: refuse is refused");
        let error =
            refused(isolation, |checked| checked.config = serde_json::json!({"fault": "panic-in-configure"}))
                .await;
        assert_eq!(
            error.to_string(),
            "it failed while it was configured: the plugin faulty failed in configure: panicked: configured to panic"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_never_finishes_configuring_is_given_up() {
    let hang = |checked: &mut Checked| checked.config = serde_json::json!({"fault": "hang-in-configure"});
    let (here, child) = tokio::join!(refused(BOTH[0], hang), refused(BOTH[1], hang));
    for error in [here, child] {
        assert!(error.to_string().contains("configure took longer than 10000 ms"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_while_it_is_loaded_is_told() {
    let error = refused(Isolation::Process, |checked| {
        checked.config = serde_json::json!({"fault": "abort-in-configure"});
    })
    .await;
    assert_eq!(
        error.to_string(),
        "its process came to an end while it was being loaded: ended by signal 6 (SIGABRT)"
    );
    let error = refused(Isolation::Process, |checked| checked.child_program = "/nowhere/gx".into()).await;
    assert!(matches!(error, LoadError::Spawn(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_from_one_file_and_the_same_one_twice_live_side_by_side() {
    let (first, second) = (loaded(Isolation::Inline).await, loaded(Isolation::Inline).await);
    within(first.plugin.shutdown(Duration::from_secs(1))).await;
    second.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_is_never_unmapped() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("mapped-for-good.so");
    std::fs::copy(faulty(), &library).unwrap();
    let plugin = load(checked(&library, Isolation::Inline, folder.path())).await.unwrap();
    within(plugin.shutdown(Duration::from_secs(1))).await;
    drop(plugin);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("mapped-for-good.so"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_while_loading_are_remembered_until_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..2 {
        std::fs::write(folder.path().join(format!("faulty.loading.{number}")), "").unwrap();
    }
    let error = load(checked(&faulty(), Isolation::Inline, folder.path())).await.err().unwrap();
    assert!(matches!(error, LoadError::CrashedWhileLoading { times: 2 }), "{error}");
    assert!(load(checked(&faulty(), Isolation::Process, folder.path())).await.is_ok());
    crate::sentinel::forget(folder.path(), &"faulty".parse().unwrap());
    assert!(load(checked(&faulty(), Isolation::Inline, folder.path())).await.is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the plugin's own folder is left");
}
