//! The registry with plugins of which only the manifest is real; what loads them is played here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use async_trait::async_trait;
use gx_core::config::{Config, ConfigError};
use gx_core::plugin::{
    Capabilities, Health, RemoveOptions, Result as RuntimeResult, RuntimeInfo, StopOptions,
};
use gx_core::plugin::{
    ConfigIssue, Container, ContainerId, ContainerSpec, Exit, Image, ImageRef, ListFilter, Output,
};
use gx_core::{ErrorCode, RuntimeError};

use gx_core::config::Isolation;

use super::*;
use crate::loaded::{Status, Supervisor};
use crate::manifest::tests::library;
use crate::report::Origin;

struct Place {
    folder: tempfile::TempDir,
}

fn place() -> Place {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    for folder in ["lib", "third"] {
        std::fs::create_dir(place.path(folder)).unwrap();
        std::fs::set_permissions(place.path(folder), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    place
}

fn text(name: &str) -> String {
    format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\nkind = \"runtime\"\napi = [\"runtime/1\"]\n[config.socket]\ntype = \"string\"\n"
    )
}

impl Place {
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn bundled(&self, name: &str) -> PathBuf {
        self.write(&format!("lib/libgx_plugin_{name}.so"), &library(&text(name), (1, 0)))
    }

    fn third_party(&self, name: &str) -> PathBuf {
        self.write(&format!("third/{name}.so"), &library(&text(name), (1, 0)))
    }

    fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.path(path);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn open(&self, config: &str) -> Arc<PluginHost> {
        self.open_with(config, |checked| Box::pin(pretend(checked)))
    }

    fn open_with(&self, config: &str, start: Start) -> Arc<PluginHost> {
        let origin = self.path("gx.toml").display().to_string();
        let options = HostOptions {
            config: Config::from_text(&origin, config).unwrap().plugins,
            config_origin: origin,
            config_text: config.to_owned(),
            bundled_dirs: vec![self.path("nowhere"), self.path("lib")],
            store: self.path("plugins"),
            state: self.path("plugin-state"),
            child_program: "/bin/false".into(),
            child_env: Default::default(),
            host_version: "0.1.0".to_owned(),
        };
        PluginHost::open_with(options, start).unwrap()
    }
}

fn name(name: &str) -> PluginName {
    name.parse().unwrap()
}

fn sha256(path: &Path) -> String {
    PluginHost::inspect(path).unwrap().sha256
}

async fn refused(host: &PluginHost, plugin: &str) -> HostError {
    match host.runtime(&name(plugin)).await {
        Ok(_) => panic!("{plugin} was loaded"),
        Err(error) => error,
    }
}

fn report(host: &PluginHost, plugin: &str) -> PluginReport {
    host.reports().into_iter().find(|report| report.name.as_str() == plugin).unwrap()
}

/// A runtime that knows only how it was loaded.
struct Pretended(Checked);

async fn pretend(checked: Checked) -> Result<Loaded, StartFault> {
    // Gives way, so that others ask for it meanwhile.
    tokio::task::yield_now().await;
    let runtime: Arc<dyn Runtime> = Arc::new(Pretended(checked));
    Ok(Loaded { handle: Handle::Runtime(runtime), supervisor: Arc::new(Watching) })
}

struct Watching;

#[async_trait]
impl Supervisor for Watching {
    fn status(&self) -> Status {
        Status { state: PluginState::Loaded, last_error: None, restarts: 3 }
    }
    async fn shutdown(&self) {}
}

#[async_trait]
impl Runtime for Pretended {
    async fn capabilities(&self) -> RuntimeResult<Capabilities> {
        Ok(Capabilities::default())
    }
    async fn info(&self) -> RuntimeResult<RuntimeInfo> {
        Err(RuntimeError::unsupported("info"))
    }
    async fn health(&self) -> RuntimeResult<Health> {
        let told = serde_json::json!([self.0.isolation, self.0.config, self.0.state_dir]);
        Err(RuntimeError::new(ErrorCode::Internal, told.to_string()))
    }
    async fn image(&self, _: ImageRef) -> RuntimeResult<Option<Image>> {
        Ok(None)
    }
    async fn create(&self, _: ContainerSpec) -> RuntimeResult<ContainerId> {
        Err(RuntimeError::unsupported("create"))
    }
    async fn start(&self, id: ContainerId) -> RuntimeResult<()> {
        Err(RuntimeError::no_container(&id))
    }
    async fn wait(&self, id: ContainerId) -> RuntimeResult<Exit> {
        Err(RuntimeError::no_container(&id))
    }
    async fn stop(&self, _: ContainerId, _: StopOptions) -> RuntimeResult<()> {
        Ok(())
    }
    async fn remove(&self, _: ContainerId, _: RemoveOptions) -> RuntimeResult<()> {
        Ok(())
    }
    async fn inspect(&self, id: ContainerId) -> RuntimeResult<Container> {
        Err(RuntimeError::no_container(&id))
    }
    async fn list(&self, _: ListFilter, _: Output) -> RuntimeResult<()> {
        Ok(())
    }
    async fn logs(&self, _: ContainerId, _: gx_core::plugin::LogOptions, _: Output) -> RuntimeResult<()> {
        Ok(())
    }
}

#[tokio::test]
async fn bundled_runtimes_are_there_without_being_named_and_others_are_not() {
    let place = place();
    place.bundled("docker");
    place.bundled("evil");
    let host = place.open("");
    assert_eq!(host.runtime_names(), [name("docker")]);
    let error = refused(&host, "dockr").await;
    assert_eq!(error.to_string(), "no plugin is named `dockr`");
    assert_eq!(error.hint().unwrap(), "did you mean `docker`?");
    assert_eq!(refused(&host, "evil").await.to_string(), "no plugin is named `evil`");
    let told = report(&host, "docker");
    assert_eq!(
        (told.state, told.origin, told.isolation),
        (PluginState::Declared, Origin::Bundled, Isolation::Inline)
    );
    host.runtime(&name("docker")).await.unwrap();
    let told = report(&host, "docker");
    assert_eq!((told.state, told.restarts, told.version.as_deref()), (PluginState::Loaded, 3, Some("0.1.0")));
}

#[tokio::test]
async fn a_bundled_measurement_is_one_whatever_else_its_table_says() {
    let place = place();
    let text = text("speedtest").replace("runtime", "measurement");
    place.write("lib/libgx_plugin_speedtest.so", &library(&text, (1, 0)));
    for config in
        ["", "[plugins.speedtest]\nisolation = \"process\"\n[plugins.speedtest.config]\nsocket = \"x\"\n"]
    {
        let host = place.open(config);
        assert_eq!((host.runtime_names(), host.measurement_names()), (vec![], vec![name("speedtest")]));
        let told = report(&host, "speedtest");
        assert_eq!((told.kind, told.state), (PluginKind::Measurement, PluginState::Declared), "{told:?}");
        let error = host.runtime(&name("speedtest")).await.err().unwrap();
        assert!(matches!(error, HostError::WrongKind { .. }), "{error}");
    }
}

#[tokio::test]
async fn uses_at_a_time_load_once() {
    static LOADS: AtomicU32 = AtomicU32::new(0);
    let place = place();
    place.bundled("podman");
    let host = place.open_with("", |checked| {
        LOADS.fetch_add(1, Ordering::SeqCst);
        Box::pin(pretend(checked))
    });
    let mut uses = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let host = host.clone();
        uses.spawn(async move { Arc::as_ptr(&host.runtime(&name("podman")).await.unwrap()).addr() });
    }
    let handles: std::collections::HashSet<usize> = uses.join_all().await.into_iter().collect();
    assert_eq!((handles.len(), LOADS.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_path_needs_a_sha256_and_runs_in_a_child() {
    let place = place();
    let path = place.third_party("runc");
    let error = refused(&place.open("[plugins.runc]\npath = \"third/runc.so\"\n"), "runc").await;
    assert!(
        error.to_string().ends_with("third/runc.so is not trusted: no SHA-256 of it is recorded"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains(&sha256(&path)));
    let config = format!(
        "[plugins.runc]\npath = \"third/runc.so\"\nsha256 = \"{}\"\n[plugins.runc.config]\nsocket = \"/x\"\n",
        sha256(&path)
    );
    let host = place.open(&config);
    let told = host.runtime(&name("runc")).await.unwrap().health().await.unwrap_err().to_string();
    let state = place.path("plugin-state/runc");
    assert_eq!(told, serde_json::json!(["process", {"socket": "/x"}, state]).to_string());
    assert_eq!(std::fs::metadata(state).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(report(&host, "runc").origin, Origin::Configured);
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_locked_is_refused_until_it_is_what_it_was() {
    let place = place();
    let host = place.open("");
    let installed = host.install(&place.third_party("runc"), None).unwrap();
    assert_eq!(host.runtime_names(), [name("runc")]);
    let content = std::fs::read(&installed.path).unwrap();
    std::fs::remove_file(&installed.path).unwrap();
    std::fs::write(&installed.path, [content.as_slice(), b"x"].concat()).unwrap();
    let error = refused(&host, "runc").await;
    assert_eq!(error.class(), ErrorClass::Trust);
    assert!(error.to_string().ends_with(&format!(
        "{} is recorded in {}",
        installed.sha256,
        place.path("plugins/plugins.lock").display()
    )));
    let told = report(&host, "runc");
    assert_eq!((told.state, told.last_error), (PluginState::Refused, Some(error.to_string())));
    let verified = host.verify(None).unwrap();
    assert_eq!(verified[0].error, Some(error.to_string()));
    assert_ne!(verified[0].sha256, Some(installed.sha256));
    std::fs::write(&installed.path, content).unwrap();
    host.runtime(&name("runc")).await.unwrap();
    assert_eq!(host.verify(Some(&name("runc"))).unwrap()[0].error, None);
}

#[tokio::test]
async fn a_bundled_plugin_others_may_write_to_is_refused() {
    let place = place();
    let path = place.bundled("docker");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = refused(&place.open(""), "docker").await;
    assert!(error.to_string().ends_with("its mode 0777 lets group or others write to it"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pinned = format!("[plugins.docker]\nsha256 = \"{}\"\n", "0".repeat(64));
    let error = refused(&place.open(&pinned), "docker").await;
    assert!(
        error.to_string().ends_with(&format!("is recorded in {}", place.path("gx.toml").display())),
        "{error}"
    );
}

#[tokio::test]
async fn a_plugin_without_a_file_says_where_it_was_looked_for() {
    let place = place();
    let host = place.open("[plugins.runc]\n[plugins.crun]\npath = \"third/crun.so\"\nsha256 = \"00\"\n");
    let error = refused(&host, "runc").await;
    let places = ["nowhere", "lib"]
        .map(|folder| place.path(folder).join("libgx_plugin_runc.so").display().to_string());
    assert_eq!(error.to_string(), format!("plugin `runc` has no file: looked for {}", places.join(", ")));
    assert!(error.hint().unwrap().starts_with("install it with gx plugin install FILE"));
    let error = refused(&host, "crun").await;
    assert!(error.to_string().ends_with("third/crun.so"), "{error}");
    assert_eq!(report(&host, "crun").state, PluginState::Failed);
}

#[tokio::test]
async fn name_and_kind_are_those_of_the_manifest() {
    let place = place();
    let path = place.third_party("runc");
    let config = |key: &str, kind: &str| {
        format!(
            "[plugins.{key}]\nkind = \"{kind}\"\npath = \"{}\"\nsha256 = \"{}\"\n",
            path.display(),
            sha256(&path)
        )
    };
    let error = refused(&place.open(&config("crun", "runtime")), "crun").await;
    assert_eq!(error.to_string(), format!("{} is the plugin `runc`, not `crun`", path.display()));
    assert_eq!(error.hint().unwrap(), "write [plugins.runc] instead of [plugins.crun]");
    let host = place.open(&config("runc", "measurement"));
    assert_eq!(refused(&host, "runc").await.to_string(), "plugin `runc` is a measurement, not a runtime");
    let error = host.measurement(&name("runc")).await.err().unwrap();
    assert_eq!(error.to_string(), "plugin `runc` is a runtime, not a measurement");
    assert!(error.hint().unwrap().contains("kind = \"runtime\" in [plugins.runc]"));
}

#[tokio::test]
async fn a_plugin_is_switched_off_and_on() {
    let place = place();
    place.bundled("docker");
    place.bundled("podman");
    let host = place.open("[plugins.podman]\nenabled = false\n");
    host.disable(&name("docker")).unwrap();
    assert_eq!(host.runtime_names(), []);
    let error = refused(&host, "docker").await;
    let lock = place.path("plugins/plugins.lock");
    assert_eq!(error.to_string(), format!("plugin `docker` is disabled in {}", lock.display()));
    assert_eq!(error.hint().unwrap(), "gx plugin enable docker");
    assert_eq!(report(&host, "docker").state, PluginState::Disabled);
    host.enable(&name("docker")).unwrap();
    host.runtime(&name("docker")).await.unwrap();
    let error = host.enable(&name("podman")).unwrap_err();
    let config = place.path("gx.toml");
    assert_eq!(error.to_string(), format!("plugin `podman` is disabled in {}", config.display()));
    assert_eq!(
        error.hint().unwrap(),
        format!("write enabled = true in [plugins.podman] of {}", config.display())
    );
    assert!(host.disable(&name("dockr")).is_err());
}

#[tokio::test]
async fn what_is_there_without_being_installed_cannot_be_removed() {
    let place = place();
    place.bundled("docker");
    let error = place.open("").remove(&name("docker")).unwrap_err();
    assert_eq!(error.to_string(), "plugin `docker` is not installed");
    assert!(error.hint().unwrap().ends_with("gx plugin disable docker switches it off"));
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_its_place_by_host_and_plugin_alike() {
    let place = place();
    place.bundled("docker");
    let host = place.open("[plugins.docker.config]\nsockt = \"/x\"\n");
    let error = refused(&host, "docker").await;
    let config = place.path("gx.toml");
    assert_eq!(
        error.to_string(),
        format!("{}:2:1: unknown key `sockt` in [plugins.docker.config]", config.display())
    );
    assert_eq!(error.hint().unwrap(), "did you mean `socket`?");
    assert_eq!(report(&host, "docker").state, PluginState::Refused);
    assert_eq!(host.check(&name("docker")).unwrap_err().to_string(), error.to_string());

    let text = "[plugins.docker.config]\nsocket = \"nowhere\"\n";
    let host = place.open_with(text, |_| {
        Box::pin(async { Err(StartFault::Config(vec![ConfigIssue::new("socket", "is no address")])) })
    });
    let error = refused(&host, "docker").await;
    let places: Vec<_> =
        error.config_errors().iter().map(|ConfigError { line, column, .. }| (*line, *column)).collect();
    assert_eq!(places, [(2, 1)]);
    assert_eq!(report(&host, "docker").last_error, Some(error.to_string()));
}

#[tokio::test]
async fn a_failed_load_is_reported_and_tried_again() {
    static FAILS: AtomicBool = AtomicBool::new(true);
    let place = place();
    place.bundled("docker");
    let host = place.open_with("", |checked| {
        Box::pin(async move {
            match FAILS.load(Ordering::SeqCst) {
                true => Err(StartFault::Load { reason: "it panicked".to_owned(), hint: None }),
                false => pretend(checked).await,
            }
        })
    });
    assert_eq!(refused(&host, "docker").await.to_string(), "plugin `docker` cannot be loaded: it panicked");
    assert_eq!(report(&host, "docker").state, PluginState::Failed);
    FAILS.store(false, Ordering::SeqCst);
    host.runtime(&name("docker")).await.unwrap();
    assert_eq!(report(&host, "docker").last_error, None);
    assert_eq!(std::fs::read_dir(place.path("plugin-state")).unwrap().count(), 1); // no sentinel is left
}

#[tokio::test]
async fn changes_of_another_process_are_seen_and_a_list_that_breaks_meanwhile_is_not() {
    let place = place();
    let host = place.open("");
    let other = place.open("");
    assert_eq!(host.runtime_names(), []);
    other.install(&place.third_party("runc"), None).unwrap();
    assert_eq!(host.runtime_names(), [name("runc")]);
    std::fs::write(place.path("plugins/plugins.lock"), "nonsense").unwrap();
    assert_eq!(host.runtime_names(), [name("runc")]);
    assert!(matches!(host.installed(), Err(HostError::Lock { .. })));
}

#[tokio::test]
async fn after_shutdown_nothing_is_loaded() {
    let place = place();
    place.bundled("docker");
    let host = place.open("");
    host.runtime(&name("docker")).await.unwrap();
    host.shutdown().await;
    assert_eq!(refused(&host, "docker").await.to_string(), "the plugins are shut down");
}
