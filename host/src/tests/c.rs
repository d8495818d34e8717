//! The example in C, compiled and driven as any plugin.

use std::process::Command;

use gx_core::container::ContainerSpec;
use gx_core::runtime::{ListFilter, LogOptions, RemoveOptions, StopOptions, list_all};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};

use super::*;

fn compiled(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/c");
    for file in ["runtime.c", "gx_plugin.h", "Makefile"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let made = Command::new("make").arg("CC=cc").current_dir(folder).output().expect("make and cc are there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder.join("libgx_plugin_example_c.so")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_in_c_works_as_one_in_rust_does() {
    for isolation in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let library = compiled(folder.path());
        let manifest = crate::manifest::read(&File::open(&library).unwrap(), &library).unwrap();
        let mut checked = checked(&library, isolation, folder.path());
        checked.config = manifest.check_config(&toml::Table::new()).unwrap();
        (checked.name, checked.manifest) = (manifest.name.clone(), manifest);
        let plugin = load(checked).await.unwrap();
        live(&Remote(plugin.clone())).await;
        within(plugin.shutdown(Duration::from_secs(2))).await;
    }
}

async fn live(runtime: &Remote) {
    assert_eq!(within(runtime.info()).await.unwrap().backend, "example-c");
    let mut spec = ContainerSpec::new("web".parse().unwrap(), "busybox".parse().unwrap());
    spec.labels.insert("gx.owner".to_owned(), "a \"quoted\" {owner}".to_owned());
    let id = within(runtime.create(spec.clone())).await.unwrap();
    let taken = within(runtime.create(spec.clone())).await.unwrap_err();
    assert_eq!((taken.code, taken.field.as_deref()), (ErrorCode::AlreadyExists, Some("name")));
    within(runtime.start(id.clone())).await.unwrap();
    assert_eq!(within(runtime.inspect(id.clone())).await.unwrap().labels, spec.labels);
    assert_eq!(within(runtime.inspect("none".parse().unwrap())).await.unwrap_err().code, ErrorCode::NotFound);

    let filter = |owner: &str| ListFilter {
        labels: [("gx.owner".to_owned(), Some(owner.to_owned()))].into(),
        ..ListFilter::default()
    };
    let owned = within(list_all(runtime, filter("a \"quoted\" {owner}"))).await.unwrap();
    assert_eq!(owned.len(), 1);
    assert!(within(list_all(runtime, filter("somebody else"))).await.unwrap().is_empty());

    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    within(runtime.logs(id.clone(), LogOptions::default(), out)).await.unwrap();
    assert_eq!(&items.next().await.unwrap().bytes[..], b"hello from C\n");

    assert!(tokio::time::timeout(Duration::from_millis(20), runtime.wait(id.clone())).await.is_err());
    let busy = within(runtime.remove(id.clone(), RemoveOptions { force: false })).await.unwrap_err();
    assert_eq!(busy.code, ErrorCode::FailedPrecondition);
    let (exit, stopped) = within(async {
        tokio::join!(runtime.wait(id.clone()), runtime.stop(id.clone(), StopOptions::default()))
    })
    .await;
    stopped.unwrap();
    assert_eq!(exit.unwrap().code, 137);
    within(runtime.remove(id.clone(), RemoveOptions { force: false })).await.unwrap();
    assert_eq!(within(runtime.images()).await.unwrap_err().code, ErrorCode::Unsupported);
}
