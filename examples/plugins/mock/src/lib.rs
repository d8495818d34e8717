//! A runtime in memory, and the template for runtimes of your own.
//!
//! gx runs containers through plugins. A plugin is a library with one type that implements [`Runtime`]; gx
//! finds it by its file, reads `gx-plugin.toml` out of it, checks the configuration against that, and calls
//! [`Mock::connect`]. From then on it calls the methods below, many at a time. This one pretends: its
//! containers are entries in a map, and the few commands it knows (`programs.rs`) are played, not run.
//!
//! To write your own: copy this folder, change the names in `Cargo.toml` and `gx-plugin.toml`, and replace the
//! bodies below by calls to your engine. What each method promises is written at [`Runtime`]; a method you
//! leave out answers `Unsupported`, if [`capabilities`](Runtime::capabilities) does not list its feature. Then
//! run `gx plugin test` on the built library: it checks every promise.
//!
//! What to keep in mind:
//! - **State lives in the engine.** A plugin may be restarted at any time and must find its containers again.
//!   (This one cannot, as it is the engine too.)
//! - **A call may be dropped at any `.await`.** Leave nothing half-made: here every change is one step.
//! - **An [`Output`] has a window.** `out.stdout(…).await` waits for a slow reader; when it fails the reader is
//!   gone, and the method returns `Ok`.

mod files;
mod images;
mod logs;
mod programs;
mod record;
mod script;
mod store;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use gx_core::plugin::*;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::programs::{Streams, Writer};
use crate::record::Record;
use crate::store::Store;

/// The machine's architecture, as images name it.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// `[plugins.mock.config]`; the keys are described in `gx-plugin.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How long the engine takes for each call, in milliseconds.
    pub latency_ms: u32,
    /// How many containers there may be at once.
    pub containers: u32,
    /// The images the engine has from the start.
    pub images: Vec<String>,
    /// The password for images named `private`.
    pub token: Option<String>,
    /// The engine counts as down while this file is missing.
    pub switch: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let images = vec!["gx-busybox".to_owned()];
        Self { latency_ms: 0, containers: 10_000, images, token: None, switch: None }
    }
}

/// The runtime: its configuration, and the engine it talks to.
#[derive(Debug)]
pub struct Mock {
    config: Config,
    store: Arc<Store>,
}

#[async_trait]
impl Runtime for Mock {
    async fn capabilities(&self) -> Result<Capabilities> {
        use Feature as F;
        // Not there: GPUs, limits, and real processes with what comes of them.
        let features =
            [F::Pull, F::Images, F::Build, F::Signal, F::Exec, F::ExecTty, F::ExecCancel, F::Copy, F::Stats];
        Ok(features.into_iter().chain([F::Events, F::Ports]).collect())
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        self.engine().await?;
        Ok(RuntimeInfo {
            backend: "mock".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            api_version: "1".into(),
            rootless: true,
            os: "linux".into(),
            arch: ARCH.into(),
            storage: "memory".into(),
            endpoint: "memory".into(),
            notes: vec!["nothing is run: containers are played".into()],
        })
    }

