//! A runtime around the mock that can hold calls up, make them fail, and tell which are under way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gx_core::guest::Status;
use gx_core::image::ImageProcess;
use gx_core::plugin::*;
use gx_core::stream::{InputChunk, MAX_ITEM_BYTES, input};
use gx_plugin_mock::{Config, Mock};
use tokio::sync::Semaphore;

pub(super) struct Probe {
    inner: Mock,
    switch: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: HashMap<&'static str, usize>,
    under_way: HashMap<&'static str, usize>,
    gates: HashMap<&'static str, Arc<Semaphore>>,
    failures: HashMap<&'static str, VecDeque<RuntimeError>>,
    specs: Vec<ContainerSpec>,
    images: Option<(ImageProcess, BTreeMap<String, String>, String)>,
    execs: Vec<(ExecSpec, String)>,
    status: Status,
    work_ms: u64,
    flooding: bool,
    written: usize,
    builds: Vec<BuildRequest>,
    stand_in: Option<Bytes>,
    ports: Vec<PortMapping>,
    labels: Vec<(&'static str, String)>,
    /// Whether it has volumes and can feed; the volumes that were filled; what was fed, by the container.
    able: bool,
    image_labels: BTreeMap<String, String>,
    volumes: HashMap<String, Vec<u8>>,
    mounts: HashMap<ContainerId, Vec<Mount>>,
    fed: HashMap<ContainerId, Vec<u8>>,
}

/// A call that is under way.
struct UnderWay(Arc<Mutex<State>>, &'static str);

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.lock().unwrap().under_way.entry(self.1).or_default() -= 1;
    }
}

impl Probe {
    pub(super) async fn new(folder: &Path, name: &str) -> Self {
        let switch = folder.join(format!("{name}.up"));
        std::fs::write(&switch, "").unwrap();
        let config = Config { switch: Some(switch.clone()), ..Config::default() };
        let context = PluginContext {
            name: name.parse().unwrap(),
            state_dir: folder.to_owned(),
            host_version: "0.0.0".to_owned(),
        };
        let inner = Mock::connect(config, context).await.unwrap();
        Self { inner, switch, state: Arc::default() }
    }

    /// Takes the engine down.
    pub(super) fn down(&self) {
        std::fs::remove_file(&self.switch).unwrap();
    }

    /// Brings the engine back.
    pub(super) fn up(&self) {
        std::fs::write(&self.switch, "").unwrap();
    }

    /// Holds calls of a method up until [`open`](Self::open).
    pub(super) fn close(&self, method: &'static str) {
        self.state.lock().unwrap().gates.insert(method, Arc::new(Semaphore::new(0)));
    }

    pub(super) fn open(&self, method: &'static str) {
        if let Some(gate) = self.state.lock().unwrap().gates.remove(method) {
            gate.add_permits(Semaphore::MAX_PERMITS / 2);
        }
    }

    /// Makes the next call of a method fail.
    pub(super) fn fail(&self, method: &'static str, error: RuntimeError) {
        self.state.lock().unwrap().failures.entry(method).or_default().push_back(error);
    }

