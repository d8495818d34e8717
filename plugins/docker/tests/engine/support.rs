//! An engine, an image, containers that do not outlive their test, and waiting with a deadline.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use gx_core::plugin::PluginContext;
use gx_core::runtime::{
    BuildRequest, ExecSpec, HealthStatus, LogOptions, RemoveOptions, Result, RuntimeError,
};
use gx_core::stream::{Input, InputChunk, Items, Kind, Output, input, pipe};
use gx_core::{ContainerId, ContainerName, ContainerSpec, Exit, ImageRef, Runtime};
use gx_plugin_docker::{Config, DockerRuntime};
use tokio::sync::OnceCell;

/// How long anything may take here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const IMAGE: &str = "gx-busybox";

/// Returns a runtime on this machine's engine with the test image, or `None` where there is none.
pub(crate) async fn runtime() -> Option<Arc<DockerRuntime>> {
    let runtime = Arc::new(fresh());
    let health = runtime.health().await.unwrap();
    if health.status != HealthStatus::Healthy {
        let required = ["CI", "GX_REQUIRE_ENGINES"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "no docker engine: {}", health.why);
        println!("skipped: {}", health.why);
        return None;
    }
    static READY: OnceCell<()> = OnceCell::const_new();
    READY.get_or_init(|| make_image(&runtime)).await;
    Some(runtime)
}

/// Returns a runtime that shares nothing with others, as in a process of its own.
pub(crate) fn fresh() -> DockerRuntime {
    with(Config::default())
}

/// Returns a runtime with this configuration.
pub(crate) fn with(config: Config) -> DockerRuntime {
    let context = PluginContext {
        name: "docker".parse().unwrap(),
        state_dir: std::env::temp_dir().join("gx-docker-tests"),
        host_version: String::new(),
    };
    // It does no I/O, so it is ready at once.
    DockerRuntime::connect(config, context).now_or_never().unwrap().unwrap()
}

async fn make_image(runtime: &Arc<DockerRuntime>) {
    if runtime.image(image()).await.unwrap().is_some() {
        return;
    }
    let containerfile = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
                         ENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let context = archive(&[("Containerfile", containerfile.as_bytes()), ("busybox", &busybox)]);
    build(runtime, IMAGE, context).await.unwrap();
}

/// Builds an image from an archive, and returns the steps.
pub(crate) async fn build(runtime: &Arc<DockerRuntime>, tag: &str, context: Vec<u8>) -> Result<Vec<String>> {
    let request = BuildRequest {
        tag: tag.parse().unwrap(),
        containerfile: None,
        args: Default::default(),
        no_cache: false,
        no_network: false,
    };
    build_with(runtime, request, context).await
}

/// Builds an image as asked from an archive, and returns the steps.
pub(crate) async fn build_with(
    runtime: &Arc<DockerRuntime>,
    request: BuildRequest,
    context: Vec<u8>,
) -> Result<Vec<String>> {
    let (out, mut items) = pipe(0);
    let build = runtime.build(request, fed(context), out);
    let steps = async {
        let mut steps = Vec::new();
        while let Some(item) = items.next().await {
            assert_eq!(item.kind, Kind::Progress);
            steps.push(String::from_utf8(item.bytes.to_vec()).unwrap());
        }
        steps
    };
    let (built, steps) = tokio::join!(build, steps);
    built.map(|_| steps)
}

pub(crate) fn image() -> ImageRef {
    IMAGE.parse().unwrap()
}

/// Returns an input with these bytes.
pub(crate) fn fed(bytes: Vec<u8>) -> Input {
    let (sender, reader) = input();
    tokio::spawn(async move { sender.send(InputChunk::Data(bytes.into())).await });
    reader
}

/// Returns a tar archive of these files, in this order.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Returns a name that nothing else has.
pub(crate) fn name() -> ContainerName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("gxt-docker-{}-{number}", std::process::id()).parse().unwrap()
}

/// Returns the spec of a container that runs these words.
pub(crate) fn spec(command: &[&str]) -> ContainerSpec {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    ContainerSpec { command, stop_grace_s: Some(0), ..ContainerSpec::new(name(), image()) }
}

/// Returns the spec of a container that runs a line of shell.
pub(crate) fn shell(line: &str) -> ContainerSpec {
    spec(&["sh", "-c", line])
}

/// A container, removed with this value.
pub(crate) struct Made {
    pub(crate) runtime: Arc<DockerRuntime>,
    pub(crate) id: ContainerId,
}

impl Made {
    pub(crate) async fn create(runtime: &Arc<DockerRuntime>, spec: ContainerSpec) -> Self {
        let id = runtime.create(spec).await.unwrap();
        Self { runtime: runtime.clone(), id }
    }

    pub(crate) async fn run(runtime: &Arc<DockerRuntime>, spec: ContainerSpec) -> Self {
        let made = Self::create(runtime, spec).await;
        made.runtime.start(made.id()).await.unwrap();
        made
    }

    pub(crate) fn id(&self) -> ContainerId {
        self.id.clone()
    }

    pub(crate) async fn exit(&self) -> Exit {
        within(self.runtime.wait(self.id())).await.unwrap()
    }

    /// Returns standard output and error.
    pub(crate) async fn logs(&self, options: LogOptions) -> (String, String) {
        let (out, items) = pipe(0);
        let (done, texts) =
            within(async { tokio::join!(self.runtime.logs(self.id(), options, out), texts(items)) }).await;
        done.unwrap();
        texts
    }

    /// Runs a command and returns how it ended, standard output and error.
    pub(crate) async fn exec(&self, spec: ExecSpec, input: Input) -> Result<(Exit, String, String)> {
        let (out, items) = pipe(0);
        let (exit, (stdout, stderr)) =
            within(async { tokio::join!(self.runtime.exec(self.id(), spec, input, out), texts(items)) })
                .await;
        exit.map(|exit| (exit, stdout, stderr))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let id = self.id();
        let removal = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(fresh().remove(id, RemoveOptions { force: true }))
        });
        let _ = removal.join();
    }
}

/// Returns what to run in a container.
pub(crate) fn command(words: &[&str]) -> ExecSpec {
    ExecSpec { argv: words.iter().map(|word| (*word).to_owned()).collect(), ..ExecSpec::default() }
}

/// Reads raw items to their end: standard output and error.
pub(crate) async fn texts(mut items: Items) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.kind {
            Kind::Stdout => out.extend(item.bytes),
            Kind::Stderr => err.extend(item.bytes),
            other => panic!("{other:?} among output"),
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Waits for a future, for as long as anything may take.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it ends in time")
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let check = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, check).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Checks the code and field of an error.
#[track_caller]
pub(crate) fn assert_error<T: std::fmt::Debug>(
    result: Result<T>,
    code: gx_core::ErrorCode,
    field: Option<&str>,
) -> RuntimeError {
    let error = result.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (code, field), "{error:?}");
    error
}

/// Returns an output that nobody reads.
pub(crate) fn null() -> Output {
    Output::null()
}
