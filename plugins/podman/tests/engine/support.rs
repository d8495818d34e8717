//! What the tests share: the runtime under test, containers that go away with their test, and readers of streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Items, input, pipe};
use gx_plugin_podman::{Config, Podman};
use tokio::sync::OnceCell;

/// The image all tests use: a static busybox.
pub(crate) const IMAGE: &str = "gx-busybox";
/// How long anything in these tests may take, on a slow and busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Returns the runtime, or `None`, said aloud, where there is no Podman and none is asked for.
pub(crate) async fn found() -> Option<Arc<Podman>> {
    static STATE: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    let state = STATE.get_or_init(set_up).await.clone()?;
    Some(Arc::new(connect(Config::default(), state).await))
}

pub(crate) async fn connect(config: Config, state_dir: PathBuf) -> Podman {
    let context =
        PluginContext { name: "podman".parse().unwrap(), state_dir, host_version: "test".to_owned() };
    Podman::connect(config, context).await.unwrap()
}

async fn set_up() -> Option<PathBuf> {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("podman");
    std::fs::create_dir_all(&state).unwrap();
    let podman = connect(Config::default(), state.clone()).await;
    let health = podman.health().await.unwrap();
    if health.status != HealthStatus::Healthy {
        let required = ["CI", "GX_REQUIRE_ENGINES"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "podman is required here: {} ({:?})", health.why, health.hint);
        println!("skipped: {}", health.why);
        return None;
    }
    if podman.image(IMAGE.parse().unwrap()).await.unwrap().is_none() {
        make_image(&podman).await;
    }
    Some(state)
}

/// Builds the image from the machine's own static busybox, as xtask does.
async fn make_image(podman: &Podman) {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let file = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
                ENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
    let context = tar_of(&[("Containerfile", file.as_bytes()), ("busybox", &busybox)]);
    build(podman, IMAGE, context).await.unwrap();
}

pub(crate) async fn build(podman: &Podman, tag: &str, context: Vec<u8>) -> Result<Image> {
    let request = BuildRequest {
        tag: tag.parse().unwrap(),
        containerfile: None,
        args: Default::default(),
        // A layer that another test removes may be just the one that would be found.
        no_cache: true,
        no_network: false,
    };
    podman.build(request, input_of(context), Output::null()).await
}

/// Returns an archive of files, each of mode 0755 and root's.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Returns an input that gives these bytes and ends.
pub(crate) fn input_of(bytes: Vec<u8>) -> Input {
    let (sender, reader) = input();
    tokio::spawn(async move { sender.send(InputChunk::Data(bytes.into())).await });
    reader
}

/// Returns a name that no other test uses.
pub(crate) fn unique() -> ContainerName {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("gx-podman-test-{}-{count}", std::process::id()).parse().unwrap()
}

/// Returns a spec that runs this in a shell.
pub(crate) fn shell(script: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(unique(), IMAGE.parse().unwrap());
    spec.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec.stop_grace_s = Some(1);
    spec
}

/// A container that is removed at the end of its test, whatever that is.
pub(crate) struct Made {
    pub(crate) podman: Arc<Podman>,
    pub(crate) id: ContainerId,
}

impl Made {
    pub(crate) async fn created(podman: &Arc<Podman>, spec: ContainerSpec) -> Self {
        let id = podman.create(spec).await.unwrap();
        Self { podman: podman.clone(), id }
    }

    pub(crate) async fn started(podman: &Arc<Podman>, spec: ContainerSpec) -> Self {
        let made = Self::created(podman, spec).await;
        made.podman.start(made.id.clone()).await.unwrap();
        made
    }

    /// Runs a script in a new container and waits for its end.
    pub(crate) async fn ended(podman: &Arc<Podman>, script: &str) -> (Self, Exit) {
        let made = Self::started(podman, shell(script)).await;
        let exit = made.podman.wait(made.id.clone()).await.unwrap();
        (made, exit)
    }

    pub(crate) async fn inspect(&self) -> Container {
        self.podman.inspect(self.id.clone()).await.unwrap()
    }

    /// Runs a script in the container; returns how it ended and what it wrote.
    pub(crate) async fn exec(&self, script: &str) -> (Exit, String, String) {
        let spec = ExecSpec { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() };
        self.exec_with(spec, Input::empty()).await.unwrap()
    }

    pub(crate) async fn exec_with(&self, spec: ExecSpec, input: Input) -> Result<(Exit, String, String)> {
        let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let (exit, (stdout, stderr)) =
            tokio::join!(self.podman.exec(self.id.clone(), spec, input, out), streams(items));
        Ok((exit?, text(stdout), text(stderr)))
    }

    pub(crate) async fn logs(&self, options: LogOptions) -> (String, String) {
        let (stdout, stderr) = self.raw_logs(options).await;
        (text(stdout), text(stderr))
    }

    pub(crate) async fn raw_logs(&self, options: LogOptions) -> (Vec<u8>, Vec<u8>) {
        let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
        let (done, both) = tokio::join!(self.podman.logs(self.id.clone(), options, out), streams(items));
        done.unwrap();
        both
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let (podman, id) = (self.podman.clone(), self.id.clone());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(podman.remove(id, RemoveOptions { force: true }))
        });
        let removed = removal.join();
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Collects standard output and error.
pub(crate) async fn streams(mut items: Items) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.kind {
            Kind::Stdout => stdout.extend_from_slice(&item.bytes),
            Kind::Stderr => stderr.extend_from_slice(&item.bytes),
            Kind::Event | Kind::Progress => panic!("neither output nor error: {item:?}"),
        }
    }
    (stdout, stderr)
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    let held = async {
        while !holds().await {
            clock.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, held).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Asserts that a call failed with this code and blames this field.
#[track_caller]
pub(crate) fn fails<T: std::fmt::Debug>(
    outcome: Result<T>,
    code: ErrorCode,
    field: Option<&str>,
) -> RuntimeError {
    let error = outcome.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (code, field), "{error:?}");
    assert!(!error.message.ends_with(['.', '\n']) && !error.message.is_empty(), "{:?}", error.message);
    error
}

/// Returns the runtime, or leaves the test.
macro_rules! podman {
    () => {
        match crate::support::found().await {
            Some(podman) => podman,
            None => return,
        }
    };
}
pub(crate) use podman;