    /// Tells from now on what every image runs, its labels and its platform; so containers get the guest, which the
    /// mock cannot run and leaves out.
    pub(super) fn tell(&self, process: ImageProcess, labels: &[(&str, &str)], platform: &str) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.state.lock().unwrap().images = Some((process, labels, platform.to_owned()));
    }

    /// Gives every image these labels from now on.
    pub(super) fn label(&self, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.state.lock().unwrap().image_labels = labels;
    }

    /// Has volumes from now on, and can feed.
    pub(super) fn enable(&self) {
        self.state.lock().unwrap().able = true;
    }

    /// Returns what was copied into each volume.
    pub(super) fn volumes(&self) -> HashMap<String, Vec<u8>> {
        self.state.lock().unwrap().volumes.clone()
    }

    /// Has a volume, an old one.
    pub(super) fn keep_volume(&self, name: &str) {
        self.state.lock().unwrap().volumes.insert(name.to_owned(), Vec::new());
    }

    /// Forgets what is in the volumes.
    pub(super) fn lose_volumes(&self) {
        self.state.lock().unwrap().volumes.clear();
    }

    /// Returns what a container was fed.
    pub(super) fn fed(&self, id: &ContainerId) -> Option<Vec<u8>> {
        self.state.lock().unwrap().fed.get(id).cloned()
    }

    /// Fails as an engine does whose container is to run what its volume does not have.
    fn check_volumes(&self, id: &ContainerId) -> Result<()> {
        let state = self.state.lock().unwrap();
        let empty = |mount: &&Mount| {
            mount.volume.as_ref().is_some_and(|name| !state.volumes.contains_key(name.as_str()))
        };
        match state.mounts.get(id).and_then(|mounts| mounts.iter().find(empty)) {
            Some(_) => Err(RuntimeError::new(ErrorCode::InvalidArgument, "no such program").field("command")),
            None => Ok(()),
        }
    }

    /// Makes guests tell this from now on, and so much more work whenever they are asked again.
    pub(super) fn going_on(&self, status: Status, work_ms: u64) {
        let mut state = self.state.lock().unwrap();
        (state.status, state.work_ms) = (status, work_ms);
    }

    fn status(&self) -> Vec<u8> {
        let mut state = self.state.lock().unwrap();
        state.status.cpu_ms += state.work_ms;
        serde_json::to_vec(&state.status).unwrap()
    }

    /// Returns every command that was run by exec, and what it was given.
    pub(super) fn execs(&self) -> Vec<(ExecSpec, String)> {
        self.state.lock().unwrap().execs.clone()
    }

    /// Returns a file of a container.
    pub(super) async fn file(&self, id: &ContainerId, path: &str) -> Option<Vec<u8>> {
        let (out, mut items) = gx_core::stream::pipe(0);
        let copied = self.inner.copy_out(id.clone(), path.to_owned(), out);
        let mut bytes = Vec::new();
        let read = async {
            while let Some(item) = items.next().await {
                bytes.extend_from_slice(&item.bytes);
            }
        };
        tokio::join!(copied, read).0.ok()?;
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next()?.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        Some(content)
    }

    /// Makes logs and exec write without end.
    pub(super) fn flood(&self) {
        self.state.lock().unwrap().flooding = true;
    }

    /// Returns how many bytes were written in a flood.
    pub(super) fn written(&self) -> usize {
        self.state.lock().unwrap().written
    }

    async fn pour(&self, out: &Output) {
        let piece = vec![b'x'; MAX_ITEM_BYTES];
        while out.stdout(&piece).await.is_ok() {
            self.state.lock().unwrap().written += piece.len();
        }
    }

    fn floods(&self) -> bool {
        self.state.lock().unwrap().flooding
    }

    /// Builds from this archive, whatever it is given.
    pub(super) fn stand_in(&self, context: Bytes) {
        self.state.lock().unwrap().stand_in = Some(context);
    }

    /// Returns every build that was asked for.
    pub(super) fn builds(&self) -> Vec<BuildRequest> {
        self.state.lock().unwrap().builds.clone()
    }

    fn built(&self, request: &BuildRequest) -> Option<Input> {
        let mut state = self.state.lock().unwrap();
        state.builds.push(request.clone());
        let bytes = state.stand_in.clone()?;
        let (sender, input) = input();
        tokio::spawn(async move { sender.send(InputChunk::Data(bytes)).await });
        Some(input)
    }

    /// Makes every container look as if it had a published port and a label more.
    pub(super) fn publish(&self, port: PortMapping, label: (&'static str, String)) {
        let mut state = self.state.lock().unwrap();
        state.ports.push(port);
        state.labels.push(label);
    }

    /// Returns how often a method was called.
    pub(super) fn calls(&self, method: &'static str) -> usize {
        self.state.lock().unwrap().calls.get(method).copied().unwrap_or_default()
    }

    /// Returns how many calls of a method are under way.
    pub(super) fn under_way(&self, method: &'static str) -> usize {
        self.state.lock().unwrap().under_way.get(method).copied().unwrap_or_default()
    }

    /// Returns every spec the engine was given.
    pub(super) fn specs(&self) -> Vec<ContainerSpec> {
        self.state.lock().unwrap().specs.clone()
    }

    /// Makes a container behind the node's back.
    pub(super) async fn plant(&self, spec: ContainerSpec) -> ContainerId {
        self.inner.create(without_guest(spec)).await.unwrap()
    }

    /// Returns every container in the engine.
    pub(super) async fn all(&self) -> Vec<Container> {
        gx_core::runtime::list_all(&self.inner, ListFilter::default()).await.unwrap()
    }

    async fn enter(&self, method: &'static str) -> Result<UnderWay> {
        let gate = {
            let mut state = self.state.lock().unwrap();
            *state.calls.entry(method).or_default() += 1;
            *state.under_way.entry(method).or_default() += 1;
            state.gates.get(method).cloned()
        };
        let under_way = UnderWay(self.state.clone(), method);
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        match self.state.lock().unwrap().failures.get_mut(method).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(under_way),
        }
    }
}