    async fn health(&self) -> Result<Health> {
        Ok(match self.engine().await {
            Ok(()) => Health { status: HealthStatus::Healthy, why: String::new(), hint: None },
            Err(error) => Health { status: HealthStatus::Undetected, why: error.message, hint: error.hint },
        })
    }

    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        self.engine().await?;
        let step = Duration::from_millis(self.config.latency_ms.into());
        images::pull(&self.store, request, self.config.token.as_deref(), step, &out).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.engine().await?;
        Ok(self.store.images())
    }

    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        self.engine().await?;
        Ok(self.store.image(&image))
    }

    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        self.engine().await?;
        let context = read_all(context).await;
        images::build(&self.store, request, &context, &out).await
    }

    async fn remove_image(&self, image: ImageRef) -> Result<()> {
        self.engine().await?;
        self.store.remove_image(&image)
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        self.engine().await?;
        self.store.create(spec, self.config.containers as usize)
    }

    async fn start(&self, id: ContainerId) -> Result<()> {
        self.engine().await?;
        self.store.start(self.store.find(&id)?).await
    }

    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        self.engine().await?;
        let record = self.store.find(&id)?;
        let mut life = record.life.subscribe();
        let ended = life.wait_for(|life| life.state != ContainerState::Running).await;
        let life = ended.map_err(|_| RuntimeError::no_container(&id))?.clone();
        match (life.exit, life.state) {
            (_, ContainerState::Removing) => Err(RuntimeError::no_container(&id)),
            (Some(exit), _) => Ok(exit),
            (None, _) => Err(not_running(&record, "was never started")),
        }
    }

    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        self.engine().await?;
        let Ok(record) = self.store.find(&id) else { return Ok(()) };
        let signal = number(options.signal.as_deref().unwrap_or("SIGTERM"))?;
        if !self.store.signal(&record, signal).await {
            return Ok(());
        }
        let grace_ms =
            options.grace_ms.unwrap_or(record.spec.stop_grace_s.unwrap_or(10).saturating_mul(1000));
        let mut life = record.life.subscribe();
        let ended = life.wait_for(|life| life.state != ContainerState::Running);
        if tokio::time::timeout(Duration::from_millis(grace_ms.into()), ended).await.is_err() {
            self.store.kill(&record).await;
        }
        Ok(())
    }

    async fn signal(&self, id: ContainerId, signal: String) -> Result<()> {
        self.engine().await?;
        let record = self.store.find(&id)?;
        let signal = number(&signal)?;
        if self.store.signal(&record, signal).await {
            Ok(())
        } else {
            Err(not_running(&record, "does not run"))
        }
    }

    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        self.engine().await?;
        let Ok(record) = self.store.find(&id) else { return Ok(()) };
        if options.force {
            self.store.kill(&record).await;
        }
        self.store.remove(&record).await
    }

    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        self.engine().await?;
        Ok(self.store.find(&id)?.container())
    }

    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        self.engine().await?;
        for container in self.store.list(&filter) {
            if out.event(&container).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        self.engine().await?;
        let record = self.store.find(&id)?;
        let (mut length, mut life) = (record.logs.length.subscribe(), record.life.subscribe());
        let mut next = 0;
        loop {
            // Looked at before the logs are read: what is written in between comes with the next round.
            let running = life.borrow_and_update().state == ContainerState::Running;
            length.mark_unchanged();
            let pieces = record.logs.from(next);
            let first = next == 0;
            next += pieces.len();
            let mut pieces = logs::select(pieces, &options);
            if let (Some(lines), true) = (options.tail, first) {
                pieces = logs::tail(pieces, lines);
            }
            for piece in pieces {
                if out.write(piece.kind, &logs::render(&piece, options.timestamps)).await.is_err() {
                    return Ok(());
                }
            }
            if !options.follow || !running {
                return Ok(());
            }
            tokio::select! {
                () = out.gone() => return Ok(()),
                _ = length.wait_for(|&length| length > next) => {}
                _ = life.changed() => {}
            }
        }
    }

    async fn exec(&self, id: ContainerId, spec: ExecSpec, mut input: Input, out: Output) -> Result<Exit> {
        self.engine().await?;
        let record = self.running(&id)?;
        let world = record.world(Some(&spec));
        let stream = |kind| match spec.tty {
            true => Writer::Terminal(Box::new(Writer::Call(out.clone(), Kind::Stdout))),
            false => Writer::Call(out.clone(), kind),
        };
        let (sender, mut stdin) = mpsc::channel(1);
        let sender = spec.stdin.then_some(sender); // without it, standard input is at its end
        let terminal = world.terminal.clone();
        let typing = async move {
            while let Some(chunk) = input.next().await {
                match (chunk, &sender, &terminal) {
                    // A command that does not read its input is no error.
                    (InputChunk::Data(bytes), Some(sender), _) => drop(sender.send(bytes).await),
                    (InputChunk::Resize { columns, rows }, _, Some(terminal)) => {
                        terminal.store(programs::size(columns, rows), Ordering::Relaxed);
                    }
                    _ => {}
                }
            }
            drop(sender); // the end of standard input
            std::future::pending().await
        };
        let streams =
            Streams { stdin: &mut stdin, stdout: stream(Kind::Stdout), stderr: stream(Kind::Stderr) };
        let limit = spec.timeout_ms.map_or(Duration::MAX, |limit| Duration::from_millis(limit.into()));
        let mut life = record.life.subscribe();
        let code = tokio::select! {
            code = programs::run(&world, &spec.argv, streams) => code,
            () = typing => unreachable!("it waits for ever after the end of the input"),
            _ = life.wait_for(|life| life.state != ContainerState::Running) => 128 + record::SIGKILL,
            () = out.gone() => 128 + record::SIGKILL,
            () = tokio::time::sleep(limit) => {
                let message = format!("{:?} did not end within {limit:?}", spec.argv);
                return Err(RuntimeError::new(ErrorCode::DeadlineExceeded, message));
            }
        };
        Ok(Exit { finished_at: Some(SystemTime::now().into()), ..Exit::from_code(code) })
    }

    async fn copy_in(&self, id: ContainerId, path: String, archive: Input) -> Result<()> {
        self.engine().await?;
        let record = self.store.find(&id)?;
        let archive = read_all(archive).await;
        record.files.lock().unwrap_or_else(PoisonError::into_inner).unpack(&path, &archive)
    }

    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        self.engine().await?;
        let record = self.store.find(&id)?;
        let archive = record.files.lock().unwrap_or_else(PoisonError::into_inner).pack(&path)?;
        // `Gone` is no error of ours.
        let _ = out.stdout(&archive).await;
        Ok(())
    }

    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        self.engine().await?;
        let record = self.running(&id)?;
        let mut life = record.life.subscribe();
        let mut first = true;
        loop {
            if out.event(&usage(&record, first)).await.is_err() || every_ms == 0 {
                return Ok(());
            }
            first = false;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(every_ms.into())) => {}
                () = out.gone() => return Ok(()),
                _ = life.wait_for(|life| life.state != ContainerState::Running) => return Ok(()),
            }
        }
    }

    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        self.engine().await?;
        let mut happened = self.store.happened.subscribe();
        let mut next = if since.is_some() { 0 } else { *happened.borrow() };
        loop {
            let events = self.store.history(next);
            next += events.len();
            for event in events.iter().filter(|event| since.is_none_or(|since| event.at >= since)) {
                if out.event(event).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                () = out.gone() => return Ok(()),
                _ = happened.wait_for(|&length| length > next) => {}
            }
        }
    }
}

