//! What the engine has: its containers, its images, and the history of what happened.
//!
//! A real runtime keeps none of this: its engine does. Everything that must be seen as one step (two
//! creates under one key, a name that is taken) happens under one lock.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gx_core::container::{ContainerSpec, ContainerState, Exit, Gpus, label};
use gx_core::image::{Image, ImageRef};
use gx_core::runtime::{ErrorCode, Event, EventAction, ListFilter, Result, RuntimeError};
use gx_core::{Container, ContainerId};
use tokio::sync::watch;

use crate::record::{Record, SIGKILL};

/// All state of the mock.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    /// The length of the history; who follows the events waits on it.
    pub(crate) happened: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<ContainerId, Arc<Record>>,
    /// By name with tag.
    images: BTreeMap<String, Image>,
    history: Vec<Event>,
}

impl Store {
    pub(crate) fn new(images: impl IntoIterator<Item = ImageRef>) -> Self {
        let store = Self { state: Mutex::default(), happened: watch::Sender::new(0) };
        for image in images {
            store.add_image(&image, BTreeMap::new());
        }
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a container.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Arc<Record>> {
        self.state().containers.get(id).cloned().ok_or_else(|| RuntimeError::no_container(id))
    }

    /// Makes a container, or returns the one that the same request has made before.
    pub(crate) fn create(&self, spec: ContainerSpec, most: usize) -> Result<ContainerId> {
        let mut state = self.state();
        if let Some(key) = spec.key()
            && let Some(earlier) = state.containers.values().find(|record| record.spec.key() == Some(key))
        {
            if earlier.spec.labels.get(label::SPEC) == spec.labels.get(label::SPEC) {
                return Ok(earlier.id.clone());
            }
            let message = format!("the key {key} belongs to another request");
            return Err(RuntimeError::new(ErrorCode::AlreadyExists, message).field("key"));
        }
        if state.containers.values().any(|record| record.spec.name == spec.name) {
            let message = format!("the name {} is taken", spec.name);
            return Err(RuntimeError::new(ErrorCode::AlreadyExists, message).field("name"));
        }
        if !state.images.contains_key(&spec.image.tagged()) {
            let message = format!("no image {}", spec.image);
            return Err(RuntimeError::new(ErrorCode::NotFound, message).field("image"));
        }
        if spec.gpus != Gpus::None {
            return Err(RuntimeError::unsupported("GPUs").field("gpus"));
        }
        if state.containers.len() >= most {
            return Err(RuntimeError::new(
                ErrorCode::ResourceExhausted,
                format!("there are {most} containers"),
            ));
        }
        let id: ContainerId = random_hex().parse().expect("64 hexadecimal digits are an id");
        let record = Arc::new(Record::new(id.clone(), spec));
        self.happen(&mut state, &record, EventAction::Create, None);
        state.containers.insert(id.clone(), record);
        Ok(id)
    }

    /// Starts a container; a running one is left as it is.
    pub(crate) async fn start(self: &Arc<Self>, record: Arc<Record>) -> Result<()> {
        let mut process = record.process.lock().await;
        match record.life.borrow().state {
            ContainerState::Running => return Ok(()),
            ContainerState::Removing => return Err(RuntimeError::no_container(&record.id)),
            _ => {}
        }
        let argv = argv(&record.spec)?;
        let (listeners, ports) = record.listen().await?;
        let mut world = record.world(None);
        world.listeners = Arc::new(listeners);
        let (signals, received) = tokio::sync::mpsc::unbounded_channel();
        *process = Some(signals);
        record.life.send_modify(|life| {
            life.state = ContainerState::Running;
            life.started_at = Some(SystemTime::now().into());
            life.exit = None;
            life.ports = ports;
        });
        self.happen(&mut self.state(), &record, EventAction::Start, None);
        let (store, player) = (self.clone(), record.clone());
        tokio::spawn(async move {
            let code = player.play(&argv, world, received).await;
            store.happen(&mut store.state(), &player, EventAction::Exit, Some(code));
            player.life.send_modify(|life| {
                life.state = ContainerState::Exited;
                life.exit =
                    Some(Exit { finished_at: Some(SystemTime::now().into()), ..Exit::from_code(code) });
                life.ports = Vec::new();
            });
        });
        Ok(())
    }

    /// Kills the main process and waits until it has ended.
    pub(crate) async fn kill(&self, record: &Record) {
        self.signal(record, SIGKILL).await;
        let mut life = record.life.subscribe();
        // The sender lives in the record, so it cannot be gone.
        let _ = life.wait_for(|life| life.state != ContainerState::Running).await;
    }

    /// Sends a signal to the main process; returns whether there is one.
    pub(crate) async fn signal(&self, record: &Record, signal: i32) -> bool {
        let process = record.process.lock().await;
        record.is_running() && process.as_ref().is_some_and(|process| process.send(signal).is_ok())
    }

    /// Removes a container that does not run.
    ///
    /// # Errors
    /// `FailedPrecondition` when it runs.
    pub(crate) async fn remove(&self, record: &Record) -> Result<()> {
        let _no_start_meanwhile = record.process.lock().await;
        let mut state = self.state();
        if record.is_running() {
            let message = format!("container {} is running", record.id.short());
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, message));
        }
        if state.containers.remove(&record.id).is_some() {
            self.happen(&mut state, record, EventAction::Remove, None);
            record.life.send_modify(|life| life.state = ContainerState::Removing);
        }
        Ok(())
    }

    /// Returns the containers that fit, as a list shows them: without what only `inspect` tells.
    pub(crate) fn list(&self, filter: &ListFilter) -> Vec<Container> {
        let records: Vec<_> = self.state().containers.values().cloned().collect();
        let containers = records.iter().map(|record| record.container());
        containers.filter(|container| fits(container, filter)).collect()
    }

    /// Returns the events from this one on.
    pub(crate) fn history(&self, first: usize) -> Vec<Event> {
        self.state().history.get(first..).unwrap_or_default().to_vec()
    }

    fn happen(&self, state: &mut State, record: &Record, action: EventAction, exit_code: Option<i32>) {
        let (id, labels) = (record.id.clone(), record.spec.labels.clone());
        state.history.push(Event { action, id, at: SystemTime::now().into(), labels, exit_code });
        self.happened.send_replace(state.history.len());
    }

    /// Adds a name for a new image, and returns the image.
    pub(crate) fn add_image(&self, name: &ImageRef, labels: BTreeMap<String, String>) -> Image {
        let image = Image {
            id: format!("sha256:{}", random_hex()),
            tags: vec![name.tagged()],
            size_bytes: 2_000_000,
            created_at: Some(SystemTime::now().into()),
            platform: format!("linux/{}", crate::ARCH),
            labels,
            process: None,
        };
        self.state().images.insert(name.tagged(), image.clone());
        image
    }

    pub(crate) fn image(&self, name: &ImageRef) -> Option<Image> {
        self.state().images.get(&name.tagged()).cloned()
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        self.state().images.values().cloned().collect()
    }

    /// Removes an image; a missing one is `Ok`.
    ///
    /// # Errors
    /// `FailedPrecondition` when a container uses it.
    pub(crate) fn remove_image(&self, name: &ImageRef) -> Result<()> {
        let mut state = self.state();
        let name = name.tagged();
        if let Some(user) = state.containers.values().find(|record| record.spec.image.tagged() == name) {
            let message = format!("image {name} is used by container {}", user.spec.name);
            return Err(RuntimeError::new(ErrorCode::FailedPrecondition, message));
        }
        state.images.remove(&name);
        Ok(())
    }
}

/// Returns what the main process runs: the entry point before the command, else the image's own `sh`.
fn argv(spec: &ContainerSpec) -> Result<Vec<String>> {
    let mut argv = spec.entrypoint.clone().unwrap_or_default();
    argv.extend(spec.command.clone());
    if argv.is_empty() {
        argv.push("sh".into());
    }
    if crate::programs::exists(&argv[0]) {
        return Ok(argv);
    }
    let message = format!("there is no program {} in the image", argv[0]);
    Err(RuntimeError::new(ErrorCode::InvalidArgument, message).field("command"))
}

fn fits(container: &Container, filter: &ListFilter) -> bool {
    let label = |(key, wanted): (&String, &Option<String>)| match container.labels.get(key) {
        Some(value) => wanted.as_ref().is_none_or(|wanted| wanted == value),
        None => false,
    };
    filter.labels.iter().all(label) && (filter.states.is_empty() || filter.states.contains(&container.state))
}

/// Returns 64 hexadecimal digits. The standard library's hash keys are random, and enough for a mock.
fn random_hex() -> String {
    (0..4).map(|_| format!("{:016x}", RandomState::new().build_hasher().finish())).collect()
}
