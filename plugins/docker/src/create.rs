//! Making a container once, however often and by however many it is asked for.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use gx_core::container::label;
use gx_core::{ContainerId, ContainerSpec, ContainerState, ErrorCode, RuntimeError};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::engine::{Engine, leave, to_the_end};
use crate::{network, spec, system};

/// How long a name may be taken by a container that cannot be seen yet or any more: another create or a removal is
/// under way.
const BIRTH: Duration = Duration::from_secs(30);
const BIRTH_POLL: Duration = Duration::from_millis(20);

/// Makes a container, or finds the one that an equal request made.
///
/// With a key it is looked for by label first. Of two at the same time in one program the second waits for the
/// first, and for what that leaves behind if nobody wants it any more. In two programs both find nothing; then the
/// engine's unique names decide, and who comes second finds the first by its name. Two programs with one key and
/// two names make two containers: a host derives the name from the key.
pub(crate) async fn create(engine: &Arc<Engine>, spec: ContainerSpec) -> Result<ContainerId, RuntimeError> {
    let engine = engine.clone();
    let made = to_the_end(async move {
        let mut turns = Vec::new();
        if let Some(key) = spec.key() {
            turns.push(engine.creating.take(format!("key {key}")).await);
        }
        turns.push(engine.creating.take(format!("name {}", spec.name)).await);
        let (id, is_new) = engine_create(&engine, spec).await?;
        Ok(Made { id, undo: is_new.then_some(engine), turns })
    })
    .await?;
    Ok(made.keep())
}

/// A container that is removed again unless it is kept: whoever asked may be gone when it is there.
struct Made {
    id: ContainerId,
    undo: Option<Arc<Engine>>,
    turns: Vec<OwnedMutexGuard<()>>,
}

impl Made {
    fn keep(mut self) -> ContainerId {
        self.undo = None;
        self.id.clone()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(engine) = self.undo.take() else { return };
        let (id, turns) = (self.id.clone(), std::mem::take(&mut self.turns));
        leave(async move {
            let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
            let _ = engine.docker.remove_container(id.as_str(), Some(options)).await;
            drop(turns);
        });
    }
}

/// Returns the container and whether it is a new one.
async fn engine_create(engine: &Engine, wanted: ContainerSpec) -> Result<(ContainerId, bool), RuntimeError> {
    let identity = Identity::of(&wanted);
    if let Some(id) = by_key(engine, &identity).await? {
        return Ok((id, false));
    }
    check_users(engine, &wanted).await?;
    let name = wanted.name.to_string();
    let mode = network::mode(wanted.network.as_ref())?;
    let _stay = network::ensure(engine, wanted.network.as_ref()).await?;
    let mut body = spec::create_body(wanted, &engine.config);
    if let Some(host_config) = &mut body.host_config {
        host_config.network_mode = mode;
    }
    let deadline = Instant::now() + BIRTH;
    loop {
        match post(engine, &name, &body).await {
            Ok(id) => return Ok((id, true)),
            Err(error) if is_taken(&error) => {
                let conflict = engine.error(error);
                match by_name(engine, &name, &identity).await? {
                    Some(Namesake::Equal(id)) => return Ok((id, false)),
                    Some(Namesake::OtherSpec) => return Err(other_spec(&identity)),
                    None if Instant::now() < deadline => tokio::time::sleep(BIRTH_POLL).await,
                    Some(Namesake::Stranger) | None => return Err(name_taken(&name, conflict)),
                }
            }
            Err(error) => return Err(engine.error(error)),
        }
    }
}

/// Refuses what is to have users of its own where the engine gives none: that is one setting for all its containers.
async fn check_users(engine: &Engine, wanted: &ContainerSpec) -> Result<(), RuntimeError> {
    if !wanted.security.user_namespace {
        return Ok(());
    }
    let info = engine.docker.info().await.map_err(|error| engine.error(error))?;
    if system::remaps_users(&info) {
        return Ok(());
    }
    let message = "the engine gives containers no users of their own";
    let hint = "set `userns-remap` in its daemon.json, as \"default\", and start it again";
    Err(RuntimeError::new(ErrorCode::Unsupported, message).hint(hint))
}

async fn post(engine: &Engine, name: &str, body: &ContainerCreateBody) -> Result<ContainerId, Error> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let answer = engine.docker.create_container(Some(options), body.clone()).await?;
    answer.id.parse().map_err(|_| Error::DockerStreamError { error: format!("strange id `{}`", answer.id) })
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, message } if message.contains("name"))
}

/// By what a request is known again.
struct Identity {
    key: Option<String>,
    spec: Option<String>,
}

impl Identity {
    fn of(spec: &ContainerSpec) -> Self {
        Self { key: spec.key().map(str::to_owned), spec: spec.labels.get(label::SPEC).cloned() }
    }
}

async fn by_key(engine: &Engine, identity: &Identity) -> Result<Option<ContainerId>, RuntimeError> {
    let Some(key) = &identity.key else { return Ok(None) };
    let filters = [("label".to_owned(), vec![format!("{}={key}", label::KEY)])].into();
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = engine.docker.list_containers(Some(options)).await.map_err(|error| engine.error(error))?;
    let leaving = Some(ContainerSummaryStateEnum::REMOVING);
    let Some(found) = found.into_iter().find(|container| container.state != leaving) else { return Ok(None) };
    if found.labels.unwrap_or_default().get(label::SPEC) != identity.spec.as_ref() {
        return Err(other_spec(identity));
    }
    spec::container_id(found.id.unwrap_or_default()).map(Some)
}

/// What has the name already.
enum Namesake {
    /// The container of an equal request.
    Equal(ContainerId),
    /// The container of another request under the same key.
    OtherSpec,
    /// Any other.
    Stranger,
}

async fn by_name(engine: &Engine, name: &str, identity: &Identity) -> Result<Option<Namesake>, RuntimeError> {
    let answer = match engine.docker.inspect_container(name, None).await {
        Ok(answer) => answer,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
        Err(error) => return Err(engine.error(error)),
    };
    if spec::state_of(&answer.state.unwrap_or_default()) == ContainerState::Removing {
        return Ok(None);
    }
    let labels = answer.config.and_then(|config| config.labels).unwrap_or_default();
    if identity.key.is_none() || labels.get(label::KEY) != identity.key.as_ref() {
        return Ok(Some(Namesake::Stranger));
    }
    if labels.get(label::SPEC) != identity.spec.as_ref() {
        return Ok(Some(Namesake::OtherSpec));
    }
    spec::container_id(answer.id.unwrap_or_default()).map(|id| Some(Namesake::Equal(id)))
}

fn other_spec(identity: &Identity) -> RuntimeError {
    let key = identity.key.as_deref().unwrap_or_default();
    RuntimeError::new(ErrorCode::AlreadyExists, format!("the key `{key}` belongs to another request"))
        .field("key")
        .hint("take a fresh key for another request")
}

fn name_taken(name: &str, conflict: RuntimeError) -> RuntimeError {
    let error = RuntimeError::new(ErrorCode::AlreadyExists, format!("the name `{name}` is taken"))
        .field("name")
        .hint("choose another name, or remove the container that has it");
    RuntimeError { backend: conflict.backend, ..error }
}
