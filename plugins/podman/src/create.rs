//! Makes containers, each once per idempotency key and none for a caller that is gone.
//!
//! The engine is the state: a repeated request is known by labels. Requests of one key take turns, within this
//! process and with others that share its folder; where none is shared the engine's unique names decide, as the host
//! derives a name from the key.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::plugin::*;
use podman_api::opts::ContainerDeleteOpts;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::engine::{Engine, EngineError, again};
use crate::error;
use crate::lifecycle;
use crate::network;
use crate::spec::SpecGenerator;

/// How many keys can be worked on at once; others that share a place wait for each other.
const TURNS: usize = 64;
/// For how long a name may be taken by a container that cannot be seen: one that is just being made or removed.
const UNSEEN_LIMIT: Duration = Duration::from_secs(30);
const UNSEEN_POLL: Duration = Duration::from_millis(20);

/// The turns that requests of one key take, in this process and between those that share a folder.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    folder: PathBuf,
    of: &'static str,
    locks: Arc<[Arc<Mutex<()>>]>,
}

/// A turn, which ends when this is dropped. The place among this process's requests comes first, so that no more
/// than one of them waits for the file.
#[derive(Debug)]
pub(crate) struct Turn {
    _file: File,
    _place: OwnedMutexGuard<()>,
}

impl Turns {
    /// Makes the turns of those who share this folder, for keys of one kind. Who waits for one kind may hold another.
    pub(crate) fn new(folder: PathBuf, of: &'static str) -> Self {
        Self { folder, of, locks: (0..TURNS).map(|_| Arc::default()).collect() }
    }

    pub(crate) async fn take(&self, key: &str) -> Result<Turn> {
        let number = place(key);
        let place = self.locks[number].clone().lock_owned().await;
        let path = self.folder.join(format!("{}-{number}.lock", self.of));
        let file = tokio::task::spawn_blocking(move || {
            let file = File::options().create(true).append(true).open(path)?;
            file.lock().map(|()| file)
        });
        match file.await.map_err(std::io::Error::other).flatten() {
            Ok(file) => Ok(Turn { _file: file, _place: place }),
            Err(error) => {
                let message = format!("a lock in {} cannot be had: {error}", self.folder.display());
                Err(RuntimeError::new(ErrorCode::Internal, message))
            }
        }
    }
}

/// Returns the place of a key: FNV-1a, as the same key must have the same in every process.
fn place(key: &str) -> usize {
    let hash =
        key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % TURNS
}

/// A container that a create returns.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) id: ContainerId,
    /// Whether it was there before.
    found: bool,
    /// Nobody finds by its key what may yet be taken back.
    _turn: Option<Turn>,
}

/// The turns that a create takes, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllTurns<'a> {
    pub(crate) keys: &'a Turns,
    pub(crate) networks: &'a Turns,
}

/// Makes a container, or finds the one that an equal request made.
pub(crate) async fn create(
    engine: &Engine,
    spec: &ContainerSpec,
    log_max_bytes: u64,
    turns: AllTurns<'_>,
) -> Result<Made> {
    let turn = match spec.key() {
        Some(key) => Some(turns.keys.take(key).await?),
        None => None,
    };
    let (id, found) = find_or_make(engine, spec, log_max_bytes, turns.networks).await?;
    Ok(Made { id, found, _turn: turn })
}

/// Returns the container's id, and whether it was there before.
async fn find_or_make(
    engine: &Engine,
    spec: &ContainerSpec,
    log_max_bytes: u64,
    networks: &Turns,
) -> Result<(ContainerId, bool)> {
    if let Some(key) = spec.key()
        && let Some(found) = by_key(engine, key).await?
    {
        return repeated(spec, &found);
    }
    let mut body = SpecGenerator::new(spec, log_max_bytes);
    body.network = network::attached(spec.network.as_ref())?;
    let _stay = network::ensure(engine, spec.network.as_ref(), networks).await?;
    let begun = Instant::now();
    loop {
        // Of two that are the first to name a volume, one finds it made by the other.
        let create = || engine.post_json::<Created>("/containers/create", &[], Some(&body));
        let error = match again(error::is_volume_changing, create).await {
            Ok(created) => return Ok((created.id, false)),
            Err(error) => error,
        };
        if !is_name_taken(&error) {
            return Err(error::of_create(spec, &error));
        }
        if let Some(found) = by_name(engine, spec.name.as_str()).await? {
            return repeated(spec, &found);
        }
        if begun.elapsed() > UNSEEN_LIMIT {
            return Err(name_taken(spec));
        }
        tokio::time::sleep(UNSEEN_POLL).await;
    }
}