/// The mock knows no such program.
fn without_guest(spec: ContainerSpec) -> ContainerSpec {
    let entrypoint = spec.entrypoint.clone().filter(|words| words[0] != gx_core::guest::PROGRAM);
    ContainerSpec { entrypoint, ..spec }
}

#[async_trait]
impl Runtime for Probe {
    async fn capabilities(&self) -> Result<Capabilities> {
        let _call = self.enter("capabilities").await?;
        let mut can = self.inner.capabilities().await?;
        can.features.insert(Feature::BuildsApart); // the mock's builds reach nothing at all
        if self.state.lock().unwrap().able {
            can.features.extend([Feature::Volumes, Feature::Feed]);
        }
        Ok(can)
    }
    async fn info(&self) -> Result<RuntimeInfo> {
        self.inner.info().await
    }
    async fn health(&self) -> Result<Health> {
        let _call = self.enter("health").await?;
        self.inner.health().await
    }
    async fn pull(&self, request: PullRequest, out: Output) -> Result<Image> {
        let _call = self.enter("pull").await?;
        self.inner.pull(request, out).await
    }
    async fn images(&self) -> Result<Vec<Image>> {
        self.inner.images().await
    }
    async fn image(&self, image: ImageRef) -> Result<Option<Image>> {
        let found = self.inner.image(image).await?;
        let (told, more) = {
            let state = self.state.lock().unwrap();
            (state.images.clone(), state.image_labels.clone())
        };
        Ok(found.map(|image| match told {
            Some((process, labels, platform)) => Image { process: Some(process), labels, platform, ..image },
            None => Image { labels: image.labels.into_iter().chain(more).collect(), ..image },
        }))
    }
    async fn build(&self, request: BuildRequest, context: Input, out: Output) -> Result<Image> {
        let _call = self.enter("build").await?;
        let context = match self.built(&request) {
            Some(other) => other,
            None => context,
        };
        self.inner.build(request, context, out).await
    }
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        let _call = self.enter("create").await?;
        self.state.lock().unwrap().specs.push(spec.clone());
        let mounts = spec.mounts.clone();
        let id = self.inner.create(without_guest(spec)).await?;
        self.state.lock().unwrap().mounts.insert(id.clone(), mounts);
        Ok(id)
    }
    async fn start(&self, id: ContainerId) -> Result<()> {
        let _call = self.enter("start").await?;
        self.check_volumes(&id)?;
        self.inner.start(id).await
    }
    async fn wait(&self, id: ContainerId) -> Result<Exit> {
        let _call = self.enter("wait").await?;
        self.inner.wait(id).await
    }
    async fn stop(&self, id: ContainerId, options: StopOptions) -> Result<()> {
        let _call = self.enter("stop").await?;
        self.inner.stop(id, options).await
    }
    async fn remove(&self, id: ContainerId, options: RemoveOptions) -> Result<()> {
        let _call = self.enter("remove").await?;
        self.inner.remove(id, options).await
    }
    async fn inspect(&self, id: ContainerId) -> Result<Container> {
        let mut container = self.inner.inspect(id).await?;
        let state = self.state.lock().unwrap();
        container.ports.extend(&state.ports);
        container.labels.extend(state.labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Ok(container)
    }
    async fn list(&self, filter: ListFilter, out: Output) -> Result<()> {
        let _call = self.enter("list").await?;
        self.inner.list(filter, out).await
    }
    async fn logs(&self, id: ContainerId, options: LogOptions, out: Output) -> Result<()> {
        let _call = self.enter("logs").await?;
        if self.floods() {
            self.pour(&out).await;
            return Ok(());
        }
        self.inner.logs(id, options, out).await
    }
    async fn exec(&self, id: ContainerId, spec: ExecSpec, mut input: Input, out: Output) -> Result<Exit> {
        let _call = self.enter("exec").await?;
        if spec.argv[0] == gx_core::guest::PROGRAM {
            let mut given = Vec::new();
            while let Some(bytes) = input.next_data().await {
                given.extend_from_slice(&bytes);
            }
            if spec.argv[1] == gx_core::guest::word::STATUS {
                let _ = out.stdout(&self.status()).await;
            }
            self.state.lock().unwrap().execs.push((spec, String::from_utf8(given).unwrap()));
            return Ok(Exit::default());
        }
        self.state.lock().unwrap().execs.push((spec.clone(), String::new()));
        if self.floods() {
            self.pour(&out).await;
            return Ok(Exit::default());
        }
        self.inner.exec(id, spec, input, out).await
    }
    async fn feed(&self, id: ContainerId, mut input: Input) -> Result<()> {
        let _call = self.enter("feed").await?;
        let mut bytes = Vec::new();
        while let Some(more) = input.next_data().await {
            bytes.extend_from_slice(&more);
        }
        self.state.lock().unwrap().fed.insert(id, bytes);
        Ok(())
    }
    async fn copy_in(&self, id: ContainerId, path: String, mut archive: Input) -> Result<()> {
        let _call = self.enter("copy_in").await?;
        let mounts = self.state.lock().unwrap().mounts.get(&id).cloned().unwrap_or_default();
        let volume = mounts.into_iter().find(|mount| mount.path == path && !mount.read_only);
        if let Some(name) = volume.and_then(|mount| mount.volume) {
            let mut bytes = Vec::new();
            while let Some(more) = archive.next_data().await {
                bytes.extend_from_slice(&more);
            }
            self.state.lock().unwrap().volumes.insert(name.to_string(), bytes);
            return Ok(());
        }
        self.inner.copy_in(id, path, archive).await
    }
    async fn copy_out(&self, id: ContainerId, path: String, out: Output) -> Result<()> {
        self.inner.copy_out(id, path, out).await
    }
    async fn prune_volumes(&self, prune: VolumePrune) -> Result<Vec<VolumeName>> {
        let _call = self.enter("prune_volumes").await?;
        let mut state = self.state.lock().unwrap();
        let mounted = |name: &str| {
            let named = |mount: &Mount| mount.volume.as_ref().is_some_and(|volume| volume.as_str() == name);
            state.mounts.values().flatten().any(named)
        };
        let old = |name: &&String| prune.is_about(name, Timestamp::from_unix(0)) && !mounted(name);
        let stale: Vec<String> = state.volumes.keys().filter(old).cloned().collect();
        stale.iter().for_each(|name| drop(state.volumes.remove(name)));
        Ok(stale.iter().map(|name| name.parse().unwrap()).collect())
    }
    async fn events(&self, since: Option<Timestamp>, out: Output) -> Result<()> {
        let _call = self.enter("events").await?;
        self.inner.events(since, out).await
    }
    async fn stats(&self, id: ContainerId, every_ms: u32, out: Output) -> Result<()> {
        let _call = self.enter("stats").await?;
        self.inner.stats(id, every_ms, out).await
    }
}