// What the host looks for in the library. The manifest goes into it word for word.
gx_core::export_runtime!(
    Mock,
    config = Config,
    new = Mock::connect,
    manifest = include_str!("../gx-plugin.toml"),
);

impl Mock {
    /// Makes the runtime. It does no I/O, so an engine that is down is found out by the calls.
    ///
    /// The host has checked the configuration against `gx-plugin.toml`; here is the place for what that cannot say.
    ///
    /// # Errors
    /// The keys that are wrong, each with what is wrong with it.
    pub async fn connect(config: Config, _context: PluginContext) -> Result<Self, Vec<ConfigIssue>> {
        let mut images = Vec::new();
        let mut issues = Vec::new();
        for (number, image) in config.images.iter().enumerate() {
            match image.parse::<ImageRef>() {
                Ok(image) => images.push(image),
                Err(error) => issues.push(ConfigIssue::new(format!("images.{number}"), error.to_string())),
            }
        }
        if issues.is_empty() { Ok(Self { store: Arc::new(Store::new(images)), config }) } else { Err(issues) }
    }

    /// Waits as long as the engine takes for a call.
    ///
    /// # Errors
    /// `Unavailable` when it is down.
    async fn engine(&self) -> Result<()> {
        if self.config.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.config.latency_ms.into())).await;
        }
        match &self.config.switch {
            Some(file) if !file.exists() => {
                let message = format!("the mock engine is down: there is no file {}", file.display());
                let hint = format!("start it with 'touch {}'", file.display());
                Err(RuntimeError::new(ErrorCode::Unavailable, message).hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn running(&self, id: &ContainerId) -> Result<Arc<Record>> {
        let record = self.store.find(id)?;
        if record.is_running() { Ok(record) } else { Err(not_running(&record, "does not run")) }
    }
}

fn not_running(record: &Record, what: &str) -> RuntimeError {
    let message = format!("container {} {what}", record.spec.name);
    RuntimeError::new(ErrorCode::FailedPrecondition, message)
}

fn number(signal: &str) -> Result<i32> {
    let unknown = || RuntimeError::new(ErrorCode::InvalidArgument, format!("unknown signal {signal:?}"));
    programs::signal_number(signal).ok_or_else(|| unknown().field("signal"))
}

/// Reads an archive to its end. A real plugin passes it on piece by piece.
async fn read_all(mut input: Input) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = input.next_data().await {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// Makes up what a container uses: all of its time a thousandth of a CPU, and the memory its files and logs take.
fn usage(record: &Record, first: bool) -> Stats {
    let now = Timestamp::from(SystemTime::now());
    let since = record.life.borrow().started_at.unwrap_or(now);
    let files = record.files.lock().unwrap_or_else(PoisonError::into_inner).bytes();
    Stats {
        read_at: Some(now),
        cpu_ns: (now.unix_ms() - since.unix_ms()).max(0) as u64 * 1000,
        cpu_milli: (!first).then_some(1),
        memory_bytes: 4096 + files + record.logs.bytes(),
        memory_limit_bytes: record.spec.resources.memory_bytes,
        pids: 1,
        ..Stats::default()
    }
}
