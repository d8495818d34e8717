//! The rules of the plugin boundary, held against a plugin that breaks them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::config::{Isolation, PluginKind};
use gx_core::plugin::Manifest;
use gx_core::{ContainerId, ErrorCode, Runtime, RuntimeError};

use crate::checked::Checked;
use crate::proxy::Remote;
use crate::report::PluginState;
use crate::supervise::{LoadError, Supervised, load};

mod c;
mod crashes;
mod faults;
mod hostile;
mod loading;
mod streams;

const BOTH: [Isolation; 2] = [Isolation::Inline, Isolation::Process];

/// A plugin under test, with the folder it lives in.
struct Loaded {
    plugin: Arc<Supervised>,
    runtime: Remote,
    folder: tempfile::TempDir,
}

/// Returns a file that cargo made beside this test, or above it.
fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folders = exe.ancestors().skip(1).take(3);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built"))
}

fn faulty() -> PathBuf {
    built("libgx_plugin_faulty.so")
}

fn checked(library: &Path, isolation: Isolation, folder: &Path) -> Checked {
    let manifest = Manifest::from_text(include_str!("../../../tests/faulty/gx-plugin.toml")).unwrap();
    let state_dir = folder.join("faulty");
    std::fs::create_dir_all(&state_dir).unwrap();
    Checked {
        name: "faulty".parse().unwrap(),
        kind: PluginKind::Runtime,
        manifest,
        file: Arc::new(File::open(library).unwrap()),
        path: library.to_owned(),
        isolation,
        config: serde_json::json!({}),
        state_dir,
        host_version: "0.0.0".to_owned(),
        child_program: built("examples/plugin-host"),
        child_env: [("GX_TEST".to_owned(), "1".to_owned())].into(),
    }
}

async fn loaded(isolation: Isolation) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let plugin = load(checked(&faulty(), isolation, folder.path())).await.unwrap();
    Loaded { runtime: Remote(plugin.clone()), plugin, folder }
}

async fn refused(isolation: Isolation, change: impl FnOnce(&mut Checked)) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = checked(&faulty(), isolation, folder.path());
    change(&mut checked);
    match load(checked).await {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error,
    }
}

fn id(text: &str) -> ContainerId {
    text.parse().unwrap()
}

impl Loaded {
    /// Asks for the container of this name: what goes wrong then is in the name.
    async fn inspect(&self, name: &str) -> Result<gx_core::Container, RuntimeError> {
        within(self.runtime.inspect(id(name))).await
    }

    async fn works(&self) {
        assert_eq!(self.inspect("plain").await.unwrap().id, id("plain"));
    }

    fn state(&self) -> PluginState {
        self.plugin.status().state
    }

    async fn until(&self, state: PluginState) {
        until(|| self.state() == state).await;
    }
}

/// Waits for a future, but not for ever.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// Waits for a condition, but not for ever.
async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