/// Takes back a create whose caller is gone.
pub(crate) async fn undo(engine: Engine, made: Made) {
    if !made.found {
        let options = ContainerDeleteOpts::builder().force(true).volumes(true).timeout(0).build();
        // It fails only where the engine is gone, and then the host finds the container by its labels.
        let _ = engine.container(&made.id).delete(&options).await;
    }
}

#[derive(Debug, Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: ContainerId,
}

/// A container that is in the way, or the very one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    id: ContainerId,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Found {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }
}

async fn by_key(engine: &Engine, key: &str) -> Result<Option<Found>> {
    let filters = json!({"label": [format!("{}={key}", label::KEY)]}).to_string();
    let query = [("all", "true"), ("filters", filters.as_str())];
    let listed: Vec<Found> = engine
        .get_json("/containers/json", &query)
        .await
        .map_err(|error| error::translated("search for the key", &error))?;
    // Podman takes `*` in a filter for anything.
    Ok(listed.into_iter().find(|found| found.label(label::KEY) == Some(key)))
}

async fn by_name(engine: &Engine, name: &str) -> Result<Option<Found>> {
    match lifecycle::look_at(engine, name).await {
        Ok(inspected) => {
            let labels = [label::KEY, label::SPEC]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), inspected.label(key)?.to_owned())));
            Ok(Some(Found { id: inspected.id()?, labels: Some(labels.collect()) }))
        }
        Err(error) if error::is_missing(&error) => Ok(None),
        Err(error) => Err(error::translated("inspect of the name", &error)),
    }
}

/// Decides what a request gets that meets this container under its key or name.
fn repeated(spec: &ContainerSpec, found: &Found) -> Result<(ContainerId, bool)> {
    let same = |key: &str| found.label(key) == spec.labels.get(key).map(String::as_str);
    if spec.key().is_none() || !same(label::KEY) {
        return Err(name_taken(spec));
    }
    if !same(label::SPEC) {
        let message = "the idempotency key was used for another request";
        return Err(RuntimeError::new(ErrorCode::AlreadyExists, message).field("key"));
    }
    Ok((found.id.clone(), true))
}

fn name_taken(spec: &ContainerSpec) -> RuntimeError {
    RuntimeError::new(ErrorCode::AlreadyExists, format!("the name {} is taken", spec.name)).field("name")
}

fn is_name_taken(error: &EngineError) -> bool {
    error::said(error).is_some_and(|(_, text)| text.contains("name is already in use") || is_in_use(text))
}

fn is_in_use(text: &str) -> bool {
    text.contains("the container name") && text.contains("is already in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(labels: &[(&str, &str)]) -> ContainerSpec {
        let mut spec = ContainerSpec::new("gx-a".parse().unwrap(), "x".parse().unwrap());
        spec.labels = owned(labels);
        spec
    }

    fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn found(labels: &[(&str, &str)]) -> Found {
        Found { id: "c0ffee".parse().unwrap(), labels: Some(owned(labels)) }
    }

    #[test]
    fn an_equal_request_gets_the_same_container_and_another_an_error() {
        let there = found(&[(label::KEY, "k"), (label::SPEC, "1")]);
        assert!(repeated(&spec(&[(label::KEY, "k"), (label::SPEC, "1")]), &there).unwrap().1);
        let other = repeated(&spec(&[(label::KEY, "k"), (label::SPEC, "2")]), &there).unwrap_err();
        assert_eq!((other.code, other.field.as_deref()), (ErrorCode::AlreadyExists, Some("key")));
        for labels in [&[][..], &[(label::KEY, "other"), (label::SPEC, "1")]] {
            let taken = repeated(&spec(labels), &there).unwrap_err();
            assert_eq!((taken.code, taken.field.as_deref()), (ErrorCode::AlreadyExists, Some("name")));
        }
    }
}
